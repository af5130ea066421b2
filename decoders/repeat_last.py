"""Hold the last token, as the oldest speech decoders did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Origin, Reconstruction, hard_decision


class RepeatLast(Decoder):
    """A gap becomes the last token received before it; a gap at the start the first token after it.

    If nothing arrived, all is LOST. Soft tokens take the hard decision of decoder `none` and then count as received; those that
    it gives up are part of a gap.
    No posterior. The confidence of a repeated token is (equal + 1/2) / (pairs + 1), where `equal` of the item's `pairs` of
    neighbouring received tokens are equal: an estimate for short gaps, too high for long ones.

    Source: D. J. Goodman et al., "Waveform substitution techniques for recovering missing speech segments in packet voice
    communications", IEEE Trans. Acoust., Speech, Signal Process. 34 (1986).
    """

    states_posterior: ClassVar[bool] = False

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        return [_repeat(hard_decision(one)) for one in evidence]


def _repeat(received: Reconstruction) -> Reconstruction:
    """Fill what is LOST in `received` from what is not."""
    lost = received.lost
    if lost.all():
        return received
    last = np.maximum.accumulate(np.where(lost, -1, np.arange(lost.size)))  # -1 before the first received token
    nearest = np.where(last < 0, np.argmin(lost), last)
    origin = np.where(lost, Origin.CONCEALED, received.origin).astype(np.uint8)
    confidence = np.where(lost, _persistence(received.values, ~lost), received.confidence).astype(np.float32)
    return Reconstruction(received.values[nearest], origin, confidence, received.vocab_size, received.grid)


def _persistence(values: np.ndarray, received: np.ndarray) -> float:
    """Fraction of neighbouring received tokens that are equal, smoothed by half a count."""
    pairs = received[1:] & received[:-1]
    equal = pairs & (values[1:] == values[:-1])
    return float((equal.sum() + 0.5) / (pairs.sum() + 1))
