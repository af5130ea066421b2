"""Restoring a grid of tokens with a masked model: the mean, the mode, or draws of what may have been there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Reconstruction
from decoders.beam import check_vocabulary
from decoders.lm_beam import filled
from sources.models.model import MaskedModel
from sources.packet_order import in_order, parted

_GROUPS = 8


class MaskedImage(Decoder):
    """Each unknown token by p(token | all known tokens) · p(y | token) of a masked model; `estimate` says what is made of it.

        evidence ─▶ posterior of each unknown token by itself ─┬─ mean_embedding: the tokenizer mixes its vectors by it
                                                               ├─ map:            the most probable, the surest first, in rounds
                                                               └─ draws in rounds ─┬─ sample:      one of them
                                                                                   └─ mean_pixels: decoded each, the pixels averaged

    mean_embedding: the posterior mean of the vector of each token. Its picture is not the mean picture, since what decodes vectors
                    is not linear; one call of the model, whatever is erased
    mean_pixels:    the mean of `num_samples` decoded draws. It tends to the mean picture, which has the least squared error that
                    is possible, and is off it by 1 / num_samples of that error; num_samples · num_rounds calls
    map:            in each round the surest of what is left take their most probable value and are heard by the others; in one
                    round each token's own mode. Neither is the mode of all tokens together; num_rounds calls
    sample:         what may well have been there, in every replicate another. If the model is true its squared error is twice that
                    of the mean: truth and draw are then alike and independent given what arrived; num_rounds calls

    Draws go round by round through the unknown tokens in the order of `sources.packet_order`, each round given all before. Tokens
    of one round are drawn apart: exact for a true model and a token a round, else an approximation, small where they lie apart.
    `posterior` is, for every estimate, that of each token by itself given what arrived, and `confidence` what it says of the value
    chosen. Soft evidence: p(y | token) is the product over the bits of `bit_llr`, exact for uncoded binary signalling with known
    channel state. A soft token that is surer than `heard_above` stands at its most probable value and is heard there as if it were
    true. Eight groups in turn, each evenly spread, are then taken out and weighed by what stands around them: at most eight calls
    more, and none where nothing is soft. Erased tokens come last. So a soft token hears neither itself nor its group, and what
    it has told the groups before it comes back to it: where bits are often wrong a posterior is a little surer than it should be.
    A map lets those stand that are sure then; draws begin with them and draw them anew, round by round like the rest.

    Source: H. Chang et al., "MaskGIT: masked generative image transformer", CVPR 2022, for rounds; Y. Blau, T. Michaeli, "The
    perception-distortion tradeoff", CVPR 2018, for the factor of two.
    """

    revision: ClassVar[int] = 2
    source: ClassVar[str] = "H. Chang et al., CVPR 2022; Y. Blau, T. Michaeli, CVPR 2018"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder masked_image takes the bit LLRs of a token as independent of each other.",
        "Decoder masked_image is no optimum: a network says what a token is given others, and tokens of a round are drawn apart.")

    model: SerializeAsAny[MaskedModel] | None = Field(None, description="the masked prior; default: the shipped one that fits")
    estimate: Literal["mean_pixels", "mean_embedding", "map", "sample"] = Field(
        "mean_embedding", description="mean of decoded draws | mean of vectors | most probable | one draw")
    num_samples: int = Field(8, ge=1, le=1024, description="draws that mean_pixels averages")
    num_rounds: int = Field(8, ge=1, le=1 << 12, description="rounds in which draws, or a map, are filled in")
    heard_above: float = Field(0.5, ge=0, le=1, description="certainty above which a soft token is heard by the others")

    @property
    def ignored_fields(self) -> frozenset[str]:
        unused = {"mean_embedding": {"num_samples", "num_rounds"}, "mean_pixels": set[str]()}
        return frozenset(unused.get(self.estimate, {"num_samples"}))

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        if self.model is None:
            raise RequestError("decoder.model must be given, got none; name a masked model, or use a tokenizer that has one")
        check_vocabulary(self.model, evidence)
        return [self._restore(_Inference(self.model, one, self.heard_above), key.child("masked_image"))
                for one, key in zip(evidence, keys, strict=True)]

    def _restore(self, inference: _Inference, key: Key) -> Reconstruction:
        posterior = inference.posterior.astype(np.float32)
        if self.estimate == "map":
            return filled(inference.evidence, inference.mode(self.num_rounds), posterior)
        if self.estimate == "sample":
            return filled(inference.evidence, inference.draws(1, self.num_rounds, key)[0], posterior)
        restored = filled(inference.evidence, posterior.argmax(axis=1), posterior)
        if self.estimate == "mean_embedding":
            return replace(restored, blend=posterior)
        return replace(restored, draws=inference.draws(self.num_samples, self.num_rounds, key))


class _Inference:
    """One item: its unknown places, how likely each value is by the evidence alone, and the posterior of each by itself.

    unknown: int64 [unknown tokens]; likelihood: float64 [unknown tokens, vocab], largest entry 1; posterior: float64 of that shape;
    standing: int32 [n], what is known, soft tokens that are sure enough at their most probable values, else -1
    """

    def __init__(self, model: MaskedModel, evidence: Evidence, heard_above: float) -> None:
        self.model, self.evidence, self.heard_above = model, evidence, heard_above
        self.unknown = np.flatnonzero(~evidence.known)
        log_likelihood = evidence.log_likelihood(self.unknown)
        self.likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        self._row = np.zeros(evidence.num_tokens, np.int64)
        self._row[self.unknown] = np.arange(self.unknown.size)
        self.standing = np.where(evidence.known, evidence.values, -1).astype(np.int32)
        self.posterior = self.likelihood / self.likelihood.sum(axis=1, keepdims=True)
        self._weigh()

    def _weigh(self) -> None:
        """From what each token says of itself to what it is given the others: soft ones group by group, then the erased."""
        order, erased = in_order(self.evidence.grid), self.evidence.erased
        soft = order[~(self.evidence.known | erased)[order]]
        self._stand(soft)
        for places in parted(soft, _GROUPS):
            self._ask(places)
            self._stand(places)
        if erased.any():
            self._ask(np.flatnonzero(erased))

    def _ask(self, places: np.ndarray) -> None:
        self.standing[places] = -1
        weights, = self._weights([self.standing], places)
        self.posterior[self._row[places]] = weights / weights.sum(axis=1, keepdims=True)

    def _stand(self, places: np.ndarray) -> None:
        posterior = self.posterior[self._row[places]]
        self.standing[places] = np.where(posterior.max(axis=1) > self.heard_above, posterior.argmax(axis=1), -1)

    def draws(self, num_draws: int, num_rounds: int, key: Key) -> np.ndarray:
        """int32 [num_draws, unknown tokens]; draw i is the same however many are asked for, its uniforms whatever was lost."""
        uniforms = [key.child(draw).uniform(self.evidence.num_tokens) for draw in range(num_draws)]
        messages = [self.standing.copy() for _ in uniforms]
        order = in_order(self.evidence.grid)
        for places in parted(order[~self.evidence.known[order]], num_rounds):
            for message in messages:
                message[places] = -1
            for message, weights, uniform in zip(messages, self._weights(messages, places), uniforms, strict=True):
                message[places] = _drawn(weights, uniform[places])
        return np.array([message[self.unknown] for message in messages])

    def mode(self, num_rounds: int) -> np.ndarray:
        """int32 [unknown tokens]: value by value, the surest first."""
        message = self.standing.copy()
        for count in [places.size for places in parted(np.flatnonzero(message < 0), num_rounds)]:
            places = np.flatnonzero(message < 0)
            weights, = self._weights([message], places)
            certainty = weights.max(axis=1) / weights.sum(axis=1)
            surest = np.argsort(-certainty, kind="stable")[:count]
            message[places[surest]] = weights[surest].argmax(axis=1)
        return message[self.unknown]

    def _weights(self, messages: Sequence[np.ndarray], places: np.ndarray) -> list[np.ndarray]:
        """float64 [places, vocab] for each message: table times likelihood."""
        tables = self.model.frequencies([message.reshape(self.evidence.grid) for message in messages], [places] * len(messages))
        return [table * self.likelihood[self._row[places]] for table in tables]


def _drawn(weights: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """int64 [rows]: a value of each row of weights by its uniform: the first at which the sum so far exceeds that share of all."""
    sums = np.cumsum(weights, axis=1)
    return np.minimum((sums <= uniforms[:, None] * sums[:, -1:]).sum(axis=1), weights.shape[1] - 1)
