"""Finite blocklength: published points, codes that meet the bounds, and sums over all words."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from channel_sim import theory


@pytest.mark.parametrize("num_uses, at_percent, at_permille", [
    (128, 1.892, 2.476), (256, 1.471, 1.915), (512, 1.139, 1.468), (1000, 0.893, 1.136), (4000, 0.558, 0.683)])
def test_ebno_of_the_normal_approximation_is_the_published_one(num_uses, at_percent, at_permille):
    """Catches a use taken for a complex symbol: Eb/N0 at rate ½ for block errors of 1e-2 and 1e-3, to the printed digits."""
    assert theory.normal_approximation_ebno_db(num_uses, num_uses / 2, 1e-2) == pytest.approx(at_percent, abs=5.01e-4)
    assert theory.normal_approximation_ebno_db(num_uses, num_uses / 2, 1e-3) == pytest.approx(at_permille, abs=5.01e-4)


@pytest.mark.parametrize("num_uses, num_bits, block_error", [(128, 32, 1e-4), (600, 500, 1e-2), (100_000, 50_000, 1e-3)])
def test_ebno_is_the_inverse_of_the_block_error(num_uses, num_bits, block_error):
    """Catches a rate forgotten between Es/N0 and Eb/N0; long codes come near the Shannon limit from above."""
    ebno_db = theory.normal_approximation_ebno_db(num_uses, num_bits, block_error)
    esno_db = ebno_db + 10 * np.log10(num_bits / num_uses)
    moments = theory.bi_awgn_capacity(esno_db), theory.bi_awgn_dispersion(esno_db)
    assert theory.normal_approximation(num_uses, num_bits, *moments) == pytest.approx(block_error, rel=1e-6)
    limit = theory.shannon_limit_ebno_db(num_bits / num_uses, 2)
    assert limit < ebno_db < limit + 50 / np.sqrt(num_uses)


def test_normal_approximation_falls_with_capacity_and_length():
    """Catches a sign: at a rate below capacity longer is better, above it worse."""
    at = [theory.normal_approximation(n, n / 2, 0.6, 0.7) for n in (50, 100, 200, 400, 800)]
    above = [theory.normal_approximation(n, n / 2, 0.4, 0.7) for n in (50, 100, 200, 400, 800)]
    assert at == sorted(at, reverse=True) and above == sorted(above)


@pytest.mark.parametrize("flip", [0.01, 0.11, 0.4])
@pytest.mark.parametrize("n, k, radius", [(7, 4, 1), (15, 11, 1), (23, 12, 3), (5, 1, 2), (9, 9, 0)])
def test_perfect_codes_meet_the_converse_of_the_bsc(n, k, radius, flip):
    """Catches a sphere of a wrong radius: Hamming, Golay, repetition and no code fail exactly with more flips than they correct."""
    assert theory.bsc_converse_bound(n, k, flip) == pytest.approx(binom.sf(radius, n, flip), rel=1e-9, abs=1e-15)


def test_the_converse_of_the_bsc_equals_a_sum_over_all_words():
    """Catches a wrong share of the outermost shell: the likeliest words, each code word's share of the space, by sorting."""
    n, k, flip = 8, 3, 0.2
    weight = np.array([sum(word) for word in product((0, 1), repeat=n)])
    likelihood = np.sort(flip**weight * (1 - flip) ** (n - weight))[::-1]
    assert theory.bsc_converse_bound(n, k, flip) == pytest.approx(1 - likelihood[:2**n // 2**k].sum(), rel=1e-9)


@pytest.mark.parametrize("n, k, flip", [(6, 2, 0.1), (8, 1, 0.3), (7, 5, 0.05)])
def test_the_random_coding_bound_equals_a_sum_over_all_words(n, k, flip):
    """Catches the wanted word counted among its rivals: min(1, (M - 1) P(a random word lies no further)), noise by noise."""
    words = np.array(list(product((0, 1), repeat=n)))
    expected = 0.0
    for noise in words:
        closer = np.mean(words.sum(axis=1) <= noise.sum())
        expected += flip ** noise.sum() * (1 - flip) ** (n - noise.sum()) * min(1, (2**k - 1) * closer)
    assert theory.bsc_random_coding_bound(n, k, flip) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("erasure", [0.05, 0.5])
@pytest.mark.parametrize("n, k", [(7, 1), (6, 5), (5, 5)])
def test_binary_mds_codes_meet_the_converse_of_the_bec(n, k, erasure):
    """Catches a guess booked as an error: repetition, a parity bit, no code; what is left of d dimensions is guessed with 2^-d."""
    expected = 0.0
    for lost in range(n + 1):
        missing = max(0, lost - (n - k))
        expected += binom.pmf(lost, n, erasure) * (1 - 2.0**-missing)
    assert theory.bec_converse_bound(n, k, erasure) == pytest.approx(expected, rel=1e-9)


def test_the_achievability_of_the_bec_equals_its_sum():
    """Catches the half of the rivals that a random order saves: E[2^-(arrived - log2((M - 1)/2))⁺]."""
    n, k, erasure = 12, 6, 0.3
    expected = sum(binom.pmf(lost, n, erasure) * min(1, (2**k - 1) / 2 / 2 ** (n - lost)) for lost in range(n + 1))
    assert theory.bec_dependence_testing_bound(n, k, erasure) == pytest.approx(expected, rel=1e-9)


def test_bounds_enclose_what_codes_do():
    """Catches achievability and converse exchanged: the approximation is near both; on the BEC a random linear code is above."""
    moments = theory.bsc_capacity(0.11), theory.bsc_dispersion(0.11)
    for num_bits in (380, 412, 430):
        lower, upper = (of(1000, num_bits, 0.11) for of in (theory.bsc_converse_bound, theory.bsc_random_coding_bound))
        assert lower < upper < 3 * lower
        # no bound: in the far tail, at 380, it leaves them
        assert num_bits == 380 or lower < theory.normal_approximation(1000, num_bits, *moments) < 1.3 * upper
    for num_bits in (420, 451):
        lower, upper = (of(1000, num_bits, 0.5) for of in (theory.bec_converse_bound, theory.bec_dependence_testing_bound))
        linear_code = theory.random_linear_failure_over_chain(1000, num_bits, theory.LossChain.independent(0.5))
        assert lower < theory.normal_approximation(1000, num_bits, 0.5, 0.25, log_term=False) < 1.1 * upper
        assert lower < upper < linear_code < 2 * upper


@pytest.mark.parametrize("call, rule", [
    (lambda: theory.normal_approximation(0, 1, 0.5, 0.1), "num_uses must be >= 1"),
    (lambda: theory.normal_approximation(10, 1, 0.5, -0.1), "dispersion must be >= 0"),
    (lambda: theory.normal_approximation_rate(10, 0.0, 0.5, 0.1), "block_error must lie in"),
    (lambda: theory.normal_approximation_ebno_db(100, 100, 1e-2), "num_bits must lie between"),
    (lambda: theory.normal_approximation_ebno_db(100, 50, 1.0), "block_error must lie in"),
    (lambda: theory.bsc_random_coding_bound(10, 11, 0.1), "k must lie in 1 to n=10"),
    (lambda: theory.bsc_converse_bound(10, 5, 0.6), "flip_probability must lie in"),
    (lambda: theory.bec_converse_bound(10, 5, 1.0), "erasure_probability must lie in"),
    (lambda: theory.bec_dependence_testing_bound(10, 0, 0.1), "k must lie in"),
    (lambda: theory.bsc_dispersion(1.5), "flip_probability must lie in"),
    (lambda: theory.bec_dispersion(-1), "erasure_probability must lie in"),
])
def test_arguments_outside_the_law_are_refused(call, rule):
    """Catches nonsense that returns a number."""
    with pytest.raises(ValueError, match=rule):
        call()
