"""Classical image codecs as tokenizers: the tokens are the bytes of a file, as Pillow writes it.

    picture ─▶ file of the quality asked for, or that fits the bytes asked for ─▶ bytes ─▶ … ─▶ what the bytes still show, and a
                                                                                             mask of what they do not
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from PIL import AvifImagePlugin, Image, Jpeg2KImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin, features
from pydantic import Field, model_validator

from channel_sim.checks import RequestError
from channel_sim.fidelity import MID_GREY
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.types import Item, Reconstruction, Tokens
from sources.codecs import jpeg2000_damage, jpeg_damage, png_damage
from sources.tokenizers import picture

Shape = tuple[int, ...]
"""(height, width, 1 or 3) of a picture."""
_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile, "WEBP": WebPImagePlugin.WebPImageFile, "AVIF": AvifImagePlugin.AvifImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile, "PNG": PngImagePlugin.PngImageFile,
}
_LIBRARIES = {"libjpeg-turbo": "libjpeg_turbo", "libwebp": "webp", "libavif": "avif", "openjpeg": "jpg_2000", "zlib": "zlib"}


class Frame(NamedTuple):
    """What a file begins and ends with for every picture of one shape, less its length.

    lengths: (place, order of bytes, bytes not counted) of each 32-bit number in the head that tells how long the file is
    """

    head: bytes
    lengths: tuple[tuple[int, Literal["big", "little"], int], ...] = ()
    tail: bytes = b""

    def around(self, body: bytes) -> bytes:
        """The file that holds `body`."""
        head, num_bytes = bytearray(self.head), len(self.head) + len(body) + len(self.tail)
        for place, order, uncounted in self.lengths:
            # a body of another length than was written is no file: any number will do
            head[place:place + 4] = max(0, num_bytes - uncounted).to_bytes(4, order)
        return bytes(head) + body + self.tail

    def body(self, file: bytes) -> bytes | None:
        """What `file` holds within this frame; None where the frame is another."""
        body = file[len(self.head):len(file) - len(self.tail)]
        return body if self.around(body) == file else None


class FileCodec(Tokenizer, ABC):
    """One token a byte of a file. What cannot be decoded is mid-grey (128) and marked missing; with nothing sent, all of it.

    The receiver is told the shape of the picture (charged), and decodes nothing that says it has another one: damage to a head
    cannot ask for memory. Damaged bytes that nobody flagged are decoded as they are.
    """

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, item: Item, key: Key) -> Tokens:
        pixels = picture(item, type(self).__name__.lower())
        return Tokens(np.frombuffer(self._sent(pixels, item.name), np.uint8), self.vocab_size, content_shape=pixels.shape)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 [H, W, C], missing bool [H, W])."""
        shape, lost = reconstruction.content_shape, reconstruction.lost
        data = np.where(lost, 0, reconstruction.values).astype(np.uint8).tobytes()
        decoded = self._shown(data, lost, shape) if data else None
        if decoded is None:
            return np.full(shape, MID_GREY, np.uint8), np.ones(shape[:2], bool)
        pixels, missing = decoded
        return np.where(missing[..., None], np.uint8(MID_GREY), pixels), missing

    @abstractmethod
    def _sent(self, pixels: np.ndarray, name: str) -> bytes:
        """The bytes that stand for a picture."""

    @abstractmethod
    def _shown(self, data: bytes, lost: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray] | None:
        """(pixels of `shape`, missing bool [H, W]) as far as the bytes that are not `lost` go; None where they show nothing."""


class Png(FileCodec):
    """PNG: lossless. Of a file with a hole the rows before it are decoded; the CRCs of the format are not looked at."""

    def _sent(self, pixels: np.ndarray, name: str) -> bytes:
        return _write(pixels, "PNG", optimize=True)

    def _shown(self, data: bytes, lost: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray] | None:
        sound = png_damage.without_holes(data[:int(np.argmax(lost)) if lost.any() else len(data)], shape)
        if sound is None:
            return None
        file, num_rows = sound
        return _with(_read(file, "PNG", shape), np.broadcast_to(np.arange(shape[0])[:, None] >= num_rows, shape[:2]))


