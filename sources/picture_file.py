"""One file of a picture as plain pixels: any format that Pillow reads, turned upright, 8 bits a sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from channel_sim.checks import RequestError

MOST_PIXELS = 89_478_485
"""Pillow's own limit, past which it warns of a decompression bomb: a quarter of a gigabyte of RGB."""
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and its values that swap height and width."""


def read_picture(path: Path) -> Image.Image:
    """The first picture of a file, upright, of mode L or RGB. RequestError names a file that is broken or too large."""
    with _opened(path) as image:
        image.load()
        return _plain(ImageOps.exif_transpose(image), path)


def shape_of_file(path: Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from the head of the file where its format tells."""
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(_ORIENTATION) in _TURNED else (height, width)


def has_picture_name(path: Path) -> bool:
    """Whether a file below a folder is meant as a picture: not hidden, and its name ends as those of a format that is read."""
    return not any(part.startswith(".") for part in path.parts) and path.suffix.lower() in _suffixes()


@cache
def _suffixes() -> frozenset[str]:
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # remarks on metadata, which are not used; and an outsized picture is refused below
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise RequestError(_outsized(path))
                yield image
    except RequestError:
        raise
    except Image.DecompressionBombError as error:
        raise RequestError(_outsized(path)) from error
    except Exception as error:  # Pillow's readers fail in many ways on broken files; all mean the same here
        reason = str(error).replace("\n", " ") or type(error).__name__
        raise RequestError(f"source.path: {str(path)!r} cannot be read as a picture ({reason}); "
                           "repair it or take it away") from error


def _outsized(path: Path) -> str:
    return f"source.path: {str(path)!r} has more than {MOST_PIXELS:,} pixels; cut it to pieces or take it away"


def _plain(image: Image.Image, path: Path) -> Image.Image:
    """Mode L or RGB."""
    if image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.int64)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise RequestError(f"source.path: {str(path)!r} has pixels of 32 bits, whose range is not known; save it with 8 or 16 bits")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("L" if image.mode in ("L", "1") else "RGB")
