"""Learning while coding: a coder that begins knowing nothing, and learns from the stream that it codes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import takewhile
from math import prod
from typing import ClassVar, NamedTuple, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from channel_sim import memo
from channel_sim.checks import RequestError, require
from channel_sim.stages import Coder
from channel_sim.types import Evidence, Packets, Preamble, Reception, Tokens, bits_for
from sources.coder import CodedRun
from sources.entropy import at_least_a_bit, in_rows
from sources.online.learner import Learner, copied, fresh
from sources.online.stream import Reader, Writer, learn, settled_bits
from sources.text import read_data

_LARGEST = 2**31 - 1
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_ROW = 4  # of a sequence, which has none


class Online(Coder):
    """Both ends start from nothing, predict, code, and learn from what was coded; no weights are sent, and none are shared.

        token ─▶ its binary decisions, one by one:  counts of what followed many contexts ─┐
                                                    what followed the last long match      ├─▶ two layers of gated mixing ─▶ refined
                                                    rules of few distant decisions         ─┘              ▲                   │
                                                                                                           └──── learns ◀── coded

    One configuration for every source: orders 0 to 24, words, skips, the row above; no part is told what the tokens mean, but that
    words are learned of where a token is a byte. All of it is integer arithmetic, so both ends agree on any machine.

    A packet needs all before it in its run of the learner, and after a gap nothing more is known of that run. `restart` lets the
    learner begin afresh every few packets, and pays for each beginning. `lanes` are parts of equal length, each with a learner
    and a stream of its own, on as many threads as there are processors; each begins with nothing. With `primed`, both ends have
    learned from the same data beforehand, and begin with that.

    The header tells the first token and the count, since losses hide how many tokens went before; nobody reads it, and
    header_bits = 0 will do, without `restart`. Lengths are not told: a decoder reads zeros past the end. A packet is dropped if a
    bit of it is unknown or its CRC has failed. Where bits are soft and no CRC checks them, the more probable ones are taken; wrong
    tokens that come of it pass for known, unless the stream is seen to be none that this coder makes.

    Source: M. Goyal, K. Tatwawadi, S. Chandak, I. Ochoa, "DeepZip: lossless data compression using recurrent neural networks", DCC
    2019, arXiv 1811.08162; M. Mahoney, "Adaptive weighing of context models for lossless data compression", Florida Tech
    CS-2005-16 (2005).
    """

    revision: ClassVar[int] = 2
    source: ClassVar[str] = "M. Goyal et al., DCC 2019, arXiv 1811.08162; M. Mahoney, Florida Tech CS-2005-16"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Both ends of the online coder run the same program; the data that they were primed with, if any, are not charged.",
        "Packets of the online coder are known by their slot, and framing tells where one ends.",
    )

    packet_bits: int | None = Field(512, ge=1, le=_LARGEST, description="payload bits of a packet at most; none = one a lane")
    restart: int | None = Field(None, ge=1, le=1 << 24, description="packets after which the learner starts afresh; none = never")
    lanes: int = Field(1, ge=1, le=1024, description="parts of an item, learned side by side and apart")
    primed: str | None = Field(None, description="file or folder that both ends have learned from; none = nothing is shared")
    primed_bytes: int = Field(1 << 18, ge=1, le=1 << 26, description="how many of them, from the first")
    header_bits: int = Field(32, ge=0, description="bits of a header, charged; holds first token and count")

    @model_validator(mode="after")
    def _restarts_count_packets(self) -> Self:
        require(self.restart is None or self.packet_bits is not None,
                f"packet_bits must be given with restart = {self.restart}, which counts packets, got none")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset({"primed_bytes"} if self.primed is None else ())

    @property
    def shared_bytes(self) -> int:
        return 0 if self.primed is None else len(self._beforehand())

    def digests(self) -> dict[str, str]:
        return {} if self.primed is None else {"primed": hashlib.sha256(self._beforehand()).hexdigest()}

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        return [self._receive(*pair) for pair in zip(receptions, preambles, strict=True)]

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        law, parts = self._law(tokens.vocab_size, tokens.values.size, tokens.grid), self._parts(tokens.values.size)
        coded = self._remembered(law, [tokens.values[part.start:part.stop] for part in parts])
        runs = [run for lane in coded for run in lane]
        pieces = [piece for run in runs for piece in run.pieces]
        counts = np.array([count for run in runs for count in run.counts], np.int64)
        if any(len(lane) > 1 for lane in coded):
            self._check_header(tokens.values.size)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        bits, num_bits = in_rows(pieces)
        first = np.cumsum([0, *(len(run.pieces) for run in runs)])
        packets = Packets(
            bits=bits,
            num_bits=num_bits,
            order=np.arange(bounds[-1]),
            bounds=bounds,
            header=np.stack([np.arange(len(pieces)), bounds[:-1], counts], axis=1),
            header_bits=self.header_bits,
            context=np.array([(start, slot, 1) for start, stop in zip(first, first[1:]) for slot in range(start, stop)],
                             np.int64).reshape(-1, 3),
            ideal_bits=sum(run.ideal_bits for run in runs),
        )
        sizes = [sum(len(run.pieces) for run in lane) for lane in coded]
        return packets, Preamble(tokens.values.size, len(pieces), tokens.grid, (tokens.vocab_size, *sizes[:-1]))

    def _remembered(self, law: _Law, lanes: Sequence[np.ndarray]) -> list[list[CodedRun]]:
        """The runs of each lane int32 [n]."""
        memory = memo.current()
        if memory is None:
            return _side_by_side(lambda values: self._encode_lane(law, values), lanes)
        name = memo.key("online encoded", law.identity(self.revision), f"{self.packet_bits} {self.restart}",
                        *(values.astype("<i4").tobytes() for values in lanes))
        known = memory.get(name)
        if known is None:
            coded = _side_by_side(lambda values: self._encode_lane(law, values), lanes)
            memory.put(name, json.dumps([[run.to_json() for run in lane] for lane in coded]).encode())
            return coded
        return [[CodedRun.from_json(run) for run in lane] for lane in json.loads(known)]

    def _encode_lane(self, law: _Law, values: np.ndarray) -> list[CodedRun]:
        most_bits = None if self.restart is None or self.packet_bits is None else self.packet_bits * self.restart
        runs, first = list[CodedRun](), 0
        while first < values.size:
            writer = Writer(law.learner())
            count = writer.write(values[first:], most_bits)
            require(count > 0, f"coder.packet_bits must hold the dearest token of {law.vocab_size}, in `restart` packets, got "
                    f"{self.packet_bits}: raise it, {16 * bits_for(law.vocab_size)} always do")
            first += count
            runs.append(self._cut(writer, count, last=first == values.size))
        return runs

    def _cut(self, writer: Writer, count: int, *, last: bool) -> CodedRun:
        """The stream of one run, in packets; each carries the tokens that are settled once it is there."""
        stream = writer.stream()
        width = self.packet_bits or max(stream.size, 1)
        # another run follows: then this one has all its packets, be it that zeros at its end need no bits
        num_packets = max(1, -(-stream.size // width)) if last or self.restart is None else self.restart
        ends = width * np.arange(1, num_packets)
        counts = np.searchsorted(settled_bits(writer.marks, stream) if ends.size else np.zeros(0), ends, side="right")
        pieces = [at_least_a_bit(piece) for piece in np.split(stream, ends)]
        return CodedRun(pieces, np.diff([0, *counts, count]).tolist(), writer.ideal_bits)

    def _receive(self, reception: Reception, preamble: Preamble) -> Evidence:
        vocab_size, *sizes = preamble.choices
        law, parts = self._law(vocab_size, preamble.num_tokens, preamble.grid), self._parts(preamble.num_tokens)
        bounds = np.cumsum([0, *sizes, preamble.num_packets - sum(sizes)])
        sound = ~reception.lost & reception.crc_ok & (reception.crc_checked | np.all(reception.llr != 0, axis=1))
        runs = [run for part, first, stop in zip(parts, bounds[:-1], bounds[1:], strict=True)
                for run in self._received_runs(reception, sound, part, range(first, stop))]
        known, values = np.zeros(preamble.num_tokens, bool), np.zeros(preamble.num_tokens, np.int32)
        for run, tokens in zip(runs, self._decode(law, runs), strict=True):
            known[run.first:run.first + tokens.size] = True
            values[run.first:run.first + tokens.size] = tokens
        return Evidence(known, values, vocab_size, preamble.grid)

    def _decode(self, law: _Law, runs: Sequence[_ReceivedRun]) -> list[np.ndarray]:
        """int32: the tokens of each run. One that was decoded before, from the same bits, is not decoded again; what was encoded is
        no help, so ends that disagree are seen to disagree.
        """
        memory = memo.current()
        if memory is None:
            return _side_by_side(lambda run: _decoded(law, run), runs)
        names = [memo.key("online decoded", law.identity(self.revision), run.content) for run in runs]
        found = [memory.get(name) for name in names]
        fresh_runs = [run for run, known in zip(runs, found, strict=True) if known is None]
        decoded = iter(_side_by_side(lambda run: _decoded(law, run), fresh_runs))
        tokens = [next(decoded) if known is None else np.frombuffer(known, "<i4") for known in found]
        for name, known, one in zip(names, found, tokens, strict=True):
            if known is None:
                memory.put(name, one.astype("<i4").tobytes())
        return tokens

    def _received_runs(self, reception: Reception, sound: np.ndarray, part: range, slots: range) -> list[_ReceivedRun]:
        """Each run of a lane up to the first packet that is missing."""
        length, width = self.restart or max(len(slots), 1), self.packet_bits or 0
        runs = []
        for first in range(slots.start, slots.stop, length):
            mine = range(first, min(first + length, slots.stop))
            usable = list(takewhile(lambda slot: bool(sound[slot]), mine))
            rows = reception.hard_bits[usable, :self.packet_bits]
            whole = len(usable) == len(mine)
            claim = part if self.restart is None else _claim(reception.header[usable], part)
            if usable and claim:
                rows = np.pad(rows, ((0, 0), (0, max(0, width - rows.shape[1]))))
                runs.append(_ReceivedRun(claim.start, len(claim), rows.ravel(), whole))
        return runs

    def _parts(self, num_tokens: int) -> list[range]:
        """The tokens of each lane that has any."""
        bounds = [lane * num_tokens // self.lanes for lane in range(self.lanes + 1)]
        return [range(first, stop) for first, stop in zip(bounds, bounds[1:]) if first < stop] or [range(0)]

    def _law(self, vocab_size: int, num_tokens: int, grid: tuple[int, ...]) -> _Law:
        row = prod(grid[1:]) if len(grid) > 1 else _ROW
        longest = max(len(part) for part in self._parts(num_tokens))
        if self.restart is not None and self.packet_bits is not None:
            longest = min(longest, self.restart * self.packet_bits)
        require(self.primed is None or vocab_size == 256,
                f"coder.primed must be left out for tokens of a vocabulary of {vocab_size}: what is learned beforehand is bytes")
        return _Law(vocab_size, max(row, 1), longest, b"" if self.primed is None else self._beforehand())

    def _beforehand(self) -> bytes:
        try:
            return read_data(self.primed or "")[:self.primed_bytes]
        except RequestError as error:
            raise RequestError(str(error).replace("source.path", "coder.primed", 1)) from error

    def _check_header(self, num_tokens: int) -> None:
        needed = 2 * num_tokens.bit_length()
        require(self.header_bits >= needed,
                f"coder.header_bits must be >= {needed} to hold first token and count of {num_tokens} tokens "
                f"({num_tokens.bit_length()} each), got {self.header_bits}: raise it, or send without restart")


class _Law(NamedTuple):
    """What both ends know before the first token: the vocabulary, tokens of a row and of a run at most, what was learned before."""

    vocab_size: int
    row: int
    longest: int
    beforehand: bytes

    def identity(self, revision: int) -> str:
        """All that a stream depends on beside its tokens."""
        return f"{revision} {self[:3]} {hashlib.sha256(self.beforehand).hexdigest()}"

    def learner(self) -> Learner:
        """Its own to change."""
        if not self.beforehand:
            return fresh(self.longest, bits_for(self.vocab_size), self.row)
        return copied(_primed(self.beforehand, self.row, (self.longest - 1).bit_length()))


@lru_cache(maxsize=2)
def _primed(beforehand: bytes, row: int, longest_bits: int) -> Learner:
    """A learner that has read these bytes, with room for 2^longest_bits tokens; not to be changed."""
    learner = fresh(max(len(beforehand), 1 << longest_bits), 8, row)
    learn(learner, np.frombuffer(beforehand, np.uint8))
    return learner


class _ReceivedRun(NamedTuple):
    """A run of the learner as far as it arrived: where its tokens go and how many they are at most, and its bits.

    whole: no packet of it is missing, and zeros follow the bits
    """

    first: int
    num_tokens: int
    bits: np.ndarray
    whole: bool

    @property
    def content(self) -> bytes:
        """All that its tokens depend on beside the law."""
        return np.array([self.num_tokens, self.whole, self.bits.size], "<i8").tobytes() + np.packbits(self.bits).tobytes()


def _decoded(law: _Law, run: _ReceivedRun) -> np.ndarray:
    """int32: the tokens of a run, as many as its bits settle; none of a run that no writer makes."""
    reader = Reader(law.learner(), run.bits, complete=run.whole)
    tokens = reader.read(run.num_tokens)
    if np.any(tokens >= law.vocab_size) or (run.whole and not reader.sound):
        return tokens[:0]
    return tokens


def _claim(headers: np.ndarray, part: range) -> range:
    """The tokens that packets which follow one another bring, by their headers; none where those can't be true."""
    if not len(headers):
        return range(0)
    first, count = int(headers[0, 1]), int(headers[:, 2].clip(0).sum())
    return range(first, first + count) if part.start <= first and first + count <= part.stop else range(0)


def _side_by_side(work: Callable[[_Given], _Made], given: Sequence[_Given]) -> list[_Made]:
    """The kernels let go of the interpreter, so that lanes run on as many threads as there are processors."""
    if len(given) < 2:
        return [work(one) for one in given]
    with ThreadPoolExecutor(min(len(given), len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(work, given))
