"""The beam over a causal model: against exact inference, brute force, other windows, other batches, and what a channel may do."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin
from decoders import beam
from decoders.bidirectional import Bidirectional
from decoders.exact_markov import ExactMarkovDecoder
from decoders.lm_beam import LmBeam
from decoders.lm_greedy import LmGreedy
from decoders.posterior_sample import PosteriorSample
from sources.models.markov import ExactMarkov
from sources.models.model import CausalModel
from sources.models.neural import Recurrent
from sources.models.ngram import NGram
from sources.models.uniform import Uniform
from sources.synthetic import Markov
from sources.text import python_docs
from tests.chains import untrained
from tests.laws import assert_rate

VOCAB = 6


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    """A model that remembers all it has seen; nothing recombines exactly but the same past."""
    file: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return Recurrent(path=untrained(file, vocab_size=VOCAB, tokenizer="bytes", hidden=16))


def chain(flip_probability: float, num_symbols: int, key: Key) -> np.ndarray:
    return Markov(flip_probability=flip_probability, num_symbols=num_symbols).items([0], [key])[0].content.astype(np.int32)


def heard(symbols: np.ndarray, kind: str, key: Key, vocab_size: int = 2) -> Evidence:
    """Known or erased ("hard"), noisy bits ("soft"), all three ("mixed"), nothing ("erased")."""
    fate = key.child("fate").uniform(symbols.size)
    known = {"hard": fate < 0.6, "soft": fate < 0, "mixed": fate < 0.3, "erased": fate < 0}[kind]
    width = (vocab_size - 1).bit_length()
    bits = (symbols[:, None] >> np.arange(width)[::-1]) & 1
    llr = (2 * (2.0 * bits - 1) + 2 * key.child("noise").normal(symbols.size, width)).astype(np.float32)
    llr[known | (fate > 0.7)] = 0
    return Evidence(known, np.where(known, symbols, 0), vocab_size, bit_llr=llr if kind in ("soft", "mixed") else None)


def brute_force(model: CausalModel, evidence: Evidence) -> np.ndarray:
    """float64 [every way to fill the unknown tokens]: its posterior probability, in the order of itertools.product."""
    unknown = np.flatnonzero(~evidence.known)
    ways = np.array(list(product(range(evidence.vocab_size), repeat=unknown.size)), np.int64).reshape(-1, unknown.size)
    filled = np.tile(evidence.values, (len(ways), 1))
    filled[:, unknown] = ways
    state, logs = model.start(len(ways)), evidence.log_likelihood(unknown)[np.arange(unknown.size), ways].sum(axis=1)
    for at in range(evidence.num_tokens):
        logs += model.log_probabilities(state)[np.arange(len(ways)), filled[:, at]]
        state = model.advance(state, filled[:, at])
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def marginals(weights: np.ndarray, num_unknown: int, vocab_size: int) -> np.ndarray:
    joint = weights.reshape((vocab_size,) * num_unknown)
    return np.array([joint.sum(axis=tuple(i for i in range(num_unknown) if i != at)) for at in range(num_unknown)])


@pytest.mark.parametrize("kind", ["hard", "soft", "mixed", "erased"])
@pytest.mark.parametrize("flip_probability", [0.05, 0.8])
def test_on_a_markov_source_the_posterior_is_exact(flip_probability: float, kind: str) -> None:
    """Catches evidence lost or doubled, hypotheses that do not meet, and a gap judged by one side; windows included."""
    evidence = [heard(chain(flip_probability, n, Key(1).child(n)), kind, Key(2).child(n)) for n in (1, 2, 40, 700)]
    found = LmBeam(model=ExactMarkov(flip_probability=flip_probability)).restore(evidence, [Key(0)] * 4)
    exact = ExactMarkovDecoder(flip_probability=flip_probability).restore(evidence, [Key(0)] * 4)
    for one, two in zip(found, exact):
        assert one.posterior is not None and two.posterior is not None
        np.testing.assert_allclose(one.posterior, two.posterior, atol=1e-4)  # tables are in steps of 2^-16


@pytest.mark.parametrize("flip_probability", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("erasure_probability", [0.1, 0.3, 0.5])
def test_errors_are_within_a_hundredth_of_the_optimum(flip_probability: float, erasure_probability: float) -> None:
    """Catches a decision that is not the most probable symbol; counted in exact posterior probability, so without chance."""
    symbols = chain(flip_probability, 3000, Key(3))
    known = Key(4).uniform(3000) >= erasure_probability
    evidence = [Evidence(known, np.where(known, symbols, 0), 2)]
    (best,) = ExactMarkovDecoder(flip_probability=flip_probability).restore(evidence, [Key(0)])
    (found,) = LmBeam(model=ExactMarkov(flip_probability=flip_probability)).restore(evidence, [Key(0)])
    assert best.posterior is not None
    right = best.posterior[np.arange(np.count_nonzero(~known)), found.values[~known]]
    assert 1 - right.mean() <= 1.01 * (1 - best.confidence[~known].mean())


def test_greedy_hands_the_last_symbol_on() -> None:
    """Catches a filter that looks ahead or resets in a gap: on a sticky chain its guess is the last known symbol, p / (1 - λe)."""
    truth, guesses = [], []
    for item in range(1200):
        symbols, known = chain(0.1, 24, Key(5).child(item)), Key(6).child(item).uniform(24) >= 0.5
        known[20] = False
        truth.append(symbols[20])
        guesses.append(Evidence(known, np.where(known, symbols, 0), 2))
    found = LmGreedy(model=ExactMarkov(flip_probability=0.1)).restore(guesses, [Key(0)] * 1200)
    assert_rate(int(np.sum([one.values[20] != bit for one, bit in zip(found, truth)])), 1200, 0.1 / (1 - 0.8 * 0.5))
    for one, evidence in zip(found[:50], guesses):
        last = np.maximum.accumulate(np.where(evidence.known, np.arange(24), -1))
        seen = last >= 0
        assert np.array_equal(one.values[seen], evidence.values[last[seen]])


@pytest.mark.parametrize("kind", ["hard", "mixed"])
def test_posterior_is_brute_force(recurrent: CausalModel, kind: str) -> None:
    """Catches states that go astray, factors without their evidence, and a message end that is not heard."""
    values = Key(7).integers(VOCAB, 9).astype(np.int32)
    evidence = heard(values, kind, Key(8).child(kind), VOCAB)
    if kind == "mixed":  # four open tokens keep the enumeration short
        known = evidence.known.copy()
        known[[0, 2, 4, 6, 8]] = True
        evidence = Evidence(known, np.where(known, values, 0), VOCAB, bit_llr=np.where(known[:, None], 0, evidence.bit_llr))
    num_unknown = int(np.count_nonzero(~evidence.known))
    assert 2 <= num_unknown <= 5
    (found,) = LmBeam(model=recurrent, beam_width=4096, look_ahead=64, follow_weight=1.0).restore([evidence], [Key(0)])
    expected = marginals(brute_force(recurrent, evidence), num_unknown, VOCAB)
    assert found.posterior is not None
    np.testing.assert_allclose(found.posterior, expected, atol=1e-5)


def test_a_narrow_beam_is_unsure_not_wrong(recurrent: CausalModel) -> None:
    """Catches weight that is dropped with the hypotheses: with one path kept, the others still have their share."""
    values = Key(9).integers(VOCAB, 12).astype(np.int32)
    known = np.ones(12, bool)
    known[[3, 4, 8]] = False
    evidence = Evidence(known, np.where(known, values, 0), VOCAB)
    expected = marginals(brute_force(recurrent, evidence), 3, VOCAB)
    (narrow,) = LmBeam(model=recurrent, beam_width=1).restore([evidence], [Key(0)])
    assert narrow.posterior is not None and narrow.posterior.min() > 0
    np.testing.assert_allclose(narrow.posterior.sum(axis=1), 1, atol=1e-5)
    assert narrow.confidence.max(initial=0, where=~known) < 0.9999 and expected.max() < 0.9999


@pytest.mark.parametrize("beam_width", [1, 2, 8])
def test_what_is_not_held_is_weighed_by_what_follows(beam_width: int) -> None:
    """Catches weight that goes on as one hypothesis's own: lone symbols of a first-order source are exact at any width."""
    model, symbols = ExactMarkov(flip_probability=0.5, alphabet_size=8), Key(23).integers(8, 60).astype(np.int32)
    known = np.arange(60) % 4 > 0
    (found,) = LmBeam(model=model, beam_width=beam_width).restore([Evidence(known, np.where(known, symbols, 0), 8)], [Key(0)])
    law = np.full((8, 8), 0.5 / 7) + (0.5 - 0.5 / 7) * np.eye(8)
    for row, at in enumerate(range(0, 60, 4)):
        expected = (law[symbols[at - 1]] if at else np.full(8, 1 / 8)) * law[:, symbols[at + 1]]
        assert found.posterior is not None
        np.testing.assert_allclose(found.posterior[row], expected / expected.sum(), atol=1e-3)


