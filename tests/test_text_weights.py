"""The text models that ship: what stands beside the weights is of these weights, and English is coded as well as promised."""

import json

import numpy as np
import pytest

from sources.bpe import vocabulary
from sources.models import weights_file
from sources.models.masked import TextMaskedSmall
from sources.models.masked_network import MaskedArchitecture
from sources.models.neural import TextByteSmall, TextSmall
from sources.models.recurrent import Architecture
from sources.training.recurrent import Settings

PASSAGE = (b"The old house stood at the end of a narrow lane, and nobody in the village could remember a time when there had been "
           b"a light in its windows. On the evening of which I speak, however, as we were walking home after supper, my brother "
           b"took me by the arm and pointed towards the trees. \"Look,\" said he, \"there is somebody in the garden.\"")
"""English that was written for this test, so that no model was trained on it."""
MODELS = [TextSmall, TextByteSmall, TextMaskedSmall]


def bits_per_byte(model, content):
    values = np.frombuffer(content, np.uint8) if model.vocab_size == 256 else vocabulary().encode([content])[0]
    if isinstance(model, TextMaskedSmall):
        tables, = model.frequencies([values], [np.arange(values.size)])  # of each token given all others
    else:
        tables, _ = model.tables(model.start(1), values)
    return -np.log2(tables[np.arange(values.size), values] / (1 << model.frequency_bits)).sum() / len(content)


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
def test_what_stands_beside_the_weights_is_of_these_weights(cls):
    """Catches weights exported without their config or card, over another vocabulary, of other sizes, or too large to ship."""
    file = weights_file.FOLDER / f"{cls.shipped}.safetensors"
    config, card = weights_file.read_config(file), file.with_suffix(".md").read_text()
    sizes = (MaskedArchitecture if cls is TextMaskedSmall else Architecture)(**config["architecture"])
    assert file.stat().st_size <= 4_000_000 and cls().vocab_size == sizes.vocab_size == cls().tokenizer().vocab_size
    if config["tokenizer"]["name"] == "bpe":
        assert config["tokenizer"]["vocabulary_sha256"] == vocabulary().digest
    curve = [one["held_out_bits_per_byte"] for one in config["curve"]]
    assert config["best"]["held_out_bits_per_byte"] == min(curve) and min(curve) < 0.5 * curve[0]
    assert config["integer_bits_per_byte"] < 1.01 * min(curve), "integers may cost 1 %"
    assert f"{config['integer_bits_per_byte']:.4f} in the integers" in card and config["data"]["sha256"] in card
    assert Settings(**config["settings"]).tokenizer == config["tokenizer"]["name"]
    assert "/" not in json.dumps(config["data"]), "a path of the machine that it was trained on"


@pytest.mark.parametrize("cls, most", [(TextSmall, 2.0), (TextByteSmall, 2.2), (TextMaskedSmall, 1.0)])
def test_english_takes_two_bits_a_byte(cls, most):
    """Catches weights that don't belong to the code that runs them: those of another order of gates, say, cost eight bits."""
    assert bits_per_byte(cls(), PASSAGE) < most


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
def test_order_counts(cls):
    """Negative control of the test above: the same bytes backwards are no English."""
    assert bits_per_byte(cls(), PASSAGE[::-1]) > 2 * bits_per_byte(cls(), PASSAGE)
