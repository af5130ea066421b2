"""Polar codes of 5G: successive cancellation list decoding with the CRC that 38.212 gives the list."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from channel_sim.crc import crc_remainder
from channel_sim.sionna_blocks import FrameFormat, encoder

KNOWN_ZERO = 1e3
"""LLR of bits that shortening leaves out."""
CRC_GENERATOR, CRC_BITS = 0x621, 11


@dataclass(frozen=True, eq=False)
class PolarCode:
    """What Sionna's encoder does to a word.

    frozen:  bool [word_bits of the mother code], natural order
    places:  int64 [code_bits], the bit of the mother code word that is sent at each place
    known:   bool [word_bits], shortened: known to be 0
    zeros:   int64 [word_bits], log2 of the longest aligned stretch of frozen bits that starts at each, -1 if it is not frozen
    """

    frozen: np.ndarray
    places: np.ndarray
    known: np.ndarray
    zeros: np.ndarray


@lru_cache(maxsize=64)
def code_of(info_bits: int, code_bits: int) -> PolarCode:
    """Loads TensorFlow: frozen bits and rate matching are read from Sionna's encoder.

    Source: 3GPP TS 38.212, "Multiplexing and channel coding", sections 5.3.1 and 5.4.1 (2018).
    """
    block = encoder(FrameFormat(info_bits, code_bits, 1, "polar"))
    size = block.n_polar
    frozen = np.zeros(size, bool)
    frozen[block.frozen_pos] = True
    places = np.asarray(block._ind_rate_matching, np.int64)
    shortened = code_bits < size and (info_bits + CRC_BITS) / code_bits > 7 / 16
    known = ~np.isin(np.arange(size), places) & shortened
    zeros = np.full(size, -1)
    for stage in range(size.bit_length()):
        stretches = frozen.reshape(-1, 2 ** stage).all(axis=1)
        zeros[np.flatnonzero(stretches) * 2 ** stage] = stage
    for one in (frozen, places, known, zeros):
        one.flags.writeable = False
    return PolarCode(frozen, places, known, zeros)


def decode(llr: np.ndarray, frame: FrameFormat) -> np.ndarray:
    """bool [num_blocks, info_bits] from float32 [num_blocks, code_bits] = ln P(1)/P(0).

    Of `frame.list_size` paths the most probable one whose CRC fits, else the most probable one. Check nodes and path metrics are
    exact (no min-sum); stretches of frozen bits are taken in one step, which changes no metric. The CRC is spent here: that it
    fits says little, an outer one must detect.

    Source: I. Tal, A. Vardy, "List decoding of polar codes", IEEE Trans. Inf. Theory 61 (2015); A. Balatsoukas-Stimming,
    M. Bastani Parizi, A. Burg, "LLR-based successive cancellation list decoding of polar codes", IEEE Trans. Signal Process. 63
    (2015), eq. 10.
    """
    code = code_of(frame.info_bits, frame.code_bits)
    decided = np.zeros((len(llr), frame.info_bits), np.bool_)
    _decode(np.ascontiguousarray(llr, dtype=np.float32), code.frozen, code.places, code.known, code.zeros, frame.list_size, decided)
    return decided


@njit(cache=True, nogil=True)
def _decode(llr: np.ndarray, frozen: np.ndarray, places: np.ndarray, known: np.ndarray, zeros: np.ndarray, list_size: int,
            decided: np.ndarray) -> None:
    size, num_stages = frozen.size, 0
    while 2 ** num_stages < size:
        num_stages += 1
    # stage s of a path: 2^s LLRs and, left of the bit in work, 2^s decided bits; paths point at rows of one another
    soft, hard = np.zeros((list_size, 2 * size)), np.zeros((list_size, 2 * size), np.uint8)
    words, bits = np.zeros((list_size, size), np.uint8), np.zeros(decided.shape[1] + CRC_BITS, np.uint8)
    channel = np.zeros(size)
    for block in range(len(llr)):
        for place in range(size):
            channel[place] = KNOWN_ZERO if known[place] else 0.0
        for place in range(places.size):
            channel[places[place]] -= llr[block, place]
        metrics = _walk(channel, frozen, zeros, num_stages, soft, hard, words)
        best = -1
        for rank in np.argsort(metrics, kind="mergesort"):
            _information(words[rank], frozen, bits)
            if crc_remainder(bits, CRC_GENERATOR, CRC_BITS) == 0:
                best = rank
                break
        if best < 0:
            _information(words[np.argmin(metrics)], frozen, bits)
        for place in range(decided.shape[1]):
            decided[block, place] = bits[place] == 1


@njit(cache=True, nogil=True)
def _walk(channel: np.ndarray, frozen: np.ndarray, zeros: np.ndarray, num_stages: int, soft: np.ndarray, hard: np.ndarray,
          words: np.ndarray) -> np.ndarray:
    """float64 [list_size]: metric of each path, whose code word is left in `words`."""
    list_size = len(soft)
    metrics, leaves, values = np.full(list_size, np.inf), np.zeros(list_size), np.zeros(list_size, np.uint8)
    metrics[0], active, index = 0.0, 1, 0
    soft_at, hard_at = np.zeros((list_size, num_stages + 1), np.int64), np.zeros((list_size, num_stages + 1), np.int64)
    while index < channel.size:
        bottom = max(zeros[index], 0)
        _descend(channel, index, bottom, num_stages, active, soft, hard, soft_at, hard_at)
        if frozen[index]:
            for path in range(active):
                for place in range(2 ** bottom, 2 ** (bottom + 1)):
                    metrics[path] += _softplus(-(channel[place - 2 ** bottom] if bottom == num_stages else soft[path, place]))
            values[:] = 0
        else:
            for path in range(active):
                leaves[path] = soft[path, 1]
            active = _fork(metrics, leaves, values, active, soft_at, hard_at)
        _ascend(index, bottom, num_stages, active, values, hard, hard_at, words)
        index += 2 ** bottom
    return metrics


@njit(cache=True, nogil=True)
def _descend(channel: np.ndarray, index: int, bottom: int, num_stages: int, active: int, soft: np.ndarray, hard: np.ndarray,
             soft_at: np.ndarray, hard_at: np.ndarray) -> None:
    """LLRs from the last stage that still holds down to `bottom`; all paths rewrite a stage at once, each its own row."""
    top = num_stages
    if index > 0:
        top = 0
        while (index >> top) & 1 == 0:
            top += 1
    for stage in range(top if index > 0 else num_stages - 1, bottom - 1, -1):
        half = 2 ** stage
        for path in range(active):
            above = soft[soft_at[path, stage + 1]]
            left = hard[hard_at[path, stage]]
            for place in range(half):
                if stage + 1 == num_stages:
                    first, second = channel[place], channel[half + place]
                else:
                    first, second = above[2 * half + place], above[3 * half + place]
                if stage == top and index > 0:
                    soft[path, half + place] = second - first if left[half + place] else second + first
                else:
                    soft[path, half + place] = _boxplus(first, second)
        for path in range(active):
            soft_at[path, stage] = path


@njit(cache=True, nogil=True)
def _ascend(index: int, bottom: int, num_stages: int, active: int, values: np.ndarray, hard: np.ndarray, hard_at: np.ndarray,
            words: np.ndarray) -> None:
    """Decided bits up to the first stage at which they are a left half, or the whole word."""
    stage = bottom
    for path in range(active):
        word = words[path]
        for place in range(2 ** bottom):
            word[place] = values[path]
        stage = bottom
        while stage < num_stages and (index >> stage) & 1:
            half = 2 ** stage
            left = hard[hard_at[path, stage]]
            for place in range(half):
                word[half + place] = word[place]
                word[place] ^= left[half + place]
            stage += 1
        if stage < num_stages:
            for place in range(2 ** stage):
                hard[path, 2 ** stage + place] = word[place]
    for path in range(active):
        hard_at[path, min(stage, num_stages)] = path


@njit(cache=True, nogil=True)
def _fork(metrics: np.ndarray, leaves: np.ndarray, values: np.ndarray, active: int, soft_at: np.ndarray,
          hard_at: np.ndarray) -> int:
    """Both values of a bit on every path, of which the most probable stay: number of paths now active."""
    list_size = metrics.size
    grown = np.empty(2 * active)
    for path in range(active):
        grown[2 * path] = metrics[path] + _softplus(-leaves[path])
        grown[2 * path + 1] = metrics[path] + _softplus(leaves[path])
    kept = np.zeros(2 * active, np.bool_)
    kept[np.argsort(grown, kind="mergesort")[:list_size]] = True
    free = np.empty(list_size, np.int64)
    num_free = 0
    for path in range(list_size - 1, -1, -1):
        if path >= active or not (kept[2 * path] or kept[2 * path + 1]):
            free[num_free] = path
            num_free += 1
    for path in range(active):
        zero, one = kept[2 * path], kept[2 * path + 1]
        if zero and one:
            num_free -= 1
            copy = free[num_free]
            soft_at[copy], hard_at[copy] = soft_at[path], hard_at[path]
            metrics[copy], values[copy] = grown[2 * path + 1], 1
        if zero or one:
            metrics[path], values[path] = grown[2 * path + (not zero)], not zero
    return min(2 * active, list_size)


@njit(cache=True, nogil=True)
def _information(word: np.ndarray, frozen: np.ndarray, bits: np.ndarray) -> None:
    """The bits that are not frozen, in order, of a code word: the transform is its own inverse."""
    source, half = word.copy(), 1
    while half < source.size:
        for start in range(0, source.size, 2 * half):
            for place in range(start, start + half):
                source[place] ^= source[place + half]
        half *= 2
    count = 0
    for place in range(source.size):
        if not frozen[place]:
            bits[count] = source[place]
            count += 1


@njit(cache=True, nogil=True, inline="always")
def _softplus(x: float) -> float:
    """ln(1 + e^x)."""
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


@njit(cache=True, nogil=True, inline="always")
def _boxplus(a: float, b: float) -> float:
    """LLR of the sum modulo 2 of two bits."""
    smaller = min(abs(a), abs(b))
    exact = smaller + np.log1p(np.exp(-abs(a + b))) - np.log1p(np.exp(-abs(a - b)))
    return exact if (a < 0) == (b < 0) else -(smaller + np.log1p(np.exp(-abs(a - b))) - np.log1p(np.exp(-abs(a + b))))
