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
from channel_sim.store import Failure, Trial
from channel_sim.trial import Outcome, run, send
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
    """All trials of one block; past `deadline`, those that were finished. What fails does so alone, the rest goes on.

    What is sent depends on source, tokenizer and coder alone, so arms that share them code once.
    """
    block = Block()
    coded: dict[Any, Any] = {}
    with attach(memo) if memo else nullcontext():
        for task, items in work.missing:
            if deadline is None or time.time() < deadline:
                refusals = _attempt(block, work, task, items, coded)
                if len(refusals) == len(items):
                    block.refused[task.task_id] = refusals[0]
    return block


def _attempt(block: Block, work: Work, task: Task, items: tuple[int, ...], coded: dict[Any, Any]) -> list[str]:
    """Run the items together, and if that fails one by one; hands back what was refused of them."""
    try:
        outcomes, seconds = _run_items(work, task, items, coded)
        trials = [_trial(task, work.replicate, outcome, seconds) for outcome in outcomes]
        shown = [one for one in outcomes if work.replicate == 0 and one.sent.index < SAMPLED_ITEMS]
        samples = [(task.task_id, one.sent.index, sample(one)) for one in shown]
    except Exception as error:
        if len(items) > 1:
            return [refusal for item in items for refusal in _attempt(block, work, task, (item,), coded)]
        block.failures.append(Failure(task.task_id, items[0], work.replicate, _told(error)))
        return [str(error)] if isinstance(error, RequestError) else []
    block.trials.extend(trials)
    block.samples.extend(samples)
    return []


def _run_items(work: Work, task: Task, items: tuple[int, ...], coded: dict[Any, Any]) -> tuple[list[Outcome], float]:
    """The outcomes, and the seconds that one took."""
    chain, root = task.chain, Key(work.seed)
    sender = (chain.source, chain.tokenizer, chain.coder, items)
    start = time.perf_counter()
    if sender not in coded:
        coded[sender] = send(chain, items, root)
    outcomes = run(chain, coded[sender], work.replicate, root)
    return outcomes, (time.perf_counter() - start) / len(items)


def died(work: Work) -> Block:
    """What is to be recorded of a single trial that its worker died of."""
    ((task, (item,)),) = work.missing
    return Block(failures=[Failure(task.task_id, item, work.replicate, "its worker died of it twice: killed, or out of memory")])


def _trial(task: Task, replicate: int, outcome: Outcome, seconds: float) -> Trial:
    measured = outcome.measurement
    return Trial(task.task_id, outcome.sent.index, replicate, measured.values, measured.reasons, outcome.ledger.to_dict(), seconds)


def _told(error: Exception) -> str:
    """What it was and, below, where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error}\n{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
