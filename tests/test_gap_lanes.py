"""Gaps side by side: to the last bit what gaps in turn come to, as soon as nothing changes; and what one round is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin, Reconstruction
from decoders import gap_lanes
from decoders.lm_beam import LmBeam
from sources.models.markov import ExactMarkov
from sources.models.model import CausalModel, MaskedModel
from sources.models.neural import Recurrent
from sources.models.ngram import NGram
from sources.text import python_docs
from tests.chains import untrained

VOCAB = 6
UNTIL_NOTHING_CHANGES = 100


class Rising(MaskedModel):
    """A guide that finds a token the likelier the larger it is."""

    @property
    def vocab_size(self) -> int:
        return VOCAB

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        law = np.array([3120 * (1 + token) for token in range(VOCAB)])
        law[-1] += 65536 - law.sum()
        return [np.tile(law, (places.size, 1)) for places in asked]


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    """A model that remembers all it has seen."""
    file: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return Recurrent(path=untrained(file, vocab_size=VOCAB, tokenizer="bytes", hidden=16))


def damaged(num_tokens: int, rate: float, key: Key, *, soft: bool = False) -> Evidence:
    """Tokens lost one by one; with `soft`, every second of them is heard through noise."""
    values = key.child("values").integers(VOCAB, num_tokens).astype(np.int32)
    known = key.child("fate").uniform(num_tokens) >= rate
    llr = (2 * key.child("noise").normal(num_tokens, 3)).astype(np.float32)
    llr[known | (np.arange(num_tokens) % 2 > 0)] = 0
    return Evidence(known, np.where(known, values, 0), VOCAB, bit_llr=llr if soft else None)


def same(first: Sequence[Reconstruction], second: Sequence[Reconstruction]) -> bool:
    """Whether two decoders came to the same, to the last bit."""
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for one, two in zip(first, second, strict=True)
               for name in ("values", "origin", "confidence", "posterior"))


@pytest.mark.parametrize("rate", [0.03, 0.15, 0.5])
def test_a_model_that_looks_back_a_little_needs_one_round(rate: float) -> None:
    """Catches a gap cut where hypotheses have not met, a state of the wrong place, and rows that go to another gap."""
    text = np.frombuffer(python_docs(), np.uint8).astype(np.int32)
    items = [text[at:at + 300] for at in (70_000, 200_000)]
    known = [Key(1).child(i).uniform(300) >= rate for i in range(2)]
    evidence = [Evidence(one, np.where(one, values, 0), 256) for one, values in zip(known, items)]
    in_turn, as_lanes = (LmBeam(model=NGram(), beam_width=8, gaps=gaps, num_rounds=1).restore(evidence, [Key(0)] * 2)
                         for gaps in ("in_turn", "as_lanes"))
    assert same(in_turn, as_lanes)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("beam_width", "look_ahead", "guide"), [(16, 2, None), (4, 5, None), (1, 3, None), (16, 2, Rising())])
def test_rounds_end_where_gaps_in_turn_do(recurrent: CausalModel, soft: bool, beam_width: int, look_ahead: int,
                                          guide: MaskedModel | None) -> None:
    """Catches a path that is not the one the state went on from, and a change after which gaps further on are left as they were."""
    evidence = [damaged(n, 0.15, Key(2).child(n), soft=soft) for n in (80, 0, 33, 140, 1)]
    search = dict(model=recurrent, beam_width=beam_width, look_ahead=look_ahead, guide=guide)
    in_turn = LmBeam(**search).restore(evidence, [Key(0)] * 5)
    as_lanes = LmBeam(**search, gaps="as_lanes", num_rounds=UNTIL_NOTHING_CHANGES).restore(evidence, [Key(0)] * 5)
    assert same(in_turn, as_lanes)


def test_one_round_is_not_all(recurrent: CausalModel) -> None:
    """Catches rounds that change nothing, by which the tests above could not fail; the first gap needs no guess."""
    evidence = [damaged(140, 0.15, Key(3).child(n)) for n in range(8)]
    in_turn, one_round = (LmBeam(model=recurrent, look_ahead=2, gaps=gaps).restore(evidence, [Key(0)] * 8)
                          for gaps in ("in_turn", "as_lanes"))
    assert not same(in_turn, one_round)
    for one, two in zip(in_turn, one_round):
        assert one.posterior is not None and two.posterior is not None
        assert np.array_equal(one.posterior[0], two.posterior[0])


def test_a_hypothesis_without_a_past_is_followed_as_one(recurrent: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a state that remembers what the surviving hypothesis has forgotten; and a beam so wide that none survives."""
    anew: list[bool] = []
    advanced = gap_lanes._advanced

    def noted(model: CausalModel, state: np.ndarray, reading: list[gap_lanes._Text]) -> np.ndarray:
        anew.extend(text.path[text.at] == gap_lanes.STARTS_ANEW for text in reading)
        return advanced(model, state, reading)

    evidence = [damaged(200, 0.1, Key(4).child(n)) for n in range(4)]
    decoder = LmBeam(model=recurrent, beam_width=1, look_ahead=2)
    monkeypatch.setattr(gap_lanes, "_advanced", noted)
    found = gap_lanes.find_side_by_side(decoder.search(), evidence, UNTIL_NOTHING_CHANGES)
    assert any(anew)
    for one, two in zip(decoder.restore(evidence, [Key(0)] * 4), found):
        assert one.posterior is not None and np.array_equal(one.posterior, two.posterior)


