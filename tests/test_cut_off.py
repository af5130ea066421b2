"""A connection that breaks off, and what a model writes on from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.losses import CutOff
from channel_sim.trial import run, send
from channel_sim.types import Evidence, Origin
from decoders.posterior_sample import PosteriorSample
from sources.models.markov import ExactMarkov
from sources.models.model import CausalModel
from sources.models.neural import Recurrent
from sources.models.ngram import NGram
from tests.chains import ROOT, chain_of, untrained
from tests.laws import assert_rate

VOCAB = 6
DRAWS = 3000


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    """A model that remembers all it has seen."""
    file: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return Recurrent(path=untrained(file, vocab_size=VOCAB, tokenizer="bytes", hidden=16))


def cut(values: list[int], num_lost: int, vocab_size: int) -> Evidence:
    """`values`, then so many erased tokens."""
    known = np.arange(len(values) + num_lost) < len(values)
    return Evidence(known, np.array(values + [0] * num_lost, np.int32), vocab_size)


def chance(model: CausalModel, values: list[int], first: int) -> float:
    """Product of the table's probabilities of values[first:], each given all before it."""
    tables, _ = model.tables(model.start(1), np.array(values, np.int32))
    chances = tables[np.arange(len(values)), values] / 2.0**model.frequency_bits
    return float(np.prod(chances[first:]))


@pytest.mark.parametrize(("kept", "num_slots", "num_kept"), [(0.5, 8, 4), (0.7, 10, 7), (0.0, 5, 0), (1.0, 5, 5), (0.25, 10, 3),
                                                             (0.5, 1, 1), (0.4, 1, 0), (0.3, 0, 0)])
def test_what_arrives_is_the_first_part(kept: float, num_slots: int, num_kept: int) -> None:
    """Catches a random loss, a part cut off at the wrong end, and floor or ceiling for the nearest slot."""
    lost = CutOff(kept_fraction=kept).lost_packets(num_slots, Key(1))
    assert lost.tolist() == [False] * num_kept + [True] * (num_slots - num_kept)
    assert np.array_equal(lost, CutOff(kept_fraction=kept).lost_packets(num_slots, Key(2)))


def test_its_law_is_the_loss_rate_that_is_met() -> None:
    """Catches a law of the part that is kept."""
    channel = CutOff(kept_fraction=0.375)
    assert channel.loss_law().loss_rate == channel.lost_packets(64, Key(0)).mean() == 0.625
    assert CutOff(kept_fraction=1.0).loss_law().loss_rate == 0


def test_slots_of_the_air_are_cut_off_where_they_are_given() -> None:
    """Catches packets counted instead: 3 of 6 slots of 32 bits are the first 12 bytes, all packets that touch the rest are lost."""
    chain = chain_of({"question": "?", "items": 1, "arm": [{"label": "a"}], "source": {"name": "text", "item_bytes": 24},
                      "coder": {"name": "fixed_length", "packet_bits": 40, "header_bits": 0},
                      "channel": {"name": "cut_off", "kept_fraction": 0.5, "slot_bits": 32}})
    (one,) = run(chain, send(chain, [0], ROOT), 0, ROOT)
    assert one.delivery.reception.lost.tolist() == [False, False, True, True, True]
    assert one.delivery.card is not None and one.delivery.card.num_lost == 3


def test_a_continuation_has_the_models_own_law(recurrent: CausalModel) -> None:
    """Catches draws off a beam that forgot its past: two tokens after three, against the product of the tables; and a negative
    control, the law without the past, which must not fit."""
    past = [1, 4, 2]
    decoder = PosteriorSample(model=recurrent, beam_width=2)
    found = decoder.restore([cut(past, 2, VOCAB)] * DRAWS, [Key(3).child(i) for i in range(DRAWS)])
    pairs = np.bincount([one.values[3] * VOCAB + one.values[4] for one in found], minlength=VOCAB**2)
    expected = np.array([chance(recurrent, [*past, first, second], 3) for first in range(VOCAB) for second in range(VOCAB)])
    assert expected.sum() == pytest.approx(1)
    for pair in np.argsort(expected)[-6:]:
        assert_rate(pairs[pair], DRAWS, float(expected[pair]))
    without = np.array([chance(recurrent, [first, second], 0) for first in range(VOCAB) for second in range(VOCAB)])
    assert np.abs(pairs / DRAWS - without).max() > 5 / DRAWS**0.5


def test_the_product_of_confidences_is_the_probability_of_the_continuation(recurrent: CausalModel) -> None:
    """Catches marginals, or the table before instead of at a token, passed off as the likelihood of what was drawn."""
    (one,) = PosteriorSample(model=recurrent).restore([cut([5, 0], 40, VOCAB)], [Key(4)])
    assert np.log2(one.confidence[2:].astype(float)).sum() == pytest.approx(np.log2(chance(recurrent, one.values.tolist(), 2)))
    assert np.all(one.origin[2:] == Origin.CONCEALED) and one.confidence[:2].tolist() == [1, 1]


def test_holes_before_the_last_token_heard_are_still_drawn_from_both_sides() -> None:
    """Catches a continuation that does not go on from what filled the holes: a chain that flips once in 1,000."""
    known = np.array([1, 0, 1, 0, 0, 0], bool)
    evidence = Evidence(known, np.array([1, 0, 1, 0, 0, 0], np.int32), 2)
    decoder = PosteriorSample(model=ExactMarkov(flip_probability=1e-3))
    found = decoder.restore([evidence] * 200, [Key(5).child(i) for i in range(200)])
    same = sum(one.values.tolist() == [1] * 6 for one in found)
    assert same > 180


def test_continuations_of_one_item_feel_no_others(recurrent: CausalModel) -> None:
    """Catches lanes mixed up where pasts and continuations are of different lengths."""
    evidence = [cut([1, 2, 3], 9, VOCAB), cut([], 4, VOCAB), cut([0] * 20, 0, VOCAB), cut([4], 30, VOCAB), cut([], 0, VOCAB)]
    keys = [Key(6).child(i) for i in range(5)]
    decoder = PosteriorSample(model=recurrent)
    for one, single, key in zip(decoder.restore(evidence, keys), evidence, keys):
        (alone,) = decoder.restore([single], [key])
        assert np.array_equal(one.values, alone.values) and np.array_equal(one.confidence, alone.confidence)


def tables_of(kept_fraction: float) -> dict[str, Any]:
    return {"question": "?", "items": 4, "arm": [{"label": "a"}], "source": {"name": "text", "item_bytes": 512},
            "coder": {"name": "fixed_length", "packet_bits": 8, "header_bits": 0},
            "channel": {"name": "cut_off", "kept_fraction": kept_fraction},
            "decoder": {"name": "posterior_sample", "model": "ngram"}}


def test_a_sample_costs_what_its_model_says_it_costs() -> None:
    """Catches a metric of the truth instead of the sample: a half that the n-gram wrote, coded anew by its own tables."""
    chain = chain_of(tables_of(0.5))
    for one in run(chain, send(chain, range(4), ROOT), 0, ROOT):
        values = one.received.reconstruction.values.tolist()
        assert one.measurement["sample_bits_per_token"] == pytest.approx(-np.log2(chance(NGram(), values, 256)) / 256, rel=1e-5)
    (whole,) = run(chain_of(tables_of(1.0)), send(chain, [0], ROOT), 0, ROOT)
    assert whole.measurement["sample_bits_per_token"] is None
