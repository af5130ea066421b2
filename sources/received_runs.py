"""Runs of an entropy coder on the receiving side: their packets as they came, the streams to decode, and what is known by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sources.entropy import Lane, Track
from sources.repair import Damage

_TEXT_TOKENS = 256  # of the text before, that a judge is told


@dataclass(eq=False)
class ReceivedRun:
    """The packets of one run of model and coder, up to the first that is missing, while they are repaired.

    claims:  token positions that each packet brings
    bits:    uint8, the payload of each, as decided or as repaired; where they are cut from one stream, all of its width
    damage:  of each packet; None = taken as sent
    whole:   the run ends with the last of them
    sealed:  each packet is a stream by itself; else they are cut from one
    counted: a packet settles as many tokens as it claims; else the claim is where the run ends
    """

    claims: list[range]
    bits: list[np.ndarray]
    damage: list[Damage | None]
    whole: bool
    sealed: bool
    counted: bool
    repaired: bool = field(default=False)

    @property
    def suspect(self) -> int:
        """The first packet that is not taken as sent; their number if all are."""
        return next((packet for packet, damage in enumerate(self.damage) if damage is not None), len(self.damage))

    def head(self) -> Track:
        """All before the first suspect."""
        return self._track(self.bits[:self.suspect])

    def trial(self, payload: np.ndarray, *, complete: bool) -> Track:
        """All before the first suspect, and it with another payload; not `complete`: only what its bits settle."""
        return self._track([*self.bits[:self.suspect], self._padded(payload)], cut=not complete)

    def fits(self, track: Track) -> bool:
        """A trial whose last lane has all the tokens that the suspect claims."""
        lane = track.lanes[-1]
        ends = self.sealed or self.counted or (self.whole and self.suspect + 1 == len(self.bits))
        return not ends or len(lane.tokens) == lane.num_tokens

    def accept(self, payload: np.ndarray) -> None:
        """The first suspect is taken as sent, with this payload."""
        suspect = self.suspect
        self.bits[suspect], self.damage[suspect], self.repaired = self._padded(payload), None, True

    def _padded(self, payload: np.ndarray) -> np.ndarray:
        return np.pad(payload, (0, max(0, self.bits[self.suspect].size - payload.size)))

    def _track(self, rows: Sequence[np.ndarray], *, cut: bool = False) -> Track:
        claims = self.claims[:len(rows)]
        if self.sealed:
            return Track([Lane(row, claim, complete=not cut or packet < len(rows) - 1)
                          for packet, (row, claim) in enumerate(zip(rows, claims, strict=True))])
        if not rows:
            return Track([])
        complete = self.whole and len(rows) == len(self.bits) and not cut
        return Track([Lane(np.concatenate(rows), range(claims[0].start, claims[-1].stop), complete=complete)])


@dataclass(eq=False)
class Book:
    """What is known of one item so far."""

    known: np.ndarray
    values: np.ndarray

    def enter(self, track: Track) -> None:
        for lane in track.lanes:
            self.enter_tokens(lane.positions.start, np.array(lane.tokens, np.int32))

    def enter_tokens(self, position: int, tokens: np.ndarray) -> None:
        self.known[position:position + tokens.size] = True
        self.values[position:position + tokens.size] = tokens

    def text_before(self, position: int) -> np.ndarray:
        """int32: the known tokens that lead up to a position, as many as a judge looks at."""
        first = max(0, position - _TEXT_TOKENS)
        gaps = np.flatnonzero(~self.known[first:position])
        return self.values[first + (gaps[-1] + 1 if gaps.size else 0):position]


class Trial:
    """What the first suspect of a run may be; `head` is what went before it."""

    def __init__(self, book: Book, run: ReceivedRun, head: Track) -> None:
        damage = run.damage[run.suspect]
        assert damage is not None
        self.book, self.run, self.damage = book, run, damage
        self.before = np.array([token for lane in head.lanes for token in lane.tokens], np.int32)
        self._skipped = 0 if run.sealed else self.before.size
        self.position = run.claims[run.suspect].start if run.sealed else run.claims[0].start + self.before.size
        self.as_decided = run.trial(damage.decided, complete=False)
        self.repairs = [run.trial(payload, complete=True) for payload in damage.repairs]

    def tokens(self, track: Track) -> np.ndarray:
        """int32: those that the suspect brings."""
        return np.array(track.lanes[-1].tokens[self._skipped:], np.int32)
