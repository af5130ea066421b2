"""Iterative restoration with a masked model: what has become sure enough is heard by all that is still in doubt."""

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

_WEIGHED_AT_ONCE = 256


class MaskedLm(Decoder):
    """Each unknown token by p(token | what is known or sure on both sides) · p(y | token), all at once, round after round.

        evidence ─▶ P(token | y) ─▶ those surer than `heard_above` stand where they are unknown, else a mask ─┐
                        ▲──────────────── P(token | y, all that stands) of every unknown token ───────────────┘

    The first look is at the evidence alone; a round changes its mind where the tokens around it do. `posterior` and `confidence`
    are those of the last round: of each token given what is known and the others that were heard in that round, which are taken for
    true; what was masked then is not heard, its soft evidence neither. So a lone hole is filled by the model's own posterior, and
    in one round erasures are filled symbol by symbol as well as can be, if the model is true. In more rounds holes that meet hear
    one another, and are the surer of it, by a little more than they should be. An item that no longer changes is finished; one
    that goes back and forth is left after `num_rounds`. p(y | token) is the product over the bits of `bit_llr`: exact for uncoded
    binary signalling with known channel state, an approximation elsewhere. Cost: at most `num_rounds` readings of the item in both
    directions, whatever is lost.

    Source: M. Ghazvininejad, O. Levy, Y. Liu, L. Zettlemoyer, "Mask-Predict: parallel decoding of conditional masked language
    models", EMNLP 2019, here with a threshold in place of a schedule; J. Besag, "On the statistical analysis of dirty pictures",
    J. R. Stat. Soc. B 48 (1986), on conditional modes in rounds.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Ghazvininejad et al., EMNLP 2019; Besag, J. R. Stat. Soc. B 48 (1986)"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder masked_lm takes the bit LLRs of a token as independent of each other.",
        "Decoder masked_lm is no optimum: a network says what a token is given the others, and sure ones are taken for true.")

    model: SerializeAsAny[MaskedModel] | None = Field(None, description="the masked prior; default: the shipped one that fits")
    num_rounds: int = Field(4, ge=1, le=256, description="most rounds in which all unknown tokens are weighed anew")
    heard_above: float = Field(0.7, ge=0, le=1, description="confidence above which an unknown token is heard by the others")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        if self.model is None:
            raise RequestError("decoder.model must be given, got none; name a masked model, or use tokenizer bpe, which has one")
        check_vocabulary(self.model, evidence)
        found: list[Reconstruction] = []
        for first in range(0, len(evidence), ITEMS_IN_STEP):
            fillings = [_Filling(one, self.heard_above) for one in evidence[first:first + ITEMS_IN_STEP]]
            self._fill(self.model, fillings)
            found += [filled(one.evidence, one.posterior.argmax(axis=1), one.posterior) for one in fillings]
        return found

    def _fill(self, model: MaskedModel, fillings: list[_Filling]) -> None:
        running = [one for one in fillings if one.places.size]
        for _ in range(self.num_rounds):
            if not running:
                return
            # not kept under a name, so that a round's tables are gone before the next are made
            running = [one for one, table in zip(running, model.frequencies([one.values for one in running],
                                                                            [one.places for one in running])) if one.changes(table)]


class _Filling:
    """One item on its way: the places of its unknown tokens, and values int32 [n], -1 where nothing is sure enough to be heard."""

    def __init__(self, evidence: Evidence, heard_above: float) -> None:
        self.evidence, self.heard_above = evidence, heard_above
        self.places = np.flatnonzero(~evidence.known)
        self.values = np.where(evidence.known, evidence.values, -1).astype(np.int32)
        self.changes(np.broadcast_to(1.0, (self.places.size, evidence.vocab_size)))

    def changes(self, table: np.ndarray) -> bool:
        """Weigh the unknown tokens by `table` [unknown tokens, vocab] and the evidence; whether others are heard than before."""
        self.posterior = np.empty(table.shape, np.float32)
        for first in range(0, self.places.size, _WEIGHED_AT_ONCE):  # working memory that does not grow with the item
            rows = slice(first, first + _WEIGHED_AT_ONCE)
            log_likelihood = self.evidence.log_likelihood(self.places[rows])
            weights = table[rows] * np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
            self.posterior[rows] = weights / weights.sum(axis=1, keepdims=True)
        before = self.values[self.places]
        self.values[self.places] = np.where(self.posterior.max(axis=1) > self.heard_above, self.posterior.argmax(axis=1), -1)
        return not np.array_equal(before, self.values[self.places])
