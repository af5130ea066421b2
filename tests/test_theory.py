"""Closed forms against published numbers, and against brute force that shares no code with them."""

from itertools import product

import numpy as np
import pytest

from channel_sim import theory
from channel_sim.keys import Key
from channel_sim.losses import GilbertElliott


@pytest.mark.parametrize("order, ebno_db, expected", [
    (2, 0, 0.0786496), (2, 2, 0.0375061), (4, 4, 0.0125008), (4, 6, 2.38829e-3), (2, 8, 1.90908e-4),
    (16, 0, 0.140981), (16, 4, 0.0586237), (16, 6, 0.0278713), (16, 8, 9.24721e-3), (16, 10, 1.75415e-3),
    (64, 8, 0.0523339), (64, 10, 0.0265327), (64, 14, 2.15400e-3),
])
def test_gray_qam_over_awgn_is_the_published_curve(order, ebno_db, expected):
    """Catches the nearest-neighbour approximation and Es/N0 taken for Eb/N0."""
    assert theory.qam_bit_error_probability(order, ebno_db) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("order", [4, 16, 64, 256])
@pytest.mark.parametrize("ebno_db", [-3.0, 6.0, 12.0])
def test_gray_qam_equals_a_sum_over_decision_regions(order, ebno_db):
    """Catches a wrong sign in the fold of a bit: every amplitude into every region, bit by bit."""
    levels = round(order**0.5)
    bits = levels.bit_length() - 1
    amplitude = 2.0 * np.arange(levels) - levels + 1
    gray = np.arange(levels) ^ (np.arange(levels) >> 1)
    sigma = np.sqrt(2 * np.mean(amplitude**2) / (2 * np.log2(order) * 10 ** (ebno_db / 10)))
    edges = np.concatenate([[-np.inf], amplitude[:-1] + 1, [np.inf]])
    expected = 0.0
    for sent, seen in product(range(levels), repeat=2):
        region = theory.q_function((edges[seen] - amplitude[sent]) / sigma) - theory.q_function(
            (edges[seen + 1] - amplitude[sent]) / sigma)
        expected += region * bin(gray[sent] ^ gray[seen]).count("1") / (bits * levels)
    assert theory.qam_bit_error_probability(order, ebno_db) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ebno_db, expected", [(0, 0.146447), (10, 0.0232687), (20, 2.48140e-3)])
def test_bpsk_over_rayleigh_is_the_published_curve(ebno_db, expected):
    """Catches an average over amplitudes instead of powers."""
    for order in (2, 4):
        assert theory.qam_bit_error_probability(order, ebno_db, "rayleigh") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("order", [2, 16, 64])
def test_rayleigh_is_the_mean_of_awgn_over_fades(order):
    """Catches a fading average that forgets the outer terms: integrate the AWGN curve over an exponential power."""
    power = (np.arange(20_000) + 0.5) * 1e-3
    curve = [theory.qam_bit_error_probability(order, 8 + 10 * np.log10(gain)) for gain in power]
    expected = np.sum(np.exp(-power) * curve) * 1e-3
    assert theory.qam_bit_error_probability(order, 8, "rayleigh") == pytest.approx(expected, rel=2e-4)


def test_outage_is_the_published_one():
    """Catches dB taken as a ratio."""
    assert theory.outage_probability(1, 10) == pytest.approx(0.0951626, rel=1e-6)


def test_capacities_are_the_published_ones():
    """Catches natural logarithms and a complex channel's noise on a real one: rate ½ at Eb/N0 = .187 dB, h(.1) = .468996."""
    assert theory.binary_entropy(0.1) == pytest.approx(0.468996, abs=5e-7)
    assert (theory.binary_entropy(0), theory.binary_entropy(1), theory.binary_entropy(0.5)) == (0, 0, 1)
    assert theory.bsc_capacity(0.11) == pytest.approx(0.5, abs=1e-4)
    assert theory.bec_capacity(0.3) == 0.7
    assert theory.bi_awgn_capacity(0.187 - 10 * np.log10(2)) == pytest.approx(0.5, abs=5e-5)
    assert theory.bi_awgn_capacity(30) == pytest.approx(1) and theory.bi_awgn_capacity(-30) == pytest.approx(
        1e-3 / np.log(2), rel=1e-2)


def test_bi_awgn_moments_equal_a_sample_mean():
    """Catches a density of information of the wrong law: antipodal symbols and noise, drawn and weighed by Bayes' rule."""
    snr = 10 ** (-2 / 10)
    received = 1 + np.sqrt(0.5 / snr) * Key(1).normal(1_000_000)
    density = 1 - np.log2(1 + np.exp(-4 * snr * received))
    assert theory.bi_awgn_capacity(-2) == pytest.approx(density.mean(), abs=5e-3)
    assert theory.bi_awgn_dispersion(-2) == pytest.approx(density.var(), rel=1e-2)


@pytest.mark.parametrize("num_uses, at_percent, at_permille", [
    (128, 1.892, 2.476), (256, 1.471, 1.915), (512, 1.139, 1.468), (1000, 0.893, 1.136), (4000, 0.558, 0.683)])
