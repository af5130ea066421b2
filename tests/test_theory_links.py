"""Closed forms of links against published numbers, their limits, and integrals and draws that share no code with them."""

from itertools import product
from math import factorial

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.special import gammainc, i0e, ndtr

from channel_sim import theory
from channel_sim.keys import Key
from tests.laws import assert_rate


def rician_density(power: float, k: float) -> float:
    """Of the power of a fade of mean 1."""
    bessel = 2 * np.sqrt(k * (1 + k) * power)
    return float((1 + k) * np.exp(-k - (1 + k) * power + bessel) * i0e(bessel))


def mean_over_fades(curve, k: float) -> float:
    """Integral of curve(power) over a Rician fade; k = 0 is Rayleigh."""
    pieces = (0, 0.01, 0.1, 0.5, 2, 10, 60)
    return sum(quad(lambda power: curve(power) * rician_density(power, k), *ends, epsabs=1e-14, epsrel=1e-11)[0]
               for ends in zip(pieces, pieces[1:]))


@pytest.mark.parametrize("order, k_db", [(2, 3.0), (16, 0.0), (64, 10.0)])
def test_bit_errors_over_rician_fading_are_the_mean_of_awgn_over_fades(order, k_db):
    """Catches a wrong transform or K taken in dB: integrate the AWGN curve over the density of the power."""
    def curve(power: float) -> float:
        return theory.qam_bit_error_probability(order, 8 + 10 * np.log10(power)) if power else 0.5

    expected = mean_over_fades(curve, 10 ** (k_db / 10))
    assert theory.qam_bit_error_probability(order, 8, "rician", k_db) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("order", [2, 4, 256, 4096])
def test_rician_fading_lies_between_rayleigh_and_awgn(order):
    """Catches a line of sight added to a mean power of 1: no line of sight is Rayleigh, nothing but it is AWGN."""
    for of in (theory.qam_bit_error_probability, theory.qam_symbol_error_probability):
        assert of(order, 12, "rician", -np.inf) == pytest.approx(of(order, 12, "rayleigh"), rel=1e-9)
        assert of(order, 12, "rician", 90.0) == pytest.approx(of(order, 12), rel=1e-5)
        curve = [of(order, 12, "rician", k_db) for k_db in (-20.0, -5.0, 5.0, 15.0, 30.0)]
        assert curve == sorted(curve, reverse=True)


@pytest.mark.parametrize("order", [1024, 4096])
def test_dense_gray_qam_equals_a_sum_over_decision_regions(order):
    """Catches a law that stops at 256 points: every amplitude into every region, bit by bit."""
    levels = round(order**0.5)
    amplitude = 2.0 * np.arange(levels) - levels + 1
    gray = np.arange(levels) ^ (np.arange(levels) >> 1)
    sigma = np.sqrt(2 * np.mean(amplitude**2) / (2 * np.log2(order) * 10**2.0))
    edges = np.concatenate([[-np.inf], amplitude[:-1] + 1, [np.inf]])
    region = np.diff(ndtr((edges - amplitude[:, None]) / sigma), axis=1)  # [sent, seen]
    differing = np.array([[bin(one ^ other).count("1") for other in gray] for one in gray])
    expected = np.sum(region * differing) / (levels * np.log2(levels))
    assert theory.qam_bit_error_probability(order, 20) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("order, esno_db", [(2, 3.0), (4, 6.0), (16, 14.0), (64, 10.0)])
def test_symbol_errors_are_those_of_nearest_neighbour_decisions(order, esno_db):
    """Catches Eb/N0 taken for Es/N0 and two dimensions booked as one: draw symbols and decide."""
    levels, trials = round(order**0.5) if order > 2 else 2, 200_000
    amplitude = 2.0 * np.arange(levels) - levels + 1
    points = amplitude + 0j if order == 2 else np.array([complex(*pair) for pair in product(amplitude, amplitude)])
    points /= np.sqrt(np.mean(np.abs(points) ** 2))
    sent = Key(1).integers(points.size, trials)
    received = points[sent] + 10 ** (-esno_db / 20) * Key(2).complex_normal(trials)
    decided = np.argmin(np.abs(received[:, None] - points), axis=1)
    assert_rate(int(np.sum(decided != sent)), trials, theory.qam_symbol_error_probability(order, esno_db))


