"""How much of every packet each part of a progressive stream should have, when packets are lost."""

from __future__ import annotations

import numpy as np

from channel_sim.checks import require


def best_layers(quality: np.ndarray, arrival: np.ndarray, packet_bytes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(needed, shares) of protection `priority` that make the mean quality over n packets of `packet_bytes` the highest.

    quality: float64 [>= n packet_bytes + 1], what the first b bytes of the stream are worth, on average over items
    arrival: float64 [n + 1], P(at least k of the n packets arrive), k = 0 to n: under one loss rate, or averaged over those that
             the sender thinks possible

    Exact for any quality, concave or not: dynamic programming over layers (by the packets that they need), bytes of a packet that
    are given away, and bytes of the stream that are in them. A quality that is linear in b has one layer, of the k of greatest
    k P(at least k arrive): what is gained by a prefix that survives more is lost by its being shorter.

    Source: the objective of A. E. Mohr, E. A. Riskin, R. E. Ladner, IEEE JSAC 18 (2000), section III; solved as by S. Dumitrescu,
    X. Wu, Z. Wang, "Globally optimal uneven error-protected packetization of scalable code streams", IEEE Trans. Multimedia 6
    (2004).
    """
    n, size = arrival.size - 1, (arrival.size - 1) * packet_bytes
    require(packet_bytes >= 1 and n >= 1, f"there must be packets and bytes in them, got {n} packets of {packet_bytes}")
    require(quality.size > size, f"quality must reach {size} bytes, those of {n} packets of {packet_bytes}, got {quality.size - 1}")
    best = np.full((packet_bytes + 1, size + 1), -np.inf)  # [bytes of a packet that are given, bytes of the stream in them]
    best[0, 0] = 0.0
    taken = np.zeros((n + 1, packet_bytes + 1, size + 1), np.bool_)
    for needed in range(1, n + 1):
        gain = arrival[needed] * (quality[needed:size + 1] - quality[:size + 1 - needed])
        for given in range(packet_bytes):
            with_one_more = best[given, :size + 1 - needed] + gain
            taken[needed, given + 1, needed:] = with_one_more > best[given + 1, needed:]
            best[given + 1, needed:] = np.maximum(best[given + 1, needed:], with_one_more)
    counts = np.zeros(n + 1, int)
    given, told, needed = packet_bytes, int(best[packet_bytes].argmax()), n
    while given:
        if taken[needed, given, told]:
            counts[needed] += 1
            given, told = given - 1, told - needed
        else:
            needed -= 1
    layers = np.flatnonzero(counts)
    return tuple(layers.tolist()), tuple(counts[layers].tolist())
