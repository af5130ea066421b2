"""Pictures: files, folders, stacks of NumPy, and the photographs inside the scikit-image wheel."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Source
from channel_sim.types import Item
from sources.picture_file import has_picture_name, read_picture, shape_of_file
from sources.text import FileState, digest_of_files, files_meant, files_of

SCIKIT_IMAGE = "scikit-image"
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)
"""Of the files inside the wheel: drawings, animations, masks and the second picture of the stereo pair are left out."""
_STACKS = (".npy", ".npz")


class Images(Source):
    """Pictures uint8 [H, W, C], C = 3, or 1 with `grey`; sRGB as it is: colour profiles are not applied.

    path:  a file in any format that Pillow reads (its first picture); a folder: all such files below it, by the ends of their
           names, in the order of their relative paths, hidden ones left out; `scikit-image`: the photographs inside its wheel;
           or a stack, .npy or .npz of uint8 [N, H, W] or [N, H, W, C]. In an .npz the pictures are the array `images`, or the
           only one there is, and the array `labels` [N], if any, holds their classes.
    scale: every picture is first made smaller by this factor (Lanczos, antialiased; sides rounded, at least 1).
    crop:  "whole" pictures; "tile": tiles of `size` side by side from the upper left, row by row, picture by picture, what is
           left over at right and bottom dropped; "centre": the middle `size` of each picture, which without `scale` is first made
           as small as still covers it. Nothing is ever enlarged.

    Orientation marks (EXIF) are obeyed. Transparency is laid on white; palettes, CMYK and other colours become RGB; 16 bits
    become 8; 32-bit pixels are refused, and so are broken files and those of more than 89 million pixels, by name:
    what its head shows before the first item, what only its pixels show when they are reached. The last few pictures are kept.

    >>> Images(size=32, crop="tile").items([0], [Key(1)])[0].name
    'astronaut.png[0:32, 0:32]'
    """

    modality: ClassVar[str] = "image"

    path: str = Field(SCIKIT_IMAGE, description="a file, a folder, a stack (.npy, .npz), or scikit-image: photographs in its wheel")
    size: int | tuple[int, int] | None = Field(None, description="pixels of a side, or [height, width], of a crop or tile")
    crop: Literal["whole", "centre", "tile"] = Field("whole", description="whole pictures, their middle, or all their tiles")
    scale: float | None = Field(None, gt=0, le=1, description="factor on height and width before the crop")
    grey: bool = Field(False, description="luma alone (ITU-R BT.601) instead of RGB")

    @model_validator(mode="after")
    def _size_is_that_of_a_crop(self) -> Self:
        if self.crop == "whole" and self.size is not None:
            raise ValueError('size must be left out with crop = "whole"; use scale, or crop = "centre" or "tile"')
        if self.crop != "whole" and (self.size is None or min(self._sides) < 1):
            raise ValueError(f"size must be >= 1 pixel or [height, width] with crop = {self.crop!r}, got {self.size}")
        return self

    @property
    def num_items(self) -> int:
        return int(self._starts(_pictures(self.path))[-1])

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        pictures = _pictures(self.path)
        starts = self._starts(pictures)
        for index in indices:
            if not 0 <= index < starts[-1]:
                raise RequestError(f"item {index} of source.path = {self.path!r}: there are {starts[-1]} pictures, 0 to "
                                   f"{starts[-1] - 1}; ask for fewer items" + (" or a lower size" if self.size else ""))
        places = np.searchsorted(starts, indices, side="right") - 1
        return [self._item(pictures, int(place), int(index - starts[place])) for place, index in zip(places, indices, strict=True)]

    def assumed(self) -> tuple[str, ...]:
        tiles = "Tiles of one picture are not independent; intervals take them as if they were, and are too narrow."
        return (tiles,) if self.crop == "tile" else ()

    def digests(self) -> dict[str, str]:
        return {"path": digest_of_files(_pictures(self.path).files)}

    def assembled(self, contents: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, C]: what all items of a source of one file show, tiles side by side again."""
        if self.crop != "tile":
            return contents[0]
        height, width = self._sides
        rows, columns = np.array(_scaled(_pictures(self.path).shapes[0], self.scale or 1.0)) // self._sides
        grid = np.reshape(contents, (rows, columns, height, width, -1))
        return grid.swapaxes(1, 2).reshape(rows * height, columns * width, -1)

    @property
    def _sides(self) -> tuple[int, int]:
        assert self.size is not None
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def _starts(self, pictures: Files | Stack) -> np.ndarray:
        """int64 [number of pictures + 1]: the first item of each picture, and the number of items."""
        counts = np.ones(len(pictures.shapes), np.int64)
        if self.crop == "tile":
            scaled = np.array([_scaled(shape, self.scale or 1.0) for shape in pictures.shapes])
            counts = np.prod(scaled // self._sides, axis=1)
            if not counts.any():
                raise RequestError(f"source.size = {self.size}: no picture of {self.path!r} holds a tile of it; lower size or "
                                   "raise scale")
        return np.concatenate([[0], np.cumsum(counts)])

    def _item(self, pictures: Files | Stack, place: int, within: int) -> Item:
        name, label = pictures.name(place), pictures.label(place)
        pixels = _prepared(pictures, place, self.grey, *self._scaling(pictures.shapes[place], name))
        if self.crop == "whole":
            return Item(pixels, self.modality, name, label)
        height, width = self._sides
        if self.crop == "tile":
            row, column = divmod(within, pixels.shape[1] // width)
            top, left = row * height, column * width
        else:
            top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        cut = pixels[top:top + height, left:left + width].copy()
        return Item(cut, self.modality, f"{name}[{top}:{top + height}, {left}:{left + width}]", label)

    def _scaling(self, shape: tuple[int, int], name: str) -> tuple[int, int]:
        """(height, width) that a picture is scaled to before the crop."""
        if self.crop != "centre":
            return _scaled(shape, self.scale or 1.0)
        cover = max(side / whole for side, whole in zip(self._sides, shape, strict=True))
        scaled = _scaled(shape, self.scale or min(cover, 1.0))
        if scaled[0] < self._sides[0] or scaled[1] < self._sides[1]:
            raise RequestError(f"source.size = {self.size}: {name} of {self.path!r} has only {scaled[0]} x {scaled[1]} pixels; "
                               "lower size" + (", raise scale" if self.scale else "") + " or take it away")
        return scaled


def _scaled(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


class Files:
    """One picture a file. `root` is what names are relative to; `shapes` are (height, width) of the upright pictures."""

    def __init__(self, files: tuple[FileState, ...], root: Path) -> None:
        self.files, self._root = files, root

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        return [shape_of_file(file.path) for file in self.files]

    def name(self, picture: int) -> str:
        return self.files[picture].path.relative_to(self._root).as_posix()

    def label(self, picture: int) -> None:
        """No file tells what it shows."""

    def image(self, picture: int) -> Image.Image:
        return read_picture(self.files[picture].path)


class Stack:
    """The pictures uint8 [N, H, W, C] of one .npy or .npz, and their classes."""

    def __init__(self, files: tuple[FileState, ...]) -> None:
        self.files = files
        self._pictures, self._labels = _checked(files[0].path, *_arrays(files[0].path))
        self.shapes = [(self._pictures.shape[1], self._pictures.shape[2])] * len(self._pictures)

    def name(self, picture: int) -> str:
        return f"{self.files[0].path.name}[{picture}]"

    def label(self, picture: int) -> int | None:
        return None if self._labels is None else int(self._labels[picture])

    def image(self, picture: int) -> Image.Image:
        pixels = self._pictures[picture]
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _pictures(path: str) -> Files | Stack:
    """What `path` stands for; read anew where it has changed on disk."""
    if path == SCIKIT_IMAGE:
        return _files(*_photographs())
    files = files_meant(path, "picture", "a picture, a folder or a stack", ".png, .jpg, …", has_picture_name)
    if Path(path).is_dir():
        return _files(files, Path(path))
    return _stack(files) if path.endswith(_STACKS) else _files(files, Path(path).parent)


@lru_cache(maxsize=4)
def _files(files: tuple[FileState, ...], root: Path) -> Files:
    return Files(files, root)


@lru_cache(maxsize=2)
def _stack(files: tuple[FileState, ...]) -> Stack:
    return Stack(files)


def _photographs() -> tuple[tuple[FileState, ...], Path]:
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise RequestError(f"source.path = {SCIKIT_IMAGE!r}: the package is not there; pip install scikit-image, or name a folder")
    folder = Path(found.submodule_search_locations[0]) / "data"
    try:
        return tuple(state for name in PHOTOGRAPHS for state in files_of(folder / name)), folder
    except OSError as error:
        raise RequestError(f"source.path = {SCIKIT_IMAGE!r}: {error.filename} is missing; install scikit-image from its wheel, or "
                           "name a folder") from error


@lru_cache(maxsize=4)
def _prepared(pictures: Files | Stack, place: int, grey: bool, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 1 or 3], read-only: one picture in its colours, scaled."""
    image = pictures.image(place).convert("L" if grey else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.array(image).reshape(height, width, -1)
    pixels.flags.writeable = False
    return pixels


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Pictures and labels as they lie in the file."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            return loaded["images" if "images" in loaded else _only(loaded.files)], loaded["labels"] if "labels" in loaded else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"source.path: {str(path)!r} is no stack of pictures ({error}); save uint8 [N, H, W, C] as `images`, "
                           "and classes as `labels`, with numpy.savez") from error


def _only(names: list[str]) -> str:
    if len(names) != 1:
        raise ValueError(f"holds the arrays {', '.join(names) or 'none'}, none of them `images`")
    return names[0]


def _checked(path: Path, pictures: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3) or not pictures.size:
        raise RequestError(f"source.path: pictures of {str(path)!r} must be uint8 [N, H, W] or [N, H, W, C] with C = 1 or 3, got "
                           f"{pictures.dtype} {pictures.shape}; save them so")
    if labels is not None and (labels.shape != pictures.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
        raise RequestError(f"source.path: labels of {str(path)!r} must be integers [{len(pictures)}], one a picture, got "
                           f"{labels.dtype} {labels.shape}; save them so")
    return pictures, labels
