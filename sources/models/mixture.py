"""Two predictors of text in one: what a table of n-grams remembers and what a recurrent network understands."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sources.models.model import CausalModel
from sources.models.neural import TextByteSmall
from sources.models.ngram import NGram


class TextByteMixed(CausalModel):
    """English text byte by byte: the mean of the tables of `ngram` and `text-byte-small`, the shipped ones.

    The n-gram knows rare strings, the network what lies further back than eight bytes; half of each is better than either. In
    integers: the two tables are added and halved, rounding down, and the first odd sums get the half that is missing.

    Source: F. Jelinek, R. L. Mercer, "Interpolated estimation of Markov source parameters from sparse data", Pattern Recognition
    in Practice (1980), with equal weights.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Jelinek and Mercer, Pattern Recognition in Practice (1980)"

    @property
    def vocab_size(self) -> int:
        return 256

    def start(self, num_lanes: int) -> np.ndarray:
        """int32 [lanes, context_length + hidden]: the state of the n-gram, then that of the network."""
        return np.concatenate([part.start(num_lanes) for part in (NGram(), TextByteSmall())], axis=1)

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        table, network = self._parts(state)
        return np.concatenate([NGram().advance(table, tokens), TextByteSmall().advance(network, tokens)], axis=1)

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        table, network = self._parts(state)
        return _mean(NGram().frequencies(table), TextByteSmall().frequencies(network))

    def tables(self, state: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table, network = self._parts(state)
        first, table = NGram().tables(table, values)
        second, network = TextByteSmall().tables(network, values)
        return _mean(first, second), np.concatenate([table, network], axis=1)

    def digests(self) -> dict[str, str]:
        return {"ngram": NGram().digests()["path"], "text-byte-small": TextByteSmall().digests()["path"]}

    @property
    def shared_bytes(self) -> int:
        return NGram().shared_bytes + TextByteSmall().shared_bytes

    @staticmethod
    def _parts(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        length = NGram().context_length
        return state[:, :length], np.ascontiguousarray(state[:, length:])


def _mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 [lanes, vocab] with the common sum of both, every entry at least 1."""
    total = first + second
    odd = total & 1  # as many as the sum is even, so half of them is whole
    return (total >> 1) + (odd & (np.cumsum(odd, axis=1) & 1))