def test_normal_approximation_of_the_bi_awgn_channel_is_the_published_one(num_uses, at_percent, at_permille):
    """Catches a lost log term or a dispersion in nats: Eb/N0 at rate ½ for block errors of 1e-2 and 1e-3."""
    for ebno_db, expected in ((at_percent, 1e-2), (at_permille, 1e-3)):
        esno_db = ebno_db - 10 * np.log10(2)
        moments = theory.bi_awgn_capacity(esno_db), theory.bi_awgn_dispersion(esno_db)
        # the table's last digit is half a millibel, worth up to 1.5 % of the block error rate at n = 4000
        assert theory.normal_approximation(num_uses, num_uses / 2, *moments) == pytest.approx(expected, rel=0.015)


def test_normal_approximation_of_bsc_and_bec_is_the_published_one():
    """Catches a log term granted to the BEC: n = 1000, block error 1e-3; and a rate that is not the inverse."""
    bsc, bec = (theory.bsc_capacity(0.11), theory.bsc_dispersion(0.11)), (theory.bec_capacity(0.5), theory.bec_dispersion(0.5))
    assert theory.normal_approximation_rate(1000, 1e-3, *bsc) == pytest.approx(0.412840, abs=1e-6)
    assert theory.normal_approximation_rate(1000, 1e-3, *bec, log_term=False) == pytest.approx(0.451139, abs=1e-6)
    assert theory.normal_approximation(1000, 412.840, *bsc) == pytest.approx(1e-3, rel=1e-3)
    assert theory.normal_approximation(100, 99, 1.0, 0.0) == 0 and theory.normal_approximation(100, 110, 1.0, 0.0) == 1


def test_mds_codes_fail_as_published():
    """Catches block failure booked as residual loss: (10, 8) and (20, 16) at 10 %."""
    assert theory.mds_failure_probability(10, 8, 0.1) == pytest.approx(0.0701908, abs=5e-8)
    assert theory.mds_failure_probability(20, 16, 0.1) == pytest.approx(0.0431745, abs=5e-8)
    assert theory.mds_residual_loss(10, 8, 0.1) == pytest.approx(0.0225, abs=5e-5)
    assert theory.mds_residual_loss(20, 16, 0.1) == pytest.approx(0.0115, abs=5e-5)
    assert theory.mds_residual_loss(8, 8, 0.1) == pytest.approx(0.1)
    assert theory.mds_failure_probability(20, 16, 0) == theory.mds_residual_loss(20, 16, 0) == 0


@pytest.mark.parametrize("n, k, burst", [(5, 3, 1.0), (5, 5, 2.0), (8, 5, 4.0), (9, 1, 3.0), (9, 6, 1 / 0.7)])
def test_mds_codes_in_bursts_equal_brute_force(n, k, burst):
    """Catches a chain that starts in the wrong law or counts parity as source: all 2^n loss patterns."""
    loss_rate = 0.3
    stay_bad, to_bad = 1 - 1 / burst, loss_rate / (1 - loss_rate) / burst
    failure = residual = 0.0
    for pattern in product((0, 1), repeat=n):
        weight = loss_rate if pattern[0] else 1 - loss_rate
        for before, now in zip(pattern, pattern[1:]):
            bad = stay_bad if before else to_bad
            weight *= bad if now else 1 - bad
        if sum(pattern) > n - k:
            failure += weight
            residual += weight * sum(pattern[:k]) / k
    assert theory.mds_failure_probability(n, k, loss_rate, burst) == pytest.approx(failure, rel=1e-12)
    assert theory.mds_residual_loss(n, k, loss_rate, burst) == pytest.approx(residual, rel=1e-12)


def test_a_chain_without_memory_is_independent_loss():
    """Catches two formulas for one thing that disagree; under bursts of the same rate a longer code can be worse."""
    assert theory.mds_failure_probability(200, 160, 0.15, 1 / 0.85) == pytest.approx(
        theory.mds_failure_probability(200, 160, 0.15), rel=1e-9)
    assert theory.mds_failure_probability(20, 16, 0.1, 8.0) > theory.mds_failure_probability(10, 8, 0.1, 8.0)


def test_gilbert_statistics_are_those_of_the_channel():
    """Catches a chain and its theory that drifted apart; P/(P+r), 1/r, (1-P-r)^m."""
    to_bad, to_good = theory.gilbert_transitions(0.1, 4.0)
    assert (to_bad, to_good) == pytest.approx(GilbertElliott(loss_rate=0.1, mean_burst_packets=4.0).transitions)
    assert theory.gilbert_statistics(to_bad, to_good) == pytest.approx((0.1, 4.0, 1 - to_bad - to_good))
    assert theory.gilbert_autocorrelation(0.1, 4.0, 3) == pytest.approx((1 - to_bad - to_good) ** 3)
    lengths = [theory.gilbert_burst_probability(4.0, length) for length in range(1, 400)]
    assert sum(lengths) == pytest.approx(1) and np.dot(lengths, range(1, 400)) == pytest.approx(4)
    assert theory.gilbert_autocorrelation(0.1, 1 / 0.9, 1) == pytest.approx(0)


