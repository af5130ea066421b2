"""The beam over a causal model: items side by side, token by token, the model stepped once for all hypotheses of all items.

    evidence ─▶ items in step ─┬─ known, one hypothesis ─▶ the model alone
                               └─ else ─▶ branch or follow ─▶ lattice ─▶ read when the hypotheses have met, or in windows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.types import Evidence
from decoders.beam_lattice import branch, draw_path, follow, message_start
from decoders.first_order import Outlook, probabilities
from decoders.lattice import Lattice, empty_lattice, read_marginals
from sources.models.fixed_point import one_blas_thread
from sources.models.model import CausalModel, FiniteContextModel, MaskedModel, State

ITEMS_IN_STEP = 64
WINDOW_TOKENS, OVERLAP_TOKENS = 192, 64
"""Where the hypotheses never meet, the first 192 tokens of the lattice are decided when it holds 256."""


@dataclass(frozen=True)
class Search:
    """What to search with, how wide and how far."""

    model: CausalModel
    beam_width: int
    look_ahead: int
    follow_weight: float
    guide: MaskedModel | None = None

    @property
    def history(self) -> int:
        """How many tokens hypotheses must share to be one."""
        if isinstance(self.model, FiniteContextModel):
            return min(self.look_ahead, self.model.context_length)
        return self.look_ahead


@dataclass(eq=False)
class Findings:
    """Of one item: posterior float32 [unknown tokens, vocab]; drawn int32 [unknown tokens], empty unless uniforms were given."""

    posterior: np.ndarray
    drawn: np.ndarray


def find(search: Search, evidence: Sequence[Evidence], uniforms: Sequence[np.ndarray] | None = None) -> list[Findings]:
    """The posterior of every unknown token; with `uniforms` float64 [tokens, 2, 4] of each item, also one draw of all of them."""
    check_vocabulary(search.model, evidence)
    found: list[Findings] = []
    for first in range(0, len(evidence), ITEMS_IN_STEP):
        batch = range(first, min(first + ITEMS_IN_STEP, len(evidence)))
        hints = hints_of(search.guide, [evidence[i] for i in batch])
        lanes = [Lane(search, evidence[i], uniforms[i] if uniforms else None, hint) for i, hint in zip(batch, hints)]
        with one_blas_thread():
            run(search, lanes, search.model.start(len(lanes)))
        found += [lane.found for lane in lanes]
    return found


def check_vocabulary(model: CausalModel | MaskedModel, evidence: Sequence[Evidence]) -> None:
    for one in evidence:
        if one.vocab_size != model.vocab_size:
            raise RequestError(f"decoder.model must know the tokens that were sent, vocab_size {one.vocab_size}, got one of "
                               f"{model.vocab_size}; name a model that fits the tokenizer")


def hints_of(guide: MaskedModel | None, evidence: Sequence[Evidence]) -> list[np.ndarray]:
    """float32 [unknown tokens, vocab] of each item: what a guide makes of them, given what is known on both sides."""
    if guide is None:
        return [np.broadcast_to(np.float32(1), (int(np.count_nonzero(~one.known)), one.vocab_size)) for one in evidence]
    check_vocabulary(guide, evidence)
    values = [np.where(one.known, one.values, -1).astype(np.int32) for one in evidence]
    tables = guide.frequencies(values, [np.flatnonzero(one < 0) for one in values])
    return [table.astype(np.float32) / np.float32(1 << guide.frequency_bits) for table in tables]


class Lane:
    """One item, or a stretch of it, on its way through the beam."""

    def __init__(self, search: Search, evidence: Evidence, uniforms: np.ndarray | None, hints: np.ndarray) -> None:
        self.search, self.evidence, self.uniforms, self.hints = search, evidence, uniforms, hints
        self.outlook = Outlook(search.model, evidence)
        self.values = self.outlook.values
        num_unknown = int(np.count_nonzero(self.values < 0))
        self.found = Findings(np.zeros((num_unknown, evidence.vocab_size), np.float32), np.zeros(num_unknown, np.int32))
        self.unknown = 0  # unknown tokens so far
        self.beam = message_start(search.history)
        self.lattice: Lattice | None = None
        self.begin = self.filled = 0  # the token in the lattice's first row; rows in use
        self.num_windows = self.anchor = 0

    @property
    def num_hypotheses(self) -> int:
        return self.beam.weights.size

    @property
    def settled(self) -> bool:
        """Whether all that is to come is known, and what it says has been heard."""
        return self.unknown == len(self.hints) and self.num_hypotheses == 1

    def step(self, at: int, table: np.ndarray) -> np.ndarray:
        """Take token `at`, given float64 [hypotheses, vocab]; moves int64 [hypotheses after it, 2]."""
        if self.lattice is None:
            self.lattice = empty_lattice(WINDOW_TOKENS + OVERLAP_TOKENS, self.search.beam_width + 1)
        if not self.filled:
            self.begin, self.beam = at, message_start(self.search.history)
        if self.values[at] >= 0:
            self.beam, moves = follow(self.lattice, self.filled, self.beam, self.values[at], table,
                                      self.search.follow_weight)
        else:
            likelihood, promise = self.outlook.at(at)
            hint = np.array(self.hints[self.unknown])
            self.beam, moves = branch(self.lattice, self.filled, self.beam, table, likelihood, promise, hint,
                                      self.search.beam_width, self.unknown, self.found.posterior[self.unknown])
            self.unknown += 1
        self.filled += 1
        if self.num_hypotheses == 1 or at + 1 == self.values.size:
            self._decide(self.lattice, self.filled)
        elif self.filled == WINDOW_TOKENS + OVERLAP_TOKENS:
            self._decide(self.lattice, WINDOW_TOKENS)
        return moves

    def _decide(self, lattice: Lattice, rows: int) -> None:
        """Read the first `rows` rows of the lattice and make room."""
        posterior = self.found.posterior
        if self.uniforms is not None:
            self._draw(lattice, rows, self.uniforms)
        read_marginals(lattice, self.filled, rows, posterior)
        for array in lattice:
            array[:self.filled - rows] = array[rows:self.filled]
        self.begin, self.filled, self.num_windows = self.begin + rows, self.filled - rows, self.num_windows + 1

    def _draw(self, lattice: Lattice, rows: int, uniforms: np.ndarray) -> None:
        # rows that overlap are drawn again in the next window: with numbers of their own, or the two would agree too well
        own = uniforms[self.begin:self.begin + self.filled, self.num_windows % 2]
        path = np.zeros((self.filled, 2), np.int32)
        draw_path(lattice, self.filled, self.beam.weights, self.anchor, own, self.found.posterior, path)
        rows_unknown = lattice.unknown[:rows]
        self.found.drawn[rows_unknown[rows_unknown >= 0]] = path[:rows, 0][rows_unknown >= 0]
        self.anchor = int(path[rows, 1]) if rows < self.filled else 0


def run(search: Search, lanes: Sequence[Lane], state: State) -> None:
    """Take all lanes to their ends, one token of each at a time; `state` is the model's before the first token of each."""
    model = search.model
    running = [lane for lane in lanes if lane.values.size]
    state = state[[lane.values.size > 0 for lane in lanes]]
    counts = np.ones(len(running), np.int64)
    for at in range(max((lane.values.size for lane in running), default=0)):
        values = np.array([lane.values[at] for lane in running])
        steps = (values < 0) | (counts > 1)
        firsts = np.cumsum(counts) - counts
        asked = np.repeat(steps, counts)
        tables = iter(_split(probabilities(model, state[asked]), counts[steps])) if steps.any() else iter(())
        moves = [lane.step(at, next(tables)) if stepping else np.array([[0, value]], np.int64)
                 for lane, value, stepping in zip(running, values, steps)]
        ending = np.array([lane.values.size == at + 1 or lane.settled for lane in running])
        counts = np.array([0 if end else len(move) for end, move in zip(ending, moves)])
        kept = np.flatnonzero(~ending)
        if kept.size == 0:
            break
        sources = np.concatenate([moves[i] for i in kept])
        anew = sources[:, 0] < 0
        sources[:, 0] += np.repeat(firsts[kept], counts[kept])
        running, counts = [running[i] for i in kept], counts[kept]
        sources[anew] = 0
        state = model.advance(state[sources[:, 0]], sources[:, 1])
        if anew.any():
            state[anew] = model.start(1)


def _split(table: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    return np.split(table, np.cumsum(counts)[:-1])
