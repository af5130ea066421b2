"""The simplest prior: how often each token was received in the same item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Origin, Reconstruction


class MostFrequent(Decoder):
    """Every token given its own evidence alone, under the histogram of the tokens received in the same item.

    posterior(t) ∝ (count(t) + 1/2) · p(y | t), count over the known tokens of the item. The most probable token is chosen, of
    equals the smallest, so an erased token becomes the most frequent received one. `symbol` sets the choice for erased
    tokens instead; their posterior stays the histogram's. Neighbours are not looked at: tokens are taken as independent.

    Source: R. E. Krichevsky and V. K. Trofimov, "The performance of universal encoding", IEEE Trans. Inf. Theory 27 (1981).
    """

    symbol: int | None = Field(None, ge=0, description="token put where nothing was received; none: the item's most frequent one")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        return [self._restore(one) for one in evidence]

    def _restore(self, evidence: Evidence) -> Reconstruction:
        if self.symbol is not None and self.symbol >= evidence.vocab_size:
            raise ValueError(f"most_frequent.symbol must be less than the vocabulary of {evidence.vocab_size} tokens, "
                             f"got {self.symbol}; lower it or leave it out")
        unknown, erased = ~evidence.known, evidence.erased
        posterior = _posterior(evidence)  # [unknown, vocab]
        chosen = np.argmax(posterior, axis=1)
        if self.symbol is not None:
            chosen[erased[unknown]] = self.symbol
        values, confidence = evidence.values.copy(), np.ones(evidence.num_tokens, np.float32)
        values[unknown], confidence[unknown] = chosen, posterior[np.arange(chosen.size), chosen]
        origin = np.where(unknown, np.where(erased, Origin.CONCEALED, Origin.INFERRED), Origin.RECEIVED)
        return Reconstruction(values, origin.astype(np.uint8), confidence, evidence.vocab_size, evidence.grid, posterior)


def _posterior(evidence: Evidence) -> np.ndarray:
    """float32 [unknown tokens, vocab_size], rows sum to 1."""
    counts = np.bincount(evidence.values[evidence.known], minlength=evidence.vocab_size)
    prior = (counts + 0.5) / (counts.sum() + 0.5 * evidence.vocab_size)
    unknown = np.flatnonzero(~evidence.known)
    soft = ~evidence.erased[unknown]
    if not soft.any():  # one row serves all: a view, not a table
        return np.broadcast_to(prior.astype(np.float32), (unknown.size, prior.size))
    logits = np.log(prior) + evidence.log_likelihood(unknown[soft])
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    posterior = np.tile(prior, (unknown.size, 1))
    posterior[soft] = weights / weights.sum(axis=1, keepdims=True)
    return posterior.astype(np.float32)
