"""What has been seen before in the same place: contexts of the online coder, and what their counts say of the next decision."""

from __future__ import annotations

import numpy as np
from numba import njit

from sources.online.arithmetic import AFTER, EVEN, SEEN, STRETCH, learned
from sources.online.learner import (
    HIGHEST_ORDER,
    HISTORY_ORDERS,
    LAST_WORD,
    MATCH_ORDERS,
    MEAN_ORDERS,
    NUM_HISTORIES,
    POSITION,
    RUN_ORDERS,
    SKIPS,
    WORD,
    Learner,
)

_ORDERS = np.array(HISTORY_ORDERS)
_MEANS = np.array(MEAN_ORDERS)
_RUNS = np.array(RUN_ORDERS)
_MATCHES = np.array(MATCH_ORDERS)
_SKIPS = np.array([(*skip, 0)[:2] for skip in SKIPS])
_FIRST_HISTORY, _FIRST_MEAN = 0, NUM_HISTORIES
_FIRST_RUN = _FIRST_MEAN + len(MEAN_ORDERS)
_FIRST_MATCH = _FIRST_RUN + len(RUN_ORDERS)
END = _FIRST_MATCH + len(MATCH_ORDERS)
"""The first input that is not of this page."""
_PRIORITY = SEEN.sum(axis=1).astype(np.int32)
_LONGEST_MATCH = 400
_HISTORY_LIMIT, _MEAN_LIMIT, _SIDE_LIMIT = 255, 1000, 255


@njit(cache=True, nogil=True)
def mixed(number: int, more: int) -> int:
    """A hash of two numbers; all 64 bits of it count."""
    number = (number + more + 1) * 0x2545F4914F6CDD1D
    return number ^ ((number >> 29) & 0x7FFFFFFFF)


@njit(cache=True, nogil=True)
def begin_token(learner: Learner) -> None:
    """Find the contexts of the next token."""
    past, scalars, contexts = learner.past, learner.scalars, learner.contexts
    position, ring = scalars[POSITION], learner.past.size - 1
    number = 0
    for lag in range(1, HIGHEST_ORDER + 1):
        number = mixed(number, past[(position - lag) & ring] if lag <= position else -1)
        contexts[lag] = number
    first = HIGHEST_ORDER + 1
    for which in range(_ORDERS.size):
        contexts[first + which] = mixed(contexts[_ORDERS[which]], which << 20)
    first += _ORDERS.size
    contexts[first] = mixed(mixed(scalars[WORD], 77), contexts[0])
    contexts[first + 1] = mixed(mixed(scalars[WORD], scalars[LAST_WORD]), 78)
    for which in range(_SKIPS.shape[0]):
        number = 1000 + which
        for lag in _SKIPS[which]:
            if lag:
                number = mixed(number, past[(position - lag) & ring])
        contexts[first + 2 + which] = mixed(number, 79)
    above = past[(position - learner.shape[1]) & ring]
    contexts[first + 2 + _SKIPS.shape[0]] = mixed(above, 2001)
    contexts[first + 3 + _SKIPS.shape[0]] = mixed(mixed(above, 2002), past[(position - 1) & ring])
    for which in range(_RUNS.size):
        slot = contexts[_RUNS[which]] & (learner.runs.shape[1] - 1)
        check = (contexts[_RUNS[which]] >> 40) & 0xFFFF
        if (learner.runs[which, slot] >> 40) & 0xFFFF != check:
            learner.runs[which, slot] = check << 40
        learner.run_slots[which] = slot
    for which in range(_MATCHES.size):
        _find_match(learner, which)


@njit(cache=True, nogil=True)
def _find_match(learner: Learner, which: int) -> None:
    past, ring, position = learner.past, learner.past.size - 1, learner.scalars[POSITION]
    slot = learner.contexts[_MATCHES[which]] & (learner.matches.shape[1] - 1)
    if learner.match_state[which, 1] == 0:
        found = learner.matches[which, slot]
        length = 0
        if found:
            while length < 32 and length < found and past[(found - 1 - length) & ring] == past[(position - 1 - length) & ring]:
                length += 1
        learner.match_state[which, 0] = found
        learner.match_state[which, 1] = length if length >= _MATCHES[which] else 0
    learner.matches[which, slot] = position


@njit(cache=True, nogil=True)
def end_token(learner: Learner, token: int) -> None:
    """Remember what followed the contexts of this token."""
    past, scalars = learner.past, learner.scalars
    ring, position = past.size - 1, scalars[POSITION]
    for which in range(_RUNS.size):
        entry = learner.runs[which, learner.run_slots[which]]
        length = (entry >> 32) & 0xFF
        same = (entry & 0xFFFFFFFF) == token
        length = min(length + 1, 255) if same or length == 0 else 1
        learner.runs[which, learner.run_slots[which]] = (entry >> 40) << 40 | length << 32 | token
    for which in range(_MATCHES.size):
        if learner.match_state[which, 1]:
            same = past[learner.match_state[which, 0] & ring] == token
            learner.match_state[which, 1] = min(learner.match_state[which, 1] + 1, 65535) if same else 0
            learner.match_state[which, 0] += 1
    past[position & ring] = token
    scalars[POSITION] = position + 1
    if learner.shape[0] == 8:
        letter = token | 32
        if (97 <= letter <= 122) or token >= 128:
            scalars[WORD] = mixed(scalars[WORD], letter)
        elif scalars[WORD]:
            scalars[LAST_WORD], scalars[WORD] = scalars[WORD], 0


