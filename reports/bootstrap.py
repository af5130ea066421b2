"""The bootstrap over items: draws, quantiles and corrections, for many arrays of equal length at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
import scipy  # its submodules are loaded on first use: most commands need none

from channel_sim.keys import Key

NUM_RESAMPLES = 2000
MAX_UNITS = 1000
TAIL = 0.025
_BATCH = 64
"""Tasks of equal size that are resampled at once: their resamples fit the processor's cache."""
_EXACT = 2.0**53
"""Sums of whole numbers below it have no rounding, whatever their order."""


def bca(resampled: np.ndarray, jackknife: np.ndarray, observed: float | np.ndarray, *,
        tail: float = TAIL) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected and accelerated intervals [...] from bootstrap values float64 [..., R] and leave-one-out values [..., n].

    Bootstrap values that are NaN are left out. tail: probability left out on either side, 2.5 % for a 95 % interval

    Source: B. Efron, "Better bootstrap confidence intervals", J. Amer. Statist. Assoc. 82 (1987), section 3.
    """
    observed = np.asarray(observed, np.float64)[..., None]
    number = np.count_nonzero(resampled == resampled, axis=-1, keepdims=True)
    equal = 1e-12 * np.nanmax(np.abs(resampled), axis=-1, keepdims=True)  # but for rounding: half of it is below
    gap = resampled - observed
    above, under = (np.count_nonzero(side, axis=-1, keepdims=True) for side in (gap > equal, gap < -equal))
    below = (1 - (above - under) / number) / 2
    half = 0.5 / number  # all values on one side: as far out as the number of resamples can tell
    bias = scipy.special.ndtri(np.clip(below, half, 1 - half))
    spread = jackknife.mean(axis=-1, keepdims=True) - jackknife
    scale = np.sum(spread**2, axis=-1, keepdims=True) ** 1.5
    cubes = np.sum(spread**3, axis=-1, keepdims=True)
    acceleration = np.divide(cubes, 6 * scale, out=np.zeros_like(cubes), where=scale > 0)
    shifted = bias + scipy.special.ndtri(tail) * np.array([1, -1])  # 1 - tail would round to 1 for two items
    levels = scipy.special.ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-9))
    ends = _quantiles(resampled, levels, number)
    return ends[..., 0], ends[..., 1]


def _quantiles(values: np.ndarray, levels: np.ndarray, number: np.ndarray) -> np.ndarray:
    """float64 [..., 2] at two `levels` of those of [..., R] that are not NaN, `number` [..., 1]; as `np.quantile` has it."""
    at = levels * (number - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, number - 1)
    ordered = _with_ordered_ends(values, int(above[..., 0].max()), int(below[..., 1].min()))
    low, high = (np.take_along_axis(ordered, rank, axis=-1) for rank in (below, above))
    share = at - below
    return np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))


def _with_ordered_ends(values: np.ndarray, first: int, last: int) -> np.ndarray:
    """[..., R] as if sorted, NaN last, up to place `first` and from `last` on; sorting the middle as well takes twice as long."""
    if first >= last:
        return np.sort(values, axis=-1)
    ordered = np.partition(values, (first, last), axis=-1)
    ordered[..., :first].sort(axis=-1)
    ordered[..., last:].sort(axis=-1)
    return ordered


def expanded_tail(num_items: int) -> float:
    """The tail at which bootstrap quantiles of n items are as far out as Student's t with the unbiased variance is.

    Source: T. C. Hesterberg, "What teachers should know about the bootstrap", Amer. Statist. 69 (2015), section 4.2.
    """
    return float(scipy.special.ndtr(scipy.special.stdtrit(num_items - 1, TAIL) * np.sqrt(num_items / (num_items - 1))))


def alike(many: Mapping[int, np.ndarray]) -> Iterator[list[int]]:
    """The places of arrays of equal length, some at a time."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for place, sums in many.items():
        by_length[len(sums)].append(place)
    for places in by_length.values():
        yield from (places[first:first + _BATCH] for first in range(0, len(places), _BATCH))


def units_of(sums: np.ndarray) -> np.ndarray:
    """What is resampled: items, or groups of neighbouring items where there are more than MAX_UNITS, float64 [units, k].

    Items are independent and so are sums over groups of them: the interval is as honest, and its cost does not grow with n.
    """
    size = -(-len(sums) // MAX_UNITS)
    return sums if size == 1 else np.add.reduceat(sums, np.arange(0, len(sums), size))


def resample(units: np.ndarray, metric: str) -> np.ndarray:
    """float64 [tasks, NUM_RESAMPLES, k]: column sums of each of `units` [tasks, n, k] over n of its rows drawn with replacement."""
    num_tasks, n, k = units.shape
    weights = weights_of(metric, n).astype(np.float64)
    if np.all(units == np.rint(units)) and n * np.abs(units).max() < _EXACT:
        return (units.transpose(0, 2, 1).reshape(-1, n) @ weights.T).reshape(num_tasks, k, -1).transpose(0, 2, 1)
    # einsum and not @: the last bit of a sum that is rounded must depend on neither the number of threads nor on other tasks
    return np.stack([np.einsum("rn,nk->rk", weights, sums) for sums in units])


@lru_cache(maxsize=16)  # 16 metrics a point; 4 MB each at most
def weights_of(metric: str, num_items: int) -> np.ndarray:
    """uint16 [NUM_RESAMPLES, num_items]: how often each resample holds each item; rows sum to num_items."""
    drawn = Key(0).child("bootstrap", metric).integers(num_items, NUM_RESAMPLES, num_items)
    rows = np.arange(NUM_RESAMPLES)[:, None] * num_items
    counts = np.bincount((drawn + rows).ravel(), minlength=NUM_RESAMPLES * num_items)
    return counts.astype(np.uint16).reshape(NUM_RESAMPLES, num_items)
