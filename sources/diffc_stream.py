"""The progressive stream of DiffC: numbers of chunks under laws that both ends know, so that any prefix settles what it can.

    number n ─▶ octave floor(log2 n), by Zipf's law, and log2 n bits within it ─▶ range coder ─▶ bytes ─▶ the same, until they end
"""

from __future__ import annotations

import numpy as np
from scipy.special import zeta

from sources.entropy import Lane, Writer, coding_weights
from sources.reverse_channel import MOST_CANDIDATES

_FREQUENCY_BITS = 22
_PIECE_BITS = 8
_NUM_OCTAVES = MOST_CANDIDATES.bit_length()
_CLOSING_BITS = 3  # a quarter of what is left of the interval, and what rounding of tables may cost
_ENDLESS = range(1 << 40)
Symbol = tuple[int, np.ndarray]
"""A symbol, and the frequencies int64 [symbols] of sum 2^22 that code it."""


def table(probabilities: np.ndarray) -> np.ndarray:
    """int64 [n]: frequencies of sum 2^22, each at least 1."""
    total = 1 << _FREQUENCY_BITS
    frequencies = 1 + np.floor(probabilities * (total - probabilities.size)).astype(np.int64)
    frequencies[np.argmax(frequencies)] += total - frequencies.sum()
    return frequencies


def octaves(information_bits: float) -> np.ndarray:
    """Frequencies of the octaves of a chunk's number under p(n) ~ n^-(1 + 1 / (I + log2(e) / e + 1)).

    Source: C. T. Li, A. El Gamal, "Strong functional representation lemma and applications to coding theorems", IEEE Trans. Inf.
    Theory 64 (2018), proof of theorem 1.
    """
    exponent = 1 + 1 / (information_bits + np.exp(-1) / np.log(2) + 1)
    above = zeta(exponent, 2.0 ** np.arange(_NUM_OCTAVES + 1))
    return table((above[:-1] - above[1:]) / (above[0] - above[-1]))


def symbols_of_number(number: int, information_bits: float) -> list[Symbol]:
    """The number of a candidate, from 1, of a chunk that tells so much on average."""
    octave = number.bit_length() - 1
    return [(octave, octaves(information_bits)), *symbols_of_bits(number - (1 << octave), octave)]


def symbols_of_bits(value: int, num_bits: int) -> list[Symbol]:
    """`num_bits` bits that no law is known of, most significant first."""
    symbols = []
    while num_bits:
        piece = min(num_bits, _PIECE_BITS)
        num_bits -= piece
        symbols.append((value >> num_bits & ((1 << piece) - 1), _uniform(piece)))
    return symbols


def cost_bits(symbols: list[Symbol]) -> float:
    return sum(_FREQUENCY_BITS - float(np.log2(frequencies[value])) for value, frequencies in symbols)


class StreamWriter:
    """Symbols on their way out."""

    def __init__(self) -> None:
        self._writer, self._bits = Writer(), 0.0

    @property
    def num_bytes(self) -> int:
        """Of the stream so far."""
        return int(np.ceil((self._bits + _CLOSING_BITS) / 8)) if self._bits else 0

    def write(self, symbols: list[Symbol]) -> None:
        for value, frequencies in symbols:
            self._writer.write(np.array([value], np.int32), coding_weights(frequencies[None], _FREQUENCY_BITS))
        self._bits += cost_bits(symbols)

    def stream(self) -> np.ndarray:
        """uint8 [num_bytes]: bytes that settle all symbols, whatever may come after them. Nothing can be written then."""
        length = self.num_bytes
        # the middle of what is left: a stream that stays in there after its last bit, too
        self._writer.write(np.array([1 << _PIECE_BITS - 1], np.int32), coding_weights(_uniform(_PIECE_BITS)[None], _FREQUENCY_BITS))
        octets = np.packbits(self._writer.stream())
        return np.pad(octets, (0, max(0, length - octets.size)))[:length]


class StreamReader:
    """Symbols of a stream of which the first bytes came, as far as they settle them."""

    def __init__(self, octets: np.ndarray) -> None:
        self._lane = Lane(np.unpackbits(octets.astype(np.uint8)), _ENDLESS, complete=False)

    def symbol(self, frequencies: np.ndarray) -> int | None:
        """The next symbol; None where the bytes end before it does, and ever after."""
        value = self._lane.step(coding_weights(frequencies[None], _FREQUENCY_BITS))
        return None if self._lane.done else value

    def bits(self, num_bits: int) -> int | None:
        value = 0
        while num_bits:
            piece = min(num_bits, _PIECE_BITS)
            num_bits -= piece
            symbol = self.symbol(_uniform(piece))
            if symbol is None:
                return None
            value = value << piece | symbol
        return value

    def number(self, information_bits: float) -> int | None:
        octave = self.symbol(octaves(information_bits))
        rest = None if octave is None else self.bits(octave)
        return None if octave is None or rest is None else (1 << octave) + rest


def _uniform(num_bits: int) -> np.ndarray:
    return np.full(1 << num_bits, 1 << (_FREQUENCY_BITS - num_bits), np.int64)
