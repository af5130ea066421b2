"""Forward–backward against brute force and against the closed forms of optimal concealment."""

from itertools import product

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin
from decoders.exact_markov import ExactHiddenMarkov, ExactMarkovDecoder, chain_posterior
from decoders.fitted_markov import FittedMarkov
from decoders.most_frequent import MostFrequent
from sources.synthetic import Markov
from tests.laws import assert_rate

FLIPS = [0.1, 0.5, 0.8]
KINDS = ["hard", "soft", "mixed", "erased"]


def hear(symbols, kind, key):
    """Evidence on binary symbols: certain or erased (hard), LLRs (soft), all three (mixed), nothing (erased)."""
    n, fate = len(symbols), key.child("fate").uniform(len(symbols))
    known = {"hard": fate < 0.5, "soft": np.zeros(n, bool), "mixed": fate < 0.3, "erased": np.zeros(n, bool)}[kind]
    llr = 4 * (2.0 * symbols - 1) + 3 * key.child("noise").normal(n)
    llr[known | (fate > 0.6)] = 0
    bit_llr = llr[:, None].astype(np.float32) if kind in ("soft", "mixed") else None
    return Evidence(known, np.where(known, symbols, 0), 2, bit_llr=bit_llr)


def likelihood(evidence):
    """float64 [n, 2], by the definition of the LLR."""
    table = np.ones((evidence.num_tokens, 2))
    if evidence.bit_llr is not None:
        table[:, 1] = np.exp(evidence.bit_llr[:, 0].astype(np.float64))
    table[evidence.known] = np.eye(2)[evidence.values[evidence.known]]
    return table


def brute_force(table, flip_probability, observation_error):
    """float64 [n, 2]: p(y_i | evidence), summing over every x and every y."""
    n = len(table)
    words = np.array(list(product((0, 1), repeat=n)))  # [2^n, n]
    flips = (words[:, 1:] != words[:, :-1]).sum(axis=1)
    p_x = 0.5 * flip_probability ** flips * (1 - flip_probability) ** (n - 1 - flips)
    errors = (words[:, None, :] != words[None, :, :]).sum(axis=2) if observation_error else None
    p_y = p_x if errors is None else p_x @ (observation_error ** errors * (1 - observation_error) ** (n - errors))
    joint = p_y * np.prod(np.where(words == 1, table[:, 1], table[:, 0]), axis=1)
    ones = (joint[:, None] * words).sum(axis=0) / joint.sum()
    return np.stack([1 - ones, ones], axis=1)