@pytest.mark.parametrize("order", [4, 16])
def test_symbol_errors_over_fading_are_the_mean_over_fades(order):
    """Catches the square of a mean taken for the mean of a square."""
    def curve(power: float) -> float:
        return theory.qam_symbol_error_probability(order, 9 + 10 * np.log10(power)) if power else 1 - 1 / order

    assert theory.qam_symbol_error_probability(order, 9, "rayleigh") == pytest.approx(mean_over_fades(curve, 0.0), rel=1e-8)
    assert theory.qam_symbol_error_probability(order, 9, "rician", 6.0) == pytest.approx(
        mean_over_fades(curve, 10**0.6), rel=1e-8)


def test_symbol_errors_lie_between_bit_errors_and_all_their_bits():
    """Catches a curve on another axis: of m bits a symbol at least one and at most all are wrong."""
    for order, fading in product((2, 4, 16, 64, 256), ("awgn", "rayleigh")):
        bits = int(np.log2(order))
        bit = theory.qam_bit_error_probability(order, 7, fading)
        assert bit * (1 - 1e-12) <= theory.qam_symbol_error_probability(order, 7 + 10 * np.log10(bits), fading) <= bits * bit


@pytest.mark.parametrize("rate, snr_db, expected", [
    (1, 10, 0.0951626), (2, 10, 1 - np.exp(-0.3)), (0.5, 0, 1 - np.exp(1 - 2**0.5))])
def test_outage_of_one_block_is_the_closed_form(rate, snr_db, expected):
    """Catches dB taken as a ratio and a rate in nats."""
    assert theory.outage_probability(rate, snr_db) == pytest.approx(expected, rel=1e-6)


