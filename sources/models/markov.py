"""The model that is the source: a symmetric Markov chain with known parameters."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
from pydantic import Field

from sources.models.model import FiniteContextModel
from sources.models.uniform import even_split


class ExactMarkov(FiniteContextModel):
    """The law of a symmetric Markov chain: the first symbol is uniform, then each stays with probability 1 - flip_probability
    and moves to each other symbol with probability flip_probability / (alphabet_size - 1).

    It costs the chain's entropy rate, h(p) + p log2(alphabet_size - 1) bits a symbol at flip probability p. Its coding table is
    the law in steps of 2^-frequency_bits, every entry at least one step; `log_probabilities` are those of the table.
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = ("The model exact_markov is told the parameters of the source.",)

    flip_probability: float | None = Field(None, ge=0, le=1, description="chance of leaving a symbol; default: the source's")
    alphabet_size: int = Field(2, ge=2, le=1024, description="number of symbol values")

    @property
    def vocab_size(self) -> int:
        return self.alphabet_size

    @property
    def context_length(self) -> int:
        return 1

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        if self.flip_probability is None:
            raise ValueError("flip_probability of model exact_markov must be given, got none: set it, or use source markov, "
                             "which tells it")
        return _tables(self.flip_probability, self.alphabet_size, self.frequency_bits)[state[:, -1]]


@lru_cache(maxsize=64)
def _tables(flip_probability: float, alphabet_size: int, frequency_bits: int) -> np.ndarray:
    """int64 [alphabet_size + 1, alphabet_size]: the table after each symbol; the last row, -1, is the first symbol's."""
    total = 1 << frequency_bits
    # one rounding, of a product with a power of two, which is exact; everything after it is integer
    moving = min(max(round(flip_probability * total), alphabet_size - 1), total - 1)
    tables = np.empty((alphabet_size + 1, alphabet_size), np.int64)
    for symbol in range(alphabet_size):
        tables[symbol] = np.insert(even_split(moving, alphabet_size - 1), symbol, total - moving)
    tables[-1] = even_split(total, alphabet_size)
    tables.flags.writeable = False
    return tables
