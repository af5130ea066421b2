"""Synthetic sources whose law is known, so that every rule can be held against the exact optimum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numba import njit
from pydantic import Field, model_validator

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
        return super()._draw(key) ^ _seen_wrong(self.observation_error, self.num_symbols, key)


class XorK(SymbolSource):
    """Every symbol is the exclusive or of earlier ones: hard to see for statistics of short contexts, free once the rule is known.

        x_0 … x_{k-1} fair and independent;   x_n = x_{n-k} xor (x_{n-l}, all l in `lags`) xor w_n,   P(w_n = 1) = flip_probability

    With `lags` = (1,), the default, the rule of DeepZip; more lags make rules that are harder to find. Entropy rate
    h(flip_probability), so 0 by default. A start of k zeros is as likely as any other, and without innovations stays at zero.
    Without them the sequence is also periodic, with a period of at most 2^k - 1 symbols, most often 889 for k = 10 and 761,763 for
    k = 20: a short period is what any dictionary coder finds.

    Source: M. Goyal, K. Tatwawadi, S. Chandak, I. Ochoa, "DeepZip: lossless data compression using recurrent neural networks",
    arXiv 1811.08162 (2018), section 4.2 (XOR-k).
    """

    k: int = Field(20, ge=2, description="longest lag, and symbols of the random start")
    lags: tuple[int, ...] = Field((1,), description="lags that enter the rule beside k, each from 1 to k - 1")
    flip_probability: float = Field(0.0, ge=0, le=0.5, description="probability that a symbol differs from what the rule says")

    @model_validator(mode="after")
    def _lags_are_shorter(self) -> Self:
        if len(set(self.lags)) < len(self.lags) or not all(1 <= lag < self.k for lag in self.lags):
            raise ValueError(f"lags must be different numbers from 1 to k - 1 = {self.k - 1}, got {list(self.lags)}")
        return self

    def _draw(self, key: Key) -> np.ndarray:
        uniform = key.child("symbols").uniform(self.num_symbols)
        limits = np.where(np.arange(uniform.size) < self.k, 0.5, self.flip_probability)
        return _xored((uniform < limits).astype(np.uint8), np.array([*self.lags, self.k]))


@njit(cache=True)
def _xored(symbols: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """`symbols` uint8 [n], start and innovations, turned in place into the sequence itself; the last lag is the longest."""
    for n in range(lags[-1], symbols.size):
        for lag in lags:
            symbols[n] ^= symbols[n - lag]
    return symbols


class HmmK(XorK):
    """`xor_k` seen through a binary symmetric channel: the item is what is seen, and the rule holds for what is not.

    For one key the hidden sequence is that of `xor_k`. Without innovations the entropy rate is h(observation_error): the hidden
    sequence has k bits in all.

    Source: as of `xor_k` (HMM-k).
    """

    observation_error: float = Field(0.1, ge=0, le=1, description="probability that a symbol is seen as the other one")

    def _draw(self, key: Key) -> np.ndarray:
        return super()._draw(key) ^ _seen_wrong(self.observation_error, self.num_symbols, key)


class RandomBytes(Source):
    """Independent bytes, all values alike: nothing can be saved, so what a coder makes of them shows its overhead."""

    modality: ClassVar[str] = "bytes"

    num_bytes: int = Field(2048, ge=1, description="bytes of an item")

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        return [Item(self._draw(key), self.modality, f"RandomBytes[{index}]") for index, key in zip(indices, keys, strict=True)]

    def _draw(self, key: Key) -> bytes:
        return key.child("bytes").integers(256, self.num_bytes).astype(np.uint8).tobytes()


def _seen_wrong(observation_error: float, num_symbols: int, key: Key) -> np.ndarray:
    """uint8 [num_symbols]: the errors of a binary symmetric channel through which a source is seen."""
    return (key.child("observation").uniform(num_symbols) < observation_error).astype(np.uint8)
