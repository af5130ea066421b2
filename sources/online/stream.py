"""A stream of the online coder on its way: written or read token by token, laid aside in a file, and taken up again.

Both ends hold a learner that has seen the same tokens, and the registers of an arithmetic coder. Laid aside, that is a safetensors
file of integers; whoever takes it up goes on as if nothing had been.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from channel_sim.checks import RequestError
from sources.online.learner import Learner
from sources.online.walk import HIGH, LEARN, LOW, NUM_BYTES, READ, REGISTER_BITS, TOP, WINDOW, WRITE, walk

FORMAT = "channel-sim online stream 1"
_BLOCK = 1 << 14
_NO_MARKS, _NO_COSTS = np.zeros((0, 3), np.int64), np.zeros(0)
_BYTES_A_DECISION = 2  # a decision costs 16 bits at most


class Stream:
    """What both ends have: the learner, the registers, and `octets`, the stream so far."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.registers = np.array([0, TOP, 0, 0])
        self.octets = np.zeros(0, np.uint8)

    def save(self, path: Path) -> None:
        """Lay the stream aside."""
        state = self.learner._asdict() | {"registers": self.registers, "octets": self.octets}
        save_file(state, path, {"format": FORMAT, "end": type(self).__name__})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Take up a stream that `save` laid aside, at the same end; a `RequestError` where the file is none."""
        try:
            with safe_open(path, "numpy") as file:
                if (file.metadata() or {}) != {"format": FORMAT, "end": cls.__name__}:
                    raise ValueError(f"it holds no {cls.__name__} of format {FORMAT!r}")
                state = {name: file.get_tensor(name) for name in file.keys()}
            registers, octets = state.pop("registers"), state.pop("octets")
            stream = cls.__new__(cls)
            Stream.__init__(stream, Learner(**state))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RequestError(f"path must be a stream that was laid aside with save, got {str(path)!r} ({error})") from error
        stream.registers, stream.octets = registers, octets
        return stream


class Writer(Stream):
    """The sending end. `ideal_bits` is what the learner's probabilities have come to since it began, or was taken up."""

    ideal_bits = 0.0
    marks = _NO_MARKS

    def write(self, tokens: np.ndarray, most_bits: int | None = None) -> int:
        """Append int32 [n], or as many of them as certainly fit `most_bits` of the whole stream; how many.

        `marks` int64 [n, 3] are the registers after each of them. A stream that has met `most_bits` is at its end.
        """
        marks, count = [], 0
        for first in range(0, tokens.size, _BLOCK):
            block = np.ascontiguousarray(tokens[first:first + _BLOCK], np.int32).copy()
            before, own, costs = self.registers[:3].copy(), np.zeros((block.size, 3), np.int64), np.zeros(block.size)
            limit = -1 if most_bits is None else most_bits
            walked = walk(self.learner, WRITE, block, self.registers, self._with_room(block.size), limit, own, costs)
            self.registers[:3] = own[walked - 1] if walked else before
            self.ideal_bits += float(costs[:walked].sum())
            marks.append(own[:walked])
            count += walked
            if walked < block.size:
                break
        self.marks = np.concatenate([_NO_MARKS, *marks])
        return count

    def _with_room(self, num_tokens: int) -> np.ndarray:
        """`octets`, with room for as many tokens more."""
        needed = int(self.registers[NUM_BYTES] + _BYTES_A_DECISION * num_tokens * self.learner.shape[0]) + REGISTER_BITS
        if self.octets.size < needed:
            self.octets = np.concatenate([self.octets, np.zeros(needed, np.uint8)])
        return self.octets

    def stream(self) -> np.ndarray:
        """uint8: the fewest bits that, read with zeros after them, decode to what was written."""
        return seal(self.octets[:self.registers[NUM_BYTES]], self.registers)


class Reader(Stream):
    """The receiving end of `bits` uint8, and zeros after them if they are `complete`."""

    def __init__(self, learner: Learner, bits: np.ndarray, *, complete: bool) -> None:
        super().__init__(learner)
        self.octets = np.packbits(bits)
        self.registers = np.append(self.registers, -1 if complete else bits.size)
        ahead = np.zeros(REGISTER_BITS // 8, np.uint8)
        ahead[:min(ahead.size, self.octets.size)] = self.octets[:ahead.size]
        self.registers[WINDOW] = int.from_bytes(ahead.tobytes(), "big")

    def read(self, num_tokens: int) -> np.ndarray:
        """int32: the next tokens, as many as the bits settle."""
        tokens = np.zeros(num_tokens, np.int32)
        count = walk(self.learner, READ, tokens, self.registers, self.octets, int(self.registers[-1]), _NO_MARKS, _NO_COSTS)
        return tokens[:count]

    @property
    def sound(self) -> bool:
        """A complete stream that, all tokens read, is as its writer would have sealed it."""
        again = seal(self.octets[:self.registers[NUM_BYTES]], self.registers)
        return np.array_equal(again, np.trim_zeros(np.unpackbits(self.octets), "b"))


def learn(learner: Learner, tokens: np.ndarray) -> None:
    """Read int32 [n] without coding it."""
    walk(learner, LEARN, np.array(tokens, np.int32), np.zeros(4, np.int64), np.zeros(0, np.uint8), -1, _NO_MARKS, _NO_COSTS)


def seal(octets: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """uint8: the bits of `octets`, and of the number in the interval with the most zeros at its end; none of those zeros."""
    low, high = int(registers[LOW]), int(registers[HIGH])
    zeros = ((low - 1) ^ high).bit_length() - 1 if low else REGISTER_BITS
    last = (high >> zeros << zeros).to_bytes(REGISTER_BITS // 8, "big") if low else b""
    padded = np.zeros(int(registers[NUM_BYTES]), np.uint8)
    padded[:octets.size] = octets  # zeros were read past the end of what came
    return np.trim_zeros(np.unpackbits(np.concatenate([padded, np.frombuffer(last, np.uint8)])), "b")


def settled_bits(marks: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """int64 [n]: how many bits of its `stream` settle each token and all before it, by the registers after it.

    A token is settled if it is decoded alike whatever comes after those bits; what the stream does not settle at all has one bit
    more than there are.
    """
    octets = np.packbits(np.concatenate([stream, np.zeros(2 * REGISTER_BITS, np.uint8)])).astype(np.int64)
    octets = np.concatenate([octets, np.zeros(int(marks[:, NUM_BYTES].max(initial=0)) + REGISTER_BITS // 8, np.int64)])
    low, high, start = marks[:, LOW], marks[:, HIGH], marks[:, NUM_BYTES]
    window = np.zeros(len(marks), np.int64)
    for octet in range(REGISTER_BITS // 8):
        window = window << 8 | octets[start + octet]
    needed = np.full(len(marks), stream.size + 1, np.int64)
    for free in range(REGISTER_BITS + 1):
        rest = (1 << free) - 1
        holds = (window & ~rest >= low) & (window | rest <= high)
        needed = np.where(holds, np.minimum(needed, 8 * start + REGISTER_BITS - free), needed)
    return np.minimum(np.maximum.accumulate(needed), stream.size + 1)
