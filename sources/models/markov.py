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
    and moves to each other symbol with probability flip_probability / (num_symbols - 1).

    It costs the chain's entropy rate, h(p) + p log2(num_symbols - 1) bits a symbol at flip probability p. Its coding table is
    the law in steps of 2^-frequency_bits, every entry at least one step; `log_probabilities` are those of the table.
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = ("The model exact_markov is told the parameters of the source.",)

    flip_probability: float | None = Field(None, ge=0, le=1, description="chance of leaving a symbol; default: the source's")
    num_symbols: int | None = Field(None, ge=2, le=1024, description="number of symbols; default: the source's")

    @property
    def vocab_size(self) -> int:
        return int(self._told("num_symbols"))

    @property
    def context_length(self) -> int:
        return 1

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        return _tables(float(self._told("flip_probability")), self.vocab_size, self.frequency_bits)[state[:, -1]]

    def _told(self, key: str) -> float:
        value: float | None = getattr(self, key)
        if value is None:
            raise ValueError(f"{key} of model exact_markov must be given, got none: set it, or use source markov, which tells it")
        return value


@lru_cache(maxsize=64)
def _tables(flip_probability: float, num_symbols: int, frequency_bits: int) -> np.ndarray:
    """int64 [num_symbols + 1, num_symbols]: the table after each symbol; the last row, index -1, is that of the first symbol."""
    total = 1 << frequency_bits
    # one rounding, of a product that is exact in binary; everything after it is integer
    moving = min(max(round(flip_probability * total), num_symbols - 1), total - 1)
    tables = np.empty((num_symbols + 1, num_symbols), np.int64)
    for symbol in range(num_symbols):
        tables[symbol] = np.insert(even_split(moving, num_symbols - 1), symbol, total - moving)
    tables[-1] = even_split(total, num_symbols)
    tables.flags.writeable = False
    return tables