def compare(n, kind, flip_probability, observation_error, causal):
    key = Key(5).child(n, kind)
    source = Markov(flip_probability=flip_probability, num_symbols=n)
    evidence = hear(source.items([0], [key])[0].content.astype(np.int32), kind, key)
    computed = chain_posterior(evidence.log_likelihood(np.arange(n)), flip_probability=flip_probability,
                               observation_error=observation_error, causal=causal)
    table = likelihood(evidence)
    expected = (np.stack([brute_force(table[:i + 1], flip_probability, observation_error)[i] for i in range(n)]) if causal
                else brute_force(table, flip_probability, observation_error))
    assert np.max(np.abs(computed - expected)) < 1e-12


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flip_probability", FLIPS)
def test_posterior_is_brute_force(flip_probability, kind, causal):
    """Catches a lost or doubled likelihood, a message off by one symbol, and a start that is not stationary."""
    for n in (1, 2, 5, 12):
        compare(n, kind, flip_probability, 0.0, causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flip_probability, observation_error", [(0.1, 0.05), (0.8, 0.3)])
def test_hidden_posterior_is_brute_force(flip_probability, observation_error, kind, causal):
    """Catches the posterior of the hidden state passed off as that of the symbol, and evidence on y used as if it were on x."""
    for n in (1, 3, 9):
        compare(n, kind, flip_probability, observation_error, causal)


LENGTH, MIDDLE = 61, 30  # an end of the item shows through a run of 30 erasures only: 1e-9


def erased_in_the_middle(flip_probability, erasure_probability, num_items=12_000):
    """(true middle symbols, evidence): one erased symbol a chain is looked at, so that trials are independent."""
    keys = [Key(11).child("item", i) for i in range(num_items)]
    items = Markov(flip_probability=flip_probability, num_symbols=LENGTH).items(range(num_items), keys)
    known = np.stack([key.child("loss").uniform(LENGTH) >= erasure_probability for key in keys])
    known[:, MIDDLE] = False
    symbols = np.stack([item.content for item in items]).astype(np.int32)
    return symbols[:, MIDDLE], [Evidence(k, s, 2) for k, s in zip(known, np.where(known, symbols, 0))]


@pytest.mark.parametrize("flip_probability, erasure_probability", [(0.1, 0.5), (0.8, 0.3)])
def test_recovered_fraction_is_optimal(flip_probability, erasure_probability):
    """Catches any rule that is not the optimum, and any that peeks: two-sided p / (1 - λe²), causal p / (1 - λe), no model 1/2."""
    p, e = min(flip_probability, 1 - flip_probability), erasure_probability
    slope = 1 - 2 * p
    truth, evidence = erased_in_the_middle(flip_probability, e)
    for decoder, error in ((ExactMarkovDecoder(flip_probability=flip_probability), p / (1 - slope * e ** 2)),
                           (ExactMarkovDecoder(flip_probability=flip_probability, causal=True), p / (1 - slope * e)),
                           (MostFrequent(symbol=0), 0.5)):
        restored = [result.values[MIDDLE] for result in decoder.restore(evidence, [Key(0)] * len(evidence))]
        assert_rate(np.sum(truth != restored), truth.size, expected=error)


def test_recovered_fraction_of_one_long_item():
    """Catches scaling that fails over a million symbols: 0.875 of the erased symbols come back at p = 0.1, e = 0.5."""
    n, key = 1_000_000, Key(2)
    symbols = Markov(num_symbols=n).items([0], [key])[0].content.astype(np.int32)
    known = key.child("loss").uniform(n) >= 0.5
    (result,) = ExactMarkovDecoder(flip_probability=0.1).restore([Evidence(known, np.where(known, symbols, 0), 2)], [key])
    recovered = np.mean(result.values[~known] == symbols[~known])
    assert abs(recovered - 0.875) < 0.005
    assert abs(result.confidence[~known].mean() - recovered) < 0.005  # what it claims is what it does


def test_calibrated_confidence_needs_the_right_parameter():
    """Negative control: with a wrong flip probability, what the decoder claims is not what it does."""
    n, key = 100_000, Key(2)
    symbols = Markov(num_symbols=n).items([0], [key])[0].content.astype(np.int32)
    known = key.child("loss").uniform(n) >= 0.5
    (result,) = ExactMarkovDecoder(flip_probability=0.3).restore([Evidence(known, np.where(known, symbols, 0), 2)], [key])
    assert abs(result.confidence[~known].mean() - np.mean(result.values[~known] == symbols[~known])) > 0.05


@pytest.mark.parametrize("flip_probability", [1e-200, 1e-6, 0.1, 1 - 1e-9])
@pytest.mark.parametrize("certain", [50.0, 1e6])
def test_contradictory_certainties_stay_finite(flip_probability, certain):
    """Catches 0 / 0 where certain symbols contradict one another and the chain."""
    llr = certain * np.array([1, -1, 1, 1, -1, 0, -1, 0, 1, -1], np.float32)[:, None]
    known = np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 1], bool)
    evidence = Evidence(known, known.astype(np.int32), 2, bit_llr=llr)
    for decoder in (ExactMarkovDecoder(flip_probability=flip_probability),
                    ExactMarkovDecoder(flip_probability=flip_probability, causal=True),
                    ExactHiddenMarkov(flip_probability=flip_probability, observation_error=0.0)):
        (result,) = decoder.restore([evidence], [Key(1)])
        assert np.all(np.isfinite(result.posterior)) and np.allclose(result.posterior.sum(axis=1), 1)


