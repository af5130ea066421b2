"""What the online coder has learned so far: every table of it, all of integers, made for a stream of a stated length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sources.online.arithmetic import EVEN, EXPECTED, LIMIT, ONE, SQUASH

HISTORY_ORDERS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
MEAN_ORDERS = (0, 1, 2, 3, 4, 6, 8, 11, 16)
RUN_ORDERS = (7, 10, 14, 18, 24)
MATCH_ORDERS = (6, 12, 24)
HIGHEST_ORDER = 24
SKIPS = ((2,), (2, 3), (3, 4), (1, 3))
NUM_HISTORIES = len(HISTORY_ORDERS) + 2 + len(SKIPS) + 2
NUM_RULES, RULE_LAGS, RULE_WINDOW = 4, 64, 2048
NUM_INPUTS = NUM_HISTORIES + len(MEAN_ORDERS) + len(RUN_ORDERS) + len(MATCH_ORDERS) + 2 * NUM_RULES + 1
MIXER_SIZES = (1024, 1024, 256, 512, 256)
"""Weight sets of each mixer: chosen by the decisions of this token, the last token, the match, what is new, and the rules."""
END_RULES = NUM_INPUTS - 1
"""The input that is always the same."""
NUM_MIXERS = len(MIXER_SIZES)
MOST_TOKENS = 1 << 22  # remembered for matches
_MOST_HISTORIES, _MOST_MEANS, _MOST_RUNS, _MOST_MATCHES = 25, 22, 20, 20  # powers of two: 32, 16, 8 x 1 and 3 x 4 MB

_FIRST_WEIGHT = 3 * ONE // 32  # so little that inputs which agree do not shout: the first 4 kB of text cost 5 % less than with 1/4
_EXPECTED_FOR = np.uint32(12)  # decisions that what a history is first believed to mean is worth
_UNREFINED = (SQUASH[(np.arange(33) * 128).clip(1, 2 * LIMIT + 1)].astype(np.uint32) << 16) | 6

POSITION, DECISIONS, PAST_BITS, WORD, LAST_WORD, NEWEST_RULE = range(6)
NUM_SCALARS = 8


class Learner(NamedTuple):
    """All that the next probability depends on, as it stands between two tokens.

    shape:     int64 [2]: bits of a token, tokens of a row
    scalars:   int64: where the stream stands, and the registers that go with it
    past:      int32, a ring of the last tokens
    decisions: uint8, a ring of the last binary decisions, the newest at `DECISIONS` - 1
    histories, meanings: a context's history (uint8, in buckets of 2^group), and uint32 [contexts, 256] what each history means
    means:     uint32, a context's probability itself, in buckets of 2^group
    runs, run_meanings: int64, the token that last followed a context and how often in a row, and what that is worth
    matches, match_state, match_meanings: int32 [3, n] where a context last ended; int64 [3, 2] where each match goes on, and its
               length; what such a length is worth
    rules:     int64 [rules, 6], see `sources.online.rules`; rule_meanings: uint32, what their predictions are worth
    contexts, bases, mean_bases, run_slots: int64, the places of this token's contexts, found anew for each
    inputs:    int32 [inputs]; slots, signs: where each came from
    weights:   int32 [sets, inputs] of all mixers, final_weights int32 [1024, mixers]; chosen: int64 the sets of this decision
    outputs:   int32 [mixers], their logits; refinements: uint32 [2, contexts, 33], what the final probability turned out to mean
    """

    shape: np.ndarray
    scalars: np.ndarray
    past: np.ndarray
    decisions: np.ndarray
    histories: np.ndarray
    meanings: np.ndarray
    means: np.ndarray
    runs: np.ndarray
    run_meanings: np.ndarray
    matches: np.ndarray
    match_state: np.ndarray
    match_meanings: np.ndarray
    rules: np.ndarray
    rule_meanings: np.ndarray
    contexts: np.ndarray
    bases: np.ndarray
    mean_bases: np.ndarray
    run_slots: np.ndarray
    inputs: np.ndarray
    slots: np.ndarray
    signs: np.ndarray
    weights: np.ndarray
    final_weights: np.ndarray
    chosen: np.ndarray
    outputs: np.ndarray
    refinements: np.ndarray


def fresh(num_tokens: int, token_bits: int, row: int) -> Learner:
    """A learner that has seen nothing, for a stream of up to `num_tokens` tokens in rows of `row`."""
    group = min(token_bits, 4)
    buckets = max(num_tokens, 256) * -(-token_bits // group)

    def size(entries: int, most_bits: int) -> int:
        return 1 << min((entries - 1).bit_length(), most_bits)

    matches = size(max(num_tokens, 256), _MOST_MATCHES)
    return Learner(
        shape=np.array([token_bits, row]),
        scalars=np.zeros(NUM_SCALARS, np.int64),
        past=np.zeros(size(max(num_tokens, 64), MOST_TOKENS.bit_length() - 1), np.int32),
        decisions=np.zeros(2 * RULE_WINDOW, np.uint8),
        histories=np.zeros(size(8 * buckets << group, _MOST_HISTORIES), np.uint8),
        meanings=np.tile(EXPECTED | _EXPECTED_FOR, (NUM_HISTORIES, 1)),
        means=np.full(size(4 * buckets << group, _MOST_MEANS), EVEN, np.uint32),
        runs=np.zeros((len(RUN_ORDERS), size(max(num_tokens, 256), _MOST_RUNS - 2)), np.int64),
        run_meanings=np.full((len(RUN_ORDERS), 16 * 8), 3 << 30, np.uint32),
        matches=np.zeros((len(MATCH_ORDERS), matches), np.int32),
        match_state=np.zeros((len(MATCH_ORDERS), 2), np.int64),
        match_meanings=np.full((len(MATCH_ORDERS), 32 * 8), 3 << 30, np.uint32),
        rules=np.zeros((NUM_RULES, 6), np.int64),
        rule_meanings=np.full((NUM_RULES, 2, 64), EVEN, np.uint32),
        contexts=np.zeros(HIGHEST_ORDER + 1 + NUM_HISTORIES, np.int64),
        bases=np.zeros(NUM_HISTORIES, np.int64),
        mean_bases=np.zeros(len(MEAN_ORDERS), np.int64),
        run_slots=np.zeros(len(RUN_ORDERS), np.int64),
        inputs=np.zeros(NUM_INPUTS, np.int32),
        slots=np.zeros(NUM_INPUTS, np.int64),
        signs=np.zeros(NUM_INPUTS, np.int64),
        weights=np.full((sum(MIXER_SIZES), NUM_INPUTS), _FIRST_WEIGHT, np.int32),
        final_weights=np.full((1024, NUM_MIXERS), ONE // NUM_MIXERS, np.int32),
        chosen=np.zeros(NUM_MIXERS, np.int64),
        outputs=np.zeros(NUM_MIXERS, np.int32),
        refinements=np.tile(_UNREFINED, (2, size(max(num_tokens, 1024), 14), 1)),
    )


def copied(learner: Learner) -> Learner:
    """The same, to go on learning by itself."""
    return Learner(*(table.copy() for table in learner))