def test_what_follows_may_count_for_less(recurrent: CausalModel) -> None:
    """Catches a weight that is not applied, or to the unknown token too: p(token) times the power of what comes after it."""
    values, known = Key(24).integers(VOCAB, 6).astype(np.int32), np.arange(6) != 2
    evidence, expected = Evidence(known, np.where(known, values, 0), VOCAB), np.empty(VOCAB)
    for token in range(VOCAB):
        filled, state, logs = np.where(known, values, token), recurrent.start(1), []
        for value in filled:
            logs.append(float(recurrent.log_probabilities(state)[0, value]))
            state = recurrent.advance(state, np.array([value]))
        expected[token] = np.exp(logs[2] + 0.5 * sum(logs[3:]))
    (found,) = LmBeam(model=recurrent, follow_weight=0.5).restore([evidence], [Key(0)])
    assert found.posterior is not None
    np.testing.assert_allclose(found.posterior[0], expected / expected.sum(), atol=1e-5)


def test_samples_come_as_often_as_the_posterior_says(recurrent: CausalModel) -> None:
    """Catches tokens drawn one by one (they would not fit together), and ways drawn forwards, blind to what follows."""
    values = Key(10).integers(VOCAB, 8).astype(np.int32)
    known = np.array([1, 1, 0, 0, 1, 1, 1, 1], bool)
    evidence, draws = Evidence(known, np.where(known, values, 0), VOCAB), 1200
    decoder = PosteriorSample(model=recurrent, beam_width=64, look_ahead=8, follow_weight=1.0)
    found = decoder.restore([evidence] * draws, [Key(11).child(i) for i in range(draws)])
    pairs = np.bincount([one.values[2] * VOCAB + one.values[3] for one in found], minlength=VOCAB**2)
    expected = brute_force(recurrent, evidence)
    for pair in np.argsort(expected)[-6:]:
        assert_rate(pairs[pair], draws, expected[pair])
    assert found[0].posterior is not None and found[0].confidence[2] == found[0].posterior[0, found[0].values[2]]