@njit(cache=True, nogil=True)
def _history_bucket(table: np.ndarray, number: int, group: int) -> int:
    """The bucket of a context in one of three places, or the one of them that knows least, emptied."""
    mask = (table.size >> group) - 1
    check = ((number >> 45) & 0xFF) | 1
    place = (number >> 8) & mask
    worst, least = 0, 1 << 30
    for step in range(3):
        base = (place ^ step) << group
        if table[base] == check:
            return base
        priority = _PRIORITY[table[base + 1]] if table[base] else -1
        if priority < least:
            worst, least = base, priority
    table[worst] = check
    for entry in range(1, 1 << group):
        table[worst + entry] = 0
    return worst


@njit(cache=True, nogil=True)
def _mean_bucket(table: np.ndarray, number: int, group: int) -> int:
    mask = (table.size >> group) - 1
    check = np.uint32(((number >> 30) & 0xFFFFFFFF) | 1)
    place = (number >> 8) & mask
    worst, least = 0, 1 << 30
    for step in range(3):
        base = (place ^ step) << group
        if table[base] == check:
            return base
        priority = int(table[base + 1]) & 1023
        if priority < least:
            worst, least = base, priority
    table[worst] = check
    for entry in range(1, 1 << group):
        table[worst + entry] = EVEN
    return worst


@njit(cache=True, nogil=True)
def begin_group(learner: Learner, path: int, group: int) -> None:
    """Find the buckets of the next `group` decisions; `path` is a one and the decisions of this token so far."""
    for which in range(NUM_HISTORIES):
        number = mixed(learner.contexts[HIGHEST_ORDER + 1 + which], path)
        learner.bases[which] = _history_bucket(learner.histories, number, group)
    for which in range(_MEANS.size):
        number = mixed(mixed(learner.contexts[_MEANS[which]], 5000 + which), path)
        learner.mean_bases[which] = _mean_bucket(learner.means, number, group)


@njit(cache=True, nogil=True)
def predict(learner: Learner, path: int, depth: int, node: int) -> int:
    """Fill in the inputs; how many of the histories have seen this before."""
    inputs, slots, signs = learner.inputs, learner.slots, learner.signs
    met = 0
    for which in range(NUM_HISTORIES):
        history = np.int64(learner.histories[learner.bases[which] + node])
        met += history != 0
        inputs[which] = STRETCH[learner.meanings[which, history] >> 16] if history else 0
    for which in range(_MEANS.size):
        word = learner.means[learner.mean_bases[which] + node]
        inputs[_FIRST_MEAN + which] = STRETCH[word >> 16]
    bits = learner.shape[0]
    for which in range(_RUNS.size):
        entry = learner.runs[which, learner.run_slots[which]]
        length = (entry >> 32) & 0xFF
        _expect(learner, _FIRST_RUN + which, entry & 0xFFFFFFFF, min(length, 15), path, depth, bits)
        if signs[_FIRST_RUN + which]:
            inputs[_FIRST_RUN + which] = signs[_FIRST_RUN + which] * STRETCH[
                learner.run_meanings[which, slots[_FIRST_RUN + which]] >> 16]
    for which in range(_MATCHES.size):
        length = learner.match_state[which, 1]
        bucket = min(length, 15) if length < 16 else min(16 + (length >> 4), 31)
        token = np.int64(learner.past[learner.match_state[which, 0] & (learner.past.size - 1)])
        _expect(learner, _FIRST_MATCH + which, token, bucket, path, depth, bits)
        if signs[_FIRST_MATCH + which]:
            inputs[_FIRST_MATCH + which] = signs[_FIRST_MATCH + which] * STRETCH[
                learner.match_meanings[which, slots[_FIRST_MATCH + which]] >> 16]
    return met


@njit(cache=True, nogil=True)
def _expect(learner: Learner, place: int, token: int, length: int, path: int, depth: int, bits: int) -> None:
    """A context that expects `token`: which decision that means, and where it is kept what that is worth."""
    learner.inputs[place] = 0
    learner.signs[place] = 0
    if length and ((token | (1 << bits)) >> (bits - depth)) == path:
        learner.signs[place] = 2 * ((token >> (bits - 1 - depth)) & 1) - 1
        learner.slots[place] = length * 8 + min(depth, 7)


@njit(cache=True, nogil=True)
def learn(learner: Learner, node: int, decision: int) -> None:
    """One more decision."""
    for which in range(NUM_HISTORIES):
        place = learner.bases[which] + node
        history = learner.histories[place]
        if history:
            learner.meanings[which, history] = learned(np.int64(learner.meanings[which, history]), decision, _HISTORY_LIMIT)
        learner.histories[place] = AFTER[history, decision]
    for which in range(_MEANS.size):
        place = learner.mean_bases[which] + node
        learner.means[place] = learned(np.int64(learner.means[place]), decision, _MEAN_LIMIT)
    for which in range(_RUNS.size):
        _learn_side(learner, learner.run_meanings, which, _FIRST_RUN + which, decision)
    for which in range(_MATCHES.size):
        _learn_side(learner, learner.match_meanings, which, _FIRST_MATCH + which, decision)


@njit(cache=True, nogil=True)
def _learn_side(learner: Learner, meanings: np.ndarray, which: int, place: int, decision: int) -> None:
    if learner.signs[place]:
        right = np.int64(2 * decision - 1 == learner.signs[place])
        slot = learner.slots[place]
        meanings[which, slot] = learned(np.int64(meanings[which, slot]), right, _SIDE_LIMIT)
