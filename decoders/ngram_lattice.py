"""The forward pass of a byte n-gram over a lattice of contexts: what it and the evidence on both sides of a gap say together.

    token i:   context ──byte, P(byte | context) · p(y_i | byte)──▶ context       num_paths edges a token, the most promising ones
                   └───── all other bytes of all contexts ────────▶ no context

Contexts that agree in the bytes that the model looks back are one state, so after that many known bytes the lattice is one path
again. Where it holds all edges the result is exact. Where it does not, the other edges are not dropped but lead to one state that
has forgotten its context and predicts as at the start of a message: no byte becomes impossible, and a posterior deep inside a hole
is that of a byte without context instead of a certainty about the paths that happened to be kept.

In a hole of two erased bytes and more, an edge is chosen by its probability times what the bytes after the hole seem to say of it
(`decoders.far_side`), and a path that is let go takes as much of that with it as one without context cannot say itself.

Source: as `decoders.lattice`; the promise: M. K. Pitt, N. Shephard, J. Am. Stat. Assoc. 94 (1999).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from decoders.far_side import REACH, ShortLaw, hear, promise
from decoders.lattice import Lattice, empty_lattice, open_row, read_marginals
from sources.models.trie import MASS_BITS, SPREAD, Trie, byte_mass, byte_masses, find_contexts

NEGLIGIBLE = 1e-9
"""A state that is so much less probable than the best is not followed further."""
HOLE_TOKENS, HOLE_SHARE = 32, 8
"""After so many erased tokens in a row the paths say next to nothing; from there on only 1 / 8 of them is kept."""
NO_CONTEXT = 1
"""A context is a 1, then its bytes, oldest first, as in `Trie`."""
_PER_MASS = SPREAD / 2.0 ** (MASS_BITS + 16)
_FLOOR = 2.0 ** -16  # the mix of the coding table: no byte is impossible
_FRACTION_BITS = 48  # of a float64, all but sign, exponent and the first 4 bits of the mantissa


class Law(NamedTuple):
    """The n-gram: whole, and by its short contexts alone."""

    trie: Trie
    short: ShortLaw


class States(NamedTuple):
    """The contexts alive before a token, int64, and their forward probabilities, float64 of sum 1."""

    contexts: np.ndarray
    weights: np.ndarray


class Window(NamedTuple):
    """A stretch of tokens: values int32 [tokens], -1 = unknown; likelihoods float64 [unknown, 256], p(y | byte), largest 1."""

    values: np.ndarray
    likelihoods: np.ndarray


class Paths(NamedTuple):
    """How many paths are kept at a byte, and inside a hole of two erased bytes and more."""

    alone: int
    in_hole: int


def message_start() -> States:
    """The states before the first token: one, without context."""
    return States(np.full(1, NO_CONTEXT, np.int64), np.ones(1))


@njit(cache=True)
def forward_backward(law: Law, states: States, window: Window, paths: Paths, decide: int) -> tuple[np.ndarray, States]:
    """(posteriors float32 [unknown, 256] before token `decide`, given what came before and the window; the states there)."""
    num_decided = np.count_nonzero(window.values[:decide] < 0)
    posteriors = np.zeros((window.likelihoods.shape[0], 256), np.float32)
    lattice = empty_lattice(window.values.size, max(paths.alone, paths.in_hole) + 1)
    carried = _forward(law, states, window, paths, lattice, posteriors, decide)
    read_marginals(lattice, window.values.size, decide, posteriors)
    return posteriors[:num_decided], carried


@njit(cache=True)
def _forward(law: Law, states: States, window: Window, paths: Paths, lattice: Lattice, unlisted: np.ndarray, carry: int) -> States:
    """Fill the lattice; the states before token `carry`, or after the last."""
    index, room = np.empty(4 * lattice.sources.shape[1], np.int32), np.empty((3, lattice.sources.shape[1], 256))
    carried, unknown, begin, end = states, 0, 0, 0
    heard = np.ones((REACH, law.short.rests.size), np.float32)
    for at in range(window.values.size):
        if at == carry:
            carried = states
        if window.values[at] >= 0:
            open_row(lattice, at, states.weights, -1)
            _follow(law.trie, states, window.values[at], lattice, at)
        else:
            if at >= end:
                begin, end = at, _hole_end(window, at, unknown)
                if end - begin > 1:
                    hear(law.short, window.values, window.likelihoods[unknown + end - begin:], end, heard[:end - begin])
            num_paths = paths.in_hole if end - begin > 1 else paths.alone
            num_paths = num_paths if at - begin < HOLE_TOKENS else -(-num_paths // HOLE_SHARE)
            after = heard[end - 1 - at] if end - begin > 1 and end - 1 - at < REACH else heard[0, :0]
            open_row(lattice, at, states.weights, unknown)
            _branch(law, states, window.likelihoods[unknown], after, num_paths, lattice, at, unlisted[unknown], room)
            unknown += 1
        states = _join(law.trie, states, lattice, at, index)
    return carried if carry < window.values.size else states


@njit(cache=True)
def _hole_end(window: Window, at: int, unknown: int) -> int:
    """One past the erased tokens in a row that begin with `at`, the unknown token number `unknown`; past a soft token the next."""
    end = at
    while end < window.values.size and window.values[end] < 0:
        likelihood = window.likelihoods[unknown + end - at]
        if likelihood.min() < likelihood.max():
            break
        end += 1
    return max(end, at + 1)


@njit(cache=True)
def _look_up(trie: Trie, context: int, words: np.ndarray) -> tuple[int, int]:
    length = 0
    while context >> 8 * length > 1:
        length += 1
    return find_contexts(trie, context, length, words)


@njit(cache=True)
def _follow(trie: Trie, states: States, value: int, lattice: Lattice, at: int) -> None:
    """One edge from each state worth following, by the byte that was received."""
    words = np.empty(trie.context_length + 1, np.int64)
    least, count = states.weights.max() * NEGLIGIBLE, 0
    for source in range(states.contexts.size):
        if states.weights[source] < least:
            continue
        lattice.sources[at, count], lattice.symbols[at, count], lattice.factors[at, count] = source, value, 1.0
        if states.contexts.size > 1:  # alone, it needs no weighing
            num_long, row = _look_up(trie, states.contexts[source], words)
            lattice.factors[at, count] = byte_mass(trie, words, num_long, row, value) * _PER_MASS + _FLOOR
        count += 1
    lattice.num_edges[at] = count


@njit(cache=True)
def _branch(law: Law, states: States, likelihood: np.ndarray, after: np.ndarray, num_paths: int, lattice: Lattice, at: int,
            unlisted: np.ndarray, room: np.ndarray) -> None:
    """The most promising edges of all states and bytes; the others are summed up.

    after: as `promise` takes it, or empty; room: float64 [3, states, 256], to work in.
    """
    num_states = states.contexts.size
    words, masses = np.empty(law.trie.context_length + 1, np.int64), np.empty(256, np.int64)
    factors, promised, scores = room[0, :num_states], room[1, :num_states], room[2, :num_states]
    bests = np.empty(num_states, np.int64)
    for source in range(num_states):
        num_long, row = _look_up(law.trie, states.contexts[source], words)
        byte_masses(law.trie, words, num_long, row, masses)
        if after.size:
            promise(law.short, states.contexts[source], after, promised[source])
        else:
            promised[source] = 1
        bests[source] = _weigh(masses, likelihood, promised[source], states.weights[source], factors[source], scores[source])
    least, count = _least_of_best(scores, bests, num_paths), 0
    for source in range(num_states):
        if bests[source] >= least and count < num_paths:
            for symbol, bits in enumerate(scores[source].view(np.int64)):
                if bits >= least and count < num_paths:
                    lattice.sources[at, count], lattice.symbols[at, count] = source, symbol
                    lattice.factors[at, count] = factors[source, symbol]
                    factors[source, symbol] = scores[source, symbol] = 0
                    count += 1
        _add(scores[source], unlisted)
    _sum_rows(factors, promised, lattice.rest[at])
    lattice.num_edges[at] = count


@njit(cache=True)
def _add(scores: np.ndarray, unlisted: np.ndarray) -> None:
    for symbol in range(256):
        unlisted[symbol] += scores[symbol]


@njit(cache=True)
def _weigh(masses: np.ndarray, likelihood: np.ndarray, promised: np.ndarray, weight: float, factors: np.ndarray,
           scores: np.ndarray) -> int:
    """The edges of one state: factors and scores float64 [256]; returns the bits of the best score."""
    for symbol in range(256):
        factors[symbol] = (masses[symbol] * _PER_MASS + _FLOOR) * likelihood[symbol]
        scores[symbol] = factors[symbol] * weight * promised[symbol]
    return scores.view(np.int64).max()  # positive floats are in the order of their bits


@njit(cache=True)
def _sum_rows(factors: np.ndarray, promised: np.ndarray, sums: np.ndarray) -> None:
    """sums[i] = sum over bytes of factors[i] promised[i]; eight rows abreast, or each would wait for its own last addition."""
    num_rows = len(factors)
    for first in range(0, num_rows, 8):
        if first + 8 <= num_rows:
            total = np.zeros(8)
            for symbol in range(256):
                for row in range(8):
                    total[row] += factors[first + row, symbol] * promised[first + row, symbol]
            sums[first:first + 8] = total
        else:
            for row in range(first, num_rows):
                for symbol in range(256):
                    sums[row] += factors[row, symbol] * promised[row, symbol]


@njit(cache=True)
def _least_of_best(scores: np.ndarray, bests: np.ndarray, limit: int) -> int:
    """The bits of a score that at most `limit` scores reach, to 1/16 octave.

    Where more share the best step, the caller has to stop. bests: int64 [rows], the bits of the largest score of each row.
    """
    best = bests.max()
    negligible = (np.array([best]).view(np.float64) * NEGLIGIBLE).view(np.int64)[0]
    top, least = best >> _FRACTION_BITS, negligible >> _FRACTION_BITS
    histogram, counted = np.zeros(top - least + 1, np.int64), 0
    for source in range(bests.size):
        if bests[source] >> _FRACTION_BITS < least:
            continue
        for bits in scores[source].view(np.int64):
            step = bits >> _FRACTION_BITS
            if step >= least:
                histogram[top - step] += 1
                counted += 1
        while counted - histogram[top - least] > limit:  # what is below can no longer be among the best
            counted -= histogram[top - least]
            least += 1
    reached = 0
    for below in range(top - least + 1):
        reached += histogram[below]
        if reached > limit:
            return (top - max(below - 1, 0)) << _FRACTION_BITS
    return negligible


@njit(cache=True)
def _join(trie: Trie, states: States, lattice: Lattice, at: int, index: np.ndarray) -> States:
    """The states after a token: edges that lead to one context meet there; what is not listed meets without one."""
    width = lattice.sources.shape[1] + 1
    contexts, weights, num_states = np.empty(width, np.int64), np.zeros(width), 0
    longest = 1 << 8 * trie.context_length
    index[:] = -1
    for edge in range(lattice.num_edges[at]):
        source = lattice.sources[at, edge]
        context = states.contexts[source]
        if context >= longest:
            context = context & ((longest >> 8) - 1) | longest >> 8
        context = context << 8 | np.int64(lattice.symbols[at, edge])
        slot = (context ^ context >> 23) % index.size
        while index[slot] >= 0 and contexts[index[slot]] != context:
            slot = (slot + 1) % index.size
        if index[slot] < 0:
            index[slot], contexts[num_states] = num_states, context
            num_states += 1
        lattice.targets[at, edge] = index[slot]
        weights[index[slot]] += states.weights[source] * lattice.factors[at, edge]
    forgotten = (lattice.rest[at, :states.weights.size] * states.weights).sum()
    if forgotten > 0:
        lattice.others[at], contexts[num_states], weights[num_states] = num_states, NO_CONTEXT, forgotten
        num_states += 1
    return States(contexts[:num_states], weights[:num_states] / weights[:num_states].sum())
