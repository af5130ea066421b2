"""Interpolated Kneser-Ney over bytes: the shipped model of text, and any that `channel-sim train ngram` makes."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from channel_sim.checks import RequestError
from sources.models import weights_file
from sources.models.model import FiniteContextModel
from sources.models.trie import Streams, Trie, build, frequency_tables

FORMAT = "channel-sim n-gram 1"
SHIPPED = weights_file.FOLDER / "ngram.safetensors"
_WIDE = {"sizes": "<i8", "levels": "<i8"}  # every other stream is of bytes
_REPETITIVE = ("symbols",)


class NGram(FiniteContextModel):
    """p(byte | the bytes before it): modified Kneser-Ney, pruned, in integers.

    The shipped weights are an 8-gram of English books and technical prose; their model card lies beside them. Coding tables come
    from int64 products and shifts, so they are the same on every machine. Any byte may follow any other: data of another kind than
    the training data cost bits and never fail.

    Source: R. Kneser, H. Ney, "Improved backing-off for m-gram language modeling", ICASSP 1995; S. F. Chen, J. Goodman, "An
    empirical study of smoothing techniques for language modeling", Computer Speech & Language 13 (1999), section 3.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Kneser and Ney, ICASSP 1995; Chen and Goodman, Computer Speech & Language 13 (1999)"
    shipped: ClassVar[Path] = SHIPPED

    path: str | None = Field(None, description="trained weights, .safetensors with .json beside; default: the shipped ones")

    @property
    def vocab_size(self) -> int:
        return 256

    @property
    def context_length(self) -> int:
        return self._found(_trie).context_length

    def start(self, num_lanes: int) -> np.ndarray:
        _date.cache_clear()  # the file may be another one by now; within a message it had better not be
        return super().start(num_lanes)

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        return frequency_tables(self._found(_trie), np.ascontiguousarray(state, np.int32))

    def digests(self) -> dict[str, str]:
        _date.cache_clear()
        return {"path": self._found(_digest)}

    @property
    def shared_bytes(self) -> int:
        return self._found(lambda file, _: file.stat().st_size)

    def trie(self) -> Trie:
        """The model in memory, for kernels that score single bytes; read once a process."""
        _date.cache_clear()
        return self._found(_trie)

    def _found(self, what: Callable[[Path, int], Any]) -> Any:
        """`what` of the weights file; a `RequestError` where it can't be had."""
        file = self.shipped if self.path is None else Path(self.path)
        try:
            return what(file, _date(file))
        except (OSError, ValueError, KeyError, SafetensorError, zlib.error, lzma.LZMAError) as error:
            raise RequestError(f"model.path must be n-gram weights with their .json beside them, got {str(file)!r} ({error}); "
                               "make them with channel-sim train ngram") from error


@lru_cache(maxsize=4)
def _date(file: Path) -> int:
    """When it was changed, as last asked: to ask at every table takes longer than the table."""
    return file.stat().st_mtime_ns


@lru_cache(maxsize=4)
def _digest(file: Path, modified_ns: int) -> str:
    """SHA-256 of the file, for which nothing need be built."""
    return weights_file.read(file, FORMAT)[1]


@lru_cache(maxsize=4)
def _trie(file: Path, modified_ns: int) -> Trie:
    return build(unpack(weights_file.read(file, FORMAT)[0]))


def save_weights(file: Path, packed: bytes, config: dict[str, Any]) -> None:
    """Write the weights and, beside them, what made them."""
    weights_file.write(file, packed, FORMAT, config)


def pack(streams: Streams) -> bytes:
    """A safetensors file whose tensors are the streams, each compressed into bytes."""
    tensors = {}
    for name, stream in streams._asdict().items():
        raw = np.packbits(stream) if name == "is_context" else np.ascontiguousarray(stream, _WIDE.get(name, "u1"))
        tensors[name] = np.frombuffer(_compress(name, raw.tobytes()), np.uint8)
    return save(tensors)


def unpack(data: bytes) -> Streams:
    """The streams in a safetensors file that `pack` made."""
    tensors = load(data)
    streams = {}
    for name in Streams._fields:
        decompress = lzma.decompress if name in _REPETITIVE else zlib.decompress
        streams[name] = np.frombuffer(decompress(tensors[name].tobytes()), _WIDE.get(name, "u1"))
    streams["is_context"] = np.unpackbits(streams["is_context"], count=1 + int(streams["sizes"][:-1].sum()))
    return Streams(**streams)


def _compress(name: str, raw: bytes) -> bytes:
    if name in _REPETITIVE:
        return lzma.compress(raw)
    # Huffman codes alone: a chance repetition of numbers saves nothing, and looking for it makes the stream longer
    coder = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    return coder.compress(raw) + coder.flush()
