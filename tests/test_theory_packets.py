"""Losses along a chain and the codes that meet them: published numbers, all loss patterns, and the project's own channels."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from channel_sim import theory
from channel_sim.keys import Key
from channel_sim.losses import GilbertElliott
from channel_sim.parity import ReedSolomon
from channel_sim.theory import LossChain
from channel_sim.types import Packets
from tests.laws import SIGNIFICANCE, assert_rate

THREE_STATE = LossChain(np.array([[0.9, 0.06, 0.04], [0.3, 0.5, 0.2], [0.25, 0.35, 0.4]]), np.array([0.02, 0.95, 0.4]))
ELLIOTT = LossChain.gilbert_elliott(0.2, 2.5, 0.05, 0.8)
CHAINS = [LossChain.independent(0.3), LossChain.gilbert_elliott(0.3, 4.0), LossChain.gilbert_elliott(0.4, 1.2), ELLIOTT,
          THREE_STATE]


def patterns(chain: LossChain, length: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every loss pattern and its probability: a sum over all paths of states, from the definition."""
    states = range(chain.loss_probability.size)
    # the stationary law by repetition, not by linear algebra
    law = np.linalg.matrix_power(chain.transitions, 100_000)[0]
    paths = [(path, law[path[0]] * np.prod([chain.transitions[a, b] for a, b in zip(path, path[1:])]))
             for path in product(states, repeat=length)]
    lost = chain.loss_probability
    for pattern in product((0, 1), repeat=length):
        yield pattern, sum(weight * np.prod([lost[state] if gone else 1 - lost[state] for state, gone in zip(path, pattern)])
                           for path, weight in paths)


def simulate(chain: LossChain, slots: int, key: Key) -> np.ndarray:
    """bool [slots]: losses of one run of the chain."""
    uniform, losses, state = key.uniform(slots, 2), np.empty(slots, bool), 0
    steps = np.cumsum(chain.transitions, axis=1)
    for slot, (step, hit) in enumerate(uniform):
        state = min(int(np.searchsorted(steps[state], step, side="right")), len(steps) - 1)
        losses[slot] = hit < chain.loss_probability[state]
    return losses


@pytest.mark.parametrize("chain", CHAINS, ids=range(len(CHAINS)))
def test_statistics_of_a_chain_equal_a_sum_over_patterns(chain):
    """Catches 1/r booked as mean loss run where both states lose, and a memory that is not the chain's."""
    pairs: dict[int, float] = dict.fromkeys((1, 2, 3), 0.0)
    bursts, begins, rate = np.zeros(2), 0.0, 0.0
    for pattern, weight in patterns(chain, 4):
        rate += weight * pattern[0]
        for lag in pairs:
            pairs[lag] += weight * (pattern[0] and pattern[lag])
        begins += weight * (pattern[:2] == (0, 1))
        bursts += weight * np.array([pattern[:3] == (0, 1, 0), pattern == (0, 1, 1, 0)])
    assert chain.loss_rate == pytest.approx(rate, rel=1e-9)
    assert chain.mean_burst_packets == pytest.approx(rate / begins, rel=1e-9)
    assert chain.burst_law(2) == pytest.approx(bursts / begins, rel=1e-9)
    for lag, together in pairs.items():
        assert chain.loss_after_loss(lag) == pytest.approx(together / rate, rel=1e-9)
        assert chain.autocorrelation(lag) == pytest.approx((together - rate**2) / (rate * (1 - rate)), rel=1e-9, abs=1e-12)
    law = chain.burst_law(600)
    assert law.sum() == pytest.approx(1) and law @ np.arange(1, 601) == pytest.approx(chain.mean_burst_packets)


