"""Real text and bytes: items are fixed slices of a file, of a folder, or of the documentation inside CPython."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import ClassVar, NamedTuple

from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Source
from channel_sim.types import Item

PYTHON_DOCS = "python-docs"


class FileSource(Source):
    """Item i is the bytes [i * item_bytes, (i + 1) * item_bytes) of the data; the last item may be shorter.

    A folder stands for all regular files below it, one after the other with nothing between, in the order of their relative
    paths. The items tile the data: together they are all of it, and no key changes them. Data are read once and kept in memory.
    With `spacing_bytes` item i begins at i * spacing_bytes instead, so that items of any length begin at the same places.
    """

    path: str = Field(description="a file or a folder")
    item_bytes: int = Field(1024, ge=1, description="bytes of an item")
    spacing_bytes: int | None = Field(None, ge=1, description="bytes from one item's beginning to the next; default: item_bytes")

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset({"spacing_bytes"}) if self.spacing_bytes is None else frozenset()

    @property
    def num_items(self) -> int:
        return -(-len(self._data()) // (self.spacing_bytes or self.item_bytes))

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        data, num_items = self._data(), self.num_items
        for index in indices:
            if not 0 <= index < num_items:
                raise RequestError(f"item {index} of source.path = {self.path!r}: there are {num_items} items of {self.item_bytes} "
                                   f"bytes, 0 to {num_items - 1}; ask for fewer items or lower item_bytes")
        return [self._slice(data, index) for index in indices]

    def digests(self) -> dict[str, str]:
        return {"path": hashlib.sha256(self._data()).hexdigest()}

    def _slice(self, data: bytes, index: int) -> Item:
        start = index * (self.spacing_bytes or self.item_bytes)
        stop = min(start + self.item_bytes, len(data))
        return Item(data[start:stop], self.modality, f"{Path(self.path).name or self.path}[{start}:{stop}]")

    def _data(self) -> bytes:
        return read_data(self.path)


class BytesFile(FileSource):
    """The bytes of a file or a folder, whatever they mean."""

    modality: ClassVar[str] = "bytes"


class Text(FileSource):
    """Text of a file or a folder, as bytes (UTF-8 or any other encoding; an item may begin inside a character).

    `python-docs` stands for the documentation topics inside CPython, sorted by name and joined with newlines in UTF-8: about
    470 kB of technical English that every reader has. It differs a little from one Python release to the next; the digest tells.

    >>> Text(item_bytes=64).items([0], [Key(1)])[0].name
    'python-docs[0:64]'
    """

    modality: ClassVar[str] = "text"

    path: str = Field(PYTHON_DOCS, description="a file, a folder, or python-docs: the documentation topics inside CPython")

    def _data(self) -> bytes:
        return python_docs() if self.path == PYTHON_DOCS else read_data(self.path)


@lru_cache(maxsize=1)
def python_docs() -> bytes:
    """The documentation topics that ship inside every CPython, sorted by name, joined with newlines, UTF-8."""
    return "\n".join(topics[name] for name in sorted(topics)).encode()


class FileState(NamedTuple):
    """A file as it stands on disk; another `modified_ns` or `num_bytes` means that it must be read again."""

    path: Path
    modified_ns: int
    num_bytes: int


def read_data(path: str) -> bytes:
    """The bytes of a file, or of all regular files below a folder. RequestError where missing, unreadable or empty."""
    try:
        data = _read(files_of(Path(path)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(f"source.path must be a file or a folder that can be read, got {path!r} ({reason}); "
                           "check the path and its permissions") from error
    if not data:
        raise RequestError(f"source.path must hold at least one byte, got {path!r}, which is empty; "
                           "name a file or a folder with data")
    return data


def files_of(path: Path) -> tuple[FileState, ...]:
    """The regular files that `path` stands for, in the order in which they are read."""
    if not path.is_dir() and path.exists() and not path.is_file():
        raise ValueError("neither a regular file nor a folder")
    below = sorted((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.relative_to(path).as_posix())
    states = [(file, file.stat()) for file in (below if path.is_dir() else [path])]
    return tuple(FileState(file, state.st_mtime_ns, state.st_size) for file, state in states)


def files_meant(path: str, one: str, kinds: str, ends: str, fits: Callable[[Path], bool]) -> tuple[FileState, ...]:
    """The file `path`, or the files below that folder whose relative paths fit. RequestError where missing, unreadable or none.

    one: what a file is; kinds: what `path` may be; ends: how names of such files end. All three in words, for the errors.
    """
    try:
        files = files_of(Path(path))
    except (OSError, ValueError) as error:
        raise RequestError(f"source.path must be {kinds} that can be read, got {path!r} "
                           f"({getattr(error, 'strerror', None) or error}); check the path and its permissions") from error
    if not Path(path).is_dir():
        return files
    files = tuple(file for file in files if fits(file.path.relative_to(path)))
    if not files:
        raise RequestError(f"source.path must hold at least one {one}, got {path!r}, in which no file ends like one ({ends}); "
                           f"name a folder with {one}s")
    return files


@lru_cache(maxsize=8)
def digest_of_files(files: tuple[FileState, ...]) -> str:
    """SHA-256 over names and contents: the order of the items depends on both."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.path.name.encode()).digest() + hashlib.sha256(file.path.read_bytes()).digest())
    return whole.hexdigest()


@lru_cache(maxsize=4)
def _read(files: tuple[FileState, ...]) -> bytes:
    return b"".join(file.path.read_bytes() for file in files)
