"""Modified Kneser-Ney over bytes from counting to codes: count, discount, prune, quantise.

The data are taken as a circle, so every byte has a full context and every n-gram has a byte before it and one after it. An n-gram
is a uint64 with its newest byte in front: [newest, the byte before it, …, oldest]. In that order leaving out the oldest byte is a
shift, and the n-grams that differ in it alone stand side by side.

Source: S. F. Chen, J. Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech & Language 13
(1999), section 3; A. Stolcke, "Entropy-based pruning of backoff language models", DARPA workshop (1998); V. Siivola, T. Hirsimäki,
S. Virpioja, "On growing and pruning Kneser-Ney smoothed n-gram models", IEEE Trans. Audio, Speech, Lang. Process. 15 (2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sources.models.trie import START_LEVELS, Streams

ABSOLUTE_DISCOUNT = 0.75
"""Where the data are too few to estimate a discount (Kneser and Ney's own order of magnitude)."""
_SMALLEST_LEVEL = 32.0  # integer levels: rounding the smallest costs 1.6 % at most


class Grams(NamedTuple):
    """The n-grams of one length in the data, sorted.

    keys:     uint64
    counts:   int64, how often each occurs
    suffixes: int64, where each stands, without its oldest byte, among the n-grams one byte shorter
    contexts: int64, the same without its newest byte (both 0 for single bytes)
    """

    keys: np.ndarray
    counts: np.ndarray
    suffixes: np.ndarray
    contexts: np.ndarray


class Estimate(NamedTuple):
    """One length of a model: what an n-gram has of its context's mass, and what the context leaves to shorter ones.

    discounted float64 [n-grams], counts less discounts, 0 where pruned; totals float64 [contexts].
    """

    discounted: np.ndarray
    totals: np.ndarray

    def rests(self, contexts: np.ndarray) -> np.ndarray:
        return self.totals - np.bincount(contexts, self.discounted, self.totals.size)


def count(data: np.ndarray, order: int) -> list[Grams]:
    """The n-grams of uint8 `data`, lengths 1 to `order` <= 8."""
    keys = np.zeros(data.size, np.uint64)
    for distance in range(order):
        keys <<= np.uint64(8)
        keys |= np.roll(data, distance)
    keys.sort()
    firsts = np.flatnonzero(_changes(keys))
    longest = Grams(keys[firsts], np.diff(np.append(firsts, keys.size)), firsts, firsts)
    lengths = [longest]
    for length in range(order - 1, 0, -1):
        shorter, suffixes = _without_oldest(lengths[0])
        context_keys = lengths[0].keys & np.uint64((1 << 8 * length) - 1)
        lengths[0] = lengths[0]._replace(suffixes=suffixes, contexts=np.searchsorted(shorter.keys, context_keys))
        lengths.insert(0, shorter)
    nowhere = np.zeros(lengths[0].keys.size, np.int64)
    lengths[0] = lengths[0]._replace(suffixes=nowhere, contexts=nowhere)
    return lengths


def _without_oldest(grams: Grams) -> tuple[Grams, np.ndarray]:
    keys = grams.keys >> np.uint64(8)
    changes = _changes(keys)
    firsts = np.flatnonzero(changes)
    return Grams(keys[firsts], np.add.reduceat(grams.counts, firsts), firsts, firsts), np.cumsum(changes) - 1


def _changes(ordered: np.ndarray) -> np.ndarray:
    """bool: where a value differs from the one before it; the first does."""
    return np.append(True, ordered[1:] != ordered[:-1])


def continuation_counts(lengths: Sequence[Grams], keep: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
    """float64, one array a length: the counts that Kneser-Ney smooths.

    The longest n-grams count how often they occur, shorter ones how many different bytes stand before them. A longer n-gram that
    was pruned hands down all its count instead of 1, because the shorter one has to account for all of it (Siivola et al., 2007).
    """
    counts: list[np.ndarray] = [lengths[-1].counts.astype(np.float64)]
    for longer in range(len(lengths) - 1, 0, -1):
        handed = np.ones(counts[0].size) if keep is None else np.where(keep[longer], 1.0, counts[0])
        counts.insert(0, np.bincount(lengths[longer].suffixes, handed))
    return counts


def discounts(counts: np.ndarray) -> np.ndarray:
    """float64 [4]: what is taken from a count of 0, 1, 2, and 3 or more (Chen and Goodman, equation 26).

    0.75 for a count that the data are too few to estimate for.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == number)) for number in (1, 2, 3, 4))
    taken = np.array([0.0, ABSOLUTE_DISCOUNT, ABSOLUTE_DISCOUNT, ABSOLUTE_DISCOUNT])
    if n1 and n2:
        for number, (here, above) in enumerate(((n1, n2), (n2, n3), (n3, n4)), start=1):
            estimated = number - (number + 1) * n1 / (n1 + 2 * n2) * above / here if here else 0.0
            taken[number] = estimated if 0 < estimated < number else ABSOLUTE_DISCOUNT
    return taken


def estimate(grams: Grams, counts: np.ndarray, taken: np.ndarray, keep: np.ndarray | None = None) -> Estimate:
    """Absolute discounting of `counts` by `taken`; what is not kept is left to shorter contexts."""
    discounted = counts - taken[np.minimum(counts, 3).astype(np.int64)]
    totals = np.bincount(grams.contexts, counts)
    return Estimate(discounted if keep is None else np.where(keep, discounted, 0.0), totals)


def gains(lengths: Sequence[Grams], estimates: Sequence[Estimate]) -> list[np.ndarray]:
    """float64, one array a length: nats that the data would cost more without an n-gram (Stolcke, 1998, to first order).

    Without it, its probability falls from p to q, and the others of its context share p - q: N(context) (p ln(p/q) - p + q). No
    n-gram has less than the longer ones that need it, so what lies above a threshold is closed under leaving out either end.
    """
    per_length, shorter = [], np.array([1 / 256])
    for grams, one in zip(lengths, estimates):
        totals, rests = one.totals[grams.contexts], one.rests(grams.contexts)[grams.contexts]
        backed_off = shorter[grams.suffixes]
        with_it = (one.discounted + rests * backed_off) / totals
        without = (one.discounted + rests) * backed_off / totals
        occurrences = np.bincount(grams.contexts, grams.counts)[grams.contexts]
        per_length.append(occurrences * (with_it * np.log(with_it / without) - with_it + without))
        shorter = with_it
    for length in range(len(lengths) - 1, 0, -1):
        for needed in (lengths[length].suffixes, lengths[length].contexts):
            np.maximum.at(per_length[length - 1], needed, per_length[length])
    return per_length


def quantise(lengths: Sequence[Grams], keep: Sequence[np.ndarray], taken: Sequence[np.ndarray], level_ratio: float) -> Streams:
    """The streams of the n-grams kept, with discounted counts on a geometric scale of at most 256 levels."""
    counts = continuation_counts(lengths, keep)
    chosen = [estimate(*one) for one in zip(lengths, counts, taken, keep)]
    plain = [estimate(grams, grams.counts, discounts(grams.counts), kept) for grams, kept in zip(lengths[:START_LEVELS], keep)]
    scale = _Scale(chosen + plain, level_ratio)
    orders = [np.flatnonzero(kept)[np.argsort(_oldest_first(grams.keys[kept], length))]
              for length, (grams, kept) in enumerate(zip(lengths, keep), start=1)]
    children = [np.bincount(grams.contexts[kept], minlength=size)
                for grams, kept, size in zip(lengths, keep, [1, *(grams.keys.size for grams in lengths)])]
    parents = [np.zeros(1, np.int64), *orders[:-1]]
    codes, rest_codes = scale.codes(lengths, chosen, orders, children, parents)
    start_codes, start_rest_codes = scale.codes(lengths, plain, orders, children, parents)
    symbols = [lengths[at].keys[order] >> np.uint64(8 * at) for at, order in enumerate(orders)]
    branches = np.concatenate([counted[parent] for counted, parent in zip(children, parents)])
    return Streams(
        sizes=np.array([order.size for order in orders]),
        is_context=(branches > 0).astype(np.uint8),
        branches=(branches[branches > 0] - 1).astype(np.uint8),
        symbols=np.concatenate(symbols).astype(np.uint8),
        codes=codes, rest_codes=rest_codes, start_codes=start_codes, start_rest_codes=start_rest_codes, levels=scale.levels)


def _oldest_first(keys: np.ndarray, length: int) -> np.ndarray:
    """The same n-grams as numbers whose order is that of their bytes, oldest first: byte-swapped."""
    return keys.byteswap() >> np.uint64(64 - 8 * length)


class _Scale:
    """Counts in geometric steps; `levels` int64 holds what each code stands for."""

    def __init__(self, estimates: Sequence[Estimate], ratio: float) -> None:
        counts = np.concatenate([one.discounted[one.discounted > 0] for one in estimates])
        self._smallest = counts.min()
        largest = max(counts.max(), max(one.totals.max() for one in estimates)) / self._smallest
        self._ratio = max(ratio, largest ** (1 / 255))  # a code is a byte
        num_levels = int(np.ceil(np.log(largest) / np.log(self._ratio))) + 1
        self.levels = np.rint(_SMALLEST_LEVEL * self._ratio ** np.arange(min(num_levels, 256))).astype(np.int64)

    def codes(self, lengths: Sequence[Grams], estimates: Sequence[Estimate], orders: Sequence[np.ndarray],
              children: Sequence[np.ndarray], parents: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(codes uint8 [n-grams], rest codes uint8 [contexts]) in the order of the trie."""
        codes, rest_codes = [], []
        for grams, one, order, counted, parent in zip(lengths, estimates, orders, children, parents):
            codes.append(self._nearest(one.discounted[order]))
            used = np.bincount(grams.contexts[order], self.levels[codes[-1]], one.totals.size)
            rests = one.rests(grams.contexts)
            # the rest is measured in the counts as stored, so that rounding them does not move it
            wanted = used * rests / np.maximum(one.totals - rests, 1e-9) * (self._smallest / _SMALLEST_LEVEL)
            rest_codes.append(self._nearest(wanted[parent[counted[parent] > 0]]))
        return np.concatenate(codes), np.concatenate(rest_codes)

    def _nearest(self, counts: np.ndarray) -> np.ndarray:
        steps = np.rint(np.log(np.maximum(counts, self._smallest) / self._smallest) / np.log(self._ratio))
        return np.minimum(steps, self.levels.size - 1).astype(np.uint8)