def test_gilberts_chain_has_the_published_statistics():
    """Catches an exchanged good and bad: P/(P + r), 1/r, (1 - r)^(k-1) r, (1 - P - r)^m."""
    chain = LossChain.two_state(0.05, 0.2)
    assert (chain.loss_rate, chain.mean_burst_packets) == pytest.approx((0.2, 5.0))
    assert chain.burst_law(6) == pytest.approx(0.2 * 0.8 ** np.arange(6))
    assert chain.loss_after_loss() == pytest.approx(0.8) and chain.loss_after_loss(0) == 1
    assert [chain.autocorrelation(lag) for lag in (0, 1, 7)] == pytest.approx([1, 0.75, 0.75**7])
    assert chain.autocorrelation(7) == pytest.approx(theory.gilbert_autocorrelation(0.2, 5.0, 7))


@pytest.mark.parametrize("stays, lost_to_good, stay_lost, gap, loss_rate, burst", [
    (0.99968, 0.1538, 0.8462, 0.0, 0.002076, 6.50), (0.9363, 0.3631, 0.4072, 0.5662, 0.1383, 1.69),
    (0.8507, 0.2982, 0.6305, 0.2, 0.3240, 2.71)])
def test_three_state_chains_have_the_published_statistics(stays, lost_to_good, stay_lost, gap, loss_rate, burst):
    """Catches a matrix read by columns: ResiComp's EP1, EP4 and EP6."""
    chain = LossChain(np.array([[stays, 1 - stays, 0], [lost_to_good, stay_lost, 1 - lost_to_good - stay_lost], [0, 1 - gap, gap]]),
                      np.array([0.0, 1.0, 0.0]))
    assert chain.loss_rate == pytest.approx(loss_rate, rel=5e-4)
    assert chain.mean_burst_packets == pytest.approx(burst, abs=0.005)


@pytest.mark.parametrize("channel", [
    GilbertElliott(loss_rate=0.1, mean_burst_packets=4.0), GilbertElliott(loss_rate=0.4, mean_burst_packets=1.2),
    GilbertElliott(loss_rate=0.2, mean_burst_packets=2.5, loss_in_good=0.05, loss_in_bad=0.8)], ids=repr)
def test_elliotts_chain_is_that_of_the_channel(channel):
    """Catches a channel and its theory that drifted apart, and parameters that do not come back out of the chain."""
    chain = LossChain.gilbert_elliott(channel.loss_rate, channel.mean_burst_packets, channel.loss_in_good, channel.loss_in_bad)
    assert (chain.transitions[0, 1], chain.transitions[1, 0]) == pytest.approx(channel.transitions)
    assert (chain.loss_rate, chain.mean_burst_packets) == pytest.approx((channel.loss_rate, channel.mean_burst_packets))


def test_a_chain_of_no_memory_is_independent_loss():
    """Catches two formulas for one thing that disagree: burst 1/(1 - p), whatever the two states lose."""
    independent = LossChain.independent(0.2)
    assert independent.mean_burst_packets == pytest.approx(1.25)
    for chain in (LossChain.gilbert_elliott(0.2, 1.25), LossChain.gilbert_elliott(0.2, 1.25, 0.1, 0.9)):
        assert chain.autocorrelation(1) == pytest.approx(0, abs=1e-12)
        for of in (theory.mds_failure_over_chain, theory.mds_residual_over_chain):
            assert of(40, 30, chain) == pytest.approx(of(40, 30, independent), rel=1e-9)
    assert theory.mds_residual_loss(40, 30, 0.2) == pytest.approx(theory.mds_residual_over_chain(40, 30, independent), rel=1e-9)
    assert theory.mds_failure_probability(40, 30, 0.2) == pytest.approx(
        theory.mds_failure_over_chain(40, 30, independent), rel=1e-9)


