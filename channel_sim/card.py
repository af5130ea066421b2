"""The channel card: what the losses of one trial looked like, in a few counts that add up over trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit

from channel_sim.loss_law import NUM_LAGS

BURST_ENDS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128)
"""Longest burst of each bin of the histogram; one more bin holds the longer ones."""
SNR_STEP_DB = 2
LOWEST_SNR_DB, HIGHEST_SNR_DB = -60, 80
_LARGEST_SHORT = 8


@dataclass(frozen=True)
class Card:
    """Counts of one sequence of slots, in the order in which they were on the air.

    num_lost:   slots lost, of num_slots
    num_ends:   losses that an arrival follows: as many bursts came to an end
    joint:      pairs of losses at lags 1 to 8, of num_slots - lag pairs; a loss is followed by a slot joint[0] + num_ends times
    bursts:     runs of losses between two arrivals, by bins of their length (`BURST_ENDS`)
    longest:    longest run of losses, those included that the first or the last slot cuts
    snr:        (first bin, counts of fades): bin b holds SNRs in [2b, 2b + 2) dB; empty where there is no radio link
    lost:       the sequence itself, bool [num_slots], to be looked at; it is not kept on file
    """

    num_slots: int
    num_lost: int
    num_ends: int
    joint: tuple[int, ...]
    bursts: tuple[int, ...]
    longest: int
    snr: tuple[int, ...] = ()
    lost: np.ndarray | None = field(default=None, compare=False, repr=False)

    def to_list(self) -> list[Any]:
        """A short JSON value: zeros at the end of a list are left out, and all that no loss leaves."""
        if not self.num_lost:
            return [self.num_slots, list(self.snr)]
        counts = [self.num_slots, self.num_lost, self.num_ends, self.longest]
        return [*counts, _without_zeros(self.joint), _without_zeros(self.bursts), list(self.snr)]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Card:
        if len(values) == 2:
            return cls(values[0], 0, 0, (0,) * NUM_LAGS, (0,) * (len(BURST_ENDS) + 1), 0, tuple(values[1]))
        num_slots, num_lost, num_ends, longest, joint, bursts, snr = values
        return cls(num_slots, num_lost, num_ends, _padded(joint, NUM_LAGS), _padded(bursts, len(BURST_ENDS) + 1), longest,
                   tuple(snr))


def card_of(lost: np.ndarray, snr_db: np.ndarray | None = None) -> Card:
    """Count the losses bool [num_slots], and the fades' SNRs [num_fades] where there are any.

    >>> card = card_of(np.array([0, 1, 1, 0, 1, 0], bool))
    >>> card.num_lost, card.num_ends, card.joint[:3], card.bursts[:2], card.longest
    (3, 2, (1, 1, 1), (1, 1), 2)
    """
    counts = _count(np.ascontiguousarray(lost, np.bool_))
    numbers = counts.tolist()
    return Card(len(lost), numbers[0], numbers[1], tuple(numbers[3:3 + NUM_LAGS]), tuple(numbers[3 + NUM_LAGS:]), numbers[2],
                _histogram(snr_db), lost)


def burst_bin(length: int) -> int:
    """The bin of a burst of `length` slots."""
    return int(np.searchsorted(BURST_ENDS, length))


@njit(cache=True)
def _count(lost: np.ndarray) -> np.ndarray:
    """int64: lost, ends, longest, 8 joint counts, 13 bins of bursts."""
    counts = np.zeros(24, np.int64)
    begin = -1  # of the burst under way; 0 where its beginning was not seen
    run = 0
    for slot in range(lost.size):
        if lost[slot]:
            counts[0] += 1
            begin = slot if run == 0 else begin
            run += 1
            counts[2] = max(counts[2], run)
            for lag in range(1, min(_LARGEST_SHORT, slot) + 1):
                counts[2 + lag] += lost[slot - lag]
        elif run:
            counts[1] += 1
            if begin > 0:
                counts[11 + _bin(run)] += 1
            run = 0
    return counts


@njit(cache=True)
def _bin(length: int) -> int:
    if length <= _LARGEST_SHORT:
        return length - 1
    place, end = _LARGEST_SHORT, 2 * _LARGEST_SHORT
    while length > end and place < 12:
        place, end = place + 1, 2 * end
    return place


def _histogram(snr_db: np.ndarray | None) -> tuple[int, ...]:
    if snr_db is None or not snr_db.size:
        return ()
    bins = np.floor(np.clip(snr_db, LOWEST_SNR_DB, HIGHEST_SNR_DB) / SNR_STEP_DB + 1e-9).astype(np.int64)  # 2 dB may be 1.999…
    first = int(bins.min())
    return (first, *np.bincount(bins - first).tolist())


def _without_zeros(counts: tuple[int, ...]) -> list[int]:
    last = next((index for index in range(len(counts), 0, -1) if counts[index - 1]), 0)
    return list(counts[:last])


def _padded(counts: Sequence[int], length: int) -> tuple[int, ...]:
    return (*counts, *[0] * (length - len(counts)))
