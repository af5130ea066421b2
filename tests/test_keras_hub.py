"""A language model of KerasHub that a user brings: tables of floating point, coded where they were made and nowhere else."""

from __future__ import annotations

import pickle
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.trial import run, send
from channel_sim.types import Item, Origin, Reconstruction, Tokens
from decoders.lm_greedy import LmGreedy
from scenarios.scenario import load
from sources.coder import Entropy
from sources.compressor import decode_blocks, encode_blocks
from sources.models.keras_hub import KerasHub, KerasHubTokenizer
from tests.test_coder import received

pytestmark = [
    pytest.mark.sionna,
    pytest.mark.skipif(find_spec("keras_hub") is None, reason="KerasHub is not installed (pip install 'channel-sim[lm]')"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of KerasHub's own dependencies
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TEXT = "the naïve cat\n sat on the mat"


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A GPT-2 of two small layers over the 256 bytes, 'th' and the end of text, as drawn, saved as KerasHub saves it."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(3)
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters += range(256, 256 + 256 - len(letters))
    vocabulary = {chr(letter): token for token, letter in enumerate(letters)} | {"<|endoftext|>": 256, "th": 257}
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary=vocabulary, merges=["t h"])
    backbone = keras_hub.models.GPT2Backbone(vocabulary_size=258, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32,
                                             max_sequence_length=24)
    for weight in backbone.trainable_weights:
        weight.assign(10 * weight)  # so that what came before matters
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=24)
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=preprocessor).save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def model(preset: str) -> KerasHub:
    return KerasHub(path=preset, max_tokens=24)


def tokens_of(model: KerasHub, text: str) -> Tokens:
    return model.tokenizer().encode(Item(text.encode(), "text", "it"), Key(0))


def test_steps_are_the_whole_network(model: KerasHub, preset: str):
    """Catches a wrong cache, position or start token. The reference is the network over the whole text at once, without a cache."""
    import keras_hub

    values = tokens_of(model, TEXT[:20]).values
    whole = keras_hub.models.CausalLM.from_preset(preset)
    prefix = np.concatenate([[256], values])[None, :24]
    logits = np.asarray(whole({"token_ids": prefix, "padding_mask": np.ones_like(prefix)}))[0].astype(np.float64)
    expected = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    state = model.start(1)
    for position, value in enumerate(values):
        np.testing.assert_allclose(model.log_probabilities(state)[0], expected[position], atol=1e-4)
        np.testing.assert_allclose(model.frequencies(state)[0] / 2**16, np.exp(expected[position]), atol=300 / 2**16)
        state = model.advance(state, [value])
    assert np.abs(expected[1] - expected[5]).max() > 0.1  # or a network of constants would pass


def test_tables_are_coding_tables(model: KerasHub):
    """Catches zero entries and wrong sums."""
    table = model.frequencies(model.start(3))
    assert table.min() >= 1 and np.all(table.sum(axis=1) == 1 << model.frequency_bits)


def test_lanes_do_not_meet(model: KerasHub):
    """Catches batched arithmetic, whose last bits depend on the batch, and a cache that two lanes share."""
    rows = Key(1).integers(256, 24).reshape(3, 8)
    together = model.start(3)
    for column in rows.T:
        together = model.advance(together, column)
    for row, table in zip(rows, model.frequencies(together), strict=True):
        state = model.start(1)
        for value in row:
            state = model.advance(state, [value])
        np.testing.assert_array_equal(model.frequencies(state)[0], table)


def test_a_state_is_left_as_it_was(model: KerasHub):
    """Catches a cache that is written in place: a beam goes on from one state in several ways."""
    state = model.advance(model.start(1), [65])
    before = model.frequencies(model.advance(state, [66]))
    model.advance(state, [67])
    np.testing.assert_array_equal(model.frequencies(model.advance(state, [66])), before)


@pytest.mark.parametrize("packet_bits", [64, None])
def test_streams_come_back_and_say_what_they_are(model: KerasHub, packet_bits: int | None):
    """Catches a coder out of step, also past the window, and a stream that passes for one that any machine can decode."""
    tokens = tokens_of(model, TEXT[:14] if packet_bits else TEXT)
    coder = Entropy(model=model, packet_bits=packet_bits, header_bits=64)
    (packets, preamble), = coder.encode([tokens])
    evidence, = coder.receive([received(packets)], [preamble])
    assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)
    assert preamble.choices == (1,)
    assert any("floating point" in sentence for sentence in coder.assumed())
    blocks = encode_blocks([model], [b"that", b""])
    assert decode_blocks([model], blocks) == [b"that", b""]


