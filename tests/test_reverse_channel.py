"""Reverse channel coding: what is received is a sample of the law that the sender meant, and costs no more bits than the bound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import chi2, kstest, norm

from channel_sim.keys import Key
from sources.diffusion import reverse_channel
from sources.diffusion.reverse_channel import Mixture, choose, dithered_cells, information_bits, normal, ratio_bound, recall
from sources.diffusion.stream import cost_bits, symbols_of_number

ROOT = Key(21)
SIZES = [(1, 2.0), (1, 6.0), (2, 2.5), (4, 1.0), (8, 0.4)]
"""Dimensions of a chunk, and the bits that each tells."""


def ratio_of(num_dimensions: int, bits: float) -> np.ndarray:
    return np.full(num_dimensions, 4.0**-bits)


def shifts(key: Key, ratio: np.ndarray) -> np.ndarray:
    """A shift as p stands for it."""
    return np.sqrt(1 - ratio) * key.normal(ratio.size)


def normalised(num: int, ratio: np.ndarray, name: str) -> np.ndarray:
    """[num, dimensions]: (g - shift) / sqrt(ratio) of chosen candidates: standard normal if they are samples of q."""
    rows = []
    for trial in range(num):
        key = ROOT.child(name, trial)
        shift = shifts(key.child("x"), ratio)
        rows.append((choose(key, shift, ratio).values - shift) / np.sqrt(ratio))
    return np.array(rows)


@pytest.mark.parametrize(("num_dimensions", "bits"), SIZES)
def test_what_is_received_is_a_sample_of_q(num_dimensions: int, bits: float):
    """Catches a search that ends early, a wrong density ratio and candidates of the wrong spread: each dimension, and together."""
    z = normalised(400, ratio_of(num_dimensions, bits), f"q{bits}")
    assert min(kstest(column, norm.cdf).pvalue for column in z.T) > 1e-5
    # the whole covariance at once: n tr(S) of n d squares of independent standard normals
    assert 1e-5 < chi2.cdf(np.sum(z**2), z.size) < 1 - 1e-5
    correlation = np.corrcoef(z.T).reshape(num_dimensions, num_dimensions)
    assert np.all(np.abs(correlation - np.eye(num_dimensions)) < 5 / np.sqrt(len(z)))


def test_a_search_of_too_few_candidates_is_seen(monkeypatch):
    """The negative control: of 2^11 candidates where 2^14 are needed, what is chosen is no sample of q, and is said to be none."""
    monkeypatch.setattr(reverse_channel, "MOST_CANDIDATES", 2 * reverse_channel.BLOCK)
    ratio = ratio_of(2, 7.0)
    z = normalised(200, ratio, "few")
    assert kstest(z[:, 0], norm.cdf).pvalue < 1e-6
    assert not choose(ROOT, shifts(ROOT, ratio), ratio).whole


@pytest.mark.parametrize(("num_dimensions", "bits"), SIZES)
def test_mean_bits_are_within_the_bound(num_dimensions: int, bits: float):
    """Catches numbers that grow with the time of the search and a Zipf law for another amount of information."""
    ratio = ratio_of(num_dimensions, bits)
    told = information_bits(ratio)
    assert told == pytest.approx(num_dimensions * bits)
    costs = [cost_bits(symbols_of_number(choose(ROOT.child("cost", i), shifts(ROOT.child("x", i), ratio), ratio).number, told))
             for i in range(150)]
    assert told < np.mean(costs) <= told + np.log2(told + 1) + 5


@pytest.mark.parametrize("num_dimensions", [1, 3, 60])
def test_few_samples_of_q_lie_above_the_bound(num_dimensions: int):
    """Catches a bound that is none, by densities of SciPy: at most .001 of q may be left out, and W must not be far too large."""
    key = ROOT.child("bound", num_dimensions)
    ratio = 0.3 + 0.6 * key.uniform(num_dimensions)
    shift = 1.5 * key.child("shift").normal(num_dimensions)
    bound = ratio_bound(shift, ratio)
    samples = shift + np.sqrt(ratio) * key.child("samples").normal(40_000, num_dimensions)
    log_ratio = (norm.logpdf(samples, shift, np.sqrt(ratio)) - norm.logpdf(samples)).sum(axis=1)
    assert np.mean(log_ratio > bound) <= 1e-3
    assert bound < log_ratio.mean() + 4.5 * log_ratio.std()


def test_equal_variances_have_no_peak_and_still_a_bound():
    """Catches a division by zero where q is as wide as p, as a learned model's steps have it."""
    assert np.isfinite(ratio_bound(np.array([0.5, 0.0]), np.ones(2)))
    chosen = choose(ROOT, np.array([0.5, 0.0]), np.ones(2))
    assert chosen.whole and np.all(np.isfinite(chosen.values))


