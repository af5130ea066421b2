"""The model that knows nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from sources.models.model import FiniteContextModel


class Uniform(FiniteContextModel):
    """Every token equally probable, whatever came before: log2 vocab_size bits a token, the reference for every other model.

    Where vocab_size is no power of two, the first tokens take what division leaves, one count each.
    """

    revision: ClassVar[int] = 1
    vocab_size: int = Field(256, ge=2, le=1 << 20, description="number of tokens")

    @property
    def context_length(self) -> int:
        return 1

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        return np.tile(even_split(1 << self.frequency_bits, self.vocab_size), (len(state), 1))


def even_split(total: int, parts: int) -> np.ndarray:
    """int64 [parts] that sum to `total` and differ by at most 1, the larger first."""
    return np.int64(total // parts) + (np.arange(parts) < total % parts)