@pytest.mark.parametrize("chain", CHAINS, ids=range(len(CHAINS)))
@pytest.mark.parametrize("n, k, depth", [(5, 3, 1), (4, 4, 1), (5, 1, 1), (3, 2, 2)])
def test_mds_codes_over_any_chain_equal_a_sum_over_patterns(chain, n, k, depth):
    """Catches a loss booked to the state after it, parity counted as source, and interleaving by one slot too few."""
    failure = residual = 0.0
    for pattern, weight in patterns(chain, (n - 1) * depth + 1):
        block = pattern[::depth]
        if sum(block) > n - k:
            failure += weight
            residual += weight * sum(block[:k]) / k
    assert theory.mds_failure_over_chain(n, k, chain, depth) == pytest.approx(failure, rel=1e-9)
    assert theory.mds_residual_over_chain(n, k, chain, depth) == pytest.approx(residual, rel=1e-9)


def missing_after(code: ReedSolomon, channel: GilbertElliott, trials: int) -> np.ndarray:
    """int [trials]: source packets of a block still missing after the project's own code over its own channel."""
    packets = Packets(bits=np.ones((code.k, 1), np.uint8), num_bits=np.ones(code.k, np.int32), order=np.zeros(0, np.int32),
                      bounds=np.zeros(code.k + 1, np.int32), header=np.zeros((code.k, 3), np.int32), header_bits=0)
    keys = [Key(11).child("trial", trial) for trial in range(trials)]
    return np.array([int(one.reception.lost.sum()) for one in code.send([packets] * trials, channel, keys)])


@pytest.mark.parametrize("codes, trials, fields", [
    (((10, 8), (40, 32)), 1200, dict(loss_rate=0.1, mean_burst_packets=12.0)),
    (((20, 16), (255, 204)), 300, dict(loss_rate=0.15, mean_burst_packets=60.0)),
    (((10, 8), (20, 16)), 1200, dict(loss_rate=0.1, mean_burst_packets=2.5, loss_in_good=0.01, loss_in_bad=0.8)),
])
def test_in_bursts_the_longer_code_is_worse_and_as_the_chain_says(codes, trials, fields):
    """Catches independent losses behind a burst's name: Reed-Solomon over Gilbert's and Elliott's channels, one block a trial."""
    chain, failures = LossChain.gilbert_elliott(**fields), []
    for n, k in codes:
        missing = missing_after(ReedSolomon(n=n, k=k), GilbertElliott(**fields), trials)
        failures.append(int(np.sum(missing > 0)))  # more than n - k < k losses are never all parity
        assert_rate(failures[-1], trials, theory.mds_failure_over_chain(n, k, chain))
        spread = missing.std() / k / trials**0.5
        assert missing.mean() / k == pytest.approx(theory.mds_residual_over_chain(n, k, chain), abs=5 * spread)
    assert failures[1] > failures[0]
    # the negative control: independent losses of the same rate would not have passed
    assert binomtest(failures[1], trials, theory.mds_failure_probability(*codes[1], fields["loss_rate"])).pvalue < SIGNIFICANCE


def test_longer_codes_are_better_alone_and_worse_in_bursts():
    """Catches a chain that forgets: at rate 4/5 and 10 % loss the order of block failure turns around with the mean burst."""
    codes = [(10, 8), (20, 16), (40, 32), (255, 204)]
    alone = [theory.mds_failure_probability(n, k, 0.1) for n, k in codes]
    bursts = [theory.mds_failure_probability(n, k, 0.1, 12.0) for n, k in codes[:3]]
    assert alone == sorted(alone, reverse=True) and bursts == sorted(bursts)
    # at 255 packets the law of large numbers is back, unless bursts are as long as the code
    assert theory.mds_failure_probability(255, 204, 0.1, 60.0) > theory.mds_failure_probability(20, 16, 0.1, 60.0)
    # interleaving deep enough makes the losses of a block independent
    deep = theory.mds_failure_over_chain(40, 32, LossChain.gilbert_elliott(0.1, 12.0), 400)
    assert deep == pytest.approx(alone[2], rel=1e-6)


