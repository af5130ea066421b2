"""The lattice behind beam and n-gram: ways through the unknown tokens, and the posterior of each token read backwards off them.

    token i:   state ──token, p(token | all before) · p(y_i | token)──▶ state       the best edges
                 └────── all other tokens of all states ─────────────▶ one that speaks for the rest

What is not listed is not dropped: its weight goes on in one state, so no token becomes impossible and a posterior is no surer than
the lattice can tell.

Source: L. R. Bahl, J. Cocke, F. Jelinek, J. Raviv, "Optimal decoding of linear codes for minimizing symbol error rate", IEEE Trans.
Inf. Theory 20 (1974); V. Franz, J. B. Anderson, "Concatenated decoding with a reduced-search BCJR algorithm", IEEE J. Sel. Areas
Commun. 16 (1998), who keep the most probable states.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

IMPROBABLE = 1e-9
"""The least of a posterior: what was not followed is not impossible."""


class Lattice(NamedTuple):
    """What the forward pass of one item leaves for the backward pass; one row a token, `room` rows.

    num_edges: int64 [room]; edge e of a token has, in [room, width],
    sources, targets int32: state before and after; symbols int32; factors float64, p(token | past) p(y | token)
    forward:   float64 [room, width], weight of each state before the token
    rest:      float64 [room, width], factor with which each goes on by tokens that are not listed
    others:    int32 [room], the state after the token that speaks for these; -1 = no such
    unknown:   int64 [room], the token's row among the unknown ones; -1 = known
    """

    num_edges: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    symbols: np.ndarray
    factors: np.ndarray
    forward: np.ndarray
    rest: np.ndarray
    others: np.ndarray
    unknown: np.ndarray


@njit(cache=True)
def empty_lattice(room: int, width: int) -> Lattice:
    shape = (room, width)
    return Lattice(np.zeros(room, np.int64), np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int32),
                   np.zeros(shape), np.zeros(shape), np.zeros(shape), np.full(room, -1, np.int32), np.full(room, -1, np.int64))


@njit(cache=True)
def open_row(lattice: Lattice, at: int, weights: np.ndarray, row: int) -> None:
    """Begin the row of a token: the states before it; `row` of the unknown tokens, -1 = known."""
    lattice.num_edges[at], lattice.unknown[at], lattice.others[at] = 0, row, -1
    lattice.forward[at] = 0.0
    lattice.forward[at, :weights.size] = weights
    lattice.rest[at] = 0.0


@njit(cache=True)
def read_marginals(lattice: Lattice, end: int, decide: int, posterior: np.ndarray) -> None:
    """Turn the unlisted weights of the unknown tokens in the first `decide` rows into p(token | y), given `end` rows.

    posterior: float32 [unknown tokens of the item, vocab].
    """
    later = np.ones(lattice.forward.shape[1])  # past the last row nothing is known
    sums = np.empty(posterior.shape[1])
    for at in range(end - 1, -1, -1):
        earlier, row, others = np.zeros(later.size), lattice.unknown[at], lattice.others[at]
        decided = row >= 0 and at < decide
        sums[:] = 0
        if others >= 0:
            earlier += lattice.rest[at] * later[others]
            if decided:
                sums += posterior[row] * later[others]
        for edge in range(lattice.num_edges[at]):
            source = lattice.sources[at, edge]
            onward = lattice.factors[at, edge] * later[lattice.targets[at, edge]]
            earlier[source] += onward
            if decided:
                sums[lattice.symbols[at, edge]] += lattice.forward[at, source] * onward
        most = earlier.max()
        later = earlier / most if most > 0 else np.ones(later.size)
        if decided:
            total = sums.sum()
            for symbol in range(sums.size):
                posterior[row, symbol] = max(sums[symbol] / total if total > 0 else 1.0 / sums.size, IMPROBABLE)