class Drifting(KerasHub):
    """Other tables every time, as a network on another number of threads might give."""

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.roll(super().frequencies(state), len(calls), axis=1)


calls: list[int] = []


def test_tables_that_change_are_refused(preset: str):
    """Catches an encoder that does not look at what it made."""
    drifting = Drifting(path=preset, max_tokens=24)
    with pytest.raises(ValueError, match="floating-point ones came out otherwise"):
        Entropy(model=drifting, packet_bits=None).encode([tokens_of(drifting, TEXT)])
    with pytest.raises(RequestError, match="floating-point ones came out otherwise"):
        encode_blocks([drifting], [TEXT.encode()])


def test_the_tokenizer_gives_back_what_it_was_given(preset: str):
    """Catches a wrong alphabet, merges that are left out, and text that is changed in silence."""
    tokenizer = KerasHubTokenizer(path=preset)
    tokens = tokenizer.encode(Item(TEXT.encode(), "text", "it"), Key(0))
    assert tokens.values[0] == 257 and tokens.vocab_size == 258
    origin = np.full(tokens.values.size, Origin.RECEIVED, np.uint8)
    origin[1] = Origin.LOST
    content, missing = tokenizer.decode(
        Reconstruction(tokens.values, origin, np.ones(origin.size, np.float32), tokens.vocab_size), Key(0))
    assert content == ("th " + TEXT[3:]).encode() and missing.nonzero()[0].tolist() == [2]
    with pytest.raises(ValueError, match="UTF-8"):
        tokenizer.encode(Item(b"\xff\xfe", "text", "it"), Key(0))


def test_it_is_a_component_like_others(model: KerasHub):
    """Catches a model that no worker can be sent; and weights that the record's digest does not see."""
    assert pickle.loads(pickle.dumps(model)) == model and hash(model) == hash(KerasHub(path=model.path, max_tokens=24))
    before = model.digests()["path"]
    config = Path(model.path) / "metadata.json"
    text = config.read_text()
    config.write_text(text + " ")
    changed = model.digests()["path"]
    config.write_text(text)
    assert changed != before


def test_a_scenario_restores_with_it(preset: str, model: KerasHub):
    """Catches a model that only codes: lost tokens are guessed, one by one, alike in any batch."""
    chain = load({
        "question": "?", "items": 2, "source": {"name": "text", "item_bytes": 20}, "arm": [{"label": "a"}],
        "tokenizer": {"name": "keras_hub", "path": preset}, "channel": {"name": "packet_loss", "loss_rate": 0.5},
        "coder": {"name": "fixed_length", "packet_bits": 18},
    }).tasks[0].chain
    chain = replace(chain, decoder=LmGreedy(model=model))
    both = run(chain, send(chain, range(2), Key(1)), 0, Key(1))
    alone = run(chain, send(chain, range(1, 2), Key(1)), 0, Key(1))
    assert np.array_equal(both[1].received.reconstruction.values, alone[0].received.reconstruction.values)
    origins = np.concatenate([one.received.reconstruction.origin for one in both])
    assert np.any(origins == Origin.CONCEALED) and not np.any(origins == Origin.LOST)


@pytest.mark.parametrize(("folder", "message"), [
    ("nowhere", "must be the folder of a KerasHub preset"),
    ("odd", "causal language model"),
])
def test_what_is_no_preset_is_refused_in_one_line(folder: str, message: str, tmp_path: Path):
    """Catches tracebacks out of KerasHub."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{}")
    with pytest.raises(RequestError, match=message) as error:
        KerasHub(path=str(tmp_path / folder)).vocab_size
    assert "\n" not in str(error.value)


def test_a_window_wider_than_the_network_is_refused(preset: str):
    """Catches positions that the network has never seen."""
    with pytest.raises(ValueError, match="max_tokens must be <= 24"):
        KerasHub(path=preset, max_tokens=25).vocab_size