def test_random_linear_codes_fail_as_published():
    """Catches coefficients that are never zero: k = 50 over GF(2) with 0, 2, 5 and 10 extra packets."""
    for extra, expected, digits in ((0, 0.711, 5e-4), (2, 0.230, 5e-4), (5, 0.0309, 5e-5), (10, 9.76e-4, 5e-7)):
        assert theory.random_linear_failure_probability(50, extra) == pytest.approx(expected, abs=digits)
    assert theory.random_linear_failure_probability(50, -1) == 1 and theory.random_linear_failure_probability(0, 0) == 0
    assert theory.random_linear_failure_probability(1, 3, 7) == pytest.approx(7.0**-4)
    curve = [theory.random_linear_failure_probability(20, 1, size) for size in (2, 3, 4, 5, 7, 8, 16, 256)]
    assert curve == sorted(curve, reverse=True) and curve[-1] == pytest.approx(256.0**-2, rel=0.01)


@pytest.mark.parametrize("k, extra, size", [(2, 0, 2), (2, 2, 2), (3, 0, 2), (2, 1, 3)])
def test_random_matrices_are_singular_as_counted(k, extra, size):
    """Catches rows and columns exchanged: every matrix over a prime field, its span enumerated."""
    singular = total = 0
    combinations = np.array(list(product(range(size), repeat=k)))
    for entries in product(range(size), repeat=k * (k + extra)):
        images = combinations @ np.reshape(entries, (k, k + extra)) % size
        total += 1
        singular += int(np.sum(np.all(images == 0, axis=1)) > 1)  # something but zero is sent to zero
    assert theory.random_linear_failure_probability(k, extra, size) == pytest.approx(singular / total, rel=1e-12)


def rank_deficient(rows: np.ndarray) -> bool:
    """Whether bool rows do not span all their columns over GF(2): every non-zero combination of columns must hit a row."""
    columns = rows.shape[1]
    combinations = np.array(list(product((0, 1), repeat=columns)))[1:]
    return bool(np.any(np.all(rows.astype(int) @ combinations.T % 2 == 0, axis=0))) if columns else False


@pytest.mark.parametrize("systematic", [False, True])
def test_random_linear_codes_over_a_chain_equal_draws(systematic):
    """Catches source packets booked as random ones, and parity that is taken to have arrived."""
    n, k, trials = 8, 5, 6000
    channel = GilbertElliott(loss_rate=0.2, mean_burst_packets=2.0)
    expected = theory.random_linear_failure_over_chain(n, k, LossChain.gilbert_elliott(0.2, 2.0), systematic=systematic)
    failures = 0
    for trial in range(trials):
        key = Key(12).child(trial)
        code = key.child("code").integers(2, n * k).reshape(n, k)
        if systematic:
            code[:k] = np.eye(k)
        failures += rank_deficient(code[~channel.lost_packets(n, key)])
    assert_rate(failures, trials, expected)


def test_random_linear_codes_approach_mds_in_large_fields():
    """Catches a mixture over the wrong law: over GF(2^16) hardly more fails than of an MDS code; without loss systematic never."""
    for chain in CHAINS:
        mds = theory.mds_failure_over_chain(12, 8, chain)
        for systematic in (False, True):
            large = theory.random_linear_failure_over_chain(12, 8, chain, 1 << 16, systematic=systematic)
            assert mds < large < mds + 1e-4
        depth = theory.random_linear_failure_over_chain(12, 8, chain, 1 << 16, systematic=True, interleaving_depth=3)
        assert depth == pytest.approx(theory.mds_failure_over_chain(12, 8, chain, 3), abs=1e-4)
    assert theory.random_linear_failure_over_chain(9, 9, LossChain.independent(0), systematic=True) == 0
    assert theory.random_linear_failure_over_chain(9, 9, LossChain.independent(0)) == pytest.approx(0.711, abs=2e-3)


