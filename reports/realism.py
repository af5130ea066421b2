"""Realism: how far a set of restored pictures is from a set of originals, in the features of an evaluator.

    KID = E k(x, x') + E k(y, y') - 2 E k(x, y),   k(a, b) = (a·b / d + 1)^3

for independent originals x, x' and independent restored pictures y, y'. What picture i became resembles what it was, so of one
item no pair is taken: the mean over all pairs of different items is free of bias, uses every picture, may be negative, and is 0
where nothing was damaged. It says nothing about single pictures: sharp ones of something else are as real as the right ones.

Source: M. Bińkowski, D. J. Sutherland, M. Arbel, A. Gretton, "Demystifying MMD GANs", ICLR 2018, section 4 (the distance, its
kernel); A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola, "A kernel two-sample test", JMLR 13 (2012), lemma 6 (the mean
over pairs (x_i, y_i), (x_j, y_j) of different i and j).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from channel_sim.keys import Key
from channel_sim.store import Curve, Store
from reports.bootstrap import bca, expanded_tail, weights_of
from reports.statistics import Estimate

FEW_PICTURES = 50
"""Below it the note says so."""
MOST_PICTURES = 1000
"""Items that are compared at most, the first ones: the cost grows with their square."""
REFERENCE = "originals against originals"
_SOURCE = "KID of one half of the originals from the other: M. Bińkowski et al., Demystifying MMD GANs, ICLR 2018"


def realism(store: Store, task_id: str) -> dict[str, Estimate]:
    """`kid` of a task's restored pictures from their originals, and `kid_of_originals` of one half of those from the other.

    Which half an original is in is drawn: neighbours may be tiles of one photograph, and halves of other photographs would differ.
    """
    items, features = store.features(task_id)
    distinct, first = np.unique(items, return_index=True)
    distinct, first = distinct[:MOST_PICTURES], first[:MOST_PICTURES]
    chosen = np.isin(items, distinct)
    originals, half = features[first, 0], len(distinct) // 2
    drawn = originals[np.argsort(Key(0).child("halves").uniform(len(distinct)))]
    found = {"kid": kernel_distance(originals, features[chosen, 1], np.searchsorted(distinct, items[chosen])),
             "kid_of_originals": kernel_distance(drawn[:half], drawn[half:2 * half], np.arange(half))}
    return {metric: one for metric, one in found.items() if one is not None}


def reference(point_index: int, estimates: dict[str, Estimate]) -> list[Curve]:
    """The real-against-real line of a figure of KID at one sweep point."""
    one = estimates.get("kid_of_originals")
    return [Curve(point_index, REFERENCE, "kid", one.mean, _SOURCE)] if one else []


def kernel_distance(originals: np.ndarray, restored: np.ndarray, of_item: np.ndarray) -> Estimate | None:
    """KID of `restored` [m, d] from `originals` [n, d] and its 95 % interval over items; None for fewer than two items.

    of_item: int64 [m], the original that each restored picture comes from; each original has at least one
    """
    return _estimated(lambda: _pairs(originals, restored, of_item), len(originals))


def nearer_by(originals: np.ndarray, restored: np.ndarray, rival: np.ndarray) -> Estimate | None:
    """KID of `rival` [n, d] less that of `restored` [n, d], picture by picture of the same originals [n, d], with its interval.

    What is hard in the originals is hard for both, so it is narrower than the two intervals of `kernel_distance` make it look.
    """
    own = np.arange(len(originals))
    return _estimated(lambda: _pairs(originals, rival, own) - _pairs(originals, restored, own), len(originals))


def _estimated(pairs: Callable[[], np.ndarray], num_items: int) -> Estimate | None:
    """The mean over pairs of different items; `pairs` gives float64 [n, n], 0 on the diagonal."""
    if num_items < 2:
        return None
    with threadpool_limits(1, "blas"):  # the last bit must not depend on the number of threads
        terms = pairs()
        mean = float(terms.sum() / (num_items * (num_items - 1)))
        if not terms.any():
            return Estimate(0.0, 0.0, 0.0, num_items, "constant")
        if num_items == 2:
            return Estimate(mean, None, None, 2, "none", "two items give no interval")
        low, high = bca(_resampled(terms), _left_out(terms), mean, tail=expanded_tail(num_items))
    note = "" if num_items >= FEW_PICTURES else f"of {num_items} pictures; below {FEW_PICTURES} its interval is rough"
    return Estimate(mean, float(low), float(high), num_items, "bootstrap", note)


def _pairs(originals: np.ndarray, restored: np.ndarray, of_item: np.ndarray) -> np.ndarray:
    """float64 [n, n]: k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j), replicates averaged; 0 on the diagonal."""
    originals, restored = originals.astype(np.float64), restored.astype(np.float64)
    share = np.zeros((len(originals), len(restored)))
    share[of_item, np.arange(len(restored))] = 1 / np.bincount(of_item)[of_item]
    across = _kernel(originals, restored) @ share.T
    terms = _kernel(originals, originals) + share @ _kernel(restored, restored) @ share.T - across - across.T
    np.fill_diagonal(terms, 0)
    return terms


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _resampled(terms: np.ndarray) -> np.ndarray:
    """float64 [R]: the mean over pairs of different items of each resample; NaN for one that holds a single item."""
    weights = weights_of("kid", len(terms)).astype(np.float64)
    pairs = len(terms) ** 2 - (weights**2).sum(axis=1)
    sums = ((weights @ terms) * weights).sum(axis=1)
    return np.divide(sums, pairs, out=np.full(len(sums), np.nan), where=pairs > 0)


def _left_out(terms: np.ndarray) -> np.ndarray:
    """float64 [n]: the mean without each item."""
    n = len(terms)
    return (terms.sum() - 2 * terms.sum(axis=1)) / ((n - 1) * (n - 2))
