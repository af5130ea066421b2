"""The yardstick: exact inference where the source's law is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numba import njit
from pydantic import Field

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Origin, Reconstruction


class ExactMarkovDecoder(Decoder):
    """Symbol-wise MAP of a symmetric binary Markov chain by scaled forward–backward: no rule makes fewer symbol errors.

    The posterior is exact: p(x_i | all evidence), or with `causal` p(x_i | evidence up to and including i), the filtering
    estimate of a receiver that cannot wait. Evidence is one-hot, soft (bit LLR) or none for each symbol; of equally probable
    values 0 is chosen. With i.i.d. erasures e and λ = 1 − 2p, p ≤ 1/2, an erased symbol is wrong with probability
    p / (1 − λe²), causal p / (1 − λe).

    Source: L. R. Bahl, J. Cocke, F. Jelinek, J. Raviv, "Optimal decoding of linear codes for minimizing symbol error rate",
    IEEE Trans. Inf. Theory 20 (1974); scaling: L. R. Rabiner, Proc. IEEE 77 (1989), section V.A.
    """

    assumptions: ClassVar[tuple[str, ...]] = ("The exact decoder knows the parameters of the source.",)

    flip_probability: float | None = Field(None, gt=0, lt=1, description="of the source; left out: read from it")
    causal: bool = Field(False, description="use only the evidence up to and including each symbol")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        return [self._restore(one) for one in evidence]

    def _flip_probability(self, evidence: Evidence) -> float:
        return given(self, "flip_probability")

    @property
    def _observation_error(self) -> float:
        return 0.0

    def _restore(self, evidence: Evidence) -> Reconstruction:
        flip_probability = self._flip_probability(evidence)
        if evidence.vocab_size != 2:
            raise ValueError(f"an exact decoder restores binary symbols, got a vocabulary of {evidence.vocab_size}; "
                             "use tokenizer symbols with alphabet_size = 2, or another decoder")
        table = evidence.log_likelihood(np.arange(evidence.num_tokens))
        posterior = chain_posterior(table, flip_probability=flip_probability, observation_error=self._observation_error,
                                    causal=self.causal)
        unknown = ~evidence.known
        values = np.where(unknown, np.argmax(posterior, axis=1), evidence.values).astype(np.int32)
        origin = np.where(unknown, np.where(evidence.erased, Origin.CONCEALED, Origin.INFERRED), Origin.RECEIVED)
        confidence = np.where(unknown, posterior.max(axis=1), 1)
        return Reconstruction(values, origin.astype(np.uint8), confidence.astype(np.float32), 2, evidence.grid,
                              posterior[unknown].astype(np.float32))


class ExactHiddenMarkov(ExactMarkovDecoder):
    """Symbol-wise MAP of the symbols y that are seen of a hidden chain x: y_i = x_i xor an error of `observation_error`.

    The item is y, so the evidence on y_i tells of x_i only through the error, and
    p(y_i | evidence) ∝ p(evidence_i | y_i) Σ_x p(y_i | x) p(x_i = x | all other evidence), which is exact.
    """

    observation_error: float | None = Field(None, ge=0, le=1, description="of the source; left out: read from it")

    @property
    def _observation_error(self) -> float:
        return given(self, "observation_error")


def given(decoder: Decoder, key: str) -> float:
    """The parameter `key`, which the scenario fills from the source where it can."""
    value = getattr(decoder, key)
    if value is None:
        raise ValueError(f"decoder.{key} is not given and the source has none; give it, or use a source that has a {key}")
    return float(value)


def chain_posterior(log_likelihood: np.ndarray, *, flip_probability: float, observation_error: float = 0.0,
                    causal: bool = False) -> np.ndarray:
    """float64 [n, 2]: p(y_i | evidence) of the symmetric binary (hidden) Markov chain.

    log_likelihood: float64 [n, 2], ln p(evidence_i | y_i) up to a constant a row.
    """
    seen = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))  # the larger of a row is 1: never both 0
    error = np.array([[1 - observation_error, observation_error], [observation_error, 1 - observation_error]])
    extrinsic = _forward_backward(seen @ error, flip_probability, causal)
    # the floor keeps 0 · 0 away where the evidence contradicts an all but deterministic chain
    joint = seen * np.maximum(extrinsic @ error, np.finfo(np.float64).tiny)
    return joint / joint.sum(axis=1, keepdims=True)


@njit(cache=True)
def _forward_backward(evidence: np.ndarray, flip: float, causal: bool) -> np.ndarray:
    """[n, 2]: p(x_i | the evidence on all other symbols, or with `causal` on those before i); evidence [n, 2] = p(y | x)."""
    n = len(evidence)
    extrinsic = np.empty((n, 2))
    zero, one = 0.5, 0.5  # p(x_i | evidence before i)
    for i in range(n):
        extrinsic[i, 0], extrinsic[i, 1] = zero, one
        zero, one = _step(zero * evidence[i, 0], one * evidence[i, 1], flip)
    if causal:
        return extrinsic
    zero, one = 0.5, 0.5  # ∝ p(evidence after i | x_i)
    for i in range(n - 1, -1, -1):
        a, b = extrinsic[i, 0] * zero, extrinsic[i, 1] * one
        extrinsic[i, 0], extrinsic[i, 1] = a / (a + b), b / (a + b)
        zero, one = _step(zero * evidence[i, 0], one * evidence[i, 1], flip)
    return extrinsic


@njit(cache=True)
def _step(zero: float, one: float, flip: float) -> tuple[float, float]:
    """One transition of the chain, normalised; the chain is symmetric, so forwards and backwards are the same."""
    total = zero + one
    zero, one = zero / total, one / total
    return zero * (1 - flip) + one * flip, zero * flip + one * (1 - flip)