@pytest.mark.parametrize("chain", CHAINS, ids=range(len(CHAINS)))
@pytest.mark.parametrize("copies, spacing", [(1, 1), (3, 1), (2, 4)])
def test_repetition_equals_a_sum_over_patterns(chain, copies, spacing):
    """Catches copies that are one slot too near, and ARQ that loses more than its last copy."""
    expected = sum(weight for pattern, weight in patterns(chain, (copies - 1) * spacing + 1) if all(pattern[::spacing]))
    assert theory.repetition_residual_loss(copies, chain, spacing) == pytest.approx(expected, rel=1e-9)
    assert theory.arq_residual_loss(copies, chain, spacing) == pytest.approx(expected, rel=1e-9)


def test_retransmission_over_independent_losses_is_the_closed_form():
    """Catches a mean over delivered packets only: (1 - u^m) / (1 - u), u = 1 - (1 - p)(1 - f); 1 / (1 - u) without a limit."""
    chain = LossChain.independent(0.2)
    assert theory.arq_residual_loss(3, chain) == pytest.approx(0.008) == theory.repetition_residual_loss(3, chain, 5)
    for feedback, again in ((0.0, 0.2), (0.1, 0.28)):
        for most in (1, 2, 5):
            assert theory.arq_mean_transmissions(most, chain, 3, feedback) == pytest.approx((1 - again**most) / (1 - again))
        assert theory.arq_mean_transmissions(None, chain, 3, feedback) == pytest.approx(1 / (1 - again))


@pytest.mark.parametrize("chain", CHAINS[1:], ids=range(len(CHAINS) - 1))
def test_retransmission_over_a_chain_is_that_of_a_simulated_one(chain):
    """Catches attempts taken for independent: packet by packet far apart on one long run of the chain, with lost feedback."""
    round_trip, most, feedback, apart = 2, 4, 0.1, 40
    losses = simulate(chain, 160_000, Key(13))
    start = np.arange(20, losses.size - apart, apart)
    attempts = losses[start[:, None] + round_trip * np.arange(most)]
    goes_on = attempts | (Key(14).uniform(attempts.size).reshape(attempts.shape) < feedback)
    sent = 1 + np.cumprod(goes_on[:, :-1], axis=1).sum(axis=1)
    assert_rate(int(attempts.all(axis=1).sum()), start.size, theory.arq_residual_loss(most, chain, round_trip))
    expected = theory.arq_mean_transmissions(most, chain, round_trip, feedback)
    assert sent.mean() == pytest.approx(expected, abs=5 * sent.std() / sent.size**0.5)
    assert theory.arq_mean_transmissions(300, chain, round_trip, feedback) == pytest.approx(
        theory.arq_mean_transmissions(None, chain, round_trip, feedback), rel=1e-6)


def test_a_deadline_ends_retransmission():
    """Catches a transmission that starts past its deadline, and one that is never made."""
    assert [theory.arq_transmissions_in_time(4, deadline, 3) for deadline in (0, 2, 3, 8, 9, 100, None)] == [1, 1, 2, 3, 4, 4, 4]


def test_a_crc_misses_its_share_of_random_words():
    """Catches a share of 2^-(L-1) (one parity bit misses half): 8 random bits and a random check of 4, by drawing."""
    assert (theory.crc_undetected_fraction(16), theory.crc_undetected_fraction(0)) == (2.0**-16, 1)
    words = Key(15).integers(1 << 12, 200_000)
    checks = np.bitwise_xor(words >> 8, np.bitwise_xor(words >> 4 & 15, words & 15))  # a linear check of 4 bits
    assert_rate(int(np.sum(checks == 0)), words.size, theory.crc_undetected_fraction(4))