def test_outage_of_two_blocks_is_the_integral_over_the_fades():
    """Catches a rate of the code word booked as that of a block: the area below (1 + a snr)(1 + b snr) = 2^(2 rate)."""
    for rate, snr in ((1.0, 10.0), (3.0, 100.0)):
        most = (4**rate - 1) / snr
        expected = quad(lambda a: np.exp(-a) * -np.expm1(-((4**rate / (1 + a * snr)) - 1) / snr), 0, most,
                        epsabs=0, epsrel=1e-12)[0]
        assert theory.outage_probability(rate, 10 * np.log10(snr), 2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rate, snr_db, num_blocks", [(1.0, 5.0, 3), (2.0, 3.0, 8), (0.3, -4.0, 20)])
def test_outage_of_many_blocks_is_that_of_draws(rate, snr_db, num_blocks):
    """Catches a convolution short of a block."""
    power = np.abs(Key(3).complex_normal(100_000 * num_blocks).reshape(-1, num_blocks)) ** 2
    below = np.mean(np.log2(1 + power * 10 ** (snr_db / 10)), axis=1) < rate
    assert_rate(int(below.sum()), below.size, theory.outage_probability(rate, snr_db, num_blocks))


def test_outage_falls_with_the_order_of_diversity():
    """Catches an interpolation that runs out of digits: at high snr 10 dB take 10^-blocks off; rate 0 never fails."""
    for num_blocks in (1, 2, 4, 8):
        high, higher = (theory.outage_probability(2, snr_db, num_blocks) for snr_db in (60, 70))
        assert higher / high == pytest.approx(10.0**-num_blocks, rel=0.02 * num_blocks)
        assert theory.outage_probability(0, 10, num_blocks) == 0
        # little rate and high snr: the g_b lie in a simplex of volume (B R ln 2 / snr)^B / B!
        least = (num_blocks * 1e-4 * np.log(2) / 1e20) ** num_blocks / factorial(num_blocks)
        assert theory.outage_probability(1e-4, 200, num_blocks) == pytest.approx(least, rel=1e-3)
    assert theory.outage_probability(4, 0, 4) == pytest.approx(1) and theory.outage_probability(3, -60, 20) == 1
    # at low snr rates are powers, whose sum follows the Gamma law
    for needed in (5.0, 20.0, 60.0):
        assert theory.outage_probability(needed * 1e-6 / np.log(2) / 20, -60, 20) == pytest.approx(gammainc(20, needed), rel=1e-4)


def test_rician_outage_is_the_integral_of_the_density():
    """Catches amplitudes taken for powers; no line of sight is Rayleigh, nothing but it a step at capacity."""
    for k_db, rate, snr_db in ((3.0, 1.0, 5.0), (10.0, 2.0, 8.0)):
        needed = (2**rate - 1) / 10 ** (snr_db / 10)
        expected = quad(rician_density, 0, needed, args=(10 ** (k_db / 10),), epsabs=0, epsrel=1e-11)[0]
        assert theory.rician_outage_probability(rate, snr_db, k_db) == pytest.approx(expected, rel=1e-9)
    assert theory.rician_outage_probability(1, 10, -np.inf) == pytest.approx(0.0951626, rel=1e-6)
    capacity = theory.awgn_capacity(10)
    assert theory.rician_outage_probability(capacity - 0.1, 10, 50) < 1e-9 < 1 - 1e-9 < theory.rician_outage_probability(
        capacity + 0.1, 10, 50)


def test_marcum_q_is_the_integral_that_defines_it():
    """Catches a² taken for a: ∫ from b of x exp(-(x² + a²)/2) I0(a x); and Q1(0, b) = exp(-b²/2), Q1(a, 0) = 1."""
    for a, b in ((1.0, 2.0), (3.0, 2.5)):
        expected = quad(lambda x: x * np.exp(-(x - a) ** 2 / 2) * i0e(a * x), b, b + 30, epsabs=1e-14)[0]
        assert theory.marcum_q(1, a, b) == pytest.approx(expected, rel=1e-9)
    assert theory.marcum_q(1, 0, 1.5) == pytest.approx(np.exp(-1.125)) and theory.marcum_q(2, 1.0, 0) == 1
    assert theory.marcum_q(2, 0, 1.5) == pytest.approx(np.exp(-1.125) * 2.125)  # two degrees more: Gamma(2)


def test_chase_combining_adds_powers():
    """Catches rates added where powers are: independent fades by draws, one fade as so much more snr."""
    power = np.abs(Key(4).complex_normal(300_000).reshape(-1, 3)) ** 2
    fails = np.log2(1 + np.cumsum(power, axis=1) * 10**0.3) < 2
    for sent in (1, 2, 3):
        assert_rate(int(fails[:, sent - 1].sum()), len(fails), theory.harq_chase_outage(2, 3, sent))
        assert theory.harq_chase_outage(2, 3, sent, same_fade=True) == pytest.approx(
            theory.outage_probability(2, 3 + 10 * np.log10(sent)))
    sent = 1 + np.sum(fails[:, :2], axis=1)
    assert theory.harq_chase_mean_transmissions(2, 3, 3) == pytest.approx(sent.mean(), abs=5 * sent.std() / sent.size**0.5)
    assert theory.harq_chase_mean_transmissions(2, 3, 1) == 1


def test_incremental_redundancy_adds_rates():
    """Catches powers added where rates are: by draws, and never worse than chase combining."""
    power = np.abs(Key(5).complex_normal(300_000).reshape(-1, 3)) ** 2
    fails = np.sum(np.log2(1 + power * 10**0.3), axis=1) < 4
    assert_rate(int(fails.sum()), fails.size, theory.harq_incremental_outage(4, 3, 3))
    assert theory.harq_incremental_outage(4, 3, 1) == theory.harq_chase_outage(4, 3, 1)
    assert theory.harq_incremental_outage(4, 3, 3) < theory.harq_chase_outage(4, 3, 3)


def test_capacities_of_gaussian_symbols():
    """Catches a real channel's ½ log2; the mean over Rayleigh fades by quadrature, its low-snr and high-snr limits."""
    assert theory.awgn_capacity(0) == pytest.approx(1) and theory.awgn_capacity(-np.inf) == 0
    for snr_db in (-35.0, -19.0, 0.0, 15.0):
        expected = mean_over_fades(lambda power: np.log2(1 + power * 10 ** (snr_db / 10)), 0.0)
        assert theory.rayleigh_ergodic_capacity(snr_db) == pytest.approx(expected, rel=1e-9)
    assert theory.rayleigh_ergodic_capacity(-60) == pytest.approx(1e-6 / np.log(2), rel=1e-5)
    assert theory.awgn_capacity(60) - theory.rayleigh_ergodic_capacity(60) == pytest.approx(np.euler_gamma / np.log(2), rel=1e-3)


@pytest.mark.parametrize("order, esno_db", [(2, -3.0), (16, 8.0), (64, 20.0)])
def test_constrained_capacity_is_entropy_of_output_less_that_of_noise(order, esno_db):
    """Catches noise of a wrong dimension: h(y) - h(n) by quadrature over one axis."""
    levels = round(order**0.5) if order > 2 else 2
    amplitude = 2.0 * np.arange(levels) - levels + 1
    amplitude *= np.sqrt((1 if order == 2 else 0.5) / np.mean(amplitude**2))
    variance = 10 ** (-esno_db / 10) / 2

    def surprise(y: float) -> float:
        density = np.mean(np.exp(-(y - amplitude) ** 2 / (2 * variance))) / np.sqrt(2 * np.pi * variance)
        return float(-density * np.log2(density)) if density > 0 else 0.0

    edges = np.concatenate([[amplitude[0] - 12 * variance**0.5], amplitude, [amplitude[-1] + 12 * variance**0.5]])
    output = sum(quad(surprise, *ends, epsabs=1e-12)[0] for ends in zip(edges, edges[1:]))
    expected = (1 if order == 2 else 2) * (output - 0.5 * np.log2(2 * np.pi * np.e * variance))
    assert theory.constrained_capacity(order, esno_db) == pytest.approx(expected, rel=1e-8)


def test_constrained_capacity_in_two_dimensions():
    """Catches dimensions that do not add up: QPSK by a double integral over the complex plane; 4-PAM is 16-QAM at 3 dB less."""
    points = np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j]) / 2**0.5

    def doubt(x: float, y: float) -> float:
        seen = points[0] + complex(x, y)
        weights = np.exp(-np.abs(seen - points) ** 2)
        return float(np.exp(-x * x - y * y) / np.pi * np.log2(weights.sum() / weights[0]))

    expected = 2 - dblquad(doubt, -6, 6, -6, 6, epsabs=1e-8)[0]
    assert theory.constrained_capacity(4, 0) == pytest.approx(expected, abs=1e-6)
    assert 2 * theory.constrained_capacity(4, 5, "pam") == pytest.approx(theory.constrained_capacity(16, 5 + 10 * np.log10(2)))
    assert theory.constrained_capacity(2, 1) == pytest.approx(theory.bi_awgn_capacity(1), rel=1e-9)
    assert theory.constrained_capacity(4, 1) == pytest.approx(2 * theory.bi_awgn_capacity(1 - 10 * np.log10(2)), rel=1e-9)


