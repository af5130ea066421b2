"""The container of `channel-sim compress`: blocks that stand alone, each checked, with an index at the end.

    file   = "chsm" version | head, crc | block … block | end | index, its length, crc, "chsx"
    head   = bytes of the first block, bytes of the others, number of models, and of each: length of its name, name, digest (8)
    block  = kind, bytes of content, tokens, bytes of payload, payload, crc of all that and the block's number, crc of its content
    end    = a kind of 0
    index  = number of blocks, bytes of content, and of each block: its length in the file

Numbers are LEB128, CRCs CRC-32, little-endian. Kind 1 is content as it is, kind 2 + m is coded by model m. A block's own CRC tells
damage before anything is decoded, that of its content a decoder that is out of step. The index finds the blocks after one whose
length is damaged; without it they are read in turn. So a damaged block costs itself and is named.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import BinaryIO

from channel_sim.checks import RequestError

MAGIC, TRAILER_MAGIC, VERSION = b"chsm", b"chsx", 1
END, STORED, FIRST_MODEL = 0, 1, 2
DIGEST_BYTES = 8
MOST_BLOCK_BYTES = 1 << 20
_MOST_MODELS = 16
_LONGEST_NAME = 255
_TRAILER_BYTES = 12
_CRC_BYTES = 4


@dataclass(frozen=True)
class Block:
    """One block: `num_bytes` of content, of CRC-32 `content_crc`, in `num_tokens` tokens and a payload."""

    kind: int
    num_bytes: int
    num_tokens: int
    payload: bytes
    content_crc: int


@dataclass(frozen=True)
class Damaged:
    """A block that is not as it was written; `num_bytes` is how long its content was, 0 if nobody knows."""

    reason: str
    num_bytes: int


@dataclass(frozen=True)
class Layout:
    """Content bytes of the first block, which is short so that something can be read at once, and of every other but the last."""

    first_bytes: int
    block_bytes: int

    def sizes(self) -> Iterator[int]:
        yield self.first_bytes
        yield from repeat(self.block_bytes)


class Writer:
    """Writes a container to a stream, block by block; `close` adds the index."""

    def __init__(self, stream: BinaryIO, layout: Layout, models: Sequence[tuple[str, bytes]]) -> None:
        self._stream, self._lengths, self._num_bytes = stream, list[int](), 0
        head = _written((layout.first_bytes, layout.block_bytes, len(models)))
        for name, digest in models:
            assert len(digest) == DIGEST_BYTES and len(name.encode()) <= _LONGEST_NAME
            head += _written((len(name.encode()),)) + name.encode() + digest
        stream.write(MAGIC + bytes([VERSION]) + head + _crc(head))

    def write(self, block: Block) -> None:
        frame = _written((block.kind, block.num_bytes, block.num_tokens, len(block.payload))) + block.payload
        frame += _crc(frame + _written((len(self._lengths),))) + block.content_crc.to_bytes(_CRC_BYTES, "little")
        self._stream.write(frame)
        self._lengths.append(len(frame))
        self._num_bytes += block.num_bytes

    def close(self) -> None:
        index = _written((len(self._lengths), self._num_bytes, *self._lengths))
        self._stream.write(_written((END,)) + index + len(index).to_bytes(4, "little") + _crc(index) + TRAILER_MAGIC)


class Reader:
    """Reads a container from a stream that can seek; what is wrong with its head is a `RequestError`, with a block a `Damaged`."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name
        self.layout, self.models = self._head()
        self._first = stream.tell()
        index = self._index()
        self.num_bytes = index[0] if index else None
        self._lengths = index[1] if index else None
        self.ended = index is not None
        """Whether the last block is known to be the last, which is seen at the end at the latest."""

    def __iter__(self) -> Iterator[Block | Damaged]:
        """Blocks in turn; where the index is damaged too, nothing after a block of damaged length."""
        self._stream.seek(self._first)
        numbered = enumerate(zip(self._frames(), self.layout.sizes(), strict=False))
        left = self.num_bytes
        for number, (frame, size) in numbered:
            size = size if left is None else min(size, left)
            yield self._block(frame, number, size) if frame else Damaged("it is cut off, or its length is damaged", size)
            left = None if left is None else left - size

    def _frames(self) -> Iterator[bytes]:
        """As they lie in the file; an empty one is the last, and could not be read."""
        if self._lengths is not None:
            for length in self._lengths:
                yield self._stream.read(length)
            return
        while True:
            taken = _Taken(self._stream)
            try:
                kind = taken.number()
                if kind == END:
                    self.ended = True
                    return
                num_bytes, _, payload_bytes = (taken.number() for _ in range(3))
                if max(num_bytes, payload_bytes) > 2 * MOST_BLOCK_BYTES:
                    raise ValueError("no writer makes such a block")
                taken.take(payload_bytes + 2 * _CRC_BYTES)
            except (EOFError, ValueError):
                yield b""
                return
            yield bytes(taken.octets)

    def _head(self) -> tuple[Layout, list[tuple[str, bytes]]]:
        start = self._stream.read(len(MAGIC) + 1)
        if start[:-1] != MAGIC:
            raise RequestError(f"{self._name}: is not a channel-sim container; make one with channel-sim compress")
        if start[-1] != VERSION:
            raise RequestError(f"{self._name}: is of container version {start[-1]}, and this channel-sim reads {VERSION}; "
                               "use the one that wrote it")
        taken, models = _Taken(self._stream), []
        try:
            layout = Layout(*(_within(taken.number(), MOST_BLOCK_BYTES) for _ in range(2)))
            for _ in range(_within(taken.number(), _MOST_MODELS)):
                name = taken.take(_within(taken.number(), _LONGEST_NAME)).decode()
                models.append((name, taken.take(DIGEST_BYTES)))
            sound = _crc(bytes(taken.octets)) == self._stream.read(_CRC_BYTES)
        except (EOFError, ValueError):
            sound = False
        if not sound:
            raise RequestError(f"{self._name}: its head, which names the models, is damaged; nothing can be read")
        return layout, models

    def _index(self) -> tuple[int, list[int]] | None:
        """(bytes of content, bytes of each block in the file); None = the index is damaged or cut off."""
        size = self._stream.seek(0, io.SEEK_END)
        if size < self._first + _TRAILER_BYTES:
            return None
        self._stream.seek(size - _TRAILER_BYTES)
        trailer = self._stream.read(_TRAILER_BYTES)
        start = size - _TRAILER_BYTES - int.from_bytes(trailer[:4], "little")
        if trailer[8:] != TRAILER_MAGIC or start < self._first:
            return None
        self._stream.seek(start)
        taken = _Taken(self._stream)
        try:
            count, num_bytes = taken.number(), taken.number()
            lengths = [taken.number() for _ in range(_within(count, size))]
        except (EOFError, ValueError):
            return None
        sound = _crc(bytes(taken.octets)) == trailer[4:8] and self._first + sum(lengths) + 1 == start
        return (num_bytes, lengths) if sound else None

    def _block(self, frame: bytes, number: int, size: int) -> Block | Damaged:
        body, crc, content_crc = frame[:-2 * _CRC_BYTES], frame[-2 * _CRC_BYTES:-_CRC_BYTES], frame[-_CRC_BYTES:]
        if _crc(body + _written((number,))) != crc:
            return Damaged("its CRC fails", size)
        taken = _Taken(io.BytesIO(body))
        try:
            kind, num_bytes, num_tokens, payload_bytes = (taken.number() for _ in range(4))
            payload = taken.take(payload_bytes)
            sound = (STORED <= kind < FIRST_MODEL + len(self.models) and num_tokens <= num_bytes <= size
                     and len(taken.octets) == len(body))
        except (EOFError, ValueError):
            sound = False
        if not sound:
            return Damaged("its numbers cannot be true", size)
        return Block(kind, num_bytes, num_tokens, payload, int.from_bytes(content_crc, "little"))


class _Taken:
    """What was taken from a stream, piece by piece."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.octets = stream, bytearray()

    def take(self, num_bytes: int) -> bytes:
        piece = self._stream.read(num_bytes)
        self.octets += piece
        if len(piece) < num_bytes:
            raise EOFError
        return piece

    def number(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            octet = self.take(1)[0]
            value |= (octet & 127) << shift
            if octet < 128:
                return value
        raise ValueError("a number of more than ten bytes")


def _written(numbers: Iterable[int]) -> bytes:
    """LEB128 of each."""
    octets = bytearray()
    for number in numbers:
        while number > 127:
            octets.append(number & 127 | 128)
            number >>= 7
        octets.append(number)
    return bytes(octets)


def _within(number: int, most: int) -> int:
    if number > most:
        raise ValueError("no writer makes so many")
    return number


def _crc(octets: bytes) -> bytes:
    return zlib.crc32(octets).to_bytes(_CRC_BYTES, "little")
