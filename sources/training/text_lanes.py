"""Training text as it will be met: messages that begin anywhere and know nothing of what was before, in parallel lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from channel_sim.keys import Key

BLOCK_BYTES = 16384
Encode = Callable[[list[bytes]], list[np.ndarray]]


def set_aside(text: bytes, every: int) -> tuple[bytes, bytes]:
    """(training part, part set aside): the last of every `every` blocks of 16 KiB is set aside; of a short text, its last tenth."""
    if len(text) < 2 * every * BLOCK_BYTES:
        edge = len(text) - len(text) // 10
        return text[:edge], text[edge:]
    blocks = [text[first:first + BLOCK_BYTES] for first in range(0, len(text), BLOCK_BYTES)]
    aside = [number % every == every - 1 for number in range(len(blocks))]
    return (b"".join(block for block, held in zip(blocks, aside) if not held),
            b"".join(block for block, held in zip(blocks, aside) if held))


def messages(text: bytes, message_bytes: int, most: int) -> list[bytes]:
    """At most `most` messages of `message_bytes` bytes, spread evenly over `text`."""
    count = max(1, min(most, len(text) // message_bytes))
    firsts = np.linspace(0, max(0, len(text) - message_bytes), count).astype(int)
    return [text[first:first + message_bytes] for first in firsts]


def pieces(num_bytes: int, message_bytes: int, key: Key) -> np.ndarray:
    """(first, end) int64 [n, 2] of the messages that cut a text of `num_bytes` at a random phase, shuffled.

    One in five is four times as long as `message_bytes`, so that half of the text is seen in longer messages.
    """
    most = 1 + num_bytes // message_bytes
    lengths = np.where(key.child("lengths").uniform(most) < 0.2, 4, 1) * message_bytes
    phase = int(key.child("phase").integers(message_bytes, 1)[0])
    ends = np.minimum(np.cumsum(np.concatenate([[phase], lengths])), num_bytes)
    both = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    both = both[both[:, 0] < both[:, 1]]
    return both[np.argsort(key.child("order").uniform(len(both)), kind="stable")]


@dataclass
class Lanes:
    """Endless lanes of tokens: message after message, each led by the start token; epoch after epoch, each cut afresh.

    `epoch`, `next_piece` and `waiting` (one int32 vector a lane) are all that a continuation needs.
    """

    text: bytes
    encode: Encode
    start: int
    message_bytes: int
    key: Key
    num_lanes: int
    epoch: int = 0
    next_piece: int = 0
    waiting: list[np.ndarray] = field(default_factory=list)
    _pieces: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.waiting:
            self.waiting = [np.zeros(0, np.int32)] * self.num_lanes
        self._pieces = self._cut()

    def window(self, steps: int) -> np.ndarray:
        """int32 [num_lanes, steps + 1]: the next tokens of every lane; the last is the first of the next window."""
        rows = []
        for lane in range(self.num_lanes):
            while self.waiting[lane].size < steps + 1:
                self.waiting[lane] = np.concatenate([self.waiting[lane], self._message()])
            rows.append(self.waiting[lane][:steps + 1])
            self.waiting[lane] = self.waiting[lane][steps:]
        return np.stack(rows)

    def _message(self) -> np.ndarray:
        if self.next_piece == len(self._pieces):
            self.epoch, self.next_piece = self.epoch + 1, 0
            self._pieces = self._cut()
        first, end = self._pieces[self.next_piece]
        self.next_piece += 1
        return np.concatenate([[self.start], self.encode([self.text[first:end]])[0]]).astype(np.int32)

    def _cut(self) -> np.ndarray:
        return pieces(len(self.text), self.message_bytes, self.key.child("epoch", self.epoch))
