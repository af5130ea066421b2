"""From many predictions to one: gated linear mixing of logits, in two layers, and a look at what such a mixture turned out to mean.

Source: M. Mahoney, "Adaptive weighing of context models for lossless data compression", Florida Tech CS-2005-16 (2005); as networks
J. Veness et al., "Gated linear networks", AAAI 2021, arXiv 1910.01526.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sources.online.arithmetic import LIMIT, ONE, learned, squashed
from sources.online.learner import DECISIONS, MIXER_SIZES, NUM_INPUTS, NUM_MIXERS, POSITION, Learner

_FIRST_SET = np.concatenate([[0], np.cumsum(MIXER_SIZES)])
_HEAVIEST = 1 << 22
_REFINED_LIMIT = 1000
_PACE, _EXTRA_PACE, _EXTRA_DECISIONS = 3, 60, 4096  # of the mixers: how fast they learn in the end, and how much faster at first
_FINAL_PACE = 2


@njit(cache=True, nogil=True)
def mix(learner: Learner, path: int) -> int:
    """The logit that the mixers of this decision's sets make of the inputs; `chosen` says which sets."""
    final = 0
    for mixer in range(NUM_MIXERS):
        weights = learner.weights[_FIRST_SET[mixer] + learner.chosen[mixer]]
        total = 0
        for place in range(NUM_INPUTS):
            total += int(weights[place]) * int(learner.inputs[place])
        output = min(max(total >> 16, -LIMIT), LIMIT)
        learner.outputs[mixer] = output
        final += output * int(learner.final_weights[path & 1023, mixer])
    return min(max(final >> 16, -LIMIT), LIMIT)


@njit(cache=True, nogil=True)
def learn(learner: Learner, path: int, probability: int, decision: int) -> None:
    """Move the weights down the gradient of the code length, each mixer by its own error."""
    target = (decision << 16) - decision
    pace = _PACE * 16 + _EXTRA_PACE * 16 * _EXTRA_DECISIONS // (_EXTRA_DECISIONS + 8 * learner.scalars[DECISIONS])
    error = (target - probability) * _FINAL_PACE
    for mixer in range(NUM_MIXERS):
        output = np.int64(learner.outputs[mixer])
        learner.final_weights[path & 1023, mixer] += (output * error + (1 << 19)) >> 20
        own_error = (target - squashed(output)) * pace
        weights = learner.weights[_FIRST_SET[mixer] + learner.chosen[mixer]]
        for place in range(NUM_INPUTS):
            moved = np.int64(weights[place]) + ((np.int64(learner.inputs[place]) * own_error + (1 << 23)) >> 24)
            weights[place] = min(max(moved, -_HEAVIEST), _HEAVIEST)


@njit(cache=True, nogil=True)
def refine(learner: Learner, output: int, path: int, places: np.ndarray) -> int:
    """Probability of 2^16 that the decision is 1: the mixture's, averaged with what its like turned out to be."""
    above = output + LIMIT + 1
    low, share = above >> 7, above & 127
    mask = learner.refinements.shape[1] - 1
    last = np.int64(learner.past[(learner.scalars[POSITION] - 1) & (learner.past.size - 1)])
    places[0] = path & mask
    places[1] = (path + (last + 1) * 40503) & mask
    places[2] = low + (share >> 6)
    total = 2 * squashed(output)
    for stage in range(2):
        words = learner.refinements[stage, places[stage]]
        total += (np.int64(words[low] >> 16) * (128 - share) + np.int64(words[low + 1] >> 16) * share) >> 7
    return min(max(total >> 2, 1), ONE - 1)


@njit(cache=True, nogil=True)
def learn_refined(learner: Learner, places: np.ndarray, decision: int) -> None:
    for stage in range(2):
        words = learner.refinements[stage, places[stage]]
        words[places[2]] = learned(np.int64(words[places[2]]), decision, _REFINED_LIMIT)