@pytest.mark.parametrize("num_rounds", [1, 3])
def test_items_do_not_touch_each_other(recurrent: CausalModel, num_rounds: int) -> None:
    """Catches gaps that are mixed up between items, in any round."""
    evidence = [damaged(n, rate, Key(5).child(n), soft=n % 2 > 0)
                for n, rate in ((50, 0.2), (0, 1), (7, 1), (81, 0.1), (1, 1), (33, 0.6))]
    decoder = LmBeam(model=recurrent, look_ahead=3, gaps="as_lanes", num_rounds=num_rounds)
    together = decoder.restore(evidence, [Key(0)] * 6)
    assert same(together, [decoder.restore([one], [Key(1)])[0] for one in evidence])


def test_what_a_channel_may_deliver(recurrent: CausalModel) -> None:
    """Catches crashes and overruled tokens: nothing sent, one token, nothing lost, all lost, contradictions."""
    values, nothing = np.arange(VOCAB, dtype=np.int32), np.zeros(0, np.int32)
    loud = np.tile(np.array([[50, -50, 3e38], [-50, 3e38, -3e38]], np.float32), (3, 1))
    cases = [Evidence(nothing > 0, nothing, VOCAB), Evidence(values[:1] > 0, values[:1], VOCAB),
             Evidence(values >= 0, values, VOCAB), Evidence(np.zeros(300, bool), np.zeros(300, np.int32), VOCAB),
             Evidence(values < 0, 0 * values, VOCAB, bit_llr=loud)]
    empty, single, whole, lost, told = LmBeam(model=recurrent, gaps="as_lanes", num_rounds=2).restore(cases, [Key(0)] * 5)
    assert empty.values.size == 0 and single.origin.tolist() == [Origin.CONCEALED]
    assert np.array_equal(whole.values, values) and not whole.origin.any() and np.all(lost.origin == Origin.CONCEALED)
    assert np.all(told.values[0::2] % 2 == 1) and np.all(told.values[1::2] == 2)
    symbols, known = Key(6).integers(2, 200).astype(np.int32), Key(7).uniform(200) < 0.5
    contradiction = Evidence(known, np.where(known, symbols, 0), 2)
    in_turn, as_lanes = (LmBeam(model=ExactMarkov(flip_probability=0.0), gaps=gaps).restore([contradiction], [Key(0)])
                         for gaps in ("in_turn", "as_lanes"))
    assert same(in_turn, as_lanes)