def test_origins_values_and_confidence():
    """Catches soft symbols marked as concealed, certain ones overruled, and a confidence that is not the chosen value's."""
    llr = np.array([0, 0.5, 0, -2], np.float32)[:, None]
    evidence = Evidence(np.array([True, False, False, False]), np.array([1, 0, 0, 0], np.int32), 2, bit_llr=llr)
    (result,) = ExactMarkovDecoder(flip_probability=0.1).restore([evidence], [Key(1)])
    assert result.origin.tolist() == [Origin.RECEIVED, Origin.INFERRED, Origin.CONCEALED, Origin.INFERRED]
    assert result.values[0] == 1 and result.confidence[0] == 1 and result.posterior.shape == (3, 2)
    assert np.array_equal(result.confidence[1:], result.posterior[np.arange(3), result.values[1:]])


def test_nothing_received_and_nothing_sent():
    """Catches empty arrays that crash a kernel; an item lost as a whole is zeros at confidence 1/2."""
    decoder = ExactMarkovDecoder(flip_probability=0.2)
    empty, lost = decoder.restore([Evidence(np.zeros(n, bool), np.zeros(n, np.int32), 2) for n in (0, 3)], [Key(1), Key(2)])
    assert empty.values.size == 0 and empty.posterior.shape == (0, 2)
    assert lost.values.tolist() == [0, 0, 0] and np.all(lost.confidence == 0.5) and np.all(lost.origin == Origin.CONCEALED)


def test_items_do_not_depend_on_their_neighbours():
    """Catches a message that runs on from one item into the next."""
    decoder, key = ExactMarkovDecoder(flip_probability=0.2), Key(4)
    evidence = [hear((key.child(i).uniform(9) < 0.5).astype(np.int32), "mixed", key.child(i)) for i in range(4)]
    for one, together in zip(evidence, decoder.restore(evidence, [key] * 4)):
        (alone,) = decoder.restore([one], [key])
        assert np.array_equal(alone.values, together.values) and np.array_equal(alone.posterior, together.posterior)


@pytest.mark.parametrize("decoder, message", [
    (ExactMarkovDecoder(), "decoder.flip_probability is not given"),
    (ExactHiddenMarkov(flip_probability=0.1), "decoder.observation_error is not given"),
])
def test_missing_parameter_is_named(decoder, message):
    """Catches a default that would be silently wrong."""
    with pytest.raises(ValueError, match=message + ".*; give it"):
        decoder.restore([Evidence(np.zeros(2, bool), np.zeros(2, np.int32), 2)], [Key(1)])


def test_other_alphabets_are_refused():
    """Catches bytes sent through the binary chain."""
    with pytest.raises(ValueError, match="vocabulary of 256; use tokenizer symbols"):
        ExactMarkovDecoder(flip_probability=0.1).restore([Evidence(np.zeros(2, bool), np.zeros(2, np.int32), 256)], [Key(1)])


def test_a_fitted_prior_reaches_the_exact_one_on_long_items():
    """Catches an estimate of the flip probability that is taken over pairs of which one is missing."""
    symbols = Markov(flip_probability=0.1, num_symbols=50_000).items([0], [Key(77)])[0].content.astype(np.int32)
    known = Key(78).uniform(symbols.size) < 0.5
    evidence = Evidence(known, np.where(known, symbols, 0), 2)
    fitted, exact = (one.restore([evidence], [Key(0)])[0] for one in (FittedMarkov(), ExactMarkovDecoder(flip_probability=0.1)))
    assert np.mean(fitted.values == exact.values) > 0.999
    assert np.abs(fitted.confidence - exact.confidence).max() < 0.02
