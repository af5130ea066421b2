"""Rules of few distant decisions: what the next one is to the parity of up to three of the last 64.

No count of what followed a context finds such a rule: where the lags are far apart, no context of them all is ever met again.
All 43,744 sets of up to three lags are tried on the last 2,048 decisions, at decisions 512, 1,024, … and then every 32,768; the
sets that the decisions depend on most, at least by a correlation of .15, become rules. Each predicts twice: from the decisions as
they came (an open loop), and from its own predictions (a closed loop), which goes on undisturbed where the decisions are a law seen
through noise; that one starts anew from the decisions whenever it has been wrong too often.

Parities of few lags are the low orders of the Walsh transform: a function of up to three decisions has a component there.

Source: R. O'Donnell, "Analysis of Boolean Functions", Cambridge University Press (2014), section 3.5 (learning sparse spectra);
W. Meier, O. Staffelbach, "Fast correlation attacks on certain stream ciphers", J. Cryptology 1 (1989), for laws seen through noise.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sources.online.arithmetic import EVEN, STRETCH, learned
from sources.online.contexts import END
from sources.online.learner import DECISIONS, NUM_RULES, PAST_BITS, RULE_LAGS, RULE_WINDOW, Learner

MASK, SIGN, OPEN_HITS, LOOP, LOOP_HITS, LOOP_AGE = range(6)
"""Columns of a rule: its lags as bits (0: none), the parity's sign, the last 64 successes, the closed loop's bits, its successes,
and how many decisions ago it started."""
_SCREEN = 4  # words that a set must stand out in before all are looked at
_FIRST_SEARCH, _SEARCH_EVERY = 512, 32768
_LEAST_PERCENT = 15  # correlation
_CANDIDATES = 8
_LIMIT = 1000


@njit(cache=True, nogil=True)
def ones(bits: int) -> int:
    """How many of 64 bits are 1."""
    bits = bits - ((bits >> 1) & 0x5555555555555555)
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333)
    bits = (bits + ((bits >> 4) & 0x0FFFFFFFFFFFFFFF)) & 0x0F0F0F0F0F0F0F0F
    return ((bits * 0x0101010101010101) >> 56) & 0x7F


@njit(cache=True, nogil=True)
def predict(learner: Learner, depth: int) -> int:
    """Fill in the inputs; 0 to 255, how far the first rule is to be trusted."""
    rules, past, trust = learner.rules, learner.scalars[PAST_BITS], 0
    for which in range(NUM_RULES):
        place = END + 2 * which
        learner.inputs[place] = 0
        learner.inputs[place + 1] = 0
        if rules[which, MASK] == 0:
            continue
        said = (ones(past & rules[which, MASK]) & 1) ^ rules[which, SIGN]
        hits = ones(rules[which, OPEN_HITS])
        learner.signs[place] = 2 * said - 1
        learner.slots[place] = (hits >> 3) * 7 + min(depth, 6)
        learner.inputs[place] = learner.signs[place] * STRETCH[learner.rule_meanings[which, 0, learner.slots[place]] >> 16]
        loop_said = (ones(rules[which, LOOP] & rules[which, MASK]) & 1) ^ rules[which, SIGN]
        loop_hits = ones(rules[which, LOOP_HITS])
        learner.signs[place + 1] = 2 * loop_said - 1
        learner.slots[place + 1] = max(loop_hits - 32, 0) if rules[which, LOOP_AGE] >= 64 else 40 + rules[which, LOOP_AGE] // 16
        learner.inputs[place + 1] = learner.signs[place + 1] * STRETCH[
            learner.rule_meanings[which, 1, learner.slots[place + 1]] >> 16]
        if which == 0:
            trust = (hits >> 2) * 8 + min(max(loop_hits - 32, 0) >> 2, 7)
    return min(trust, 255)


@njit(cache=True, nogil=True)
def learn(learner: Learner, decision: int) -> None:
    """One more decision."""
    rules, scalars = learner.rules, learner.scalars
    for which in range(NUM_RULES):
        if rules[which, MASK]:
            _learn_rule(learner, which, decision)
    count = scalars[DECISIONS]
    learner.decisions[count & (2 * RULE_WINDOW - 1)] = decision
    scalars[PAST_BITS] = (scalars[PAST_BITS] << 1) | decision
    scalars[DECISIONS] = count + 1
    count += 1
    if count >= _FIRST_SEARCH and (count % _SEARCH_EVERY == 0 or (count < _SEARCH_EVERY and count & (count - 1) == 0)):
        search(learner)


@njit(cache=True, nogil=True)
def _learn_rule(learner: Learner, which: int, decision: int) -> None:
    rules, meanings, place = learner.rules, learner.rule_meanings, END + 2 * which
    right = np.int64(learner.signs[place] == 2 * decision - 1)
    slot = learner.slots[place]
    meanings[which, 0, slot] = learned(np.int64(meanings[which, 0, slot]), right, _LIMIT)
    rules[which, OPEN_HITS] = rules[which, OPEN_HITS] << 1 | right
    loop_right = np.int64(learner.signs[place + 1] == 2 * decision - 1)
    slot = learner.slots[place + 1]
    meanings[which, 1, slot] = learned(np.int64(meanings[which, 1, slot]), loop_right, _LIMIT)
    rules[which, LOOP_HITS] = rules[which, LOOP_HITS] << 1 | loop_right
    rules[which, LOOP] = rules[which, LOOP] << 1 | ((learner.signs[place + 1] + 1) >> 1)
    rules[which, LOOP_AGE] += 1
    age = min(rules[which, LOOP_AGE], 64)
    recent = ones(rules[which, LOOP_HITS] & ((1 << age) - 1 if age < 64 else -1))
    if age >= 24 and 10 * recent < 7 * age:
        rules[which, LOOP] = learner.scalars[PAST_BITS] << 1 | decision
        rules[which, LOOP_AGE] = 0


@njit(cache=True, nogil=True)
def search(learner: Learner) -> None:
    """Try all sets of up to three lags on the last decisions; keep the rules that still hold, and add the best of the others."""
    words = min(RULE_WINDOW, learner.scalars[DECISIONS] - RULE_LAGS) // 64
    columns = _columns(learner, words)
    for which in range(NUM_RULES):
        mask = learner.rules[which, MASK]
        if mask and abs(_correlation(columns, mask)) < _least(words):
            learner.rules[which, MASK] = 0
    best, found = np.zeros(_CANDIDATES, np.int64), np.zeros(_CANDIDATES, np.int64)
    pair = np.zeros(words, np.int64)
    for first in range(1, RULE_LAGS + 1):
        for second in range(first + 1, RULE_LAGS + 2):
            for word in range(words):
                pair[word] = columns[0, word] ^ columns[first, word] ^ columns[second, word]
            for third in range(second + (second <= RULE_LAGS), RULE_LAGS + 2):
                _weigh(columns, pair, (first, second, third), best, found)
    for entry in range(_CANDIDATES):
        if found[entry]:
            _adopt(learner, found[entry], _correlation(columns, found[entry]) < 0)


@njit(cache=True, nogil=True)
def _columns(learner: Learner, words: int) -> np.ndarray:
    """int64 [RULE_LAGS + 2, words]: the last decisions, the same as they stood 1, 2, … decisions earlier, and a row of zeros."""
    columns = np.zeros((RULE_LAGS + 2, words), np.int64)
    count, ring = learner.scalars[DECISIONS], learner.decisions.size - 1
    for lag in range(RULE_LAGS + 1):
        for place in range(64 * words):
            bit = np.int64(learner.decisions[(count - 64 * words + place - lag) & ring])
            columns[lag, place >> 6] |= bit << (place & 63)
    return columns


@njit(cache=True, nogil=True)
def _least(words: int) -> int:
    return 64 * words * _LEAST_PERCENT // 100


@njit(cache=True, nogil=True)
def _correlation(columns: np.ndarray, mask: int) -> int:
    """How much oftener the decision is the parity of these lags than it is not."""
    balance = 0
    for word in range(columns.shape[1]):
        disagreements = columns[0, word]
        for lag in range(1, RULE_LAGS + 1):
            if (mask >> (lag - 1)) & 1:
                disagreements ^= columns[lag, word]
        balance += 64 - 2 * ones(disagreements)
    return balance


@njit(cache=True, nogil=True)
def _weigh(columns: np.ndarray, pair: np.ndarray, lags: tuple[int, int, int], best: np.ndarray, found: np.ndarray) -> None:
    """Enter a set of lags among the best, if it is one of them; of equals, the one of fewer lags."""
    words, screen, balance = pair.size, min(_SCREEN, pair.size), 0
    for word in range(screen):
        balance += 32 - ones(pair[word] ^ columns[lags[2], word])
    if 2 * abs(balance) < _least(screen):
        return
    for word in range(screen, words):
        balance += 32 - ones(pair[word] ^ columns[lags[2], word])
    if 2 * abs(balance) < _least(words):
        return
    score, mask = 8 * abs(balance), 0
    for lag in lags:
        if lag <= RULE_LAGS:
            mask |= 1 << (lag - 1)
            score -= 1
    place = _CANDIDATES
    while place and best[place - 1] < score:
        place -= 1
    for later in range(_CANDIDATES - 1, place, -1):
        best[later], found[later] = best[later - 1], found[later - 1]
    if place < _CANDIDATES:
        best[place], found[place] = score, mask


@njit(cache=True, nogil=True)
def _adopt(learner: Learner, mask: int, sign: int) -> None:
    """Make a rule of these lags, if it is none yet and there is room."""
    free = -1
    for which in range(NUM_RULES - 1, -1, -1):
        if learner.rules[which, MASK] == mask:
            return
        if learner.rules[which, MASK] == 0:
            free = which
    if free >= 0:
        rule = learner.rules[free]
        rule[MASK], rule[SIGN], rule[OPEN_HITS] = mask, sign, 0
        rule[LOOP], rule[LOOP_HITS], rule[LOOP_AGE] = learner.scalars[PAST_BITS], 0, 0
        for slot in range(learner.rule_meanings.shape[2]):
            learner.rule_meanings[free, 0, slot] = EVEN
            learner.rule_meanings[free, 1, slot] = EVEN
