"""The mean of what lies around a hole, in the space of the tokens' vectors: concealment without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Origin, Reconstruction, hard_decision


class NeighbourMean(Decoder):
    """A lost token becomes the mean of the vectors of those beside it on the grid, holes filled from their rim inwards.

    Beside are the next cells along the first two sides of the grid, four in a picture, two in a sequence; those that are known
    count alike. Where a cell has several tokens, first ones hear first ones alone, second ones second ones. Cells without such wait
    until the ones around them are filled, and then count these. The mean is the tokenizer's to take: `blend` says how much of each
    token value is in it. `values` are the weightiest value, of equals the smallest, for tokenizers without vectors. If nothing
    arrived, or no second tokens, say, all of these are LOST. Soft tokens take the hard decision of decoder `none` and then count as
    known. No posterior. The confidence of a filled token is (equal + 1/2) / (pairs + 1), where `equal` of the item's `pairs` of
    received tokens beside each other, first and second ones alike, are equal: an estimate for lone holes, too high for wide ones.

    Source: Y. Wang, Q.-F. Zhu, "Error control and concealment for video communication: a review", Proc. IEEE 86 (1998), on spatial
    interpolation from what surrounds a lost block; here in the space of vectors.
    """

    revision: ClassVar[int] = 2
    source: ClassVar[str] = "Y. Wang, Q.-F. Zhu, Proc. IEEE 86 (1998)"
    states_posterior: ClassVar[bool] = False

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        return [_filled(hard_decision(one)) for one in evidence]


def _filled(received: Reconstruction) -> Reconstruction:
    lost = received.lost
    if lost.all() or not lost.any():
        return received
    beside = places_beside(received.grid)
    weights = np.zeros((lost.size, received.vocab_size), np.float32)
    weights[np.flatnonzero(~lost), received.values[~lost]] = 1
    filled = ~lost
    there = (beside >= 0) & filled[beside]
    while (rim := np.flatnonzero(~filled & there.any(axis=1))).size:
        sums = np.add.reduce([weights[beside[rim, side]] * there[rim, side, None] for side in range(beside.shape[1])])
        weights[rim] = sums / there[rim].sum(axis=1, keepdims=True)
        filled[rim] = True
        there = (beside >= 0) & filled[beside]
    weights[~filled, 0] = 1  # read by nobody
    pairs = ((beside >= 0) & ~lost[beside])[~lost]
    equal = pairs & (received.values[beside] == received.values[:, None])[~lost]
    return replace(
        received,
        values=np.where(lost, weights.argmax(axis=1), received.values).astype(np.int32),
        origin=np.where(lost & filled, Origin.CONCEALED, received.origin).astype(np.uint8),
        confidence=np.where(lost & filled, (equal.sum() + 0.5) / (pairs.sum() + 1), received.confidence).astype(np.float32),
        blend=weights[received.origin != Origin.RECEIVED],
    )


def places_beside(grid: tuple[int, ...]) -> np.ndarray:
    """int64 [places, 2 or 4]: the flat places next to each along the first two sides; -1 = past the edge.

    A third side are the tokens of one cell, which are not beside each other.

    >>> places_beside((2, 3))[4].tolist()
    [1, -1, 3, 5]
    """
    ringed = np.pad(np.arange(np.prod(grid, dtype=np.int64)).reshape(grid), 1, constant_values=-1)
    inside = [slice(1, -1)] * len(grid)
    shifted = [ringed[(*inside[:axis], slice(1 + step, ringed.shape[axis] - 1 + step), *inside[axis + 1:])]
               for axis in range(min(2, len(grid))) for step in (-1, 1)]
    return np.stack([one.ravel() for one in shifted], axis=1)
