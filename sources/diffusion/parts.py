"""What all of DiffC shares: step by step, part by part, what both ends expect is told less and less roughly.

    sender:    held ─▶ part: what is expected ─▶ x + noise, less what is expected ─▶ symbols ─▶ stream
                ▲───────────────── what was sent ◀──────────────────────┘
    receiver:  held ─▶ part ─▶ tables ─▶ symbols of the stream ─▶ what was sent ─▶ held, until the stream ends or a checksum differs

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889 (2022).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from typing import Literal, NamedTuple, Self, TypeVar

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Origin, Reconstruction
from sources.diffusion import reverse_channel
from sources.diffusion.stream import StreamReader, StreamWriter, Symbols, symbols_of_bits, symbols_of_number, table

_SETTLED_BYTES = 8  # what is that far before the end of a stream, nothing that follows changes, but once in 2^60 streams
Coding = Literal["poisson", "dithered"]


class Part(NamedTuple):
    """Components that are told together, and what both ends expect of what is sent of them; arrays [n].

    key:        the part's own, shared
    components: which ones, int
    mean, spread: what is sent is expected to be N(mean, spread²)
    ratio:      variance of its noise, in units of spread²
    law:        of x about mean, in units of spread, where cells are coded under it
    precision:  1 / variance of its noise
    after:      what is known of the components once they have been told, in the measure of `Held.known`
    """

    key: Key
    components: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    ratio: np.ndarray
    law: reverse_channel.Mixture
    precision: np.ndarray
    after: np.ndarray

    def first(self, count: int) -> Part:
        """The part of its first components alone."""
        law = reverse_channel.Mixture(self.law.weights[:count], self.law.scales[:count])
        return Part(self.key, self.components[:count], self.mean[:count], self.spread[:count], self.ratio[:count], law,
                    self.precision[:count], self.after[:count])


class Held(ABC):
    """All that a receiver has, and what it expects of the rest. The sender holds the same.

    sums:  float64 [components], of what was sent of each, weighted by its precision
    known: float64 [components], how well each is known
    """

    def __init__(self, sums: np.ndarray, known: np.ndarray) -> None:
        self.sums, self.known = sums, known

    @abstractmethod
    def parts(self, step: int) -> Iterator[Part]:
        """The parts of a step. Each is asked for when the one before it has been taken in."""

    def take(self, part: Part, sent: np.ndarray) -> None:
        """Take in what was sent of the first components of a part, in its units."""
        part = part.first(sent.size)
        self.sums[part.components] += part.precision * (part.mean + part.spread * sent)
        self.known[part.components] = part.after

    def content(self) -> bytes:
        """What the ends must agree on, bit for bit."""
        return self.sums.tobytes()

    def copy(self) -> Self:
        """The same, to go on from apart."""
        other = copy(self)
        other.sums, other.known = self.sums.copy(), self.known.copy()
        return other

    def check(self, num_bits: int) -> int:
        """A checksum of all that is held."""
        return int.from_bytes(hashlib.blake2b(self.content(), digest_size=8).digest(), "big") >> (64 - num_bits)


SomeHeld = TypeVar("SomeHeld", bound=Held)


class Line(NamedTuple):
    """How parts become bytes. After each of `num_steps` steps come `check_bits` of checksum; `most_bytes` end the stream."""

    coding: Coding
    num_steps: int
    check_bits: int
    most_bytes: int | None = None

    def told(self, held: Held, x: np.ndarray) -> np.ndarray:
        """uint8: the stream that tells x to one who holds `held`, which is as a receiver has it if all of the stream arrives."""
        writer = self._written(held, x)
        return writer.stream()[:self.most_bytes]

    def heard(self, held: SomeHeld, octets: np.ndarray) -> SomeHeld:
        """What is held after the first bytes of a stream: as far as they go, or up to the last step that is known to agree."""
        reader = StreamReader(octets)
        for step in range(self.num_steps):
            sure = held.copy()
            for part in held.parts(step):
                sent = self._read(part, reader)
                held.take(part, sent)
                if sent.size < part.ratio.size:
                    return held
            check = reader.bits(self.check_bits)
            if check is None:
                break
            if check != held.check(self.check_bits):
                return sure
        return held

    def _written(self, held: Held, x: np.ndarray) -> StreamWriter:
        """All steps, or as much of them as settles the first `most_bytes`."""
        writer = StreamWriter()
        for step in range(self.num_steps):
            for part in held.parts(step):
                sent, symbols = self._coded(part, (x[part.components] - part.mean) / part.spread)
                writer.write(symbols)
                held.take(part, sent)
                if self.most_bytes is not None and writer.num_bytes > self.most_bytes + _SETTLED_BYTES:
                    return writer
            writer.write(symbols_of_bits(held.check(self.check_bits), self.check_bits))
        return writer

    def _coded(self, part: Part, shift: np.ndarray) -> tuple[np.ndarray, list[Symbols]]:
        """(what is sent, the symbols that tell it)."""
        if self.coding == "poisson":
            choice = reverse_channel.choose(part.key, shift, part.ratio)
            return choice.values, symbols_of_number(choice.number, reverse_channel.information_bits(part.ratio))
        cells = reverse_channel.dithered_cells(part.key, part.ratio, part.law)
        nearest = cells.nearest(shift)
        return cells.values(nearest), [(nearest, table(cells.probabilities))]

    def _read(self, part: Part, reader: StreamReader) -> np.ndarray:
        """What was sent of the first components of the part: all of them, unless the stream ends."""
        if self.coding == "poisson":
            number = reader.number(reverse_channel.information_bits(part.ratio))
            return np.zeros(0) if number is None else reverse_channel.recall(part.key, number, part.ratio.size)
        cells = reverse_channel.dithered_cells(part.key, part.ratio, part.law)
        return cells.values(reader.symbols(table(cells.probabilities)))


def prefix(reconstruction: Reconstruction) -> np.ndarray:
    """The first tokens, up to one that did not come."""
    # a byte that a prior made up is no beginning of a number: the prefix ends there as at a lost one
    arrived = (reconstruction.origin == Origin.RECEIVED) | (reconstruction.origin == Origin.INFERRED)
    return reconstruction.values[:np.logical_and.accumulate(arrived).sum()]
