"""An n-gram trained on the spot, as large and on as much data as a scenario says: for rates against size and data."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from sources.models.model import FiniteContextModel
from sources.models.trie import Trie, build, frequency_tables
from sources.text import PYTHON_DOCS, FileState, files_of, python_docs, read_data
from sources.training.ngram import fit

_ORDER, _LEVEL_RATIO = 8, 1.3  # of the shipped n-gram
_LEAST_BYTES = 8


class NGramOf(FiniteContextModel):
    """The byte n-gram that `channel-sim train ngram` makes, of the bytes [skip_bytes, skip_bytes + train_bytes) of a text.

    What it codes must not be among these: `skip_bytes` keeps the beginning of a text for that. It is trained on first use, in every
    process that uses it: a second or two for 1 MB of text, a minute for 40 MB. `shared_bytes` are what its weights take as a file.

    Source: as `NGram`.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Kneser and Ney, ICASSP 1995; Chen and Goodman, Computer Speech & Language 13 (1999)"

    path: str = Field(PYTHON_DOCS, description="text to train on: a file, a folder, or python-docs")
    skip_bytes: int = Field(1 << 16, ge=0, description="bytes of the text before those that it is trained on")
    train_bytes: int = Field(400_000, ge=_LEAST_BYTES, description="bytes that it is trained on; fewer where the text ends before")
    max_megabytes: float = Field(0.2, gt=0, description="size to prune to, in 10^6 bytes")

    @property
    def vocab_size(self) -> int:
        return 256

    @property
    def context_length(self) -> int:
        return self._fitted().trie.context_length

    @property
    def shared_bytes(self) -> int:
        return self._fitted().num_bytes

    def start(self, num_lanes: int) -> np.ndarray:
        _files.cache_clear()  # the text may be another one by now; within a message it had better not be
        return super().start(num_lanes)

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        return frequency_tables(self._fitted().trie, np.ascontiguousarray(state, np.int32))

    def digests(self) -> dict[str, str]:
        return {"path": hashlib.sha256(self.data()).hexdigest()}

    def data(self) -> bytes:
        """What it is trained on."""
        text = python_docs() if self.path == PYTHON_DOCS else read_data(self.path)
        data = text[self.skip_bytes:self.skip_bytes + self.train_bytes]
        if len(data) < _LEAST_BYTES:
            raise RequestError(f"model.skip_bytes must leave at least {_LEAST_BYTES} bytes of {self.path!r}, which has "
                               f"{len(text):,}, got {self.skip_bytes:,}: lower it, or name more text")
        return data

    def _fitted(self) -> _Fitted:
        return _fit(self, _files(self.path))


class _Fitted(NamedTuple):
    """An n-gram in memory; num_bytes: of it as a file."""

    trie: Trie
    num_bytes: int


@lru_cache(maxsize=4)
def _files(path: str) -> tuple[FileState, ...]:
    """What the text's files were when they were last looked at."""
    return () if path == PYTHON_DOCS else files_of(Path(path))


@lru_cache(maxsize=32)
def _fit(model: NGramOf, files: tuple[FileState, ...]) -> _Fitted:
    streams, packed, _ = fit(np.frombuffer(model.data(), np.uint8), _ORDER, model.max_megabytes, _LEVEL_RATIO)
    return _Fitted(build(streams), len(packed))
