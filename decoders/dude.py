"""Restoration without a trained prior: what stood between the same neighbours elsewhere in the same item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Reconstruction, bits_for, bits_to_tokens
from decoders.lm_beam import filled

NO_TOKEN = -1
_HASH = np.uint64(0x9E3779B97F4A7C15)
_LEAST_INVERTIBLE = 1e-3
"""Of 1 - 2 delta: bits closer to a coin flip than this count for nothing."""


class Dude(Decoder):
    """Discrete universal denoising: a token is judged by all places of the item with the same neighbours as received.

        received (a soft token by its signs, an erased one as such) ─▶ counts m of what stood between the same k + k neighbours
        ─▶ q = channel⁻¹ m ─▶ P(token | y) ∝ q(token) · p(y_i | token)

    Symbol-wise maximum a posteriori under a law of the item's own, estimated in one pass, no training, no knowledge of the source;
    as items grow it errs as rarely as the best rule that sees k received symbols on each side. Erased tokens count as a symbol of
    their own in contexts. Soft tokens count through the inverse of a binary symmetric channel a bit, whose error rate is what
    their LLRs say on average; beside the published rule, a soft token is judged by its own LLRs instead of its sign, and a context
    is eked out by the shorter one, worth one place: `q_k = m_k + q_{k-1} / sum q_{k-1}`, down to the uniform law. `confidence` and
    `posterior` are that estimate's. On items of 1,000 symbols of a symmetric Markov source it errs 1.02 to 1.4 times the optimum
    (`benchmarks.optimum`). Contexts are told apart by 64-bit hashes.

    Source: T. Weissman, E. Ordentlich, G. Seroussi, S. Verdú, M. J. Weinberger, "Universal discrete denoising: known channel",
    IEEE Trans. Inf. Theory 51 (2005).
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Weissman, Ordentlich, Seroussi, Verdú, Weinberger, IEEE Trans. Inf. Theory 51 (2005)"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder dude takes the bits of a token as independent of each other, and soft tokens of an item as equally reliable.",
        "Decoder dude is not the optimum but of its window, and in long items: it counts in the item alone.")

    context_tokens: int | None = Field(
        None, ge=0, le=64, description="neighbours looked at on each side; default: ln(tokens) / ln(vocab_size) / 4, at least 1")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        return [self._restore(one) for one in evidence]

    def _restore(self, evidence: Evidence) -> Reconstruction:
        posterior = self._posterior(evidence).astype(np.float32)
        return filled(evidence, posterior.argmax(axis=1), posterior)

    def _reach(self, evidence: Evidence) -> int:
        if self.context_tokens is not None:
            return self.context_tokens
        # so many that every context is met some sqrt(n) times
        return max(1, int(0.25 * np.log(max(evidence.num_tokens, 1)) / np.log(evidence.vocab_size)))

    def _posterior(self, evidence: Evidence) -> np.ndarray:
        """float64 [unknown tokens, vocab]."""
        received, error = _as_received(evidence)
        unknown = np.flatnonzero(~evidence.known)
        law = np.full((unknown.size, evidence.vocab_size), 1.0 / evidence.vocab_size)
        for reach in range(self._reach(evidence) + 1):
            law = _refined(law, evidence, received, error, _contexts(received, reach))
        logs = evidence.log_likelihood(unknown)
        weights = law * np.exp(logs - logs.max(axis=1, keepdims=True, initial=-np.inf))
        return weights / weights.sum(axis=1, keepdims=True)


def _as_received(evidence: Evidence) -> tuple[np.ndarray, float]:
    """(int64 [n] each token as received, NO_TOKEN where nothing was or the signs are no token; mean error rate of soft bits)."""
    received = np.where(evidence.known, evidence.values, NO_TOKEN).astype(np.int64)
    if evidence.bit_llr is None:
        return received, 0.0
    soft = ~evidence.known & ~evidence.erased
    decided = bits_to_tokens(evidence.bit_llr > 0)
    received[soft] = np.where(decided < evidence.vocab_size, decided, NO_TOKEN)[soft]
    if not soft.any():
        return received, 0.0
    return received, float(np.mean(1 / (1 + np.exp(np.minimum(np.abs(evidence.bit_llr[soft].astype(np.float64)), 700)))))


def _contexts(received: np.ndarray, reach: int) -> np.ndarray:
    """int64 [n]: a number for the `reach` tokens on each side; the ends of the item are no token."""
    padded = np.pad(received + 1, reach, constant_values=0).astype(np.uint64)
    hashes = np.zeros(received.size, np.uint64)
    for offset in range(2 * reach + 1):
        if offset != reach:
            hashes = (hashes + padded[offset:offset + received.size] + np.uint64(1)) * _HASH
            hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes, return_inverse=True)[1]


def _refined(law: np.ndarray, evidence: Evidence, received: np.ndarray, error: float, contexts: np.ndarray) -> np.ndarray:
    """The law of each unknown token after one more pair of neighbours; float64 [unknown, vocab], rows sum to 1."""
    unknown = np.flatnonzero(~evidence.known)
    rows_of = np.full(int(contexts.max(initial=-1)) + 1, -1)  # only contexts of unknown tokens need counts
    needed = np.unique(contexts[unknown])
    rows_of[needed] = np.arange(needed.size)
    counts = np.zeros((needed.size, evidence.vocab_size))
    corrupted = np.zeros_like(counts)
    for table, which in ((counts, evidence.known), (corrupted, ~evidence.known & (received != NO_TOKEN))):
        places = np.flatnonzero(which & (rows_of[contexts] >= 0))
        np.add.at(table, (rows_of[contexts[places]], received[places]), 1.0)
    if corrupted.any():
        counts += np.maximum(_unmixed(corrupted, error), 0.0)
    refined = counts[rows_of[contexts[unknown]]] + law
    return refined / refined.sum(axis=1, keepdims=True)


def _unmixed(counts: np.ndarray, error: float) -> np.ndarray:
    """Counts before each bit was flipped with probability `error`: the inverse of a product of 2 x 2 channels, bit by bit."""
    slope = 1 - 2 * error
    if slope < _LEAST_INVERTIBLE:
        return np.zeros_like(counts)
    num_bits = bits_for(counts.shape[1])
    full = np.pad(counts, ((0, 0), (0, (1 << num_bits) - counts.shape[1])))
    for bit in range(num_bits):
        pairs = full.reshape(len(full), -1, 2, 1 << bit)
        zero, one = pairs[:, :, 0], pairs[:, :, 1]
        full = np.stack([(1 - error) * zero - error * one, (1 - error) * one - error * zero], axis=2).reshape(full.shape) / slope
    return full[:, :counts.shape[1]]
