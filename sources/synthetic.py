"""Binary sources whose law is known, so that every rule can be held against the exact optimum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.keys import Key
from channel_sim.stages import Source
from channel_sim.types import Item


class SymbolSource(Source):
    """Items are uint8 vectors [num_symbols] of 0 and 1. Draws are prefix-stable: a longer item begins with the shorter one."""

    modality: ClassVar[str] = "symbols"

    num_symbols: int = Field(1024, ge=1, description="symbols of an item")

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        kind = type(self).__name__
        return [Item(self._draw(key), self.modality, f"{kind}[{index}]") for index, key in zip(indices, keys, strict=True)]

    @abstractmethod
    def _draw(self, key: Key) -> np.ndarray:
        """Draw uint8 [num_symbols]."""


class Bernoulli(SymbolSource):
    """Independent symbols, 1 with `probability`: a source without memory, on which no prior restores better than a guess."""

    probability: float = Field(0.5, ge=0, le=1, description="probability of a 1")

    def _draw(self, key: Key) -> np.ndarray:
        return (key.child("symbols").uniform(self.num_symbols) < self.probability).astype(np.uint8)


class Markov(SymbolSource):
    """The symmetric binary Markov chain: x_0 uniform, x_i = x_{i-1} xor (u_i < flip_probability).

    The uniform start is the stationary law, so every symbol is fair by itself; entropy rate h(flip_probability).
    """

    flip_probability: float = Field(0.1, gt=0, lt=1, description="probability that a symbol differs from the one before")

    def _draw(self, key: Key) -> np.ndarray:
        uniform = key.child("symbols").uniform(self.num_symbols)
        flips = uniform < self.flip_probability
        flips[0] = uniform[0] < 0.5
        return np.bitwise_xor.accumulate(flips.astype(np.uint8))


class HiddenMarkov(Markov):
    """A symmetric binary Markov chain seen through a binary symmetric channel; the item is what is seen.

        chain x (flip_probability) ─▶ BSC(observation_error) ─▶ item y

    For one key the hidden chain is that of `Markov`.

    Source: Y. Ephraim and N. Merhav, "Hidden Markov processes", IEEE Trans. Inf. Theory 48 (2002).
    """

    observation_error: float = Field(0.05, ge=0, le=1, description="probability that a symbol is seen as the other one")

    def _draw(self, key: Key) -> np.ndarray:
        errors = key.child("observation").uniform(self.num_symbols) < self.observation_error
        return super()._draw(key) ^ errors.astype(np.uint8)
