"""One block of a sweep: a few items of every task that misses them, run wherever there is a worker; what fails, fails alone."""

from __future__ import annotations

import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.memo import attach
from channel_sim.store import Failure, Trial, pack_features
from channel_sim.trial import Chain, Heard, Outcome, Sent, carry, run, send
from scenarios.samples import sample
from scenarios.scenario import Task

SAMPLED_ITEMS = 3


@dataclass(frozen=True)
class Work:
    """One block: the tasks that miss any of its items, and for each the items that it misses."""

    seed: int
    replicate: int
    missing: tuple[tuple[Task, tuple[int, ...]], ...]

    @property
    def num_trials(self) -> int:
        return sum(len(items) for _, items in self.missing)

    def split(self) -> list[Work]:
        """Its two halves, by items as long as there are several, then by tasks; nothing if it is a single trial."""
        items = sorted({item for _, some in self.missing for item in some})
        middle, half = items[len(items) // 2], len(self.missing) // 2
        if len(items) > 1:
            parts = [tuple((task, kept) for task, some in self.missing if (kept := tuple(i for i in some if (i < middle) == first)))
                     for first in (True, False)]
        else:
            parts = [self.missing[:half], self.missing[half:]] if half else []
        return [replace(self, missing=part) for part in parts]


@dataclass(frozen=True)
class Block:
    """What came of a block. refused: tasks of which every item met a `RequestError`, and what it said."""

    trials: list[Trial] = field(default_factory=list)
    samples: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def run_block(work: Work, deadline: float | None = None, memo: Path | None = None) -> Block:
    """All trials of one block; past `deadline`, those that were finished. What fails does so alone, the rest goes on."""
    block, shared = Block(), _Shared(work)
    with attach(memo) if memo else nullcontext():
        # point by point: the arms of one share what was heard, and then it can be forgotten
        for task, items in sorted(work.missing, key=lambda missing: missing[0].point_index):
            if deadline is None or time.time() < deadline:
                refusals = _attempt(block, work, task, items, shared)
                if len(refusals) == len(items):
                    block.refused[task.task_id] = refusals[0]
    return block


class _Shared:
    """What arms have in common: all items as sent, and those of one sweep point as heard."""

    def __init__(self, work: Work) -> None:
        self._root, self._replicate, self._point = Key(work.seed), work.replicate, -1
        self._sent: dict[Any, list[Sent]] = {}
        self._heard: dict[Any, Heard] = {}

    def sent(self, chain: Chain, items: tuple[int, ...]) -> list[Sent]:
        sender = (chain.source, chain.tokenizer, chain.coder, items)
        if sender not in self._sent:
            self._sent[sender] = send(chain, items, self._root)
        return self._sent[sender]

    def heard(self, task: Task, items: tuple[int, ...]) -> Heard:
        if task.point_index != self._point:
            self._heard, self._point = {}, task.point_index
        chain = task.chain
        link = (chain.source, chain.tokenizer, chain.coder, chain.protection, chain.channel, items)
        if link not in self._heard:
            self._heard[link] = carry(chain, self.sent(chain, items), self._replicate, self._root)
        return self._heard[link]


def _attempt(block: Block, work: Work, task: Task, items: tuple[int, ...], shared: _Shared) -> list[str]:
    """Run the items together, and if that fails one by one; hands back what was refused of them."""
    try:
        outcomes, seconds = _run_items(work, task, items, shared)
        trials = [_trial(task, work.replicate, outcome, seconds) for outcome in outcomes]
        shown = [one for one in outcomes if work.replicate == 0 and one.sent.index < SAMPLED_ITEMS]
        samples = [(task.task_id, one.sent.index, _sample(task, work, one)) for one in shown]
    except Exception as error:
        if len(items) > 1:
            return [refusal for item in items for refusal in _attempt(block, work, task, (item,), shared)]
        block.failures.append(Failure(task.task_id, items[0], work.replicate, _told(error)))
        return [str(error)] if isinstance(error, RequestError) else []
    block.trials.extend(trials)
    block.samples.extend(samples)
    return []


def _run_items(work: Work, task: Task, items: tuple[int, ...], shared: _Shared) -> tuple[list[Outcome], float]:
    """The outcomes, and the seconds that one took."""
    start = time.perf_counter()
    sent, heard = shared.sent(task.chain, items), shared.heard(task, items)
    outcomes = run(task.chain, sent, work.replicate, Key(work.seed), heard)
    return outcomes, (time.perf_counter() - start) / len(items)


def died(work: Work) -> Block:
    """What is to be recorded of a single trial that its worker died of."""
    ((task, (item,)),) = work.missing
    return Block(failures=[Failure(task.task_id, item, work.replicate, "its worker died of it twice: killed, or out of memory")])


def _trial(task: Task, replicate: int, outcome: Outcome, seconds: float) -> Trial:
    measured, card = outcome.measurement, outcome.delivery.card
    return Trial(task.task_id, outcome.sent.index, replicate, measured.values, measured.reasons, outcome.ledger.to_dict(), seconds,
                 card.to_list() if card else None, measured.calibration, pack_features(outcome.features))


def _sample(task: Task, work: Work, outcome: Outcome) -> dict[str, Any]:
    shared = Key(work.seed).child("item", outcome.sent.index, "shared")
    return sample(outcome, task.chain.tokenizer, shared, task.chain.source)


def _told(error: Exception) -> str:
    """What it was and, below, where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error}\n{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