@pytest.mark.parametrize("call, rule", [
    (lambda: LossChain(np.eye(2), np.array([0.0, 1.0])), "transitions must have one stationary law"),
    (lambda: LossChain(np.full((2, 2), 0.4), np.array([0.0, 1.0])), "every row of transitions must sum to 1"),
    (lambda: LossChain(np.array([[1.1, -0.1], [0.5, 0.5]]), np.array([0.0, 1.0])), "transitions must lie in"),
    (lambda: LossChain(np.array([[0.95, 0.05, 0], [0.8, 0.8, -0.6], [0, 0.4, 0.6]]), np.array([0.0, 1.0, 0.0])), "must lie in"),
    (lambda: LossChain(np.ones((1, 1)), np.array([1.5])), "loss_probability must lie in"),
    (lambda: LossChain(np.full((2, 2), 0.5), np.array([0.5])), "transitions must have shape"),
    (lambda: LossChain.independent(-0.1), "loss_rate must lie in"),
    (lambda: LossChain.gilbert_elliott(0.8, 2.0), "mean_burst_packets must be >= 4"),
    (lambda: LossChain.gilbert_elliott(0.9, 2.0, 0.0, 0.8), "loss_rate must lie between"),
    (lambda: LossChain.gilbert_elliott(0.2, 9.0, 0.0, 0.5), "mean_burst_packets must leave transitions"),
    (lambda: LossChain.two_state(1.2, 0.5), "to_bad must lie in"),
    (lambda: LossChain.independent(0.0).autocorrelation(1), "loss_rate must lie between"),
    (lambda: LossChain.independent(0.0).loss_after_loss(), "loss_rate must be > 0"),
    (lambda: LossChain.independent(1.0).mean_burst_packets, "a burst must end"),
    (lambda: LossChain.independent(1.0).burst_law(3), "a burst must begin"),
    (lambda: LossChain.independent(0.5).spaced(0), "every must be >= 1"),
    (lambda: theory.gilbert_burst_probability(0.5, 1), "mean_burst_packets must be >= 1"),
    (lambda: theory.gilbert_statistics(0.1, 0.0), "to_good must lie in"),
    (lambda: theory.mds_failure_probability(4, 5, 0.1), "k must lie in"),
    (lambda: theory.mds_residual_loss(4, 3, 1.1), "loss_rate must lie in"),
    (lambda: theory.mds_failure_over_chain(4, 3, ELLIOTT, 0), "every must be >= 1"),
    (lambda: theory.random_linear_failure_probability(-1, 0), "k must be >= 0"),
    (lambda: theory.random_linear_failure_probability(5, 0, 6), "field_size must be a power of a prime"),
    (lambda: theory.repetition_residual_loss(0, ELLIOTT), "copies must be >= 1"),
    (lambda: theory.arq_transmissions_in_time(0, 5, 1), "max_transmissions must be >= 1"),
    (lambda: theory.arq_transmissions_in_time(3, -1, 1), "deadline_packets must be >= 0"),
    (lambda: theory.arq_transmissions_in_time(3, 5, 0), "round_trip_packets must be >= 1"),
    (lambda: theory.arq_mean_transmissions(3, ELLIOTT, 1, 1.1), "feedback_loss must lie in"),
    (lambda: theory.arq_mean_transmissions(None, ELLIOTT, 1, 1.0), "max_transmissions must be given"),
    (lambda: theory.crc_undetected_fraction(-1), "crc_bits must be >= 0"),
])
def test_arguments_outside_the_law_are_refused(call, rule):
    """Catches nonsense that returns a number."""
    with pytest.raises(ValueError, match=rule):
        call()


def test_a_periodic_chain_keeps_its_law_when_it_is_spaced():
    """Catches a refusal of what is no fault: of every second slot of 0101…, all are lost or none, each in half of the cases."""
    spaced = theory.LossChain.gilbert_elliott(0.5, 1.0).spaced(2)
    assert spaced.loss_rate == pytest.approx(0.5) and spaced.loss_after_loss() == pytest.approx(1.0)
    assert theory.mds_failure_over_chain(20, 16, spaced) == pytest.approx(0.5)
    for law in ([0.9, 0.2], [1.0, 0.0], [-1.0, 2.0]):
        with pytest.raises(ValueError, match="law must be a stationary law"):
            theory.LossChain(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.0, 1.0]), np.array(law))
