"""Streams of the online coder: predict, code, learn, decision by decision; the same walk writes, reads and only learns.

The arithmetic coder lives inside the compiled loop, since each probability depends on the decision before it: two registers of 48
bits, probabilities of 16, no carries. Its streams are as long as the ideal code length and a byte or two.

Source: I. H. Witten, R. M. Neal, J. G. Cleary, "Arithmetic coding for data compression", Commun. ACM 30 (1987).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sources.online import contexts, mixing, rules
from sources.online.arithmetic import ONE, UNIT
from sources.online.learner import END_RULES, POSITION, Learner

REGISTER_BITS = 48
TOP = (1 << REGISTER_BITS) - 1
LEARN, WRITE, READ = range(3)
LOW, HIGH, NUM_BYTES, WINDOW = range(4)
"""Registers: the interval, bytes written or read past, and (reading) the 48 bits of the stream that lie in it."""


@njit(cache=True, nogil=True)
def walk(learner: Learner, mode: int, tokens: np.ndarray, registers: np.ndarray, octets: np.ndarray, limit: int,
         marks: np.ndarray, costs: np.ndarray) -> int:
    """Go through `tokens` int32: read from or written to `octets`; how many were settled, all of them but in a READ of a beginning.

    limit: READ: how many bits of the stream there are; -1: all, and zeros after them. WRITE: how many the sealed stream may have;
           -1: any number. The first token that is past it ends the walk, and has spoilt the learner
    marks: int64 [n, 3] or empty: WRITE: the registers after each token
    costs: float64 [n] or empty: ideal bits of each token, for the record
    """
    bits = learner.shape[0]
    group_bits = min(bits, 4)
    places = np.zeros(3, np.int64)
    for which in range(tokens.size):
        contexts.begin_token(learner)
        path, cost = 1, 0.0
        for depth in range(bits):
            if depth % group_bits == 0:
                contexts.begin_group(learner, path, group_bits)
                node = 1
            met = contexts.predict(learner, path, depth, node)
            trust = rules.predict(learner, depth)
            learner.inputs[END_RULES] = UNIT
            _choose(learner, path, depth, met, trust)
            output = mixing.mix(learner, path)
            one = mixing.refine(learner, output, path, places)
            if mode == READ:
                decision = _read(registers, octets, limit, one)
                if decision < 0:
                    return which
            else:
                decision = (tokens[which] >> (bits - 1 - depth)) & 1
                if mode == WRITE:
                    _write(registers, octets, one, decision)
            if costs.size:
                cost -= math.log2((one if decision else ONE - one) / ONE)
            mixing.learn(learner, path, mixing.squashed(output), decision)
            mixing.learn_refined(learner, places, decision)
            contexts.learn(learner, node, decision)
            rules.learn(learner, decision)
            node = 2 * node | decision
            path = 2 * path | decision
        token = path - (1 << bits)
        contexts.end_token(learner, token)
        tokens[which] = token
        if mode == WRITE and limit >= 0 and not _fits(registers, limit):
            return which
        if marks.size:
            for register in range(3):
                marks[which, register] = registers[register]
        if costs.size:
            costs[which] = cost
    return tokens.size


@njit(cache=True, nogil=True)
def _choose(learner: Learner, path: int, depth: int, met: int, trust: int) -> None:
    """Which weight set each mixer uses."""
    length = max(learner.match_state[0, 1], learner.match_state[1, 1])
    bucket = 0
    while length and bucket < 15:
        length >>= 1
        bucket += 1
    last = np.int64(learner.past[(learner.scalars[POSITION] - 1) & (learner.past.size - 1)])
    learner.chosen[0] = path & 1023
    learner.chosen[1] = last & 1023
    learner.chosen[2] = bucket * 16 + (depth & 15)
    learner.chosen[3] = met * 16 + (depth & 15)
    learner.chosen[4] = trust


@njit(cache=True, nogil=True)
def _narrow(registers: np.ndarray, one: int) -> int:
    """Where the interval parts: up to it lies decision 1."""
    return registers[LOW] + ((registers[HIGH] - registers[LOW]) >> 16) * one


@njit(cache=True, nogil=True)
def _write(registers: np.ndarray, octets: np.ndarray, one: int, decision: int) -> None:
    middle = _narrow(registers, one)
    if decision:
        registers[HIGH] = middle
    else:
        registers[LOW] = middle + 1
    while (registers[LOW] ^ registers[HIGH]) >> (REGISTER_BITS - 8) == 0:
        octets[registers[NUM_BYTES]] = registers[HIGH] >> (REGISTER_BITS - 8)
        registers[NUM_BYTES] += 1
        registers[LOW] = (registers[LOW] << 8) & TOP
        registers[HIGH] = (registers[HIGH] << 8) & TOP | 255


@njit(cache=True, nogil=True)
def _fits(registers: np.ndarray, most_bits: int) -> bool:
    """An interval of at least 2^-most_bits holds a number of most_bits bits, wherever it lies."""
    room = most_bits - 8 * registers[NUM_BYTES]
    return room >= REGISTER_BITS or (room >= 0 and (registers[HIGH] - registers[LOW] + 1) >> (REGISTER_BITS - room) > 0)


@njit(cache=True, nogil=True)
def _read(registers: np.ndarray, octets: np.ndarray, limit: int, one: int) -> int:
    """The next decision; -1 where the bits at hand do not settle it."""
    middle = _narrow(registers, one)
    window = registers[WINDOW]
    decision = int(window <= middle)
    if limit >= 0:
        missing = min(max(8 * registers[NUM_BYTES] + REGISTER_BITS - limit, 0), REGISTER_BITS)
        if np.int64((window | ((1 << missing) - 1)) <= middle) != decision:
            return -1
    if decision:
        registers[HIGH] = middle
    else:
        registers[LOW] = middle + 1
    while (registers[LOW] ^ registers[HIGH]) >> (REGISTER_BITS - 8) == 0:
        following = registers[NUM_BYTES] + REGISTER_BITS // 8
        registers[NUM_BYTES] += 1
        registers[LOW] = (registers[LOW] << 8) & TOP
        registers[HIGH] = (registers[HIGH] << 8) & TOP | 255
        window = (window << 8) & TOP | (np.int64(octets[following]) if following < octets.size else 0)
        registers[WINDOW] = window
    return decision