def test_both_ends_hold_the_same_bits():
    """Catches candidates that depend on how many were drawn before them."""
    for trial in range(20):
        key, ratio = ROOT.child("recall", trial), ratio_of(3, 2.5)
        choice = choose(key, shifts(key.child("x"), ratio), ratio)
        assert np.array_equal(recall(key, choice.number, 3), choice.values)
    assert not np.array_equal(recall(ROOT.child(1), 5, 3), recall(ROOT.child(2), 5, 3))
    assert np.all(np.isfinite(recall(ROOT, reverse_channel.MOST_CANDIDATES * 1000, 3))), "whatever number a damaged stream tells"


def dithered(num: int, bits: float) -> Iterator[tuple[float, float, float]]:
    """(shift, error in cells, bits it costs) of each trial."""
    for trial in range(num):
        key = ROOT.child("dither", trial)
        ratio = ratio_of(1, bits)
        shift = shifts(key.child("x"), ratio)
        cells = dithered_cells(key, ratio, normal(ratio))
        cell = cells.nearest(shift)
        error = (cells.values(cell) - shift) / cells.width
        yield float(shift[0]), float(error[0]), -float(np.log2(cells.probabilities[0, cell[0]]))


@pytest.mark.parametrize("bits", [0.4, 3.0])
def test_dithered_noise_is_uniform_and_knows_nothing_of_x(bits: float):
    """Catches a dither that is added and not taken off, and one that both ends do not share: the law, and its variance of ratio."""
    rows = np.array(list(dithered(1500, bits)))
    assert kstest(rows[:, 1], "uniform", args=(-0.5, 1)).pvalue > 1e-5
    assert abs(np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]) < 5 / np.sqrt(len(rows))
    assert dithered_cells(ROOT, ratio_of(1, bits), normal(ratio_of(1, bits))).width ** 2 / 12 == pytest.approx(4.0**-bits)


def test_cells_of_many_components_are_those_of_each():
    """Catches a width or a dither of a neighbour, and a mixture that is not the sum of its terms: one a time is the reference."""
    ratio = np.array([0.9, 0.3, 0.02])
    weights, scales = np.array([[0.5, 0.5], [1, 0], [0.2, 0.8]]), np.array([[0.1, 2.0], [0.7, 9.0], [0.9, 1.1]])
    cells = dithered_cells(ROOT, ratio, Mixture(weights, scales))
    dither = ROOT.child("dither").uniform(3) - 0.5
    shift = np.array([0.4, -1.3, 2.2])
    sent = cells.values(cells.nearest(shift))
    for place in range(3):
        width = np.sqrt(12 * ratio[place])
        assert abs(sent[place] - shift[place]) <= width / 2 + 1e-12
        assert (sent[place] / width - dither[place]) == pytest.approx(round(sent[place] / width - dither[place]), abs=1e-9)
        edges = sent[place] + width * np.array([-0.5, 0.5])
        expected = sum(weights[place, term] * np.diff(norm.cdf(edges / scales[place, term]))[0] for term in range(2))
        assert cells.probabilities[place, cells.nearest(shift)[place]] == pytest.approx(expected, rel=1e-9)
    assert np.array_equal(cells.values(cells.nearest(shift)[:2]), sent[:2])


def test_dither_costs_at_most_a_quarter_bit_more_than_gaussian_noise():
    """Catches probabilities of cells that are not those of x: I(x; x + uniform) is at most ½ log2(2πe / 12) above the Gaussian."""
    costs = np.array([cost for _, _, cost in dithered(1500, 3.0)])
    error = 4 * costs.std() / np.sqrt(costs.size)
    assert 3.0 - error < costs.mean() < 3.0 + 0.5 * np.log2(2 * np.pi * np.e / 12) + error
