"""Iterative restoration with a masked model: the surest tokens first, each of them heard by those that are still open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, SerializeAsAny

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Reconstruction
from decoders.beam import ITEMS_IN_STEP, check_vocabulary
from decoders.lm_beam import filled
from sources.models.model import MaskedModel


class MaskedLm(Decoder):
    """Each unknown token by p(token | what is known on both sides) · p(y | token); the surest are taken for true, round by round.

        evidence ─▶ P(token | y, decided), all unknown tokens at once ─▶ decide the surest share ─┐
                                    ▲─────────────────── num_rounds times ────────────────────────┘

    Neither the best symbols nor the best sequence: what is decided stays, and what is open is not heard by the others, soft
    evidence neither. So a lone hole is filled by the model's own posterior, exact if the model is; in holes that meet, the tokens
    decided first do not know what will stand beside them. `posterior` and `confidence` are those of the round that decided a token:
    given all that was known and decided by then, and the decisions of earlier rounds taken for true. Of n unknown tokens of an
    item n / num_rounds are decided in each round. p(y | token) is the product over the bits of `bit_llr`: exact for uncoded binary
    signalling with known channel state, an approximation elsewhere. Cost: `num_rounds` readings of the item in both directions.

    Source: M. Ghazvininejad et al., "Mask-Predict: parallel decoding of conditional masked language models", EMNLP 2019; H. Chang
    et al., "MaskGIT: masked generative image transformer", CVPR 2022, sec. 3.2, here without chance.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Ghazvininejad et al., EMNLP 2019; Chang et al., CVPR 2022"
    assumptions: ClassVar[tuple[str, ...]] = ("Decoder masked_lm takes the bit LLRs of a token as independent of each other.",)

    model: SerializeAsAny[MaskedModel] | None = Field(None, description="the masked prior; default: the shipped one that fits")
    num_rounds: int = Field(8, ge=1, le=256, description="rounds in which unknown tokens are decided, an equal share in each")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        if self.model is None:
            raise RequestError("decoder.model must be given, got none; name a masked model, or use tokenizer bpe, which has one")
        check_vocabulary(self.model, evidence)
        found: list[Reconstruction] = []
        for first in range(0, len(evidence), ITEMS_IN_STEP):
            fillings = [_Filling(one) for one in evidence[first:first + ITEMS_IN_STEP]]
            self._fill(self.model, fillings)
            found += [filled(one.evidence, one.values[one.places], one.posterior) for one in fillings]
        return found

    def _fill(self, model: MaskedModel, fillings: list[_Filling]) -> None:
        for rounds_left in range(self.num_rounds, 0, -1):
            running = [one for one in fillings if one.open.size]
            if not running:
                return
            tables = model.frequencies([one.values for one in running], [one.places[one.open] for one in running])
            for one, table in zip(running, tables):
                one.decide(table, -(-one.open.size // rounds_left))


class _Filling:
    """One item on its way: values int32 [n], -1 = open; places of unknown tokens; which of these are open."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.places = np.flatnonzero(~evidence.known)
        self.values = np.where(evidence.known, evidence.values, -1).astype(np.int32)
        self.open = np.arange(self.places.size)
        self.posterior = np.empty((self.places.size, evidence.vocab_size), np.float32)

    def decide(self, table: np.ndarray, count: int) -> None:
        """Take the `count` surest open tokens for true, given int64 [open tokens, vocab] of the model."""
        log_likelihood = self.evidence.log_likelihood(self.places[self.open])
        weights = table * np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        posterior = weights / weights.sum(axis=1, keepdims=True)
        surest = np.argsort(-posterior.max(axis=1), kind="stable")[:count]
        decided = self.open[surest]
        self.posterior[decided] = posterior[surest]
        self.values[self.places[decided]] = posterior[surest].argmax(axis=1)
        self.open = np.delete(self.open, surest)
