"""Damaged packets of an entropy coder: which errors are likely, and how much of what they decode to is worth keeping.

After the first wrong bit a range decoder turns out tokens drawn from the model itself, since wrong bits are as uniform as
right ones: their surprise under that model is just as large as it should be, and it cannot tell them from text. What tells is

    the channel:  reliabilities of the bits, and the CRC
    the stream:   tokens sealed again must give the bits that were received
    a judge:      another model, or the same one that sees more of the text around; what it expects better than the model is text

Source: C. Guillemot, P. Siohan, "Joint source-channel decoding of variable-length codes with soft information: a survey",
EURASIP J. Appl. Signal Process. (2005); the order of flips: A. Solomon, K. R. Duffy, M. Médard, "Soft maximum likelihood
decoding using GRAND", arXiv 2001.00546 (2020); how sure a fit is: P. Yuan, M. Médard, K. Galligan, K. R. Duffy, "Soft-output
(SO) GRAND and iterative decoding to outperform LDPCs", arXiv 2310.10737 (2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice
from typing import NamedTuple

import numpy as np

from channel_sim.crc import crc_of_flips
from channel_sim.types import CERTAIN_LLR, Reception


class Flips(NamedTuple):
    """Places of bits, the sum of their reliabilities, and the exclusive or of their marks."""

    places: list[int]
    reliability: float
    mark: int


def likely_flips(reliability: np.ndarray, marks: np.ndarray) -> Iterator[Flips]:
    """Sets of places of float64 [n] and int64 [n], by rising reliability, the empty set first; of equals, few and early places."""
    order = np.argsort(reliability, kind="stable")
    places, single, mark = order.tolist(), reliability[order].tolist(), marks[order].tolist()
    waiting: list[tuple[float, int, tuple[int, ...], int]] = [(0.0, 0, (), 0)]
    while waiting:
        total, size, ranks, marked = heappop(waiting)
        yield Flips([places[rank] for rank in ranks], total, marked)
        after = ranks[-1] + 1 if ranks else 0
        if after < len(places):
            # every set has one parent: its last place one rank down, or, where that is taken, left out
            heappush(waiting, (total + single[after], size + 1, (*ranks, after), marked ^ mark[after]))
            if ranks:
                swapped = total - single[after - 1] + single[after]
                heappush(waiting, (swapped, size, (*ranks[:-1], after), marked ^ mark[after - 1] ^ mark[after]))


@dataclass(frozen=True, eq=False)
class Damage:
    """What the channel alone says of the errors in the payload of one packet, uint8 [n] as decided.

    repairs:     the payloads that pass the CRC, most probable first, out of the `list_size` most probable error patterns
    log_weights: float64 [len(repairs)], ln of their probabilities
    first_wrong: float64 [len(repairs)], the first bit in which each differs from what was decided; n = none
    elsewhere:   float64 [n + 1], the probability that the errors are none of those patterns, pass the CRC and begin with bit j;
                 n = none is in the payload. Errors past the list are taken to pass it with probability 2^-(its bits).

    Bits are taken to be wrong independently with 1 / (1 + e^|LLR|): so they are on memoryless links, and not past a code, where the
    errors of a block come together. Bits that are all called certain, and fail the CRC, are taken to be wrong once a packet each.
    """

    decided: np.ndarray
    repairs: list[np.ndarray]
    log_weights: np.ndarray
    first_wrong: np.ndarray
    elsewhere: np.ndarray

    @staticmethod
    def of(reception: Reception, slot: int, list_size: int) -> Damage:
        """Of a packet that arrived."""
        checks = reception.checks
        num_bits = reception.llr.shape[1] if checks is None else int(checks.num_bits[slot])
        name = "none" if checks is None else checks.crc
        llr = np.concatenate([reception.llr[slot, :num_bits], *([] if checks is None else [checks.llr[slot]])]).astype(np.float64)
        wrong = (llr > 0).astype(np.int64)
        reliability = np.abs(llr)
        if np.all(reliability >= CERTAIN_LLR):
            reliability = np.full(llr.size, np.log(max(llr.size, 2)))
        remainders = crc_of_flips(num_bits, name)
        must_be = int(np.bitwise_xor.reduce(remainders[wrong > 0], initial=0))
        flips = list(islice(likely_flips(reliability, remainders), list_size))
        passed = [one.mark == must_be for one in flips]
        intact = -np.log1p(np.exp(-reliability))  # ln P(right) of each bit
        log_weights = intact.sum() - np.array([one.reliability for one in flips])
        first = np.array([min(one.places, default=num_bits) for one in flips]).clip(max=num_bits)
        return Damage(
            decided=wrong[:num_bits].astype(np.uint8),
            repairs=[_flipped(wrong[:num_bits], one.places) for one, fits in zip(flips, passed, strict=True) if fits],
            log_weights=log_weights[passed],
            first_wrong=first[passed],
            elsewhere=_elsewhere(reliability, intact, num_bits, first, log_weights) * 2.0 ** (num_bits - llr.size),
        )

    def verdict(self, gains: np.ndarray, settled: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64 [len(repairs)], how probable each repair is; float64 [tokens], that each token as decided is right.

        gains:   float64 [len(repairs)], ln p(tokens | text) / p(tokens | model) of each repair; -inf: no stream that is ever sent
        settled: int64 [tokens], the bits that settle each token of the payload as decided
        gain:    float64 [tokens + 1], the same ratio over the first 0, 1, … of them; past the first wrong bit it is 1, as tokens
                 there are drawn from the model
        """
        of_repairs = self.log_weights + gains
        with np.errstate(divide="ignore"):
            of_bits = np.log(self.elsewhere) + gain[np.searchsorted(settled, np.arange(self.elsewhere.size), side="right")]
        top = max(of_repairs.max(initial=-np.inf), of_bits.max())
        if top == -np.inf:
            return np.zeros(of_repairs.size), np.zeros(settled.size)
        weights, by_bit = np.exp(of_repairs - top), np.exp(of_bits - top)
        total = weights.sum() + by_bit.sum()
        np.add.at(by_bit, self.first_wrong, weights)
        right = np.append(by_bit[::-1].cumsum()[::-1], 0.0)  # by how many bits at least are right
        return weights / total, right[np.minimum(settled, by_bit.size)] / total


def _flipped(bits: np.ndarray, places: Sequence[int]) -> np.ndarray:
    flipped = bits.astype(np.uint8)
    flipped[[place for place in places if place < bits.size]] ^= 1
    return flipped


def _elsewhere(reliability: np.ndarray, intact: np.ndarray, num_bits: int, first: np.ndarray,
               log_weights: np.ndarray) -> np.ndarray:
    """float64 [num_bits + 1]: P(the first wrong bit of the payload is j), less the patterns that are listed."""
    before = np.concatenate([[0.0], np.cumsum(intact[:num_bits])])
    begins = np.exp(before + np.append(intact[:num_bits] - reliability[:num_bits], 0.0))
    left = begins - np.bincount(first, np.exp(log_weights), minlength=num_bits + 1)
    return np.where(left > 1e-9 * begins, left, 0.0)  # less is rounding
