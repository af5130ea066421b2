"""Reverse channel coding: a sample of a law q that only the sender knows, sent as a number that both ends can look up.

Both ends know a wider law p and draw the same candidates of it; the sender tells which one is a sample of q.

    candidates g_1, g_2, … of p, at times T_1 < T_2 < … of a Poisson process ─▶ n of least T_n / w(g_n), w = q / p ─▶ n ─▶ g_n

All is told in units of p: p = N(0, 1) and q = N(shift, ratio), 0 < ratio <= 1, in each of the dimensions of a chunk, so that a
chunk holds -½ Σ log2 ratio bits on average over the shifts that p stands for.

Source: C. T. Li, A. El Gamal, "Strong functional representation lemma and applications to coding theorems", IEEE Trans. Inf. Theory
64 (2018); C. J. Maddison, "A Poisson process model for Monte Carlo", arXiv 1602.05986 (2016); L. Theis, N. Yosri, "Algorithms for
the communication of samples", ICML 2022; J. Ziv, "On universal quantization", IEEE Trans. Inf. Theory 31 (1985).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from channel_sim.keys import Key

TOTAL_VARIATION = 1e-3
"""A chunk's sample is off its law by so much at most, where the density ratio has no bound that can be reached."""
BLOCK = 1024
"""Candidates that are drawn together: what a receiver draws for one number, and what memory holds."""
MOST_CANDIDATES = 1 << 20
"""Where the search ends whatever was found: the best so far is sent."""
_EXPONENTS = np.geomspace(1e-3, 1e3, 96)
_SURE = 3.72  # sqrt(2 ln 1/TOTAL_VARIATION): how many standard deviations the bound on a tail lies out
_REACH = 6.0  # standard deviations of p on either side that have cells
_MOST_CELLS = 4096


class Choice(NamedTuple):
    """number: of the candidate, from 1; values: float64 [n], the candidate; searched: candidates drawn; whole: the search was ended
    by its rule, not by `MOST_CANDIDATES`."""

    number: int
    values: np.ndarray
    searched: int
    whole: bool


def information_bits(ratio: np.ndarray) -> float:
    """-½ Σ log2 ratio: what a chunk tells on average."""
    return float(-0.5 * np.sum(np.log2(ratio)))


def search_bits(ratio: np.ndarray) -> float:
    """log2 of the candidates that a chunk of these ratios takes at a usual shift: what it tells, and what is needed to be exact."""
    spread = _SURE * np.sqrt(0.5 * np.sum(1 - ratio**2))
    return information_bits(ratio) + float(min(spread, ratio.size)) / np.log(2)


def searchable(ratio: np.ndarray, most_bits: float) -> int:
    """How many of the first components, at least one, a search of about 2^most_bits candidates can tell together."""
    count = 1
    while count < ratio.size and search_bits(ratio[:count + 1]) <= most_bits:
        count += 1
    return count


def ratio_bound(shift: np.ndarray, ratio: np.ndarray, total_variation: float = TOTAL_VARIATION) -> float:
    """ln W such that q(w > W) <= total_variation: the largest w of all where that is less.

    Chernoff's bound on ln w under q, at the best of some exponents s:
    ln w = ½ Σ (shift² + 2 shift sqrt(ratio) u - (1 - ratio) u² - ln ratio), u ~ N(0, 1).
    """
    gap = 1 - ratio
    start = -0.5 * np.sum(np.log(ratio))
    s = _EXPONENTS[:, None]
    tail = s**2 * shift**2 * ratio / (2 * (1 + s * gap)) - 0.5 * np.log1p(s * gap)
    moments = _EXPONENTS * (start + 0.5 * np.sum(shift**2)) + np.sum(tail, axis=1)  # ln E w^s
    likely = float(np.min((moments - np.log(total_variation)) / _EXPONENTS))
    if np.any((gap == 0) & (shift != 0)):
        return likely
    with np.errstate(invalid="ignore"):
        peak = np.where(gap > 0, shift**2 / (2 * gap), 0.0)
    return min(likely, float(start + np.sum(peak)))


def choose(key: Key, shift: np.ndarray, ratio: np.ndarray, total_variation: float = TOTAL_VARIATION) -> Choice:
    """A sample of q, both float64 [n]. Its law is q where w <= W, and no other candidate is taken: exact where W bounds w.

    `key` is the chunk's own, and shared. The search ends where no later candidate can win, after W candidates on average.
    """
    start = -0.5 * np.sum(np.log(ratio))

    def log_ratio(candidates: np.ndarray) -> np.ndarray:
        far = candidates - shift
        # einsum, not a matrix product: its last bit would depend on the number of BLAS threads
        return start + 0.5 * (np.einsum("nd,nd->n", candidates, candidates) - np.einsum("nd,nd,d->n", far, far, 1 / ratio))

    return search(key, lambda block: _block(key, block, shift.size), log_ratio, ratio_bound(shift, ratio, total_variation))


