"""Gray-labelled constellations: bits to complex symbols, and equalised symbols to LLRs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

BITS_PER_SYMBOL = {"bpsk": 1, "qpsk": 2, "qam16": 4, "qam64": 6, "qam256": 8}
TINY = 1e-280


@lru_cache(maxsize=None)
def rail(num_bits: int) -> np.ndarray:
    """float64 [2^num_bits]: amplitudes of one rail (in phase or quadrature), mean square 1; index = bits, first most significant.

    Source: 3GPP TS 38.211, "Physical channels and modulation", section 5.1 (2018).
    """
    bits = (np.arange(2 ** num_bits)[:, None] >> np.arange(num_bits)[::-1]) & 1
    amplitudes = np.ones(2 ** num_bits)
    for place in range(num_bits - 1, 0, -1):
        amplitudes = 2 ** (num_bits - place) - (1 - 2 * bits[:, place]) * amplitudes
    amplitudes = (1 - 2 * bits[:, 0]) * amplitudes
    normalised = amplitudes / np.sqrt(np.mean(amplitudes ** 2))
    normalised.flags.writeable = False
    return normalised


@lru_cache(maxsize=None)
def constellation(bits_per_symbol: int) -> np.ndarray:
    """complex128 [2^bits_per_symbol], mean energy 1; index = label, first bit most significant.

    One bit a symbol is antipodal on the real axis, bit 0 at +1; otherwise bits 0, 2, … choose the in-phase rail, 1, 3, … the other.
    """
    if bits_per_symbol == 1:
        points = rail(1).astype(np.complex128)
    else:
        labels, half = np.arange(2 ** bits_per_symbol), bits_per_symbol // 2
        bits = (labels[:, None] >> np.arange(bits_per_symbol)[::-1]) & 1
        weights = 1 << np.arange(half)[::-1]
        points = (rail(half)[bits[:, 0::2] @ weights] + 1j * rail(half)[bits[:, 1::2] @ weights]) * np.sqrt(0.5)
    points.flags.writeable = False
    return points


def modulate(bits: np.ndarray, bits_per_symbol: int) -> np.ndarray:
    """complex128 [num_symbols] from 0/1 uint8 of any shape whose size is num_symbols * bits_per_symbol."""
    of_symbol = bits.reshape(-1, bits_per_symbol)
    labels = of_symbol[:, 0].astype(np.uint8)
    for place in range(1, bits_per_symbol):
        labels = (labels << 1) | of_symbol[:, place]
    return constellation(bits_per_symbol)[labels]


def demodulate(symbols: np.ndarray, noise: np.ndarray, bits_per_symbol: int) -> np.ndarray:
    """float32 [num_symbols, bits_per_symbol] = ln P(1)/P(0) of each bit, the others of its symbol unknown: exact, no max-log.

    symbols: complex128 [num_symbols], equalised: point plus circular Gaussian noise
    noise:   float64 [num_symbols], its variance E|n|^2
    """
    llr = np.empty((symbols.size, bits_per_symbol), np.float32)
    rails = 1 if bits_per_symbol == 1 else 2
    amplitudes = rail(bits_per_symbol // rails) / np.sqrt(rails)
    parts = np.ascontiguousarray(symbols, dtype=np.complex128).view(np.float64)  # in phase, quadrature, in phase, …
    _demodulate(parts, np.ascontiguousarray(noise, dtype=np.float64), amplitudes, rails, llr)
    return llr


@njit(cache=True, nogil=True)
def _demodulate(parts: np.ndarray, noise: np.ndarray, amplitudes: np.ndarray, rails: int, llr: np.ndarray) -> None:
    num_levels, num_bits = amplitudes.size, llr.shape[1] // rails
    exponents, weights = np.empty(num_levels), np.empty(num_levels)
    for symbol in range(noise.size):
        for axis in range(rails):
            received = parts[2 * symbol + axis]
            if num_bits == 1:
                llr[symbol, axis] = -4 * received * amplitudes[0] / noise[symbol]
                continue
            for level in range(num_levels):
                exponents[level] = (2 * received - amplitudes[level]) * amplitudes[level] / noise[symbol]
            highest = exponents.max()
            for level in range(num_levels):
                weights[level] = np.exp(exponents[level] - highest)
            for place in range(num_bits):
                llr[symbol, place * rails + axis] = _ratio(exponents, weights, num_bits - 1 - place, highest)


@njit(cache=True, nogil=True)
def _ratio(exponents: np.ndarray, weights: np.ndarray, shift: int, highest: float) -> float:
    """ln of the weights of levels whose bit `shift` is 1 over those where it is 0."""
    ones, zeros, high_one, high_zero = 0.0, 0.0, -np.inf, -np.inf
    for level in range(weights.size):
        if (level >> shift) & 1:
            ones, high_one = ones + weights[level], max(high_one, exponents[level])
        else:
            zeros, high_zero = zeros + weights[level], max(high_zero, exponents[level])
    # a side far below the other has no weight left: there its nearest level alone is the sum
    of_one = np.log(ones) + highest if ones > TINY else high_one
    of_zero = np.log(zeros) + highest if zeros > TINY else high_zero
    return of_one - of_zero
