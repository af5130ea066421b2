"""What the tokens to come seem to say, by the model's own law of one token after another: a cheap look past a gap.

    promise_i(v) = sum over u of P(u | v) · p(y_{i+1} | u) · promise_{i+1}(u),        1 past the last token

P(u | v) is what the model predicts after v at the start of a message. It steers which hypotheses a beam keeps, and weighs only what
is not kept, against no token at all.

Source: M. K. Pitt, N. Shephard, "Filtering via simulation: auxiliary particle filters", J. Am. Stat. Assoc. 94 (1999).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from channel_sim.types import Evidence
from sources.models.model import CausalModel

MOST_SYMBOLS = 2048
"""A larger vocabulary has too many pairs to table: its beam does without."""
LEAST = 1e-4
"""Of the best promise: one token of context is too little to rule anything out."""
RUN_TOKENS, RUN_MARGIN = 32, 8
"""Promises are worked out for so many unknown tokens in a row at once, from so many more on where the row is longer."""


class Outlook:
    """What is heard of each unknown token of an item, and what those after it seem to say; asked from left to right.

    values: int32 [n], -1 = unknown.
    """

    def __init__(self, model: CausalModel, evidence: Evidence) -> None:
        self.model, self.evidence = model, evidence
        self.values = np.where(evidence.known, evidence.values, -1).astype(np.int32)
        self._begin = self._end = 0
        self._likelihoods = self._promises = np.zeros((0, evidence.vocab_size))

    def at(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """(p(y | token) float64 [vocab]; promise float64 [vocab + 1], the last of no token) of an unknown token; largest 1."""
        if not self._begin <= position < self._end:
            self._look(position)
        return self._likelihoods[position - self._begin], self._promises[position - self._begin]

    def _look(self, begin: int) -> None:
        most = min(self.values.size, begin + RUN_TOKENS + RUN_MARGIN)
        known = np.flatnonzero(self.values[begin:most] >= 0)
        stop = begin + int(known[0]) if known.size else most
        logs = self.evidence.log_likelihood(np.arange(begin, stop))
        self._begin, self._end = begin, min(stop, begin + RUN_TOKENS)
        self._likelihoods = np.exp(logs - logs.max(axis=1, keepdims=True))
        after = int(self.values[stop]) if stop < self.values.size else -1
        law = successions(self.model)
        none = np.ones((len(logs), self.evidence.vocab_size + 1))
        self._promises = none if law is None else promises(law, self._likelihoods, after)


def probabilities(model: CausalModel, state: np.ndarray) -> np.ndarray:
    """float64 [lanes, vocab]: p(next token | past)."""
    if type(model).log_probabilities is CausalModel.log_probabilities:
        return model.frequencies(state) * 2.0 ** -model.frequency_bits  # what their logarithm stands for
    return np.exp(model.log_probabilities(state))


def successions(model: CausalModel) -> np.ndarray | None:
    """float32 [vocab, vocab + 1]: column v is the law of the token after v, the last that of a first one; None if too many."""
    if model.vocab_size > MOST_SYMBOLS:
        return None
    return _successions(model, model.coding_digest())


@lru_cache(maxsize=4)
def _successions(model: CausalModel, digest: bytes) -> np.ndarray:
    start = model.start(model.vocab_size)
    after = probabilities(model, model.advance(start, np.arange(model.vocab_size)))
    return np.ascontiguousarray(np.concatenate([after, probabilities(model, start[:1])]).T, np.float32)


@njit(cache=True)
def promises(successions: np.ndarray, likelihoods: np.ndarray, value_after: int) -> np.ndarray:
    """float64 [n, vocab + 1], largest 1 a row: of n unknown tokens in a row, given the token known after them (-1 = none).

    likelihoods: float64 [n, vocab]. The last column is for no token: what the start of a message promises.
    """
    num_tokens, vocab = likelihoods.shape
    promise = np.ones((num_tokens, vocab + 1))
    weights = np.zeros(vocab)
    if value_after >= 0:
        weights[value_after] = 1.0
    for at in range(num_tokens - 1, -1, -1):
        if at < num_tokens - 1 or value_after >= 0:
            promise[at] = 0.0
            for symbol in range(vocab):
                if weights[symbol] > 0:
                    promise[at] += successions[symbol] * weights[symbol]
            promise[at] = np.maximum(promise[at] / promise[at].max(), LEAST)
        weights = likelihoods[at] * promise[at, :vocab]
        weights /= weights.max()
        weights[weights < LEAST * LEAST] = 0.0
    return promise