def search(key: Key, draw: Callable[[int], np.ndarray], log_ratio: Callable[[np.ndarray], np.ndarray], bound: float) -> Choice:
    """A sample of any q among candidates of any p: draw(block) are `BLOCK` of them, log_ratio(draw(block)) is ln w of each.

    bound: ln W; a candidate of which ln w is more is not taken.
    """
    best, number, values, elapsed = np.inf, 1, None, 0.0
    for block in range(MOST_CANDIDATES // BLOCK):
        times = elapsed - np.cumsum(np.log1p(-key.child("times", block).uniform(BLOCK)))
        candidates = draw(block)
        ratios = log_ratio(candidates)
        scores = np.where(ratios <= bound + 1e-9, np.log(times) - ratios, np.inf)
        first = int(np.argmin(scores))
        if scores[first] < best or values is None:
            best, number, values = float(scores[first]), block * BLOCK + first + 1, candidates[first].copy()
        elapsed = float(times[-1])
        if np.log(elapsed) - bound >= best:
            return Choice(number, values, (block + 1) * BLOCK, True)
    assert values is not None
    return Choice(number, values, MOST_CANDIDATES, False)


def recall(key: Key, number: int, num_dimensions: int) -> np.ndarray:
    """float64 [num_dimensions]: the candidate that the sender chose."""
    block, place = divmod(number - 1, BLOCK)
    return _block(key, block, num_dimensions)[place].copy()


def _block(key: Key, block: int, num_dimensions: int) -> np.ndarray:
    return key.child("candidates", block).normal(BLOCK, num_dimensions)


class Mixture(NamedTuple):
    """A law of zero mean that is a mixture of Gaussians, of each of n components: weights and scales, float64 [n, terms]."""

    weights: np.ndarray
    scales: np.ndarray


def normal(ratio: np.ndarray) -> Mixture:
    """What p says of the mean of q, in units of p: Gaussian, of the variance that p has beside q's."""
    scales = np.sqrt(np.maximum(1 - ratio, 1e-12))[:, None]
    return Mixture(np.ones_like(scales), scales)


class DitheredCells(NamedTuple):
    """The cells of a uniform quantiser of each of n components, shifted by a dither that both ends draw.

    The value that is sent is x + noise, the noise uniform, independent of x, and of the variance that q has: not q, but a law that
    is met exactly. width, dither: float64 [n]; `first` is the number of the first cell; `probabilities` float64 [n, cells] are
    those under p, which is wider by the cell.
    """

    width: np.ndarray
    dither: np.ndarray
    first: int
    probabilities: np.ndarray

    def nearest(self, shift: np.ndarray) -> np.ndarray:
        """int32 [n], cells from 0 that tell a sample of q; the last one where `shift` lies beyond all of them."""
        cell = np.floor(shift / self.width - self.dither + 0.5).astype(np.int64) - self.first
        return np.clip(cell, 0, self.probabilities.shape[1] - 1).astype(np.int32)

    def values(self, cells: np.ndarray) -> np.ndarray:
        """float64 [k] of the cells of the first k components."""
        return (self.first + cells + self.dither[:cells.size]) * self.width[:cells.size]


def dithered_cells(key: Key, ratio: np.ndarray, law: Mixture) -> DitheredCells:
    """The quantisers of the chunk `key`, where x has `law`; cells beyond `_REACH` of its scales, and of p, are the last ones."""
    width = np.sqrt(12 * ratio)
    dither = key.child("dither").uniform(ratio.size) - 0.5
    half = min(int(np.max(np.ceil(_REACH * np.maximum(1, law.scales.max(axis=1)) / width))) + 1, _MOST_CELLS // 2)
    numbers = np.arange(-half, half + 1)
    edges = (np.append(numbers, half + 1) - 0.5 + dither[:, None]) * width[:, None]  # [n, cells + 1]
    probabilities = np.zeros((ratio.size, numbers.size))
    for weight, scale in zip(law.weights.T, law.scales.T, strict=True):
        probabilities += weight[:, None] * np.diff(ndtr(edges / scale[:, None]), axis=1)
    return DitheredCells(width, dither, -half, probabilities / probabilities.sum(axis=1, keepdims=True))
