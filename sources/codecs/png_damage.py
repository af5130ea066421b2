"""What the start of a PNG file shows: its compressed data as far as they go, and a sound file of the rows that they hold.

Source: ISO/IEC 15948:2004 (PNG), 5 (chunks), 9 (filters), 10 (compression).
"""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STEP = 64
"""Bytes that are inflated at once: what zlib made before it finds an error within them is lost."""
_LAST_FILTER = 4


def without_holes(start: bytes, shape: tuple[int, ...]) -> tuple[bytes, int] | None:
    """(a sound file, how many of its rows are known) from the `start` of a file; rows past those are black.

    None where the head is not that of an 8-bit picture of `shape` [H, W, 1 or 3], or no row is known.
    """
    height, width, colours = shape
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0 if colours == 1 else 2, 0, 0, 0))
    if not start.startswith(_SIGNATURE + head):
        return None
    stride = 1 + width * colours
    data = _inflated(_compressed(start[len(_SIGNATURE) + len(head):]), height * stride)
    num_rows = len(data) // stride
    filters = data[:num_rows * stride:stride]
    num_rows = next((row for row, kind in enumerate(filters) if kind > _LAST_FILTER), num_rows)
    if not num_rows:
        return None
    rows = data[:num_rows * stride] + bytes((height - num_rows) * stride)
    return _SIGNATURE + head + _chunk(b"IDAT", zlib.compress(rows, 0)) + _chunk(b"IEND", b""), num_rows


def _compressed(chunks: bytes) -> bytes:
    """The data of all IDAT chunks, the last one as far as it came."""
    parts, place = [], 0
    while place + 8 <= len(chunks):
        length = int.from_bytes(chunks[place:place + 4])
        if chunks[place + 4:place + 8] == b"IDAT":
            parts.append(chunks[place + 8:place + 8 + length])
        place += 12 + length
    return b"".join(parts)


def _inflated(data: bytes, at_most: int) -> bytes:
    stream, parts, room = zlib.decompressobj(), [], at_most
    for place in range(0, len(data), _STEP):
        try:
            part = stream.decompress(stream.unconsumed_tail + data[place:place + _STEP], room)
        except zlib.error:
            break
        parts.append(part)
        room -= len(part)
        if not room or stream.eof:
            break
    return b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
