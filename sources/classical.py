"""Any tokens through a classical compressor: one file an item, cut into packets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim.checks import RequestError, require
from channel_sim.stages import Coder
from channel_sim.types import Evidence, Packets, Preamble, Reception, Tokens, bits_for, bits_to_tokens, token_bits
from sources.classical_files import METHODS, Damaged, Expander, Layout
from sources.entropy import in_rows
from sources.text import FileState, files_of

_LARGEST = 2**31 - 1


class Compressor(Coder):
    """The file that a classical compressor makes of an item, cut into packets of `packet_bits`.

        tokens ─▶ ceil(log2 vocab_size) bits each, back to back, filled to bytes ─▶ file ─▶ cut into packets

    Every method takes every item: pixels of a picture are a picture to `png` and `webp`, all other bytes rows of 2^k bytes, 2^k at
    most the square root of their number; to `flac` bytes are samples. A packet carries the tokens that the file up to its end
    settles (`sources.classical_files`), so after a lost one all is erased, and what was settled before it is known. A file that is
    whole and none of its method's, by the method's own check, is given up; so is all where an error shows before a hole. Damage
    that no check sees is decoded as it comes.

    A packet is lost where it did not arrive, its CRC has failed, or a bit of it is unknown. The slot says which packet a row is, so
    any `header_bits` will do, 0 included; they are charged, not read.

    What the beginning of a file settles is found by decoding it; `ppmd`, `png`, `webp` and `flac` are decoded anew for each packet,
    so that a long item in many packets takes the square of its length.

    With a `dictionary` both ends hold data beforehand: its last 32 kB are in the window (`zlib`), it is a dictionary trained with
    zstd or content to refer to (`zstd`), or the model has coded it first (`ppmd`).
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = (
        "Framing tells where a packet ends on the air, and is not charged beyond the packet's header and CRC.",
    )

    method: Literal["zlib", "gzip", "lzma", "lzma_raw", "bz2", "zstd", "brotli", "ppmd", "flac", "png", "webp"] = Field(
        "gzip", description="the compressor, at its strongest setting")
    packet_bits: int | None = Field(512, ge=1, le=_LARGEST, description="payload bits of a packet; none = one packet")
    header_bits: int = Field(32, ge=0, description="bits of a packet's header, charged")
    dictionary: str | None = Field(None, description="file that both ends hold, for zlib, zstd and ppmd; default: none")
    sample_bits: Literal[8, 16] = Field(8, description="bits of a sample of sound, which flac must know")
    vocab_size: int = Field(256, ge=2, description="vocabulary; default: that of the tokenizer")

    @model_validator(mode="after")
    def _takes_a_dictionary(self) -> Self:
        able = [name for name, method in METHODS.items() if method.takes_dictionary]
        require(self.dictionary is None or self.method in able,
                f"dictionary must be left out with method = {self.method!r}; of the methods {', '.join(able)} take one")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset() if self.method == "flac" else frozenset({"sample_bits"})

    @property
    def shared_bytes(self) -> int:
        return len(self._dictionary())

    def digests(self) -> dict[str, str]:
        return {} if self.dictionary is None else {"dictionary": hashlib.sha256(self._dictionary()).hexdigest()}

    def assumed(self) -> tuple[str, ...]:
        both = "Both ends hold the dictionary beforehand; only the adjusted rate charges it."
        return self.assumptions if self.dictionary is None else (*self.assumptions, both)

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        return [self._receive(*pair) for pair in zip(receptions, preambles, strict=True)]

    def coded_bits(self, tokens: Sequence[Tokens]) -> np.ndarray:
        return np.array([8 * len(self._file(one)[0]) for one in tokens], np.int64)

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        num_tokens = tokens.values.size
        file, content, layout = self._file(tokens)
        bits = np.unpackbits(np.frombuffer(file, np.uint8))
        pieces = np.split(bits, range(self.packet_bits or bits.size, bits.size, self.packet_bits or bits.size)) if content else []
        expander, ends = METHODS[self.method].expander(layout), [0]
        for start, end in pairwise(np.cumsum([0, *map(len, pieces)]) // 8):
            expander.feed(file[start:end], last=end == len(file))
            ends.append(min(num_tokens, 8 * len(expander.content) // bits_for(self.vocab_size)))
        assert expander.content == content and ends[-1] == num_tokens, f"{self.method} must give back what it was given"
        rows, num_bits = in_rows(pieces)
        numbers, counts = np.arange(len(pieces)), np.diff(ends)
        packets = Packets(
            bits=rows,
            num_bits=num_bits,
            order=np.arange(num_tokens),
            bounds=np.array(ends),
            header=np.stack([numbers, ends[:-1], counts], axis=1),
            header_bits=self.header_bits,
            context=np.stack([np.zeros_like(numbers), numbers, np.ones_like(numbers)], axis=1),
            head_bits=min(bits.size, 8 * self._head_bytes()),
        )
        return packets, Preamble(num_tokens, len(pieces), tokens.grid)

    def _file(self, tokens: Tokens) -> tuple[bytes, bytes, Layout]:
        """(file, content, layout); of no tokens the file is empty."""
        require(self.vocab_size == tokens.vocab_size,
                f"coder.vocab_size must be that of the tokens, {tokens.vocab_size}, got {self.vocab_size}: leave the key out")
        layout = self._layout(tokens.values.size, tokens.grid)
        content = np.packbits(token_bits(tokens.values, self.vocab_size)).tobytes()
        return METHODS[self.method].compress(content, layout) if content else b"", content, layout

    def _receive(self, reception: Reception, preamble: Preamble) -> Evidence:
        usable = ~reception.lost & reception.crc_ok & (reception.crc_checked | np.all(reception.llr != 0, axis=1))
        num_usable = int(np.append(~usable, True).argmax())  # up to the first that is not
        whole = num_usable == preamble.num_packets
        bits = reception.hard_bits[:num_usable].ravel()
        file = np.packbits(bits[:bits.size - bits.size % 8]).tobytes()
        expander = METHODS[self.method].expander(self._layout(preamble.num_tokens, preamble.grid))
        values = self._known(expander, file, whole=whole) if file else np.zeros(0, np.int32)
        values = values[:preamble.num_tokens]
        unknown = preamble.num_tokens - values.size
        return Evidence(np.arange(preamble.num_tokens) < values.size, np.pad(values, (0, unknown)), self.vocab_size, preamble.grid)

    def _known(self, expander: Expander, file: bytes, *, whole: bool) -> np.ndarray:
        """int32: the tokens that the file up to its first hole settles; none where it is damaged and seen to be."""
        try:
            expander.feed(file, last=whole)
        except Damaged:
            return np.zeros(0, np.int32)
        content = expander.content if expander.whole or not whole else b""
        width, bits = bits_for(self.vocab_size), np.unpackbits(np.frombuffer(content, np.uint8))
        values = bits_to_tokens(bits[:bits.size - bits.size % width].reshape(-1, width))
        return values if not np.any(values >= self.vocab_size) else np.zeros(0, np.int32)

    def _layout(self, num_tokens: int, grid: tuple[int, ...]) -> Layout:
        num_bytes = -(-num_tokens * bits_for(self.vocab_size) // 8)
        return Layout.of(num_bytes, grid, self.sample_bits, self._dictionary())

    def _head_bytes(self) -> int:
        return _head_bytes(self.method, self.sample_bits, self._dictionary())

    def _dictionary(self) -> bytes:
        if self.dictionary is None:
            return b""
        try:
            path = Path(self.dictionary)
            require(not path.is_dir(), "it is a folder")
            (file,) = files_of(path)
            require(len(_read(file)) > 0, "it is empty")
            return _read(file)
        except (OSError, ValueError) as error:
            raise RequestError(f"coder.dictionary must be a file that can be read and holds something, got {self.dictionary!r} "
                               f"({error}); check the path") from error


@lru_cache(maxsize=4)
def _read(file: FileState) -> bytes:
    return file.path.read_bytes()


@lru_cache(maxsize=32)
def _head_bytes(method: str, sample_bits: int, dictionary: bytes) -> int:
    return METHODS[method].head_bytes(Layout.of(1, (), sample_bits, dictionary))
