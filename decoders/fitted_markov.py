"""A Markov prior learned from what arrived: no training data, no knowledge of the source."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.types import Evidence
from decoders.exact_markov import ExactMarkovDecoder


class FittedMarkov(ExactMarkovDecoder):
    """Forward–backward for a symmetric binary Markov chain whose flip probability is estimated from the item itself.

    The estimate is (flips + 1/2) / (pairs + 1) over pairs of neighbouring known symbols: the Krichevsky–Trofimov rule, the
    posterior mean under Jeffreys' prior. The posterior of a symbol takes the estimate for the truth, so on short items or
    heavy loss it is more certain than it should be. With no known pair the chain is taken as memoryless.

    Source: R. E. Krichevsky, V. K. Trofimov, "The performance of universal encoding", IEEE Trans. Inf. Theory 27 (1981).
    """

    assumptions: ClassVar[tuple[str, ...]] = (
        "The fitted prior takes the source for a symmetric Markov chain of order one.",
        "Decoder fitted_markov is not the optimum where the item is too short to tell on which side of 1/2 its flips are.")

    flip_probability: None = Field(None, description="estimated from what arrives, so not a key to give")

    def _flip_probability(self, evidence: Evidence) -> float:
        pairs = evidence.known[1:] & evidence.known[:-1]
        flips = pairs & (evidence.values[1:] != evidence.values[:-1])
        return float((np.sum(flips) + 0.5) / (np.sum(pairs) + 1))
