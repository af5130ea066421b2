"""Forward-backward over a lattice of contexts: what a byte n-gram and the evidence on both sides of a gap say together.

    token i:   context ──byte, P(byte | context) · p(y_i | byte)──▶ context       num_paths edges a token, the most probable ones
                   └───── all other bytes of all contexts ────────▶ no context

Contexts that agree in the bytes that the model looks back are one state, so after that many known bytes the lattice is one path
again. Where `num_paths` holds all edges the result is exact. Where it does not, the other edges are not dropped but lead to one
state that has forgotten its context and predicts as at the start of a message: no byte becomes impossible, and a posterior deep
inside a hole is that of a byte without context instead of a certainty about the paths that happened to be kept.

Source: L. R. Bahl, J. Cocke, F. Jelinek, J. Raviv, "Optimal decoding of linear codes for minimizing symbol error rate", IEEE Trans.
Inf. Theory 20 (1974); V. Franz, J. B. Anderson, "Concatenated decoding with a reduced-search BCJR algorithm", IEEE J. Sel. Areas
Commun. 16 (1998), which keeps the most probable states.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

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


class States(NamedTuple):
    """The contexts alive before a token, int64, and their forward probabilities, float64 of sum 1."""

    contexts: np.ndarray
    weights: np.ndarray


class Window(NamedTuple):
    """A stretch of tokens: values int32 [tokens], -1 = unknown; likelihoods float64 [unknown, 256], p(y | byte), largest 1."""

    values: np.ndarray
    likelihoods: np.ndarray


class Lattice(NamedTuple):
    """What the forward pass leaves for the backward pass.

    num_edges:  int64 [tokens]; edge e of token i has, in [tokens, num_paths + 1],
    sources, targets int32: state before and after; symbols uint8; factors float64
    forward:    float64 [tokens, num_paths + 1], probability of each state before the token
    forgotten:  float64 [tokens, num_paths + 1], factor with which each state goes on without context
    forgetful:  int32 [tokens], the state after the token that has no context; -1 = none
    unlisted:   float64 [unknown, 256], forward probability of each byte on the way there
    """

    num_edges: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    symbols: np.ndarray
    factors: np.ndarray
    forward: np.ndarray
    forgotten: np.ndarray
    forgetful: np.ndarray
    unlisted: np.ndarray


def message_start() -> States:
    """The states before the first token: one, without context."""
    return States(np.full(1, NO_CONTEXT, np.int64), np.ones(1))


@njit(cache=True)
def forward_backward(trie: Trie, states: States, window: Window, num_paths: int, carry: int) -> tuple[np.ndarray, States]:
    """(posteriors float64 [unknown, 256] given what came before and the window; the states before its token `carry`)."""
    lattice = _empty(window.values.size, window.likelihoods.shape[0], num_paths + 1)
    carried = _forward(trie, states, window, lattice, carry)
    return _backward(lattice, window), carried


@njit(cache=True)
def _empty(num_tokens: int, num_unknown: int, width: int) -> Lattice:
    shape = (num_tokens, width)
    return Lattice(
        np.zeros(num_tokens, np.int64), np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.uint8),
        np.ones(shape), np.zeros(shape), np.zeros(shape), np.full(num_tokens, -1, np.int32), np.zeros((num_unknown, 256)))


@njit(cache=True)
def _forward(trie: Trie, states: States, window: Window, lattice: Lattice, carry: int) -> States:
    """Fill the lattice; the states before token `carry`, or after the last."""
    index = np.empty(4 * lattice.sources.shape[1], np.int32)
    carried, unknown, num_erased = states, 0, 0
    for at in range(window.values.size):
        if at == carry:
            carried = states
        lattice.forward[at, :states.weights.size] = states.weights
        if window.values[at] >= 0:
            _follow(trie, states, window.values[at], lattice, at)
            num_erased = 0
        else:
            likelihood = window.likelihoods[unknown]
            num_erased = num_erased + 1 if likelihood.min() == likelihood.max() else 0
            num_paths = lattice.sources.shape[1] - 1
            num_paths = num_paths if num_erased <= HOLE_TOKENS else -(-num_paths // HOLE_SHARE)
            _branch(trie, states, likelihood, num_paths, lattice, at, lattice.unlisted[unknown])
            unknown += 1
        states = _join(trie, states, lattice, at, index)
    return carried if carry < window.values.size else states


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
        lattice.sources[at, count], lattice.symbols[at, count] = source, value
        if states.contexts.size > 1:  # alone, it needs no weighing
            num_long, row = _look_up(trie, states.contexts[source], words)
            lattice.factors[at, count] = byte_mass(trie, words, num_long, row, value) * _PER_MASS + _FLOOR
        count += 1
    lattice.num_edges[at] = count


@njit(cache=True)
def _branch(trie: Trie, states: States, likelihood: np.ndarray, num_paths: int, lattice: Lattice, at: int,
            unlisted: np.ndarray) -> None:
    """The most probable edges of all states and bytes; the others are summed up."""
    num_states = states.contexts.size
    words, masses = np.empty(trie.context_length + 1, np.int64), np.empty(256, np.int64)
    factors = np.empty((num_states, 256))
    weights = np.empty((num_states, 256))
    for source in range(num_states):
        num_long, row = _look_up(trie, states.contexts[source], words)
        byte_masses(trie, words, num_long, row, masses)
        for symbol in range(256):
            factors[source, symbol] = (masses[symbol] * _PER_MASS + _FLOOR) * likelihood[symbol]
            weights[source, symbol] = factors[source, symbol] * states.weights[source]
    least, count = _least_of_best(weights.ravel(), num_paths), 0
    for source in range(num_states):
        for symbol in range(256):
            if weights[source, symbol] >= least and count < num_paths:
                lattice.sources[at, count], lattice.symbols[at, count] = source, symbol
                lattice.factors[at, count] = factors[source, symbol]
                count += 1
            else:
                lattice.forgotten[at, source] += factors[source, symbol]
                unlisted[symbol] += weights[source, symbol]
    lattice.num_edges[at] = count


@njit(cache=True)
def _least_of_best(weights: np.ndarray, limit: int) -> float:
    """A weight that at most `limit` weights reach, to 1/16 octave. Where more share the best step, the caller has to stop."""
    best = weights.max()
    top = np.array([best, best * NEGLIGIBLE]).view(np.int64) >> _FRACTION_BITS
    histogram = np.zeros(top[0] - top[1] + 1, np.int64)
    for step in weights.view(np.int64) >> _FRACTION_BITS:  # positive floats are in the order of their bits
        if step >= top[1]:
            histogram[top[0] - step] += 1
    reached = 0
    for below in range(histogram.size):
        reached += histogram[below]
        if reached > limit:
            return np.array([(top[0] - max(below - 1, 0)) << _FRACTION_BITS]).view(np.float64)[0]
    return best * NEGLIGIBLE


@njit(cache=True)
def _join(trie: Trie, states: States, lattice: Lattice, at: int, index: np.ndarray) -> States:
    """The states after a token: edges that lead to one context meet there; what is forgotten meets without one."""
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
    forgotten = (lattice.forgotten[at, :states.weights.size] * states.weights).sum()
    if forgotten > 0:
        lattice.forgetful[at], contexts[num_states], weights[num_states] = num_states, NO_CONTEXT, forgotten
        num_states += 1
    return States(contexts[:num_states], weights[:num_states] / weights[:num_states].sum())


@njit(cache=True)
def _backward(lattice: Lattice, window: Window) -> np.ndarray:
    """float64 [unknown, 256]: forward times backward probability of all edges of each byte."""
    posteriors, unknown = np.zeros((window.likelihoods.shape[0], 256)), window.likelihoods.shape[0]
    later = np.ones(lattice.sources.shape[1])  # past the window nothing is known
    for at in range(window.values.size - 1, -1, -1):
        earlier = np.zeros(later.size)
        is_unknown = window.values[at] < 0
        unknown -= is_unknown
        for edge in range(lattice.num_edges[at]):
            source = lattice.sources[at, edge]
            onward = lattice.factors[at, edge] * later[lattice.targets[at, edge]]
            earlier[source] += onward
            if is_unknown:
                posteriors[unknown, lattice.symbols[at, edge]] += lattice.forward[at, source] * onward
        if lattice.forgetful[at] >= 0:
            earlier += lattice.forgotten[at] * later[lattice.forgetful[at]]
            posteriors[unknown] += lattice.unlisted[unknown] * later[lattice.forgetful[at]]
        later = earlier / earlier.max()
        if is_unknown:
            posteriors[unknown] /= posteriors[unknown].sum()
    return posteriors
