"""Left to right with a causal model: the cheapest prior, and what hearing only one side of a gap is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Evidence, Reconstruction
from decoders.beam import ITEMS_IN_STEP, check_vocabulary
from decoders.first_order import Outlook, probabilities
from decoders.lm_beam import CausalDecoder, filled
from sources.models.fixed_point import one_blas_thread
from sources.models.model import CausalModel


class LmGreedy(CausalDecoder):
    """Each unknown token by p(token | past) · p(y | token), and taken for true by those after it.

    Neither the best symbols nor the best sequence: a filter that commits at once and hears nothing after a token. `posterior` is
    given the decisions before, so it is too sure of itself after a wrong one. On a symmetric Markov source with flip probability
    p and erasures e it errs with p / (1 - λe), λ = 1 - 2p, as the exact causal estimate does: the best guess there is the last
    symbol known, which a chain of best guesses hands on; up to 1.4 times the optimum, p / (1 - λe²). p(y | token) is the product
    over the bits of `bit_llr`.
    """

    revision: ClassVar[int] = 1
    _hears_on: ClassVar[bool] = False
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder lm_greedy takes the bit LLRs of a token as independent of each other.",
        "Decoder lm_greedy is not the optimum: it hears nothing after a token, so it errs as the best rule from one side at most.")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        model = self.given_model()
        check_vocabulary(model, evidence)
        found: list[np.ndarray] = []
        for first in range(0, len(evidence), ITEMS_IN_STEP):
            with one_blas_thread():
                found += self._posteriors(model, evidence[first:first + ITEMS_IN_STEP])
        return [filled(one, posterior.argmax(axis=1), posterior) for one, posterior in zip(evidence, found)]

    def _posteriors(self, model: CausalModel, evidence: Sequence[Evidence]) -> list[np.ndarray]:
        """float32 [unknown tokens, vocab] of each item; the items go side by side."""
        posteriors = [np.empty((np.count_nonzero(~one.known), one.vocab_size), np.float32) for one in evidence]
        outlooks = [Outlook(model, one) for one in evidence]
        num_decided = np.zeros(len(evidence), np.int64)
        lengths = np.array([one.num_tokens for one in evidence])
        state = model.start(len(evidence))
        running = np.arange(len(evidence))
        for at in range(max(lengths, default=0)):
            state, running = state[lengths[running] > at], running[lengths[running] > at]
            tokens = np.array([evidence[int(i)].values[at] for i in running])
            open_lanes = np.flatnonzero([not evidence[int(i)].known[at] for i in running])
            if open_lanes.size:
                table = probabilities(model, state[open_lanes])
                for lane, law in zip(open_lanes, table):
                    i = int(running[lane])
                    likelihood, promise = outlooks[i].at(at)
                    weights = law * likelihood * (promise[:-1] if self._hears_on else 1.0)
                    posteriors[i][num_decided[i]] = weights / weights.sum()
                    tokens[lane] = posteriors[i][num_decided[i]].argmax()
                    num_decided[i] += 1
            state = model.advance(state, tokens)
        return posteriors