def test_bit_interleaved_capacity_is_that_of_drawn_llrs():
    """Catches natural for Gray labels: m - Σ E[log2(1 + exp(-LLR of the sent bit))] over drawn 16-QAM symbols."""
    label = np.array([int("".join(map(str, bits)), 2) for bits in product((0, 1), repeat=4)])
    first, second, third, fourth = (label >> shift & 1 for shift in (3, 2, 1, 0))  # 3GPP TS 38.211, section 5.1.4
    points = ((1 - 2 * first) * (2 - (1 - 2 * third)) + 1j * (1 - 2 * second) * (2 - (1 - 2 * fourth))) / 10**0.5
    sent = Key(6).integers(16, 100_000)
    received = points[sent] + 10**-0.3 * Key(7).complex_normal(sent.size)
    weight = np.exp(-np.abs(received[:, None] - points) ** 2 / 10**-0.6)
    doubts = []
    for bit in (first, second, third, fourth):
        ones = weight @ bit
        sent_weight = np.where(bit[sent] == 1, ones, weight.sum(axis=1) - ones)
        doubts.append(np.log2(weight.sum(axis=1) / sent_weight))
    density = 4 - np.sum(doubts, axis=0)
    assert theory.bicm_capacity(16, 6) == pytest.approx(density.mean(), abs=5 * density.std() / sent.size**0.5)