def joint(flip: float, length: int) -> dict[tuple[int, ...], float]:
    """Probability of every sequence of a symmetric binary Markov source."""
    return {symbols: 0.5 * float(np.prod([flip if a != b else 1 - flip for a, b in zip(symbols, symbols[1:])]))
            for symbols in product((0, 1), repeat=length)}


def map_error(law: dict[tuple[int, ...], float], known: list[int], place: int) -> float:
    """Error of the best estimate of symbol `place` given those at `known`."""
    marginal: dict[tuple[int, ...], list[float]] = {}
    for symbols, probability in law.items():
        marginal.setdefault(tuple(symbols[i] for i in known), [0.0, 0.0])[symbols[place]] += probability
    return sum(min(pair) for pair in marginal.values())


@pytest.mark.parametrize("flip", [0.1, 0.35, 0.8])
@pytest.mark.parametrize("sides", [1, 2])
def test_markov_concealment_equals_brute_force(flip, sides):
    """Catches a wrong distance law: the best estimate from all that arrived, averaged over all erasure patterns."""
    erasure, reach = 0.2, 5
    law, place = joint(flip, 2 * reach + 1), reach
    others = [i for i in range(2 * reach + 1) if (i < place or sides == 2) and i != place]
    expected = 0.0
    for arrived in product((False, True), repeat=len(others)):
        known = [i for i, here in zip(others, arrived) if here]
        weight = np.prod([1 - erasure if here else erasure for here in arrived])
        nearest = [i for i in known if i < place][-1:] + [i for i in known if i > place][:1]  # the rest tells no more
        expected += weight * map_error(law, nearest, place)
    # what lies past the reach matters in a share of erasure^reach at most
    assert theory.markov_map_error(flip, erasure, sides) == pytest.approx(expected, abs=erasure**reach)


def test_markov_concealment_is_the_published_one():
    """Catches λ e taken for λ e²: p = .1, e = .5."""
    assert theory.markov_map_error(0.1, 0.5, 2) == pytest.approx(0.125)
    assert theory.markov_map_error(0.1, 0.5, 1) == pytest.approx(0.1 / 0.6)
    assert theory.markov_map_error(0.1, 0.5, 0) == 0.5
    assert theory.markov_break_even(0.1) == pytest.approx(1 - 0.468996, abs=5e-7)


@pytest.mark.parametrize("flip, length", [(0.1, 1), (0.1, 4), (0.3, 7), (0.9, 3)])
def test_a_gap_between_known_ends_equals_brute_force(flip, length):
    """Catches an estimate from one end only."""
    law = joint(flip, length + 2)
    expected = np.mean([map_error(law, [0, length + 1], place) for place in range(1, length + 1)])
    assert theory.markov_burst_map_error(flip, length) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("flip, erasure", [(0.1, 0.5), (0.1, 0.1), (0.4, 0.3)])
def test_missing_information_equals_brute_force(flip, erasure):
    """Catches gaps weighed by the wrong law: H(X_1 | X_0, what arrived after) from the exact joint law, in stationarity."""
    def entropy(law: dict[tuple[int, ...], float], places: list[int]) -> float:
        marginal: dict[tuple[int, ...], float] = {}
        for symbols, probability in law.items():
            key = tuple(symbols[i] for i in places)
            marginal[key] = marginal.get(key, 0) + probability
        return -sum(p * np.log2(p) for p in marginal.values())

    reach = 9
    law, expected = joint(flip, reach + 2), 0.0
    # chain rule along the item: an erased symbol, its past known by now, is missing h given the next that arrived
    for distance in range(1, reach + 1):
        missing = entropy(law, [0, 1, 1 + distance]) - entropy(law, [0, 1 + distance])
        expected += erasure * erasure ** (distance - 1) * (1 - erasure) * missing
    assert theory.markov_missing_information(flip, erasure) == pytest.approx(expected, abs=erasure ** (reach + 1))
    assert theory.markov_missing_information(flip, 0) == 0


@pytest.mark.parametrize("call, rule", [
    (lambda: theory.qam_bit_error_probability(8, 0), "order must be"),
    (lambda: theory.qam_bit_error_probability(4, 0, "rice"), "fading must be"),
    (lambda: theory.mds_failure_probability(4, 5, 0.1), "k must lie in"),
    (lambda: theory.mds_failure_probability(20, 16, 0.8, 2.0), "mean_burst_packets must be >= 4"),
    (lambda: theory.markov_map_error(1.1, 0.1), "flip_probability must lie"),
    (lambda: theory.markov_map_error(0.1, 1.0), "erasure_probability must lie"),
    (lambda: theory.markov_map_error(0.1, 0.1, 3), "sides must be"),
])
def test_arguments_outside_the_law_are_refused(call, rule):
    """Catches nonsense that returns a number."""
    with pytest.raises(ValueError, match=rule):
        call()
