"""Pictures to train on: read from files, a part of them set aside, crops of them drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.images import Images
from sources.models.vq_network import FACTOR, scaled

Pictures = list[np.ndarray]
"""uint8 [H, W, 3] each."""
LARGE = 256
"""Pixels of both sides from which on a picture is halved."""


@dataclass(frozen=True)
class Collection:
    """What one --data holds: pictures to train on, pictures set aside, and where they come from."""

    name: str
    sha256: str
    pictures: Pictures
    aside: Pictures

    def crops(self, key: Key, count: int, side: int) -> np.ndarray:
        """float32 [count, side, side, 3] in [-1, 1]: any part of any picture, mirrored and turned in any of the eight ways."""
        return crops(self.pictures, key, count, side)

    def side(self, most: int) -> int:
        """The side of crops that every picture holds: `most`, or that of the smallest picture, a multiple of a cell's."""
        return min(most, self._smallest) // FACTOR * FACTOR

    @cached_property
    def _smallest(self) -> int:
        return min(min(one.shape[:2]) for one in self.pictures + self.aside)


def read_collections(paths: Sequence[Path], *, halve: bool, set_aside_every: int) -> list[Collection]:
    """One collection of each path, which is one of source images; large pictures are halved where `halve` says so.

    RequestError where one can't be read or holds too little.
    """
    return [_collection(Path(path), halve, set_aside_every) for path in paths]


def crops(pictures: Pictures, key: Key, count: int, side: int) -> np.ndarray:
    """As `Collection.crops`, of any pictures."""
    which, ways = key.child("picture").integers(len(pictures), count), key.child("way").integers(8, count)
    places = key.child("place").uniform(count, 2)
    taken = np.empty((count, side, side, 3), np.uint8)
    for row, picture, way, (down, right) in zip(taken, which, ways, places):
        whole = pictures[picture]
        top, left = int(down * (whole.shape[0] - side + 1)), int(right * (whole.shape[1] - side + 1))
        part = np.rot90(whole[top:top + side, left:left + side], way % 4)
        row[:] = part[:, ::-1] if way >= 4 else part
    return scaled(taken)


def _collection(path: Path, halve: bool, set_aside_every: int) -> Collection:
    try:
        source = Images(path=str(path))
        pictures = [np.asarray(item.content) for item in source.items(range(source.num_items), [Key(0)] * source.num_items)]
        digest = source.digests()["path"]
    except RequestError as error:
        raise RequestError(str(error).replace("source.path", "--data")) from error
    pictures = [_halved(one) if halve and min(one.shape[:2]) >= LARGE else one for one in pictures]
    num_small = sum(min(one.shape[:2]) < FACTOR for one in pictures)
    if num_small or len(pictures) < 2:
        raise RequestError(f"--data must hold at least two pictures of {FACTOR} pixels a side or more, got {len(pictures)}, "
                           f"{num_small} of them smaller, in {str(path)!r}; name other data")
    aside = pictures[::set_aside_every]
    return Collection(path.name, digest, [one for place, one in enumerate(pictures) if place % set_aside_every], aside)


def _halved(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.LANCZOS))
