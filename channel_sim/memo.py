"""Nothing is computed twice: results of pure functions, by the content of all that they depend on, in memory and in a file.

    with attach(folder / "memo.sqlite"):
        ...  # encoding and decoding in here find what was computed before, in here or by another process

A memo never changes a number. A key is the digest of everything a result depends on; an entry on file carries a checksum; and
whatever is wrong with the file, from a lost lock to a full disk, the result is computed anew.
"""

from __future__ import annotations

import json
import platform
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from channel_sim.stages import Component

MEMORY_BYTES, FILE_BYTES = 1 << 26, 1 << 28
_FORMAT = 1
_APPLICATION_ID = 0x63686E6D  # "chnm"
_PATIENCE_SECONDS = 5.0
_CHECKSUM_BYTES = 16
_ENTRY_BYTES = 256  # what Python needs for an entry beside its value
_COMPUTED_BY = ("channel-sim", "numpy", "numba", "constriction", "keras", "tensorflow")
_current: ContextVar[Memo | None] = ContextVar("memo", default=None)


@contextmanager
def attach(path: Path | None, *, memory_bytes: int = MEMORY_BYTES, file_bytes: int = FILE_BYTES) -> Iterator[Memo]:
    """Let what runs inside, in this thread, remember: in memory, and in the file `path` too, which processes may share.

    The file is written at the end, in one transaction, and grows little past `file_bytes`: the oldest entries leave first.
    """
    with nullcontext() if path is None else closing(MemoFile(path, file_bytes)) as file:
        memo = Memo(file, memory_bytes)
        token = _current.set(memo)
        try:
            yield memo
        finally:
            _current.reset(token)
            memo.flush()


def current() -> Memo | None:
    """The memo that is attached, if any."""
    return _current.get()


def key(*parts: str | bytes) -> bytes:
    """32 bytes that these parts, computed with this version of everything, have to themselves."""
    digest = blake2b(digest_size=32)
    for part in (_computed_by(), *parts):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def identity(component: Component) -> str:
    """All that a component's numbers depend on: its class, revision and fields that count, and what its files hold."""
    cls = type(component)
    fields = {name: getattr(component, name) for name in cls.model_fields if name not in component.ignored_fields}
    described = [cls.__module__, cls.__qualname__, cls.revision, fields, component.digests()]
    return json.dumps(described, default=lambda value: identity(value) if isinstance(value, Component) else repr(value))


class Memo:
    """Bytes by key. What was asked for or put last stays in memory, up to `memory_bytes`; the rest is on file, if there is one."""

    def __init__(self, file: MemoFile | None = None, memory_bytes: int = MEMORY_BYTES) -> None:
        self._file, self._memory_bytes = file, memory_bytes
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()  # least recently used first
        self._unwritten: dict[bytes, bytes] = {}
        self._num_bytes = self._num_unwritten_bytes = 0
        self.num_hits = self.num_misses = 0

    def get(self, key: bytes) -> bytes | None:
        value = self._entries.get(key)
        if value is None and self._file is not None:
            value = self._file.get(key)
        if value is None:
            self.num_misses += 1
            return None
        self.num_hits += 1
        self._keep(key, value)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        self._keep(key, value)
        if self._file is not None:
            self._unwritten[key] = value
            self._num_unwritten_bytes += _size(value)
            if self._num_unwritten_bytes > self._memory_bytes:
                self.flush()

    def flush(self) -> None:
        """Write what is not on file yet."""
        if self._file is not None and self._unwritten:
            self._file.add(self._unwritten)
        self._unwritten, self._num_unwritten_bytes = {}, 0

    def _keep(self, key: bytes, value: bytes) -> None:
        if key in self._entries:
            self._num_bytes -= _size(self._entries.pop(key))
        self._entries[key] = value
        self._num_bytes += _size(value)
        while self._num_bytes > self._memory_bytes:
            self._num_bytes -= _size(self._entries.popitem(last=False)[1])


class MemoFile:
    """An SQLite file of checked entries. Nothing about it is an error: what can't be read is not there, what can't be written is
    forgotten, and a file that is damaged is removed, so that the next to open it begins a new one.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._connection: sqlite3.Connection | None = None
        with self._forgiving():
            self._connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS)
            self._open(self._connection)

    def get(self, key: bytes) -> bytes | None:
        found: list[tuple[Any]] = []
        with self._forgiving():
            if self._connection is not None:
                found = self._connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchall()
        for (entry,) in found:
            if isinstance(entry, bytes) and entry[:_CHECKSUM_BYTES] == _checksum(key, entry[_CHECKSUM_BYTES:]):
                return entry[_CHECKSUM_BYTES:]
        return None

    def add(self, entries: Mapping[bytes, bytes]) -> None:
        rows = [(key, _checksum(key, value) + value) for key, value in entries.items()]
        with self._forgiving():
            if self._connection is not None:
                with self._connection as connection:
                    connection.execute("BEGIN IMMEDIATE")  # a lock that is asked for half-way is refused without any patience
                    self._make_room(connection)
                    connection.executemany("INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)", rows)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, connection: sqlite3.Connection) -> None:
        ((num_tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
        ((application,),) = connection.execute("PRAGMA application_id")
        if num_tables and application != _APPLICATION_ID:
            self.close()  # another program's file is let alone
            return
        connection.execute("PRAGMA synchronous = OFF")  # what a power cut damages is found out by its checksum
        if not num_tables:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute("CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, "
                                   "value BLOB NOT NULL)")

    def _make_room(self, connection: sqlite3.Connection) -> None:
        (pages, free, page_bytes) = (connection.execute(f"PRAGMA {name}").fetchone()[0]
                                     for name in ("page_count", "freelist_count", "page_size"))
        if (pages - free) * page_bytes > self._max_bytes:
            connection.execute("DELETE FROM entries WHERE number <= (SELECT (3 * min(number) + max(number)) / 4 FROM entries)")

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError:
            self.close()  # locked, read-only, full, not there: this time without, or every entry would wait for its lock
        except sqlite3.DatabaseError:
            self.close()
            with suppress(OSError):
                self._path.unlink()


def _size(value: bytes) -> int:
    return _ENTRY_BYTES + len(value)


def _checksum(key: bytes, value: bytes) -> bytes:
    return blake2b(key + value, digest_size=_CHECKSUM_BYTES).digest()


@lru_cache(maxsize=1)
def _computed_by() -> str:
    """What else a result may depend on: versions of the code, and the kind of machine."""
    versions: list[Any] = [_FORMAT, platform.machine(), platform.python_version()]
    for package in _COMPUTED_BY:
        try:
            versions.append(version(package))
        except PackageNotFoundError:
            versions.append(None)
    return json.dumps(versions)
