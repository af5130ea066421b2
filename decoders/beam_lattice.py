"""The forward pass of the beam: hypotheses branch at unknown tokens, follow known ones, and meet where their recent past agrees.

    token i:   hypothesis ──token, p(token | all before) · p(y_i | token)──▶ hypothesis       beam_width edges a token, the best
                    └────── all other tokens of all hypotheses ───────────▶ no past

Hypotheses that agree in the last `look_ahead` tokens become one: their weights add, and the model goes on from the heavier one. For
a model that looks back no further, this is exact. What the beam does not hold is not dropped: its weight, times what the tokens to
come seem to say of it, goes on in one hypothesis that has forgotten its past and predicts as at the start of a message.

Source: as `decoders.lattice`; drawing backwards: C. K. Carter, R. Kohn, Biometrika 81 (1994).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from decoders.lattice import Lattice, open_row

NEGLIGIBLE = 1e-6
"""A hypothesis that is so much less probable than the best is not followed further."""
BEFORE, OTHERS = -1, -2
"""Recent tokens that are none: before the lattice begins, and of the hypothesis without a past."""


class Beam(NamedTuple):
    """The hypotheses of one item before a token.

    weights: float64 [width], sum 1;  recent: int32 [width, look_ahead], their latest tokens, oldest first
    """

    weights: np.ndarray
    recent: np.ndarray


def message_start(look_ahead: int) -> Beam:
    """One hypothesis; what was before it is the same for all that come of it, and so does not matter."""
    return Beam(np.ones(1), np.full((1, look_ahead), BEFORE, np.int32))


@njit(cache=True)
def follow(lattice: Lattice, at: int, beam: Beam, value: int, table: np.ndarray, weight: float) -> tuple[Beam, np.ndarray]:
    """A known token: one edge from each hypothesis worth following; (beam after it, moves int64 [width, 2] as `_join`).

    weight: of the token's log probability beside that of unknown ones.
    """
    open_row(lattice, at, beam.weights, -1)
    count, least = 0, beam.weights.max() * NEGLIGIBLE
    for source in range(beam.weights.size):
        if beam.weights[source] >= least:
            lattice.sources[at, count], lattice.symbols[at, count] = source, value
            lattice.factors[at, count] = table[source, value] ** weight
            count += 1
    lattice.num_edges[at] = count
    return _join(lattice, at, beam)


@njit(cache=True)
def branch(lattice: Lattice, at: int, beam: Beam, table: np.ndarray, likelihood: np.ndarray, promise: np.ndarray, hint: np.ndarray,
           beam_width: int, row: int, unlisted: np.ndarray) -> tuple[Beam, np.ndarray]:
    """An unknown token: the best `beam_width` edges of all hypotheses and tokens; the others are summed up in `unlisted`.

    table float64 [width, vocab], p(token | past); likelihood [vocab], p(y | token), largest 1; promise [vocab + 1] > 0, what the
    tokens to come seem to say, the last without any token before; hint float32 [vocab] > 0, what else decides on the edges to be
    held; unlisted float32 [vocab], row `row` of the unknown tokens.
    """
    num_states, vocab = beam.weights.size, table.shape[1]
    factors, scores = np.empty((num_states, vocab)), np.empty((num_states, vocab))
    for source in range(num_states):
        for symbol in range(vocab):
            factors[source, symbol] = table[source, symbol] * likelihood[symbol]
            scores[source, symbol] = factors[source, symbol] * beam.weights[source] * promise[symbol] * hint[symbol]
    least, count = _least_of_best(scores.ravel(), beam_width), 0
    open_row(lattice, at, beam.weights, row)
    unlisted[:] = 0
    for source in range(num_states):
        for symbol in range(vocab):
            if scores[source, symbol] >= least and count < beam_width:
                lattice.sources[at, count], lattice.symbols[at, count] = source, symbol
                lattice.factors[at, count] = factors[source, symbol]
                count += 1
            else:
                kept = factors[source, symbol] * promise[symbol] / promise[vocab]  # what no past cannot say itself
                lattice.rest[at, source] += kept
                unlisted[symbol] += kept * beam.weights[source]
    lattice.num_edges[at] = count
    return _join(lattice, at, beam)


@njit(cache=True)
def _least_of_best(scores: np.ndarray, limit: int) -> float:
    """The least score among the best `limit`, none of them negligible."""
    worthy = scores[scores >= scores.max() * NEGLIGIBLE]
    return worthy.min() if worthy.size <= limit else np.partition(worthy, worthy.size - limit)[worthy.size - limit]


@njit(cache=True)
def _join(lattice: Lattice, at: int, beam: Beam) -> tuple[Beam, np.ndarray]:
    """The hypotheses after a token; moves int64 [hypotheses, 2]: where the model goes on from, and by which token; -1 = anew."""
    num_edges, look_ahead = lattice.num_edges[at], beam.recent.shape[1]
    weights, recent = np.zeros(num_edges + 1), np.full((num_edges + 1, look_ahead), OTHERS, np.int32)
    moves, heaviest, count = np.full((num_edges + 1, 2), -1, np.int64), np.zeros(num_edges + 1), 0
    for edge in range(num_edges):
        source, symbol = lattice.sources[at, edge], lattice.symbols[at, edge]
        target = 0
        while target < count and not _agrees(recent[target], beam.recent[source], symbol):
            target += 1
        if target == count:
            recent[target, :look_ahead - 1], recent[target, look_ahead - 1] = beam.recent[source, 1:], symbol
            count += 1
        lattice.targets[at, edge] = target
        weight = beam.weights[source] * lattice.factors[at, edge]
        weights[target] += weight
        if weight > heaviest[target] or moves[target, 0] < 0:
            heaviest[target], moves[target, 0], moves[target, 1] = weight, source, symbol
    lost = (lattice.rest[at, :beam.weights.size] * beam.weights).sum()
    if lost > weights.max() * NEGLIGIBLE:
        lattice.others[at], weights[count] = count, lost
        count += 1
    total = weights[:count].sum()
    if total > 0:
        weights /= total
    else:  # all that was known contradicts all that was followed: what is left is a guess among it
        weights[:count] = 1.0 / count
    return Beam(weights[:count], recent[:count]), moves[:count]


@njit(cache=True)
def _agrees(after: np.ndarray, before: np.ndarray, symbol: int) -> bool:
    """Whether the tokens `before` and then `symbol` end in the tokens `after`."""
    if after[-1] != symbol:
        return False
    for back in range(after.size - 1):
        if after[back] != before[back + 1]:
            return False
    return True


@njit(cache=True)
def draw_path(lattice: Lattice, end: int, final: np.ndarray, anchor: int, uniforms: np.ndarray, unlisted: np.ndarray,
              path: np.ndarray) -> int:
    """Draw one way through the rows before `end` from hypothesis `anchor` on, backwards, by its posterior probability.

    final: weights after the last row; uniforms: float64 [end, 4]; unlisted: float32 [unknown tokens of the item, vocab]
    path:  int32 [end, 2], filled with the token of each unknown row and the hypothesis before it
    Returns the hypothesis after the last row.
    """
    width = lattice.forward.shape[1]
    forward = np.zeros((end + 1, width))
    forward[0, anchor] = 1.0
    for at in range(end):
        _pass_on(lattice, at, forward)
        total = forward[at + 1].sum()
        if total > 0:
            forward[at + 1] /= total
        elif at + 1 < end:  # no way from the anchor was kept: go on as if there were none
            forward[at + 1] = lattice.forward[at + 1]
        else:
            forward[at + 1, :final.size] = final
    last = state = _pick(forward[end], uniforms[end - 1, 3])
    for at in range(end - 1, -1, -1):
        num_edges = lattice.num_edges[at]
        chances = np.zeros(num_edges + 1)
        for edge in range(num_edges):
            if lattice.targets[at, edge] == state:
                chances[edge] = forward[at, lattice.sources[at, edge]] * lattice.factors[at, edge]
        if lattice.others[at] == state:
            chances[num_edges] = (forward[at] * lattice.rest[at]).sum()
        edge = _pick(chances, uniforms[at, 1])
        if edge < num_edges:
            path[at, 0], state = lattice.symbols[at, edge], lattice.sources[at, edge]
        else:  # token and past of what is not listed are drawn apart: only their sums are kept
            path[at, 0] = _pick(unlisted[lattice.unknown[at]], uniforms[at, 2])
            state = _pick(forward[at] * lattice.rest[at], uniforms[at, 0])
        path[at, 1] = state
    return last


@njit(cache=True)
def _pass_on(lattice: Lattice, at: int, forward: np.ndarray) -> None:
    for edge in range(lattice.num_edges[at]):
        forward[at + 1, lattice.targets[at, edge]] += forward[at, lattice.sources[at, edge]] * lattice.factors[at, edge]
    if lattice.others[at] >= 0:
        forward[at + 1, lattice.others[at]] += (forward[at] * lattice.rest[at]).sum()


@njit(cache=True)
def _pick(chances: np.ndarray, uniform: float) -> int:
    """An index with probability proportional to `chances`."""
    left, last = uniform * chances.sum(), 0
    for index in range(chances.size):
        if chances[index] > 0:
            last = index
            left -= chances[index]
            if left < 0:
                break
    return last
