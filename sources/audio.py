"""Sounds: files and folders of recordings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Source
from channel_sim.types import Item
from sources.sound_file import Head, has_sound_name, head_of_file, quantised, read_sound, resampled, resampled_length
from sources.text import FileState, digest_of_files, files_meant


class Sound(Source, ABC):
    """Items are int16 [n], or with `sample_bits` = 8 uint8 [n] in offset binary, 128 being 0: one channel."""

    modality: ClassVar[str] = "sound"

    item_seconds: float | None = Field(None, gt=0, description="length of an item, rounded to samples")
    item_samples: int | None = Field(None, ge=1, description="the same in samples, instead of item_seconds")
    sample_bits: Literal[8, 16] = Field(16, description="bits of a sample; 8 are the upper byte of 16")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.item_seconds is not None and self.item_samples is not None:
            raise ValueError(f"item_samples must be left out with item_seconds = {self.item_seconds:g}, got {self.item_samples}")
        return self

    def length(self, sample_rate: int) -> int | None:
        """Samples of an item at this rate; None where neither key says."""
        if self.item_seconds is None:
            return self.item_samples
        return max(1, round(self.item_seconds * sample_rate))

    @abstractmethod
    def rate_of(self, index: int) -> int:
        """Samples a second of item `index`: what is needed to play it."""


class Audio(Sound):
    """Recordings: WAV, FLAC and OGG, and single files of any other format that libsndfile reads.

    path:         a file, or a folder: all .wav, .flac and .ogg files below it in the order of their relative paths, hidden ones
                  left out. Items tile each file from its start, its last item being shorter where they do not fit; without
                  `item_seconds` and `item_samples` an item is a whole file. No item reaches over two files.
    sample_rate:  every file is resampled to this rate, by SciPy's polyphase filter; without it each keeps its own.
    sample_bits:  files of any depth become 16 bits by rounding, without dither, louder floating-point samples being cut off; 8 bits
                  are the upper byte of those, as in G. Delétang et al., "Language modeling is compression", ICLR 2024.

    Channels are mixed to their mean. Files that are broken or hold no sample are refused by name: what their heads show before the
    first item, what only their samples show when they are reached. The last few files are kept.
    """

    path: str = Field(description="a file, or a folder of .wav, .flac and .ogg files")
    sample_rate: int | None = Field(None, ge=1, le=768_000, description="samples a second after resampling; none: as it is")

    @property
    def num_items(self) -> int:
        return int(self._starts(_recordings(self.path))[-1])

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        recordings = _recordings(self.path)
        starts = self._starts(recordings)
        return [self._item(recordings, *self._place(starts, index)) for index in indices]

    def rate_of(self, index: int) -> int:
        recordings = _recordings(self.path)
        place, _ = self._place(self._starts(recordings), index)
        return self._rate(recordings.heads[place])

    def assumed(self) -> tuple[str, ...]:
        pieces = "Pieces of one recording are not independent; intervals take them as if they were, and are too narrow."
        return (pieces,) if self.item_seconds or self.item_samples else ()

    def digests(self) -> dict[str, str]:
        return {"path": digest_of_files(_recordings(self.path).files)}

    def _place(self, starts: np.ndarray, index: int) -> tuple[int, int]:
        """(file, item within it)"""
        if not 0 <= index < starts[-1]:
            raise RequestError(f"item {index} of source.path = {self.path!r}: there are {starts[-1]} items, 0 to {starts[-1] - 1}; "
                               "ask for fewer items, or for shorter ones by item_seconds")
        place = int(np.searchsorted(starts, index, side="right")) - 1
        return place, int(index - starts[place])

    def _starts(self, recordings: Recordings) -> np.ndarray:
        """int64 [number of files + 1]: the first item of each file, and the number of items."""
        counts = [-(-self._num_samples(head) // self._length(head)) for head in recordings.heads]
        return np.cumsum([0, *counts])

    def _rate(self, head: Head) -> int:
        return self.sample_rate or head.sample_rate

    def _num_samples(self, head: Head) -> int:
        return resampled_length(*head, self._rate(head))

    def _length(self, head: Head) -> int:
        return self.length(self._rate(head)) or self._num_samples(head)

    def _item(self, recordings: Recordings, place: int, within: int) -> Item:
        head, name = recordings.heads[place], recordings.name(place)
        samples = _prepared(recordings, place, self._rate(head), self.sample_bits)
        length = self._length(head)
        start, stop = within * length, min((within + 1) * length, samples.size)
        return Item(samples[start:stop].copy(), self.modality, name if stop - start == samples.size else f"{name}[{start}:{stop}]")


class Recordings:
    """The sound files that a path stands for."""

    def __init__(self, files: tuple[FileState, ...], root: Path) -> None:
        self.files = files
        self._root = root

    @cached_property
    def heads(self) -> list[Head]:
        return [head_of_file(file.path) for file in self.files]

    def name(self, place: int) -> str:
        return self.files[place].path.relative_to(self._root).as_posix()


def _recordings(path: str) -> Recordings:
    """What `path` stands for; read anew where it has changed on disk."""
    files = files_meant(path, "sound", "a sound or a folder", ".wav, .flac, .ogg", has_sound_name)
    return _of_files(files, Path(path) if Path(path).is_dir() else Path(path).parent)


@lru_cache(maxsize=4)
def _of_files(files: tuple[FileState, ...], root: Path) -> Recordings:
    return Recordings(files, root)


@lru_cache(maxsize=4)
def _prepared(recordings: Recordings, place: int, sample_rate: int, sample_bits: int) -> np.ndarray:
    """int16 or uint8 [n], read-only: one file at that rate and depth."""
    head = recordings.heads[place]
    samples = quantised(resampled(read_sound(recordings.files[place].path), head.sample_rate, sample_rate), sample_bits)
    samples.flags.writeable = False
    return samples
