"""Pictures of a sample beside one another: what was sent, what arrived, what was made of it, where it is wrong, what was lost."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from channel_sim.types import Origin
from reports.marks import Timeline, count_text, likelihood, timeline
from reports.summary import significant, with_minus

MAX_SIDE = 144
"""Pixels of a side that a page shows; of a larger picture the middle."""
DARKEST = 64
"""An error of so many levels, the mean over colours, is black in an error map."""
_GREY_LEVELS = 16
_ZOOM = 3
_LINE = (214, 39, 40)
_WORDS = {"psnr_db": ("PSNR", "dB"), "bits_per_pixel": ("", "bits a pixel"), "si_sdr_db": ("SI-SDR", "dB"),
          "bits_per_token": ("", "bits a token")}
_ORIGINS = {Origin.RECEIVED: "received", Origin.INFERRED: "inferred", Origin.CONCEALED: "concealed", Origin.LOST: "lost"}


@dataclass(frozen=True)
class Pane:
    """One picture on the page: `uri` is a PNG file, `kind` names it to the script and the style sheet.

    sound: what is played below it, a WAV file; "" where nothing is
    """

    kind: str
    name: str
    uri: str
    sound: str = ""

    @property
    def uris(self) -> list[str]:
        return [self.uri, *([self.sound] if self.sound else [])]


@dataclass(frozen=True)
class Pictured:
    """What one arm made of a picture or sound: its panes in order; none where it is whole: as the original throughout.

    holes: the outlines of what did not arrive, "" where all did; measured: metrics of the picture
    """

    label: str
    caption: str
    width: int
    height: int
    timeline: Timeline | None
    panes: tuple[Pane, ...]
    holes: str
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return not self.panes

    @property
    def uris(self) -> list[str]:
        """All files of it."""
        return [*(uri for pane in self.panes for uri in pane.uris), *([self.holes] if self.holes else [])]


def pictured(sample: Mapping[str, Any], label: str) -> Pictured:
    """A sample of kind "image", ready to be shown."""
    original, restored = read(sample["original"]), read(sample["restored"])
    height, width = middle(restored).shape[:2]
    about = (label, caption(sample), width, height, timeline(sample))
    if np.array_equal(original, restored):
        return Pictured(*about, (), "", sample.get("measured", {}))
    missing = middle(read(sample["missing"]))[..., 0] > 0
    panes = [Pane("restored", "Restored" if "arrived" in sample else "As it arrived", _shown(sample["restored"]))]
    if "arrived" in sample:
        panes.insert(0, Pane("arrived", "As it arrived", _shown(sample["arrived"])))
    if original.shape == restored.shape:
        panes.append(Pane("error", "Error", png(error_map(middle(original), middle(restored)))))
    holes = line_drawing(outlines(missing)) if missing.any() else ""
    return Pictured(*about, tuple(panes), holes, sample.get("measured", {}))


def original_picture(sample: Mapping[str, Any]) -> Pane:
    return Pane("original", "Original", _shown(sample["original"]))


def error_map(original: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 1] in 16 greys: white where restored is original uint8 [H, W, C], black from a mean error of `DARKEST` on."""
    error = np.abs(original.astype(np.int64) - restored).mean(axis=2)
    steps = np.ceil(np.minimum(error / DARKEST, 1) * (_GREY_LEVELS - 1))  # upwards: no error looks like none
    return (255 - steps * 255 / (_GREY_LEVELS - 1)).astype(np.uint8)[..., None]


def outlines(missing: np.ndarray) -> np.ndarray:
    """bool [3 H, 3 W]: a line just inside the edge of every region of `missing` bool [H, W]; no pixel beside it is hidden."""
    large = np.pad(missing.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1), 1)
    return large[1:-1, 1:-1] & ~(large[:-2, 1:-1] & large[2:, 1:-1] & large[1:-1, :-2] & large[1:-1, 2:])


def middle(picture: np.ndarray) -> np.ndarray:
    """The middle of [H, W, C] that a page shows."""
    top, left = (max(0, side - MAX_SIDE) // 2 for side in picture.shape[:2])
    return picture[top:top + MAX_SIDE, left:left + MAX_SIDE]


def read(uri: str) -> np.ndarray:
    """uint8 [H, W, C] of a PNG file as a data URI."""
    with Image.open(io.BytesIO(content_of(uri))) as file:
        pixels = np.asarray(file)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def png(pixels: np.ndarray) -> str:
    """uint8 [H, W, C] as a data URI."""
    return saved(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def line_drawing(line: np.ndarray) -> str:
    """bool [H, W] as a data URI: a line on a clear ground."""
    image = Image.fromarray(line.astype(np.uint8), "P")
    image.putpalette([255, 255, 255, *_LINE])
    return saved(image, transparency=0, bits=1)


def saved(image: Image.Image, **options: int) -> str:
    """As a PNG file, in a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def content_of(uri: str) -> bytes:
    """The file in a data URI."""
    return base64.b64decode(uri.partition(",")[2])


def _shown(uri: str) -> str:
    picture = read(uri)
    return uri if max(picture.shape[:2]) <= MAX_SIDE else png(middle(picture))


def caption(sample: Mapping[str, Any]) -> str:
    """'PSNR 31.2 dB, 1.53 bits a pixel; 576 tokens: 530 received, 46 concealed'."""
    measured = sample.get("measured", {})
    numbers = [f"{name} {with_minus(significant(measured[metric], 3))} {unit}".strip()
               for metric, (name, unit) in _WORDS.items() if metric in measured]
    numbers += likelihood(sample)
    counts: dict[str, int] = {}
    for origin, length in sample["origin"]:
        counts[_ORIGINS[Origin(origin)]] = counts.get(_ORIGINS[Origin(origin)], 0) + length
    return "; ".join([*([", ".join(numbers)] if numbers else []), count_text({name: counts[name] for name in _ORIGINS.values()
                                                                              if name in counts})])
