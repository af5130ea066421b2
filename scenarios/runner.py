"""Plan the addresses, subtract what is on file, run the rest in blocks with all arms in lockstep, commit block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.store import Point, Store, Trial
from channel_sim.trial import Outcome, run, send
from scenarios.describe import facts
from scenarios.references import reference_curves
from scenarios.samples import sample
from scenarios.scenario import Scenario, Task

BLOCK_ITEMS = 8
SAMPLED_ITEMS = 3
Progress = Callable[[int, int], None]
Block = tuple[list[Trial], list[tuple[str, int, dict[str, Any]]]]


@dataclass(frozen=True)
class Work:
    """One block: the tasks that miss any of its items, and for each the items that it misses."""

    seed: int
    replicate: int
    missing: tuple[tuple[Task, tuple[int, ...]], ...]

    @property
    def num_trials(self) -> int:
        return sum(len(items) for _, items in self.missing)


def open_store(scenario: Scenario, out: Path, command: str) -> Store:
    """The results file of `out`, new or to be continued; a folder that holds another scenario's results is refused."""
    path = out / "results.sqlite"
    described = facts(scenario, command)
    if path.exists():
        store = Store(path, writable=True)
        name = store.meta()["name"]
        if name != scenario.name:
            raise RequestError(f"--out {out}: holds the results of scenario {name!r}, not of {scenario.name!r}; "
                               "choose another folder")
        for key, value in described.items():
            store.set_meta(key, value)
    else:
        try:
            store = Store.create(path, described)
        except OSError as error:
            raise RequestError(f"--out {out}: cannot be written ({error}); choose another folder") from error
    points = [Point(task.arm_index, task.point_index, task.arm, task.sweep, task.task_id) for task in scenario.tasks]
    store.set_plan(points, {task.task_id: task.resolved for task in scenario.tasks}, reference_curves(scenario))
    return store


def plan(scenario: Scenario, done: set[tuple[str, int, int]]) -> list[Work]:
    """Blocks of what is not on file, in order of items; equal tasks (an arm that the sweep leaves as it is) are run once."""
    _check_items(scenario)
    tasks = {task.task_id: task for task in scenario.tasks}
    blocks = []
    for first in range(0, scenario.items, BLOCK_ITEMS):
        indices = range(first, min(first + BLOCK_ITEMS, scenario.items))
        for replicate in range(scenario.replicates):
            missing = tuple((task, items) for task_id, task in tasks.items()
                            if (items := tuple(i for i in indices if (task_id, i, replicate) not in done)))
            if missing:
                blocks.append(Work(scenario.seed, replicate, missing))
    return blocks


def execute(scenario: Scenario, store: Store, *, workers: int = 1, progress: Progress = lambda done, total: None) -> int:
    """Run what is missing into `store`; returns the number of trials that were run."""
    blocks = plan(scenario, store.done())
    total = sum(block.num_trials for block in blocks)
    finished = 0
    progress(finished, total)
    for trials, samples in _results(blocks, workers):
        store.add(trials, samples)
        finished += len(trials)
        progress(finished, total)
    return total


def run_block(work: Work) -> Block:
    """All trials of one block. What is sent depends on source, tokenizer and coder alone, so arms that share them code once."""
    root = Key(work.seed)
    coded: dict[Any, Any] = {}
    trials: list[Trial] = []
    samples: list[tuple[str, int, dict[str, Any]]] = []
    for task, items in work.missing:
        chain = task.chain
        sender = (chain.source, chain.tokenizer, chain.coder, items)
        start = time.perf_counter()
        if sender not in coded:
            coded[sender] = send(chain, items, root)
        outcomes = run(chain, coded[sender], work.replicate, root)
        seconds = (time.perf_counter() - start) / len(items)
        trials += [_trial(task, work.replicate, outcome, seconds) for outcome in outcomes]
        if work.replicate == 0:
            samples += [(task.task_id, one.sent.index, sample(one)) for one in outcomes if one.sent.index < SAMPLED_ITEMS]
    return trials, samples


def _results(blocks: list[Work], workers: int) -> Iterator[Block]:
    if workers <= 1 or len(blocks) <= 1:
        yield from map(run_block, blocks)
        return
    # spawn, not fork: TensorFlow does not survive a fork
    executor: Executor
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        for future in as_completed([executor.submit(run_block, block) for block in blocks]):
            yield future.result()


def _trial(task: Task, replicate: int, outcome: Outcome, seconds: float) -> Trial:
    measured = outcome.measurement
    return Trial(task.task_id, outcome.sent.index, replicate, measured.values, measured.reasons, outcome.ledger.to_dict(), seconds)


def _check_items(scenario: Scenario) -> None:
    for task in scenario.tasks:
        available = task.chain.source.num_items
        if available is not None and scenario.items > available:
            raise RequestError(f"{scenario.name}: items: {scenario.items}, but the source of arm {task.arm!r} has only "
                               f"{available}; lower items to {available}")
