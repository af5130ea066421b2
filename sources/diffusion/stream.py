"""The progressive stream of DiffC: numbers of chunks under laws that both ends know, so that any prefix settles what it can.

    number n ─▶ octave floor(log2 n), by Zipf's law, and log2 n bits within it ─▶ range coder ─▶ bytes ─▶ the same, until they end
"""

from __future__ import annotations

import constriction
import numpy as np
from scipy.special import zeta

from sources.diffusion.reverse_channel import MOST_CANDIDATES
from sources.entropy import Writer, coding_weights, unseal

_FREQUENCY_BITS = 22
_PIECE_BITS = 8
_NUM_OCTAVES = MOST_CANDIDATES.bit_length()
_CLOSING_BITS = 3  # a quarter of what is left of the interval, and what rounding of tables may cost
_TABLE = constriction.stream.model.Categorical(perfect=False)
Symbols = tuple[np.ndarray, np.ndarray]
"""Symbols int32 [n], and the frequencies int64 [n, alphabet] of sum 2^22 that code each."""


def table(probabilities: np.ndarray) -> np.ndarray:
    """int64 [n, alphabet]: frequencies of sum 2^22, each at least 1, of probabilities float64 [n, alphabet]."""
    total = 1 << _FREQUENCY_BITS
    frequencies = 1 + np.floor(probabilities * (total - probabilities.shape[1])).astype(np.int64)
    rows = np.arange(len(frequencies))
    frequencies[rows, np.argmax(frequencies, axis=1)] += total - frequencies.sum(axis=1)
    return frequencies


def octaves(information_bits: float) -> np.ndarray:
    """Frequencies [1, octaves] of the octave of a chunk's number under p(n) ~ n^-(1 + 1 / (I + log2(e) / e + 1)).

    Source: C. T. Li, A. El Gamal, "Strong functional representation lemma and applications to coding theorems", IEEE Trans. Inf.
    Theory 64 (2018), proof of theorem 1.
    """
    exponent = 1 + 1 / (information_bits + np.exp(-1) / np.log(2) + 1)
    above = zeta(exponent, 2.0 ** np.arange(_NUM_OCTAVES + 1))
    return table((above[:-1] - above[1:])[None] / (above[0] - above[-1]))


def symbols_of_number(number: int, information_bits: float) -> list[Symbols]:
    """The number of a candidate, from 1, of a chunk that tells so much on average."""
    octave = number.bit_length() - 1
    return [(np.array([octave], np.int32), octaves(information_bits)), *symbols_of_bits(number - (1 << octave), octave)]


def symbols_of_bits(value: int, num_bits: int) -> list[Symbols]:
    """`num_bits` bits that no law is known of, most significant first."""
    symbols = []
    while num_bits:
        piece = min(num_bits, _PIECE_BITS)
        num_bits -= piece
        symbols.append((np.array([value >> num_bits & ((1 << piece) - 1)], np.int32), _uniform(piece)))
    return symbols


def cost_bits(symbols: list[Symbols]) -> float:
    costs = [_FREQUENCY_BITS - np.log2(frequencies[np.arange(values.size), values]) for values, frequencies in symbols]
    return sum(float(cost.sum()) for cost in costs)


class StreamWriter:
    """Symbols on their way out."""

    def __init__(self) -> None:
        self._writer, self._bits = Writer(), 0.0

    @property
    def num_bytes(self) -> int:
        """Of the stream so far."""
        return int(np.ceil((self._bits + _CLOSING_BITS) / 8)) if self._bits else 0

    def write(self, symbols: list[Symbols]) -> None:
        for values, frequencies in symbols:
            self._writer.write(values, coding_weights(frequencies, _FREQUENCY_BITS))
        self._bits += cost_bits(symbols)

    def stream(self) -> np.ndarray:
        """uint8 [num_bytes]: bytes that settle all symbols, whatever may come after them. Nothing can be written then."""
        length = self.num_bytes
        # the middle of what is left: a stream that stays in there after its last bit, too
        self._writer.write(np.array([1 << _PIECE_BITS - 1], np.int32), coding_weights(_uniform(_PIECE_BITS), _FREQUENCY_BITS))
        octets = np.packbits(self._writer.stream())
        return np.pad(octets, (0, max(0, length - octets.size)))[:length]


class StreamReader:
    """Symbols of a stream of which the first bytes came, as far as they settle them."""

    def __init__(self, octets: np.ndarray) -> None:
        bits = np.unpackbits(octets.astype(np.uint8))
        self._decoders = [unseal(bits, tail) for tail in (0, 1)]  # where they agree, nothing that may follow matters
        self._ended = False

    def symbols(self, frequencies: np.ndarray) -> np.ndarray:
        """int32 [k], the next symbols, k <= n = len(frequencies): fewer where the bytes end before they do, and none ever after."""
        if self._ended:
            return np.zeros(0, np.int32)
        found = self._settled(coding_weights(frequencies, _FREQUENCY_BITS))
        self._ended = found.size < len(frequencies)
        return found

    def bits(self, num_bits: int) -> int | None:
        """So many bits as a number; None where the bytes end before they do."""
        value = 0
        while num_bits:
            piece = min(num_bits, _PIECE_BITS)
            num_bits -= piece
            found = self.symbols(_uniform(piece))
            if not found.size:
                return None
            value = value << piece | int(found[0])
        return value

    def number(self, information_bits: float) -> int | None:
        octave = self.symbols(octaves(information_bits))
        rest = self.bits(int(octave[0])) if octave.size else None
        return None if rest is None else (1 << int(octave[0])) + rest

    def _settled(self, weights: np.ndarray) -> np.ndarray:
        before = [decoder.clone() for decoder in self._decoders]
        try:
            low, high = (decoder.decode(_TABLE, weights) for decoder in self._decoders)
        except AssertionError:  # constriction's word for data that no encoder makes; what came before it stands
            self._decoders, half = before, len(weights) // 2
            found = self._settled(weights[:half]) if half else np.zeros(0, np.int32)
            return found if found.size < half or not half else np.concatenate([found, self._settled(weights[half:])])
        differ = np.flatnonzero(low != high)
        return low[:differ[0]] if differ.size else low


def _uniform(num_bits: int) -> np.ndarray:
    return np.full((1, 1 << num_bits), 1 << (_FREQUENCY_BITS - num_bits), np.int64)
