"""How much of every packet each part of a progressive stream should have, when packets are lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from channel_sim.checks import require


def mean_quality(quality: np.ndarray, arrivals: np.ndarray, needed: Sequence[int], shares: Sequence[int]) -> float:
    """Of an item behind protection `priority`, whose layer j has `shares[j]` bytes of each of the n packets.

    quality:  float64 [>= bytes in all layers + 1], what the first b bytes of the stream are worth, on average over items
    arrivals: float64 [n + 1], P(exactly m of the n packets arrive): under one loss rate, or averaged over those that the sender
              thinks possible. Which they are is taken to be any m of them alike.

    The prefix ends in the first layer that is not solved, after those of its rows that arrived one after another from the first.
    """
    mean, told = float(quality[0]), 0
    for before, layer, width in zip((0, *needed), needed, shares):
        edges = told + width * np.arange(layer + 1)
        mean += float(_known(arrivals, before, layer) @ np.diff(quality[edges]))
        told = int(edges[-1])
    return mean


def best_layers(quality: np.ndarray, arrivals: np.ndarray, packet_bytes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(needed, shares) that make `mean_quality` over n packets of `packet_bytes` the highest; arguments as there.

    Exact for any quality, concave or not, by dynamic programming over layers, bytes of a packet that are given away, and bytes of
    the stream that are in them.

    Source: the objective of A. E. Mohr, E. A. Riskin, R. E. Ladner, IEEE JSAC 18 (2000), section III, and what rows of a layer that
    is not solved add; solved in the manner of S. Dumitrescu, X. Wu, Z. Wang, "Globally optimal uneven error-protected
    packetization of scalable code streams", IEEE Trans. Multimedia 6 (2004).
    """
    n, size = arrivals.size - 1, (arrivals.size - 1) * packet_bytes
    require(packet_bytes >= 1 and n >= 1, f"there must be packets and bytes in them, got {n} packets of {packet_bytes}")
    require(quality.size > size, f"quality must reach {size} bytes, those of {n} packets of {packet_bytes}, got {quality.size - 1}")
    best = np.full((n + 1, packet_bytes + 1, size + 1), -np.inf)  # [needed of the last layer, bytes given, bytes in them]
    best[0, 0, 0] = quality[0]
    last = np.zeros((*best.shape, 2), np.int32)  # the layer before, and the width of the last
    for layer in range(1, n + 1):
        for before in range(layer):
            known = _known(arrivals, before, layer)
            for width in range(1, packet_bytes + 1):
                starts = np.arange(size + 1 - layer * width)
                gain = np.diff(quality[starts[:, None] + width * np.arange(layer + 1)]) @ known
                found = best[before, :packet_bytes + 1 - width, starts[0]:starts[-1] + 1] + gain
                there = (layer, slice(width, None), slice(layer * width, None))
                better = found > best[there]
                best[there] = np.where(better, found, best[there])
                last[there][better] = before, width
    layer, told = divmod(int(best[:, packet_bytes].argmax()), size + 1)
    needed, shares, given = list[int](), list[int](), packet_bytes
    while layer:
        before, width = last[layer, given, told].tolist()
        needed, shares = [layer, *needed], [width, *shares]
        layer, given, told = before, given - width, told - layer * width
    return tuple(needed), tuple(shares)


def _known(arrivals: np.ndarray, before: int, layer: int) -> np.ndarray:
    """float64 [layer]: P(the first r + 1 rows of a layer are known, and the one before it, of `before` rows, is solved)."""
    n = arrivals.size - 1
    counts, rows = np.arange(before, layer)[:, None], np.arange(layer)
    # the first r packets are among the m of n that arrived: (m / n) ((m - 1) / (n - 1)) ...
    in_a_row = np.cumprod(np.maximum(counts - rows, 0) / (n - rows), axis=1)
    return np.asarray(arrivals[layer:].sum() + arrivals[before:layer] @ in_a_row)
