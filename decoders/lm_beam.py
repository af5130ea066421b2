"""Two-sided restoration with any causal model: a beam whose hypotheses are weighed by what follows the gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Origin, Reconstruction
from decoders.beam import Search, find
from decoders.gap_lanes import find_side_by_side
from sources.models.model import CausalModel, FiniteContextModel, MaskedModel

FOLLOW_WEIGHT = 0.85
"""Fitted on training text that the shipped network was not trained on: `python -m benchmarks.follow_weight`."""


class CausalDecoder(Decoder):
    """What decoders with a causal model have in common."""

    model: SerializeAsAny[CausalModel] | None = Field(None, description="the prior; default: the shipped one that fits")

    def given_model(self) -> CausalModel:
        if self.model is None:
            raise RequestError("decoder.model must be given, got none; name one, or use a tokenizer that has a shipped one")
        return self.model


class BeamDecoder(CausalDecoder):
    """What decoders with a beam have in common."""

    beam_width: int = Field(16, ge=1, le=4096, description="hypotheses kept at each unknown token")
    look_ahead: int = Field(8, ge=1, le=64, description="tokens after a gap by which what fills it is judged")
    follow_weight: float | None = Field(
        None, gt=0, le=1, description="weight of the log probabilities of these tokens; default: 1 for a model that looks back a "
                                      f"limited number of tokens, {FOLLOW_WEIGHT:g} for others")
    guide: SerializeAsAny[MaskedModel] | None = Field(None, description="masked model with a say in what the beam holds, or none")

    def search(self) -> Search:
        model = self.given_model()
        own = 1.0 if isinstance(model, FiniteContextModel) else FOLLOW_WEIGHT
        weight = own if self.follow_weight is None else self.follow_weight
        return Search(model, self.beam_width, self.look_ahead, weight, self.guide)


class LmBeam(BeamDecoder):
    """Each unknown token by its posterior given what was received before it and after it, under a causal model.

        evidence ─▶ hypotheses, branching at unknown tokens ─▶ weighed by the tokens after the gap ─▶ P(token | y), read backwards

    Symbol-wise maximum a posteriori: fewest wrong tokens if the model is true. Of all ways through the unknown tokens the
    `beam_width` most probable are held at each, chosen with an eye to the tokens that come next; what is not held goes on in one
    hypothesis that has forgotten its past. A `guide` that hears both sides has a say in which are held, and none
    in what they weigh; a scenario that names no model for tokenizer bpe has `text-masked-small` as one. Hypotheses that agree in
    the last `look_ahead` tokens become one, so a gap is judged by that many tokens after it. For a model that looks back no
    further than `look_ahead`, with a beam that holds all ways, the posterior is exact at `follow_weight` 1. A trained network errs
    after a wrong token in ways that hang together, so that the tokens after a gap say less than their probabilities; hence their
    weight. p(y | token) is the product over the bits of `bit_llr`: exact for uncoded binary signalling with known channel state,
    an approximation elsewhere. Cost grows with unknown tokens times `look_ahead` times `beam_width`.

    Items are lanes of the model. With `gaps = "as_lanes"` so are the gaps of one item that lie `look_ahead` known tokens or more
    apart. The state before a gap depends on what fills earlier ones: for that stands the beam's best edge at each token, taken
    from left to right, in the first of `num_rounds` rounds, and what the round before found in later ones. It is an approximation
    until nothing changes any more, and then, as for a model that looks back no further than `look_ahead` from the first round on,
    to the last bit what gaps in turn come to.

    Source: V. Franz, J. B. Anderson, IEEE J. Sel. Areas Commun. 16 (1998); S. Ortmanns, H. Ney, X. Aubert, "A word graph algorithm
    for large vocabulary continuous speech recognition", Computer Speech & Language 11 (1997), on hypotheses that meet.
    """

    revision: ClassVar[int] = 2
    source: ClassVar[str] = ("Franz, Anderson, IEEE J. Sel. Areas Commun. 16 (1998); Ortmanns, Ney, Aubert, Computer Speech & "
                             "Language 11 (1997)")
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder lm_beam takes the bit LLRs of a token as independent of each other.",
        "Decoder lm_beam is the optimum only as far as its model is the source's law and its beam holds all ways through a gap.")

    gaps: Literal["in_turn", "as_lanes"] = Field(
        "in_turn", description="whether gaps of one item wait for each other, or go side by side: faster for few items")
    num_rounds: int = Field(1, ge=1, le=4096, description="with gaps as lanes: rounds; in each go those whose past has changed")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        search = self.search()
        found = find_side_by_side(search, evidence, self.num_rounds) if self.gaps == "as_lanes" else find(search, evidence)
        return [filled(one, two.posterior.argmax(axis=1), two.posterior) for one, two in zip(evidence, found)]


def filled(evidence: Evidence, chosen: np.ndarray, posterior: np.ndarray) -> Reconstruction:
    """The unknown tokens as `chosen`, each as sure as its posterior says; posterior float32 [unknown tokens, vocab]."""
    unknown = ~evidence.known
    values, confidence = evidence.values.copy(), np.ones(evidence.num_tokens, np.float32)
    values[unknown], confidence[unknown] = chosen, posterior[np.arange(chosen.size), chosen]
    origin = np.where(unknown, np.where(evidence.erased, Origin.CONCEALED, Origin.INFERRED), Origin.RECEIVED)
    return Reconstruction(values, origin.astype(np.uint8), confidence, evidence.vocab_size, evidence.grid, posterior)