def test_samples_of_a_chain_err_twice_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a best guess passed off as a sample: 2q(1 - q) where it errs with q; and seams between windows of the lattice."""
    monkeypatch.setattr(beam, "WINDOW_TOKENS", 3)
    monkeypatch.setattr(beam, "OVERLAP_TOKENS", 3)
    flip, draws = 0.2, 1200
    symbols = np.array([0] * 6 + [1] * 6, np.int32)
    llr = np.where(symbols > 0, 0.8, -0.8).astype(np.float32)[:, None]
    evidence = Evidence(np.zeros(12, bool), np.zeros(12, np.int32), 2, bit_llr=llr)
    model = ExactMarkov(flip_probability=flip)
    found = PosteriorSample(model=model).restore([evidence] * draws, [Key(12).child(i) for i in range(draws)])
    drawn = np.array([one.values for one in found])
    joint = brute_force(model, evidence).reshape((2,) * 12)
    for at in range(12):
        assert_rate(drawn[:, at].sum(), draws, float(np.moveaxis(joint, at, 0)[1].sum()))
    for at in range(11):  # neighbours, on either side of a seam or not
        differ = np.moveaxis(joint, (at, at + 1), (0, 1)).reshape(2, 2, -1).sum(axis=2)
        assert_rate(np.sum(drawn[:, at] != drawn[:, at + 1]), draws, float(differ[0, 1] + differ[1, 0]))
    ones = float(np.moveaxis(joint, 4, 0)[1].sum())
    assert_rate(np.sum(drawn[::2, 4] != drawn[1::2, 4]), draws // 2, 2 * ones * (1 - ones))


def test_windows_leave_no_seam(monkeypatch: pytest.MonkeyPatch, recurrent: CausalModel) -> None:
    """Catches rows lost or read twice where the lattice is emptied before the hypotheses have met."""
    evidence = heard(Key(13).integers(VOCAB, 60).astype(np.int32), "soft", Key(14), VOCAB)
    (whole,) = LmBeam(model=recurrent).restore([evidence], [Key(0)])
    monkeypatch.setattr(beam, "WINDOW_TOKENS", 7)
    monkeypatch.setattr(beam, "OVERLAP_TOKENS", 24)
    (cut,) = LmBeam(model=recurrent).restore([evidence], [Key(0)])
    assert whole.posterior is not None and cut.posterior is not None
    np.testing.assert_allclose(cut.posterior, whole.posterior, atol=1e-3)
    assert np.array_equal(cut.values, whole.values)


@pytest.mark.parametrize("cls", [LmBeam, LmGreedy, Bidirectional, PosteriorSample])
def test_items_do_not_touch_each_other(recurrent: CausalModel, cls: type[LmBeam]) -> None:
    """Catches lanes that are mixed up when items end, branch and settle at different times."""
    evidence = [heard(Key(15).child(n).integers(VOCAB, n).astype(np.int32), kind, Key(16).child(n), VOCAB)
                for n, kind in ((50, "hard"), (0, "hard"), (7, "erased"), (80, "mixed"), (1, "soft"), (33, "soft"))]
    keys = [Key(17).child(i) for i in range(6)]
    together = cls(model=recurrent).restore(evidence, keys)
    for one, single, key in zip(together, evidence, keys):
        (alone,) = cls(model=recurrent).restore([single], [key])
        for name in ("values", "origin", "confidence", "posterior"):
            assert np.array_equal(getattr(one, name), getattr(alone, name))


@pytest.mark.parametrize("cls", [LmBeam, LmGreedy, Bidirectional, PosteriorSample])
def test_what_a_channel_may_deliver(recurrent: CausalModel, cls: type[LmBeam]) -> None:
    """Catches crashes and overruled tokens: nothing sent, one token, nothing lost, all lost, contradictions."""
    decoder, values = cls(model=recurrent), np.arange(VOCAB, dtype=np.int32)
    contradicting = np.tile(np.array([[50, -50, 3e38], [-50, 3e38, -3e38]], np.float32), (3, 1))
    cases = [Evidence(np.zeros(0, bool), np.zeros(0, np.int32), VOCAB), Evidence(np.zeros(1, bool), np.zeros(1, np.int32), VOCAB),
             Evidence(np.ones(VOCAB, bool), values, VOCAB), Evidence(np.zeros(300, bool), np.zeros(300, np.int32), VOCAB),
             Evidence(np.zeros(VOCAB, bool), np.zeros(VOCAB, np.int32), VOCAB, bit_llr=contradicting)]
    empty, single, whole, lost, loud = decoder.restore(cases, [Key(i) for i in range(5)])
    assert empty.values.size == 0 and single.values.size == 1 and single.origin[0] == Origin.CONCEALED
    assert np.array_equal(whole.values, values) and np.all(whole.confidence == 1) and not whole.origin.any()
    assert np.all(lost.origin == Origin.CONCEALED) and lost.confidence.mean() < 0.9
    assert np.all(loud.origin == Origin.INFERRED)  # beside a certainty of 3e38 one of 50 is nothing
    assert np.all(loud.values[0::2] % 2 == 1) and np.all(loud.values[1::2] == 2)
    for one in (empty, single, whole, lost, loud):
        assert one.posterior is not None and np.all(np.isfinite(one.posterior))


def test_undefined_evidence_is_refused() -> None:
    """Catches NaN that would spread through a lattice unseen."""
    with pytest.raises(ValueError, match="LLRs must be finite"):
        Evidence(np.zeros(1, bool), np.zeros(1, np.int32), 2, bit_llr=np.full((1, 1), np.nan, np.float32))


def test_the_past_of_a_chain_that_cannot_happen() -> None:
    """Catches 0 / 0 where known symbols contradict an all but deterministic chain."""
    symbols, known = Key(18).integers(2, 200).astype(np.int32), Key(19).uniform(200) < 0.5
    evidence = Evidence(known, np.where(known, symbols, 0), 2)
    (found,) = LmBeam(model=ExactMarkov(flip_probability=0.0)).restore([evidence], [Key(0)])
    assert found.posterior is not None and np.all(np.isfinite(found.posterior))


@pytest.mark.parametrize("sizes", [(1024, 8192), pytest.param((8192, 65536), marks=pytest.mark.slow)])
def test_cost_is_linear_in_what_is_lost(sizes: tuple[int, int]) -> None:
    """Catches hypotheses that never settle and lattices that grow; a 64 kB item included."""
    decoder, seconds = LmBeam(model=Uniform(vocab_size=4), beam_width=4, look_ahead=2), []
    for num_tokens in sizes:
        known = np.arange(num_tokens) % 8 > 0
        evidence = Evidence(known, np.where(known, 1, 0).astype(np.int32), 4)
        begin = time.process_time()
        (found,) = decoder.restore([evidence], [Key(0)])
        seconds.append(time.process_time() - begin)
        assert found.values.size == num_tokens
    assert seconds[1] < 16 * seconds[0] + 1


def test_a_look_at_the_next_token_is_exact_between_two() -> None:
    """Catches what follows heard twice or through the wrong side of the law: single erasures and noisy ones of a Markov chain."""
    symbols, known = chain(0.2, 400, Key(21)), np.arange(400) % 3 != 1
    llr = np.where(known, 0, 1.5 * Key(22).normal(400)).astype(np.float32)[:, None]
    llr[::2] = 0
    evidence = [Evidence(known, np.where(known, symbols, 0), 2, bit_llr=llr)]
    (found,) = Bidirectional(model=ExactMarkov(flip_probability=0.2)).restore(evidence, [Key(0)])
    (exact,) = ExactMarkovDecoder(flip_probability=0.2).restore(evidence, [Key(0)])
    assert found.posterior is not None and exact.posterior is not None
    np.testing.assert_allclose(found.posterior, exact.posterior, atol=1e-4)


def test_both_sides_of_a_gap_in_text() -> None:
    """Catches a look ahead that is not used: from the left alone the n-gram restores about half of single bytes."""
    data = np.frombuffer(python_docs(), np.uint8).astype(np.int32)
    items = [data[at:at + 400] for at in (70_000, 200_000, 330_000, 460_000)]
    known = [Key(20).child(i).uniform(400) >= 0.1 for i in range(4)]
    evidence = [Evidence(one, np.where(one, values, 0), 256) for one, values in zip(known, items)]
    right = {}
    for decoder in (LmBeam(model=NGram()), Bidirectional(model=NGram()), LmGreedy(model=NGram())):
        found = decoder.restore(evidence, [Key(0)] * 4)
        right[type(decoder)] = np.mean(np.concatenate([(one.values == values)[~k] for one, values, k in zip(found, items, known)]))
    assert right[LmBeam] > right[Bidirectional] > right[LmGreedy] + 0.05


def test_models_that_do_not_fit_are_refused() -> None:
    """Catches tokens of one vocabulary read with another, and a prior that nobody named."""
    evidence = [Evidence(np.zeros(2, bool), np.zeros(2, np.int32), 4)]
    for cls in (LmBeam, LmGreedy, Bidirectional, PosteriorSample):
        with pytest.raises(RequestError, match="vocab_size 4, got one of 2; name a model that fits"):
            cls(model=ExactMarkov(flip_probability=0.1)).restore(evidence, [Key(0)])
        with pytest.raises(RequestError, match="decoder.model must be given"):
            cls().restore(evidence, [Key(0)])
