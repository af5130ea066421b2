"""What a JPEG file with holes still shows: its scan cut at the restart markers, and put together again with nothing in the holes.

    file with holes ─▶ head ─▶ cut at markers ─▶ count whole MCUs before each hole ─▶ sound file + what it does not show

Source: ITU-T Recommendation T.81 (1992): markers B.1.1, restart intervals B.2.4.4 and F.1.1.5, Huffman decoding F.2.2.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import NamedTuple

import numpy as np

_BASELINE, _START_OF_SCAN, _HUFFMAN, _INTERVAL, _END = (0xC0, 0xC1), 0xDA, 0xC4, 0xDD, b"\xff\xd9"
_OTHER_FRAMES = {*range(0xC2, 0xD0)} - {_HUFFMAN, 0xC8, 0xCC}
_COEFFICIENTS = 64
_MOST_AHEAD = 2
"""Restart markers that damage without a hole may have swallowed; a number further ahead is damage itself."""


class Code(NamedTuple):
    """A Huffman code. limits[k]: the first 16 bits from which on a code word is longer than k + 1; word k + 1 bits long, of which
    the first is first[k], stands for symbols[offset[k] + word - first[k]]."""

    limits: list[int]
    first: list[int]
    offset: list[int]
    symbols: bytes


class Scan(NamedTuple):
    """What the head of a baseline file says: where the scan starts, how MCUs lie in the picture, and how blocks are coded.

    blocks: for each block of an MCU its codes (DC, AC); interval: MCUs between restart markers
    """

    start: int
    num_rows: int
    num_columns: int
    mcu_height: int
    mcu_width: int
    interval: int
    blocks: list[tuple[Code, Code]]

    @property
    def num_mcus(self) -> int:
        return self.num_rows * self.num_columns


def without_holes(data: bytes, lost: np.ndarray, height: int, width: int) -> tuple[bytes, np.ndarray] | None:
    """(a file without holes, missing bool [height, width]) from a file of which bool [len(data)] bytes are `lost`.

    An MCU counts as missing unless all its bits arrived after the start of its restart interval; in the file given back it is
    grey. None where a byte of the head is lost, or the head is not that of a baseline picture of this size.

    A hole may swallow restart markers, whose numbers count modulo 8: which one comes next is told by its number and by how many
    the hole's length would hold on average. That is a guess, and wrong where intervals differ by more than four of them.
    """
    try:
        scan = read_head(data[:int(np.argmax(lost)) if lost.any() else len(data)], height, width)
    except (IndexError, KeyError, struct.error, ZeroDivisionError):
        return None
    if scan is None:
        return None
    pieces = _pieces(data[scan.start:], lost[scan.start:], scan)
    missing = np.ones(scan.num_mcus, bool)
    parts = [data[:scan.start]]
    num_intervals = -(-scan.num_mcus // scan.interval)
    for index in range(num_intervals):
        begin = index * scan.interval
        size = min(scan.interval, scan.num_mcus - begin)
        piece, cut = pieces.get(index, (b"", True))
        missing[begin:begin + (whole_mcus(piece, scan, size) if cut else size)] = False
        parts += [piece, bytes([0xFF, 0xD0 + index % 8]) if index < num_intervals - 1 else _END]
    mask = missing.reshape(scan.num_rows, scan.num_columns).repeat(scan.mcu_height, 0).repeat(scan.mcu_width, 1)
    return b"".join(parts), mask[:height, :width]


def _pieces(body: bytes, lost: np.ndarray, scan: Scan) -> dict[int, tuple[bytes, bool]]:
    """Restart interval -> (its bytes as far as they are known, whether it was cut off)."""
    pieces: dict[int, tuple[bytes, bool]] = {}
    num_intervals = -(-scan.num_mcus // scan.interval)
    holes = np.flatnonzero(lost)
    index = begin = 0
    for end, number in _markers(body, lost):
        if index >= num_intervals:
            break
        after = int(np.searchsorted(holes, begin))
        hole = int(holes[after]) if after < holes.size and holes[after] < end else None
        ended = index
        if number is not None:
            ahead = (number - index) % 8
            if hole is not None:
                expected = (end - begin) * num_intervals / len(body) - 1
                ahead += 8 * max(0, round((expected - ahead) / 8))
            elif ahead > _MOST_AHEAD:
                continue
            while index + ahead > num_intervals - 2 and ahead >= 8:
                ahead -= 8
            if index + ahead > num_intervals - 2:
                continue
            ended += ahead
        piece = body[begin:end if hole is None else hole]
        # half of an escaped 0xFF would read as a marker
        pieces[index] = (piece.removesuffix(b"\xff") if hole is not None else piece, hole is not None)
        index, begin = ended + 1, end + 2
    return pieces


def _markers(body: bytes, lost: np.ndarray) -> list[tuple[int, int | None]]:
    """(place, number) of the restart markers that arrived, in order; then the end of the scan, whose number is None."""
    data = np.frombuffer(body, np.uint8)
    if data.size < 2:
        return [(data.size, None)]
    found = np.flatnonzero((data[:-1] == 0xFF) & ((data[1:] & 0xF8) == 0xD0) & ~lost[:-1] & ~lost[1:])
    ends = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] == 0xD9) & ~lost[:-1] & ~lost[1:])
    end = int(ends[0]) if ends.size else data.size
    return [(int(place), int(data[place + 1]) & 7) for place in found if place < end] + [(end, None)]


def whole_mcus(piece: bytes, scan: Scan, at_most: int) -> int:
    """How many MCUs the bits of the start of a restart interval hold to the last bit."""
    bits = piece.replace(b"\xff\x00", b"\xff")
    num_bits, padded = 8 * len(bits), bits + bytes(8)
    place = 0
    for mcu in range(at_most):
        for dc, ac in scan.blocks:
            position, code = 0, dc
            while position < _COEFFICIENTS:
                byte = place >> 3
                ahead = (padded[byte] << 16 | padded[byte + 1] << 8 | padded[byte + 2]) >> (8 - (place & 7)) & 0xFFFF
                length = bisect_right(code.limits, ahead)
                if length == 16:
                    return mcu
                symbol = code.symbols[code.offset[length] + (ahead >> (15 - length)) - code.first[length]]
                size = symbol & 15
                place += length + 1 + size
                if place > num_bits:
                    return mcu
                if code is dc and position == 0:
                    position, code = 1, ac
                elif size or symbol == 0xF0:
                    position += (symbol >> 4) + 1
                else:
                    break
    return at_most


def read_head(data: bytes, height: int, width: int) -> Scan | None:
    """The head of a baseline picture [height, width] in one scan; None where it is another, IndexError or the like if it is cut."""
    place, interval = 2, 0
    codes: dict[int, Code] = {}
    components: dict[int, tuple[int, int]] = {}
    if data[:2] != b"\xff\xd8":
        return None
    while True:
        mark, kind, length = data[place], data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        segment = data[place + 4:place + 2 + length]
        if mark != 0xFF or kind in _OTHER_FRAMES or len(segment) != length - 2:
            return None
        place += 2 + length
        if kind in _BASELINE:
            if struct.unpack_from(">BHH", segment) != (8, height, width):
                return None
            components = {segment[at]: (segment[at + 1] >> 4, segment[at + 1] & 15) for at in range(6, 6 + 3 * segment[5], 3)}
        elif kind == _HUFFMAN:
            codes |= _codes(segment)
        elif kind == _INTERVAL:
            interval = struct.unpack(">H", segment)[0]
        elif kind == _START_OF_SCAN:
            return _scan(place, segment, components, codes, interval, height, width)


def _scan(start: int, segment: bytes, components: dict[int, tuple[int, int]], codes: dict[int, Code], interval: int,
          height: int, width: int) -> Scan | None:
    chosen = [(segment[at], segment[at + 1]) for at in range(1, 1 + 2 * segment[0], 2)]
    if not components or len(chosen) != len(components):
        return None
    across, down = (max(sampling[axis] for sampling in components.values()) for axis in (0, 1))
    if len(chosen) == 1:
        across = down = 1  # the MCU of a single component is one block, however it is sampled
    blocks = []
    for component, tables in chosen:
        num_blocks = components[component][0] * components[component][1] if len(chosen) > 1 else 1
        blocks += [(codes[tables >> 4], codes[0x10 | tables & 15])] * num_blocks
    if not blocks:
        return None
    num_rows, num_columns = -(-height // (8 * down)), -(-width // (8 * across))
    return Scan(start, num_rows, num_columns, 8 * down, 8 * across, interval or num_rows * num_columns, blocks)


def _codes(segment: bytes) -> dict[int, Code]:
    """Class and number of a Huffman table -> its code."""
    codes, place = {}, 0
    while place < len(segment):
        counts = segment[place + 1:place + 17]
        symbols = segment[place + 17:place + 17 + sum(counts)]
        if len(counts) < 16 or len(symbols) < sum(counts):
            raise IndexError("a Huffman table is cut off")
        codes[segment[place]] = _code(counts, symbols)
        place += 17 + sum(counts)
    return codes


def _code(counts: bytes, symbols: bytes) -> Code:
    word = taken = 0
    limits, first, offset = [], [], []
    for length, count in enumerate(counts, start=1):
        first.append(word)
        offset.append(taken)
        word, taken = word + count, taken + count
        limits.append(min(word << (16 - length), 1 << 16))
        word <<= 1
    return Code(limits, first, offset, symbols)
