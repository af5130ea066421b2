"""Cyclic redundancy checks of 5G, on bits."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numba import njit

CrcName = Literal["none", "crc6", "crc11", "crc16", "crc24a", "crc24b", "crc24c"]

CRC_BITS: dict[str, int] = {"none": 0, "crc6": 6, "crc11": 11, "crc16": 16, "crc24a": 24, "crc24b": 24, "crc24c": 24}
_GENERATORS = {"crc6": 0x21, "crc11": 0x621, "crc16": 0x1021, "crc24a": 0x864CFB, "crc24b": 0x800063, "crc24c": 0xB2B117}


def crc(bits: np.ndarray, name: CrcName) -> np.ndarray:
    """uint8 [CRC_BITS[name]]: the check bits of 0/1 `bits`, most significant first, register started at zero.

    With a zero start the code is linear: received bits followed by their received check have the CRC of the error pattern,
    and a pattern whose CRC is zero goes undetected.

    Source: 3GPP TS 38.212, "Multiplexing and channel coding", section 5.1 (2018).
    """
    length = CRC_BITS[name]
    if length == 0:
        return np.zeros(0, np.uint8)
    remainder = crc_remainder(np.ascontiguousarray(bits, dtype=np.uint8), _GENERATORS[name], length)
    return ((remainder >> np.arange(length)[::-1]) & 1).astype(np.uint8)


@lru_cache(maxsize=256)
def crc_of_flips(num_bits: int, name: CrcName) -> np.ndarray:
    """int64 [num_bits + CRC_BITS[name]]: the CRC, as a number, of one wrong bit at each place of `num_bits` bits and their check.

    The code is linear: wrong bits together have the exclusive or of theirs, and that must be the CRC of what was received.
    """
    length = CRC_BITS[name]
    remainders = np.zeros(num_bits + length, np.int64)
    remainder = 1
    for place in range(num_bits + length - 1, -1, -1) if length else ():
        remainders[place] = remainder
        remainder <<= 1
        if remainder >> length:
            remainder ^= 1 << length | _GENERATORS[name]
    remainders.setflags(write=False)
    return remainders


@njit(cache=True)
def crc_remainder(bits: np.ndarray, generator: int, length: int) -> int:
    """The check bits of `bits` as a number; for use inside compiled functions."""
    register, top, mask = 0, length - 1, (1 << length) - 1
    for bit in bits:
        feedback = ((register >> top) & 1) ^ bit
        register = (register << 1) & mask
        if feedback:
            register ^= generator
    return register
