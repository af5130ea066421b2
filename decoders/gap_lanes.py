"""The beam over a causal model with all gaps of all items side by side: what fills the gaps before is guessed, then checked.

    evidence ─▶ guess ─▶ states before every gap ─▶ all gaps as lanes of one beam ─▶ paths through them ─┐
                               ▲────────────── gaps whose state has changed, in rounds ◀─────────────────┘

Gaps are unknown tokens and the known ones between them that are too few for hypotheses to meet. One before which all was guessed
as the beam then fills it comes out as if gaps had been taken in turn, to the last bit: the first gap of an item in the first round,
and at least one more in every round. A model that looks back less far than gaps are apart needs no guess, and one round.

Source: A. Santilli et al., "Accelerating transformer inference for translation via parallel decoding", ACL 2023: Jacobi's
iteration, there with single tokens in the place of gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from channel_sim.types import Evidence
from decoders.beam import ITEMS_IN_STEP, Findings, Lane, Search, check_vocabulary, hints_of, run
from decoders.first_order import Outlook, probabilities
from sources.models.fixed_point import one_blas_thread
from sources.models.model import CausalModel, State

GAPS_IN_STEP = 64
STARTS_ANEW, UNREAD = -1, -2
"""Tokens of a path that are none: behind the first the model starts as at the start of a message; the second nobody has guessed."""


def find_side_by_side(search: Search, evidence: Sequence[Evidence], num_rounds: int) -> list[Findings]:
    """As `decoders.beam.find`: the posterior of every unknown token; nothing drawn."""
    check_vocabulary(search.model, evidence)
    found: list[Findings] = []
    for first in range(0, len(evidence), ITEMS_IN_STEP):
        batch = evidence[first:first + ITEMS_IN_STEP]
        texts = [_Text(search, one, hint) for one, hint in zip(batch, hints_of(search.guide, batch))]
        with one_blas_thread():
            for _ in range(num_rounds):
                _fill(search, _read(search.model, texts))
        found += [Findings(text.posterior, np.zeros(0, np.int32)) for text in texts]
    return found


@dataclass(eq=False)
class _Gap:
    """A gap of a text: its first token, one past the last by which it is judged, the rows of its unknown ones; state before it."""

    text: _Text
    begin: int
    end: int
    rows: slice
    state: State = field(init=False, default=None)

    def lane(self, search: Search) -> _FollowedLane:
        text, tokens = self.text.evidence, slice(self.begin, self.end)
        llr = None if text.bit_llr is None else text.bit_llr[tokens]
        return _FollowedLane(search, Evidence(text.known[tokens], text.values[tokens], text.vocab_size, bit_llr=llr), None,
                             self.text.hints[self.rows])


class _Text:
    """One item, and how far it was read with its gaps filled as they now are.

    path: int32 [n], the tokens that the model's state goes on from
    """

    def __init__(self, search: Search, evidence: Evidence, hints: np.ndarray) -> None:
        self.evidence, self.hints, self.outlook = evidence, hints, Outlook(search.model, evidence)
        self.path = np.where(evidence.known, evidence.values, UNREAD).astype(np.int32)
        self.posterior = np.zeros((len(hints), evidence.vocab_size), np.float32)
        self.gaps = [_Gap(self, *gap) for gap in _gaps(np.flatnonzero(~evidence.known), evidence.num_tokens, search.history)]
        self.at = self.num_read = 0  # tokens; gaps whose state is that of the path

    def guess(self, table: np.ndarray) -> None:
        """Fill the unknown token that is next as the beam would choose among its edges, given float64 [vocab], p(token | past)."""
        likelihood, promise = self.outlook.at(self.at)
        hint = self.hints[np.count_nonzero(~self.evidence.known[:self.at])]
        self.path[self.at] = (table * likelihood * promise[:-1] * hint).argmax()

    def take(self, gap: _Gap, lane: _FollowedLane) -> None:
        """What the beam found in a gap; where the path through it is another than was read, the text is to be read again."""
        self.posterior[gap.rows] = lane.found.posterior
        tokens = slice(gap.begin, gap.end)
        if gap is not self.gaps[-1] and not np.array_equal(self.path[tokens], lane.path):
            self.path[tokens] = lane.path
            self.num_read = min(self.num_read, self.gaps.index(gap) + 1)


class _FollowedLane(Lane):
    """A gap on its way through the beam; path int32 [n], the tokens of the hypothesis that all others met in."""

    def __init__(self, search: Search, evidence: Evidence, uniforms: np.ndarray | None, hints: np.ndarray) -> None:
        super().__init__(search, evidence, uniforms, hints)
        self.path = self.values.copy()
        self._moves: list[np.ndarray] = []

    def step(self, at: int, table: np.ndarray) -> np.ndarray:
        moves = super().step(at, table)
        self._moves.append(moves)
        if len(moves) == 1:
            hypothesis = 0
            for back, before in enumerate(reversed(self._moves)):
                hypothesis, self.path[at - back] = before[hypothesis]  # of one that starts anew: -1, -1
                if hypothesis < 0:
                    break
            self._moves.clear()
        return moves


def _gaps(unknown: np.ndarray, num_tokens: int, history: int) -> list[tuple[int, int, slice]]:
    """(begin, end, rows) of the gaps between unknown tokens int [unknown] that `history` known ones and more set apart."""
    firsts = np.flatnonzero(np.diff(unknown, prepend=-history - 1) > history)
    lasts = np.append(firsts[1:], unknown.size)
    return [(int(unknown[first]), min(int(unknown[last - 1]) + history + 1, num_tokens), slice(first, last))
            for first, last in zip(firsts.tolist(), lasts.tolist())]


def _read(model: CausalModel, texts: list[_Text]) -> list[_Gap]:
    """Take the model over the texts from where they have changed on; the gaps with another state before them than there was."""
    changed: list[_Gap] = []
    reading = [text for text in texts if text.num_read < len(text.gaps)]
    state = model.start(len(reading))
    for lane, text in enumerate(reading):
        if text.num_read:
            before = text.gaps[text.num_read - 1]
            text.at, state[lane] = before.begin, before.state[0]
    while reading:
        for lane, text in enumerate(reading):
            gap = text.gaps[text.num_read]
            if text.at == gap.begin:
                text.num_read += 1
                if gap.state is None or not np.array_equal(gap.state[0], state[lane]):
                    gap.state = state[lane:lane + 1].copy()
                    changed.append(gap)
        on = np.array([text.num_read < len(text.gaps) for text in reading])
        state, reading = state[on], [text for text in reading if text.num_read < len(text.gaps)]
        state = _advanced(model, state, reading)
    return changed


def _advanced(model: CausalModel, state: State, reading: list[_Text]) -> State:
    """The states after one more token of each text."""
    if not reading:
        return state
    unread = np.array([text.path[text.at] == UNREAD for text in reading])
    if unread.any():
        for lane, table in zip(np.flatnonzero(unread), probabilities(model, state[unread])):
            reading[lane].guess(table)
    tokens = np.array([text.path[text.at] for text in reading])
    state = model.advance(state, np.maximum(tokens, 0))
    if (tokens == STARTS_ANEW).any():
        state[tokens == STARTS_ANEW] = model.start(1)
    for text in reading:
        text.at += 1
    return state


def _fill(search: Search, gaps: list[_Gap]) -> None:
    """Take the gaps through the beam, those of like length together, as one that is done waits for the others."""
    gaps = sorted(gaps, key=lambda gap: gap.end - gap.begin)
    for first in range(0, len(gaps), GAPS_IN_STEP):
        together = gaps[first:first + GAPS_IN_STEP]
        lanes = [gap.lane(search) for gap in together]
        run(search, lanes, np.concatenate([gap.state for gap in together]))
        for gap, lane in zip(together, lanes):
            gap.text.take(gap, lane)