class LossyCodec(FileCodec):
    """A codec with a quality to choose: asked for, or the highest whose file fits `target_bytes`, found by bisection.

    The file is the real one, so its bytes are what is charged; `headerless` leaves out of it what both ends know for a picture of
    this shape. On tiles of 32 pixels that is most of the file.
    """

    quality: int | None = Field(None, ge=1, le=100, description="quality of the codec, or of jpeg2000 the PSNR in dB; 75, "
                                "or 35 dB, where target_bytes is not given either")
    target_bytes: int | None = Field(None, ge=1, description="bytes that the file may have: the highest quality that fits")
    target_bits_per_pixel: float | None = Field(None, gt=0, description="the same, by the pixels of the picture")
    headerless: bool = Field(False, description="leave out what the shape of the picture tells: the head, standard tables")
    over_budget: Literal["refuse", "drop"] = Field("refuse", description="a picture of which no file fits target_bytes: an error, "
                                                   "or not sent, so that grey arrives and undecodable_rate counts it")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        targets = {"quality": self.quality, "target_bytes": self.target_bytes, "target_bits_per_pixel": self.target_bits_per_pixel}
        given = [f"{key} = {value:g}" for key, value in targets.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{', '.join(targets)} exclude each other, got {', '.join(given)}; leave out all but one")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset() if self._is_targeted else frozenset({"over_budget"})

    @property
    def _is_targeted(self) -> bool:
        """Whether the quality is chosen picture by picture."""
        return self.target_bytes is not None or self.target_bits_per_pixel is not None

    def _sent(self, pixels: np.ndarray, name: str) -> bytes:
        if not self._is_targeted:
            return self._bytes(pixels, self.quality or self._usual_quality)
        key, target, budget = self._budget(pixels.shape)
        best, smallest = b"", None
        steps = self._steps(budget)
        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            found = self._bytes(pixels, steps[middle])
            if len(found) <= budget:
                best, low = found, middle + 1
            else:
                smallest, high = len(found), middle
        if best or self.over_budget == "drop":
            return best
        cures = "larger pictures" if self.headerless else "headerless = true, larger pictures"
        raise RequestError(f"tokenizer.{key} = {target:g}: the smallest {type(self).__name__.lower()} file of {name} has "
                           f"{smallest} bytes, of {budget} that it may have; raise it, or take {cures}, or over_budget = \"drop\"")

    def _budget(self, shape: Shape) -> tuple[str, float, int]:
        """(the key that sets it, its value, bytes that the file of a picture of this shape may have)."""
        if self.target_bytes is not None:
            return "target_bytes", self.target_bytes, self.target_bytes
        per_pixel = self.target_bits_per_pixel or 0.0
        return "target_bits_per_pixel", per_pixel, int(per_pixel * shape[0] * shape[1]) // 8

    def _steps(self, target_bytes: int) -> range:
        """What `_bytes` may be asked for, from the smallest file to the largest."""
        return range(1, 101)

    def _bytes(self, pixels: np.ndarray, step: int) -> bytes:
        file = self._compress(pixels, step)
        if not self.headerless:
            return file
        body = self._frame(pixels.shape, step).body(file)
        if body is None:
            raise RequestError(f"tokenizer.headerless must be false for {type(self).__name__.lower()}: this Pillow writes heads "
                               "that the shape of the picture does not tell")
        return body

    def _shown(self, data: bytes, lost: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray] | None:
        """All or nothing: these formats show nothing of a file with a hole."""
        if lost.any():
            return None
        file = self._whole_file(data, shape)
        return None if file is None else _with(_read(file, self._format, shape), np.zeros(shape[:2], bool))

    def _whole_file(self, data: bytes, shape: Shape) -> bytes | None:
        """The file that `data` stands for; None where its frame is not that of a picture of this shape."""
        frame = self._frame(shape, self.quality or self._usual_quality)
        if self.headerless:
            return frame.around(data)
        return data if frame.body(data) is not None else None

    _format: ClassVar[str]
    _usual_quality: ClassVar[int] = 75

    @abstractmethod
    def _compress(self, pixels: np.ndarray, step: int) -> bytes:
        """The file of a picture."""

    @abstractmethod
    def _frame(self, shape: Shape, step: int) -> Frame:
        """What every file of a picture of this shape has around its data."""


class Webp(LossyCodec):
    """WebP, lossy (VP8). A file with a hole shows nothing."""

    _format: ClassVar[str] = "WEBP"

    def _compress(self, pixels: np.ndarray, step: int) -> bytes:
        return _write(pixels, self._format, quality=step)

    def _frame(self, shape: Shape, step: int) -> Frame:
        return Frame(_blank(self, shape, self._usual_quality)[:20], ((4, "little", 8), (16, "little", 20)))


class Avif(LossyCodec):
    """AVIF (AV1). A file with a hole shows nothing. Some 275 bytes of each file are boxes around the data: see `headerless`."""

    _format: ClassVar[str] = "AVIF"

    def _compress(self, pixels: np.ndarray, step: int) -> bytes:
        return _write(pixels, self._format, quality=step, max_threads=1)  # threads would cut the picture into tiles

    def _frame(self, shape: Shape, step: int) -> Frame:
        blank = _blank(self, shape, self._usual_quality)
        location, data = blank.index(b"iloc") - 4, blank.index(b"mdat") + 4
        extent = location + int.from_bytes(blank[location:location + 4]) - 4  # the last number of the box
        return Frame(blank[:data], ((extent, "big", data), (data - 8, "big", data - 8)))


class Jpeg2000(LossyCodec):
    """JPEG 2000, irreversible, a bare codestream; `quality` is the PSNR in dB that the coder aims at.

    Packets are ordered by layer, then by resolution, so the whole packets before the first hole are decoded as a picture of lower
    quality, of which no pixel counts as missing. What comes after them is not used.

    Source: ITU-T Recommendation T.800 (2002), B.10: a packet whose head begins with a zero bit is empty.
    """

    _format: ClassVar[str] = "JPEG2000"
    _usual_quality: ClassVar[int] = 35
    num_layers: int = Field(1, ge=1, le=16, description="quality layers, each of twice the bytes, or 6 dB above, the one before")

    def _steps(self, target_bytes: int) -> range:
        return range(1, 2 * target_bytes + 256)  # bytes asked for: the coder counts a head that may not be sent

    def _compress(self, pixels: np.ndarray, step: int) -> bytes:
        below = [2**layer for layer in range(self.num_layers)][::-1]
        if self._is_targeted:  # `step` is the bytes asked for
            mode, layers = "rates", [pixels.size / step * part for part in below]
        else:
            mode, layers = "dB", [max(1.0, step - 6.0 * (self.num_layers - 1 - layer)) for layer in range(self.num_layers)]
        file = _write(pixels, self._format, no_jp2=True, irreversible=True, progression="LRCP", quality_mode=mode,
                      quality_layers=layers, mct=int(pixels.shape[2] == 3))
        return _without_comment(file)

    def _frame(self, shape: Shape, step: int) -> Frame:
        blank = _blank(self, shape, 1)
        part, data = blank.index(b"\xff\x90"), blank.index(b"\xff\x93") + 2
        return Frame(blank[:data], ((part + 6, "big", part + 2),), blank[-2:])

    def _shown(self, data: bytes, lost: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray] | None:
        if not lost.any():
            return super()._shown(data, lost, shape)
        frame = self._frame(shape, 1)
        start = 0 if self.headerless else len(frame.head)
        before = data[start:int(np.argmax(lost))]
        coding = frame.head[frame.head.index(b"\xff\x52"):]
        whole = jpeg2000_damage.whole_packets(before, *shape, layers=self.num_layers, levels=coding[9],
                                              block_side=4 << coding[10])
        if not whole:
            return None
        # zeros read as empty packets, so that the codestream is whole again
        body = before[:whole] + bytes(len(data) - start - whole - (0 if self.headerless else len(frame.tail)))
        data = body if self.headerless else data[:start] + body + frame.tail
        return super()._shown(data, np.zeros(len(data), bool), shape)


class Jpeg(LossyCodec):
    """JPEG, baseline, colour at half the resolution (4:2:0); Huffman tables made for the picture, unless `headerless`.

    A file with holes is decoded MCU by MCU (16 x 16 pixels of colour, 8 x 8 of grey): up to the first hole, and anew from each
    restart marker after it. An MCU counts as missing unless all its bits arrived; its neighbours may be off by the smoothing of
    colour across the border. A hole in the head leaves nothing. With `headerless` and a target the first byte is the
    quality, without which nothing is shown.
    """

    _format: ClassVar[str] = "JPEG"
    restart_interval: int = Field(0, ge=0, le=65535, description="MCUs between restart markers; 0 = none")

    def _compress(self, pixels: np.ndarray, step: int) -> bytes:
        # without a head both ends must know the Huffman tables: the standard ones
        return _write(pixels, self._format, quality=step, optimize=not self.headerless, subsampling="4:2:0",
                      restart_marker_blocks=self.restart_interval)

    def _bytes(self, pixels: np.ndarray, step: int) -> bytes:
        told = bytes([step]) if self.headerless and self._is_targeted else b""
        return told + super()._bytes(pixels, step)

    def _frame(self, shape: Shape, step: int) -> Frame:
        blank = _blank(self, shape, step)
        scan = blank.index(b"\xff\xda")
        return Frame(blank[:scan + 2 + int.from_bytes(blank[scan + 2:scan + 4])], tail=blank[-2:])

    def _shown(self, data: bytes, lost: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray] | None:
        if self.headerless:
            quality = self.quality or self._usual_quality
            if self._is_targeted:
                quality, known = data[0], not lost[0]
                data, lost = data[1:], lost[1:]
                if not known or not 1 <= quality <= 100:
                    return None
            frame = self._frame(shape, quality)
            data, lost = frame.around(data), np.pad(lost, (len(frame.head), len(frame.tail)))
        if not lost.any():
            return _with(_read(data, self._format, shape), np.zeros(shape[:2], bool))
        sound = jpeg_damage.without_holes(data, lost, shape[0], shape[1])
        return None if sound is None else _with(_read(sound[0], self._format, shape), sound[1])


def library_versions() -> dict[str, str]:
    """The libraries that do the coding inside Pillow: their numbers follow from these."""
    return {name: str(features.version(feature) or "not there") for name, feature in _LIBRARIES.items()}


def _with(pixels: np.ndarray | None, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    return None if pixels is None else (pixels, missing)


@lru_cache(maxsize=256)
def _blank(codec: LossyCodec, shape: Shape, step: int) -> bytes:
    """The file of a black picture of this shape."""
    return codec._compress(np.zeros(shape, np.uint8), step)


def _write(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    try:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, form, **options)
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"Pillow cannot write a {form} file of {pixels.shape[1]} x {pixels.shape[0]} pixels ({error}); "
                           "use another tokenizer, or a Pillow built with that format") from error
    return file.getvalue()


def _read(file: bytes, form: str, shape: Shape) -> np.ndarray | None:
    """uint8 of `shape`; None where the file does not decode or is not a picture of this shape."""
    try:
        image = _READERS[form](io.BytesIO(file))
        if image.size != (shape[1], shape[0]):
            return None
        image.load()
        return np.array(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)
    except Exception:  # a reader may fail in any way on damaged data; all mean that nothing can be shown
        return None


def _without_comment(codestream: bytes) -> bytes:
    """A JPEG 2000 codestream less the comment that names the library."""
    place = codestream.find(b"\xff\x64")
    return codestream[:place] + codestream[place + 2 + int.from_bytes(codestream[place + 2:place + 4]):]