def test_capacities_are_ordered():
    """Catches a bit-wise receiver better than the joint one, a constellation better than Gaussian symbols, and a falling curve."""
    for order in (2, 4, 16, 64, 256):
        curve = [theory.constrained_capacity(order, esno_db) for esno_db in (-10, 0, 10, 20, 40)]
        assert curve == sorted(curve) and curve[-1] == pytest.approx(np.log2(order), rel=1e-6)
        for esno_db in (-10, 0, 10, 20):
            joint, bitwise = (of(order, esno_db) for of in (theory.constrained_capacity, theory.bicm_capacity))
            assert bitwise <= joint * (1 + 1e-12) and joint < theory.awgn_capacity(esno_db)
            assert order > 4 or bitwise == pytest.approx(joint, rel=1e-12)


def test_shannon_limits_are_the_published_ones():
    """Catches Es/N0 reported as Eb/N0: rate ½ on BPSK .187 dB; Gaussian symbols 0 dB at 1 bit, 1.76 dB at 2, -1.59 dB at none."""
    assert theory.shannon_limit_ebno_db(0.5, 2) == pytest.approx(0.187, abs=5e-4)
    assert theory.shannon_limit_ebno_db(1, 4) == pytest.approx(theory.shannon_limit_ebno_db(0.5, 2), abs=1e-7)
    assert theory.shannon_limit_ebno_db(1) == pytest.approx(0)
    assert theory.shannon_limit_ebno_db(2) == pytest.approx(1.7609, abs=1e-4)
    assert theory.shannon_limit_ebno_db(1e-9) == pytest.approx(10 * np.log10(np.log(2)), abs=1e-6)
    ebno_db = theory.shannon_limit_ebno_db(3, 16)
    assert theory.constrained_capacity(16, ebno_db + 10 * np.log10(3)) == pytest.approx(3, abs=1e-9)


@pytest.mark.parametrize("call, rule", [
    (lambda: theory.qam_bit_error_probability(32, 0), "order must be 2 .BPSK. or a power of 4"),
    (lambda: theory.qam_bit_error_probability(36, 0), "order must be"),
    (lambda: theory.qam_symbol_error_probability(-4, 0), "order must be"),
    (lambda: theory.qam_bit_error_probability(4, 0, "rician"), "rician_k_db must be given"),
    (lambda: theory.qam_symbol_error_probability(4, 0, "awgn", 3.0), "rician_k_db must be given .* for no other"),
    (lambda: theory.outage_probability(-1, 10), "rate must be >= 0"),
    (lambda: theory.outage_probability(1, 10, 0), "num_blocks must be >= 1"),
    (lambda: theory.rician_outage_probability(1, 10, 90), "rician_k_db must be < 80"),
    (lambda: theory.outage_probability(1, -np.inf), "snr_db must lie in"),
    (lambda: theory.rayleigh_ergodic_capacity(-np.inf), "snr_db must lie in"),
    (lambda: theory.qam_bit_error_probability(4, np.nan), "a value in dB must be a number"),
    (lambda: theory.marcum_q(0, 1, 1), "order must be >= 1"),
    (lambda: theory.marcum_q(1, -1, 1), "a must be >= 0"),
    (lambda: theory.harq_chase_outage(1, 10, 0), "num_transmissions must be >= 1"),
    (lambda: theory.harq_chase_mean_transmissions(1, 10, 0), "max_transmissions must be >= 1"),
    (lambda: theory.harq_incremental_outage(1, 10, 0), "num_transmissions must be >= 1"),
    (lambda: theory.constrained_capacity(8, 0), "order must be"),
    (lambda: theory.constrained_capacity(16, 0, "psk"), "constellation must be"),
    (lambda: theory.bicm_capacity(6, 0, "pam"), "order must be a power of 2"),
    (lambda: theory.shannon_limit_ebno_db(2, 4), "bits_per_use must lie in"),
    (lambda: theory.shannon_limit_ebno_db(0), "bits_per_use must be > 0"),
    (lambda: theory.bsc_capacity(-0.1), "flip_probability must lie in"),
    (lambda: theory.bec_capacity(1.1), "erasure_probability must lie in"),
])
def test_arguments_outside_the_law_are_refused(call, rule):
    """Catches nonsense that returns a number."""
    with pytest.raises(ValueError, match=rule):
        call()
