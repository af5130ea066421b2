"""Files that general-purpose, picture and sound compressors make of any bytes, and what the beginning of such a file tells.

    content ─▶ file ─▶ cut off, or damaged ─▶ the content that its beginning settles

zlib, gzip, LZMA, brotli and PPMd settle byte after byte, bz2 and zstd block after block (900 kB and 128 kB: a chunk is one), PNG
whole rows, FLAC frames of 4,096 samples once the next one has begun, WebP nothing until it is whole. Damage that a format's own
check does not find passes for content.

Source: RFC 1950 to 1952 (zlib, deflate, gzip), 7932 (brotli), 8878 (zstd), 9639 (FLAC); ISO/IEC 15948 (PNG); D. Shkarin, "PPM: one
step to practicality", DCC 2002, variant H.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from math import isqrt, prod
from typing import Any, ClassVar, NamedTuple, final

import brotli
import numpy as np
import pyppmd
import soundfile
import zstandard
from PIL import Image, PngImagePlugin, WebPImagePlugin

from channel_sim.checks import RequestError
from sources.codecs import png_damage

_LZMA_MEMORY = 1 << 28
_PPMD_ORDER, _PPMD_PIECE = 6, 1 << 12
_PPMD_LEAST_MEMORY, _PPMD_MOST_MEMORY, _PPMD_MEMORY_PER_BYTE = 1 << 24, 1 << 30, 64
_FLAC_FRAME = 4096
_SAMPLE_RATE = 16_000  # told in every frame, and of no other effect
_SILENCE = 128  # of 8 bits, as in WAV
_WEBP_LONGEST_SIDE = 16_383


class Damaged(Exception):
    """The file is none that its compressor makes, as far as its format can tell."""


class Layout(NamedTuple):
    """What both ends know of the content before its file comes.

    shape:       (height, width, 1 or 3) of the picture that the bytes are, row by row; it may end before its last row does
    sample_bits: 8 (offset binary) or 16 (two's complement, little-endian) of the sound that they are
    dictionary:  bytes that both ends hold
    """

    num_bytes: int
    shape: tuple[int, int, int]
    sample_bits: int = 8
    dictionary: bytes = b""

    @classmethod
    def of(cls, num_bytes: int, grid: tuple[int, ...] = (), sample_bits: int = 8, dictionary: bytes = b"") -> Layout:
        """That of `num_bytes`, a picture where `grid` is one of samples of 8 bits; else rows of 2^k bytes, at least as many."""
        if len(grid) == 3 and grid[2] in (1, 3) and prod(grid) == num_bytes:
            return cls(num_bytes, (grid[0], grid[1], grid[2]), sample_bits, dictionary)
        width = 1 << max(0, isqrt(num_bytes).bit_length() - 1)
        return cls(num_bytes, (-(-num_bytes // width), width, 1), sample_bits, dictionary)


class Expander(ABC):
    """A file on its way back to content, fed piece by piece; `content` is what is settled so far, never more than its length."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.content = layout, b""

    @abstractmethod
    def feed(self, piece: bytes, *, last: bool = False) -> None:
        """Take the next piece of the file, after whose `last` one zeros may follow; raises `Damaged`."""

    @property
    def whole(self) -> bool:
        """All of the content is there, and the file ends as it should."""
        return len(self.content) == self.layout.num_bytes


class Streamed(Expander):
    """Formats that are read as they come: `step` bytes at once, so that what they make of damage stays small."""

    def __init__(self, layout: Layout, decompress: Callable[[bytes, int], bytes], ended: Callable[[], bool],
                 step: int = 1 << 16) -> None:
        super().__init__(layout)
        self._decompress, self._ended, self._step, self._parts, self._room = decompress, ended, step, bytearray(), layout.num_bytes

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        for place in range(0, len(piece), self._step):
            if self._ended():
                break
            try:
                # one byte more than there is room for: without it a file that goes on would not be seen to
                self._parts += self._decompress(piece[place:place + self._step], self._room + 1 - len(self._parts))
            except Exception as error:  # each library has its own; all mean that nothing can be read
                raise Damaged from error
            if len(self._parts) > self._room:
                raise Damaged
        if len(self._parts) > len(self.content):
            self.content = bytes(self._parts)

    @property
    def whole(self) -> bool:
        return super().whole and self._ended()


class Anew(Expander):
    """Formats that are read from the start whenever a piece has come; `settled` (file, whether it is whole) -> content."""

    def __init__(self, layout: Layout, settled: Callable[[bytes, bool], bytes]) -> None:
        super().__init__(layout)
        self._settled, self._file = settled, b""

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        self._file += piece
        try:
            self.content = self._settled(self._file, last)[:self.layout.num_bytes]
        except Exception as error:  # each library has its own; all mean that nothing can be read
            raise Damaged from error


class Method(ABC):
    """One compressor, at its strongest setting."""

    takes_dictionary: ClassVar[bool] = False

    @abstractmethod
    def compress(self, content: bytes, layout: Layout) -> bytes:
        """The file of at least one byte of content."""

    @abstractmethod
    def expander(self, layout: Layout) -> Expander:
        """Its file on the way back."""

    @final
    def head_bytes(self, layout: Layout) -> int:
        """Bytes of the file of one zero byte: what a file has whatever it holds."""
        return len(self.compress(b"\0", Layout.of(1, sample_bits=layout.sample_bits, dictionary=layout.dictionary)))


class Zlib(Method):
    """Deflate in a zlib stream, level 9; the dictionary is what the window holds at the start: its last 32 kB."""

    takes_dictionary = True
    _window_bits: ClassVar[int] = 15

    def compress(self, content: bytes, layout: Layout) -> bytes:
        more: dict[str, Any] = {"zdict": layout.dictionary} if layout.dictionary else {}
        stream = zlib.compressobj(9, zlib.DEFLATED, self._window_bits, 9, **more)
        return stream.compress(content) + stream.flush()

    def expander(self, layout: Layout) -> Expander:
        more: dict[str, Any] = {"zdict": layout.dictionary} if layout.dictionary else {}
        stream = zlib.decompressobj(self._window_bits, **more)
        return Streamed(layout, stream.decompress, lambda: stream.eof)


class Gzip(Zlib):
    """Deflate in a gzip file, level 9, without name and date; it has a CRC of its own."""

    takes_dictionary = False
    _window_bits = 31


class Bz2(Method):
    """Burrows-Wheeler and Huffman, level 9."""

    def compress(self, content: bytes, layout: Layout) -> bytes:
        return bz2.compress(content, 9)

    def expander(self, layout: Layout) -> Expander:
        stream = bz2.BZ2Decompressor()
        return Streamed(layout, stream.decompress, lambda: stream.eof)


class Lzma(Method):
    """LZMA2 in an .xz file, level 9e, its window as long as the content; it has a CRC of its own."""

    _form: ClassVar[int] = lzma.FORMAT_XZ

    def compress(self, content: bytes, layout: Layout) -> bytes:
        return lzma.compress(content, self._form, filters=_lzma_filters(layout.num_bytes))

    def expander(self, layout: Layout) -> Expander:
        raw = {"filters": _lzma_filters(layout.num_bytes)}
        told: dict[str, Any] = raw if self._form == lzma.FORMAT_RAW else {"memlimit": _LZMA_MEMORY}
        stream = lzma.LZMADecompressor(self._form, **told)
        return Streamed(layout, stream.decompress, lambda: stream.eof)


class RawLzma(Lzma):
    """LZMA2 as it is, without the 60 bytes of a container: fewer bytes, and no check."""

    _form = lzma.FORMAT_RAW


class Zstd(Method):
    """zstd, level 19, the shortest frame: no length, dictionary number or checksum; a dictionary is a trained one, or any bytes."""

    takes_dictionary = True

    def compress(self, content: bytes, layout: Layout) -> bytes:
        return _zstd_compressor(layout.dictionary).compress(content)

    def expander(self, layout: Layout) -> Expander:
        window = 1 << max(20, (layout.num_bytes + len(layout.dictionary)).bit_length() + 1)
        more: dict[str, Any] = {"dict_data": zstandard.ZstdCompressionDict(layout.dictionary)} if layout.dictionary else {}
        stream = zstandard.ZstdDecompressor(max_window_size=window, **more).decompressobj()
        return Streamed(layout, lambda piece, _: stream.decompress(piece), lambda: stream.eof, step=16)


class Brotli(Method):
    """brotli, quality 11, with the dictionary of 120 kB of web text that is part of it."""

    def compress(self, content: bytes, layout: Layout) -> bytes:
        return brotli.compress(content, quality=11)

    def expander(self, layout: Layout) -> Expander:
        stream = brotli.Decompressor()
        # byte by byte: it takes zeros after its end for damage
        return Streamed(layout, lambda piece, _: stream.process(piece), stream.is_finished, step=1)


class Ppmd(Method):
    """PPMd variant H of order 6. With a dictionary the model has coded that first, and its part of the stream is not sent.

    A byte is settled where the stream decodes to it whether zeros or ones come after.
    """

    takes_dictionary = True

    def compress(self, content: bytes, layout: Layout) -> bytes:
        encoder = pyppmd.Ppmd7Encoder(_PPMD_ORDER, _ppmd_memory(layout))
        _ppmd_encoded(encoder, layout.dictionary)
        return _ppmd_encoded(encoder, content) + bytes(encoder.flush(False))

    def expander(self, layout: Layout) -> Expander:
        told = _ppmd_told(layout.dictionary, _ppmd_memory(layout)) if layout.dictionary else b""

        def settled(file: bytes, last: bool) -> bytes:
            if last:
                return _ppmd_decoded(told + file, b"\0", layout)
            low, high = (np.frombuffer(_ppmd_decoded(told + file, tail, layout), np.uint8) for tail in (b"\0", b"\xff"))
            shorter = min(low.size, high.size)
            return low[:np.append(low[:shorter] != high[:shorter], True).argmax()].tobytes()

        return Anew(layout, settled)


class Flac(Method):
    """FLAC at libFLAC's level 8, mono: bytes are samples of 8 bits, or pairs of them of 16, the last one filled with a zero."""

    def compress(self, content: bytes, layout: Layout) -> bytes:
        if layout.sample_bits == 8:
            samples = np.frombuffer(content, np.uint8).astype(np.int16) - _SILENCE << 8
        else:
            samples = np.frombuffer(content + bytes(len(content) % 2), "<i2").astype(np.int16)
        file = io.BytesIO()
        soundfile.write(file, samples, _SAMPLE_RATE, format="FLAC", subtype="PCM_S8" if layout.sample_bits == 8 else "PCM_16",
                        compression_level=1.0)
        return file.getvalue()

    def expander(self, layout: Layout) -> Expander:
        return Anew(layout, lambda file, _: _flac_samples(file, layout))


class Png(Method):
    """PNG: the bytes are a picture; the strongest of Pillow's settings. The CRCs of a whole file are looked at."""

    def compress(self, content: bytes, layout: Layout) -> bytes:
        return _picture_file(content, layout, "PNG", optimize=True)

    def expander(self, layout: Layout) -> Expander:
        def settled(file: bytes, last: bool) -> bytes:
            sound = png_damage.without_holes(file, layout.shape)
            if sound is None or last and not _crcs_fit(file):
                return b""
            rows = np.asarray(PngImagePlugin.PngImageFile(io.BytesIO(sound[0]))).tobytes()
            return rows[:sound[1] * layout.shape[1] * layout.shape[2]]

        return Anew(layout, settled)


class Webp(Method):
    """WebP lossless (VP8L), method 6, quality 100: the bytes are a picture."""

    def compress(self, content: bytes, layout: Layout) -> bytes:
        if max(layout.shape[:2]) > _WEBP_LONGEST_SIDE:
            raise RequestError(f'coder.method = "webp" takes pictures of at most {_WEBP_LONGEST_SIDE} pixels a side, got '
                               f"{layout.shape[1]} x {layout.shape[0]}; use another method, or shorter items")
        return _picture_file(content, layout, "WEBP", lossless=True, quality=100, method=6)

    def expander(self, layout: Layout) -> Expander:
        return Anew(layout, lambda file, last: _webp_bytes(file, layout) if last else b"")


METHODS: dict[str, Method] = {
    "zlib": Zlib(), "gzip": Gzip(), "lzma": Lzma(), "lzma_raw": RawLzma(), "bz2": Bz2(), "zstd": Zstd(), "brotli": Brotli(),
    "ppmd": Ppmd(), "flac": Flac(), "png": Png(), "webp": Webp(),
}


def _lzma_filters(num_bytes: int) -> list[dict[str, int]]:
    window = 1 << max(12, num_bytes.bit_length())
    return [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": min(window, 1 << 26)}]


@lru_cache(maxsize=4)
def _zstd_compressor(dictionary: bytes) -> zstandard.ZstdCompressor:
    more: dict[str, Any] = {"dict_data": zstandard.ZstdCompressionDict(dictionary)} if dictionary else {}
    return zstandard.ZstdCompressor(level=19, write_content_size=False, write_checksum=False, write_dict_id=False, **more)


def _ppmd_memory(layout: Layout) -> int:
    """So much that the model is not thrown away."""
    wanted = _PPMD_MEMORY_PER_BYTE * (layout.num_bytes + len(layout.dictionary))
    return min(max(wanted, _PPMD_LEAST_MEMORY), _PPMD_MOST_MEMORY)


@lru_cache(maxsize=4)
def _ppmd_told(dictionary: bytes, memory: int) -> bytes:
    """What of the stream is written once the dictionary is in it."""
    return _ppmd_encoded(pyppmd.Ppmd7Encoder(_PPMD_ORDER, memory), dictionary)


def _ppmd_encoded(encoder: pyppmd.Ppmd7Encoder, content: bytes) -> bytes:
    # piece by piece: it loses a byte where what it writes at once is longer than its buffer of 32 kB
    return b"".join(encoder.encode(content[place:place + _PPMD_PIECE]) for place in range(0, len(content), _PPMD_PIECE))


def _ppmd_decoded(stream: bytes, tail: bytes, layout: Layout) -> bytes:
    """What the stream and many a `tail` decode to after the dictionary, up to where they are seen to be no stream."""
    # all the input at once: a decoder that waits for more has been seen to damage memory where the stream was damaged
    data, total = stream + tail * (4 * layout.num_bytes + 64), len(layout.dictionary) + layout.num_bytes

    def decoded(num_bytes: int) -> bytes | None:
        try:
            return pyppmd.Ppmd7Decoder(_PPMD_ORDER, _ppmd_memory(layout)).decode(data, num_bytes)
        except (ValueError, SystemError):
            return None

    whole = decoded(total)
    if whole is None:
        sound = bisect_left(range(1, total), True, key=lambda num_bytes: decoded(num_bytes) is None)
        whole = decoded(sound) if sound else b""
    return (whole or b"")[len(layout.dictionary):]


def _flac_samples(file: bytes, layout: Layout) -> bytes:
    """Those of all frames that can be read."""
    frames, width = list[np.ndarray](), layout.sample_bits // 8
    num_samples = -(-layout.num_bytes // width)
    try:
        with soundfile.SoundFile(io.BytesIO(file)) as sound:
            if sound.channels != 1 or sound.format != "FLAC":
                raise Damaged
            while sum(map(len, frames)) < num_samples and len(frame := sound.read(_FLAC_FRAME, dtype="int16")):
                frames.append(frame)
    except soundfile.LibsndfileError:
        pass  # cut off or damaged from here on
    samples = np.concatenate([np.zeros(0, np.int16), *frames])
    return (samples.astype("<i2") if width == 2 else ((samples >> 8) + _SILENCE).astype(np.uint8)).tobytes()


def _picture_file(content: bytes, layout: Layout, form: str, **options: int) -> bytes:
    height, width, colours = layout.shape
    pixels = np.frombuffer(content.ljust(height * width * colours, b"\0"), np.uint8).reshape(layout.shape)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if colours == 1 else pixels).save(file, form, **options)
    return file.getvalue()


def _crcs_fit(png: bytes) -> bool:
    """Those of all chunks up to the last, IEND."""
    place, kind = 8, b""
    while kind != b"IEND" and place + 12 <= len(png):
        end = place + 8 + int.from_bytes(png[place:place + 4])
        kind, crc = png[place + 4:place + 8], zlib.crc32(png[place + 4:end])
        if crc != int.from_bytes(png[end:end + 4]):
            return False
        place = end + 4
    return kind == b"IEND"


def _webp_bytes(file: bytes, layout: Layout) -> bytes:
    height, width, colours = layout.shape
    # a reader believes what a head says: one of another size must not ask for its memory
    sides = int.from_bytes(file[21:25], "little") & (1 << 28) - 1
    if file[:4] + file[8:16] + file[20:21] != b"RIFFWEBPVP8L\x2f" or sides != (width - 1 | height - 1 << 14):
        raise Damaged
    return np.array(WebPImagePlugin.WebPImageFile(io.BytesIO(file)).convert("L" if colours == 1 else "RGB")).tobytes()
