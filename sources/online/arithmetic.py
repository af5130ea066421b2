"""Integer arithmetic of the online coder: logits and probabilities by table, probabilities that learn, histories of a context.

Nothing here is a floating-point number, so that two machines that have seen the same decisions hold the same bits.

Source: M. Mahoney, "Adaptive weighing of context models for lossless data compression", Florida Tech CS-2005-16 (2005): logistic
mixing, and contexts that are known by a short history of what followed them instead of by a probability.
"""

from __future__ import annotations

import numpy as np
from numba import njit

UNIT = 192  # of a logit: steps a nat
LIMIT = 2047  # the largest logit, in steps
ONE = 1 << 16  # probability 1 of a decision that is coded
_FRACTION_BITS = 96
_MOST_SEEN = 1023  # the 10 bits of a count
_LONGEST = {0: 40, 1: 20, 2: 10, 3: 6, 4: 5}  # the larger count of a history, by the smaller one


def _probabilities() -> np.ndarray:
    """int32 [2 LIMIT + 2]: 2^16 / (1 + exp(-x / UNIT)) of x = -LIMIT - 1 … LIMIT, rounded, by integers alone."""
    one = 1 << _FRACTION_BITS
    term, step, order = one, one, 0
    while term:
        order += 1
        term //= UNIT * order
        step += term
    table, odds = np.empty(2 * LIMIT + 2, np.int32), one
    for x in range(LIMIT + 1):
        table[LIMIT + 1 + x] = min((ONE * odds + (odds + one) // 2) // (odds + one), ONE - 1)
        odds = odds * step >> _FRACTION_BITS
    table[1:LIMIT + 1] = ONE - table[:LIMIT + 1:-1]
    table[0] = table[1]
    return table


SQUASH = _probabilities()
"""Logit, less -LIMIT - 1, to probability of 2^16."""
STRETCH = (np.searchsorted(SQUASH, np.arange(ONE)) - LIMIT - 1).clip(-LIMIT, LIMIT).astype(np.int32)
"""Probability of 2^16 to logit: the smallest that gives as much."""
PACE = np.array([2 * ONE // (2 * seen + 3) for seen in range(_MOST_SEEN + 1)], np.int32)
"""2^16 / (n + 3/2): how far the (n+1)th decision moves a probability."""


def _histories() -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [256, 2], int32 [256, 2]): the history after one more decision, and the counts of zeros and ones that it stands for.

    A history is two counts and which decision was the last. The more of one kind have come, the fewer of the other are
    remembered: what was seen last counts most. History 0 has seen nothing.
    """
    found = {(0, 0, 0): 0}
    waiting = [(0, 0, 0)]
    after = np.zeros((256, 2), np.uint8)
    counts = np.zeros((256, 2), np.int32)
    while waiting:
        state = waiting.pop(0)
        counts[found[state]] = state[:2]
        for decision in (0, 1):
            following = _followed(state[:2], decision)
            if following not in found:
                found[following] = len(found)
                waiting.append(following)
            after[found[state], decision] = found[following]
    assert len(found) <= 256
    return after, counts


def _followed(seen: tuple[int, ...], decision: int) -> tuple[int, int, int]:
    same, other = seen[decision] + 1, seen[1 - decision]
    other = other if other < 3 else min(4, (other + 4) // 3)
    same = min(same, _LONGEST[min(same, other)]) if same >= other else same
    zeros, ones = (same, other) if decision == 0 else (other, same)
    return zeros, ones, decision if zeros and ones else 0


AFTER, SEEN = _histories()
EXPECTED = ((2 * SEEN[:, 1] + 1) * (1 << 21) // (SEEN.sum(axis=1) + 1)).astype(np.uint32) << 10
"""What a history is first believed to mean: (ones + 1/2) / (all + 1), as a probability that has seen nothing."""
EVEN = np.uint32(1 << 31)
"""A probability of a half that has seen nothing: 22 bits of it, and 10 of how many decisions it has seen."""


@njit(cache=True, nogil=True)
def learned(word: int, decision: int, most_seen: int) -> int:
    """A probability after one more decision: the mean of all until it has seen `most_seen`, then an exponential one."""
    seen = word & 1023
    probability = word >> 10
    probability += (((decision << 22) - decision - probability) * PACE[seen]) >> 16
    return (probability << 10) | min(seen + 1, most_seen)


@njit(cache=True, nogil=True)
def logit(word: int) -> int:
    return STRETCH[word >> 16]


@njit(cache=True, nogil=True)
def squashed(x: int) -> int:
    return SQUASH[min(max(x, -LIMIT), LIMIT) + LIMIT + 1]
