"""Plan the addresses, subtract what is on file, run the rest in blocks with all arms in lockstep, commit block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from channel_sim.checks import RequestError
from channel_sim.store import Address, Point, Store, Trial
from scenarios.blocks import Block, Work, died, run_block
from scenarios.describe import channel_law, facts
from scenarios.executors import Crew, completed, crew
from scenarios.references import reference_curves
from scenarios.scenario import Scenario, Task
from scenarios.stopping import decide, looks

BLOCK_ITEMS = 8
TIME_LIMIT = "time limit"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Done:
    """What a run did. stopped: None, or "time limit" where it ended before all was done."""

    num_trials: int
    num_failed: int
    stopped: str | None


def open_store(scenario: Scenario, out: Path, command: str) -> Store:
    """The results file of `out`, new or to be continued; a folder that holds another scenario's results is refused."""
    path = out / "results.sqlite"
    described = facts(scenario, command)
    if path.exists():
        with closing(Store(path)) as on_file:  # read-only: what is refused is left as it was, to the byte
            _refuse_another(on_file, scenario, out)
        store = Store(path, writable=True)
        for key, value in described.items():
            store.set_meta(key, value)
    else:
        try:
            store = Store.create(path, described)
        except OSError as error:
            raise RequestError(f"--out {out}: cannot be written ({error}); choose another folder") from error
    points = [Point(task.arm_index, task.point_index, task.arm, task.sweep, task.task_id) for task in scenario.tasks]
    store.set_plan(points, {task.task_id: task.resolved for task in scenario.tasks}, reference_curves(scenario))
    store.set_laws({task.task_id: law for task in scenario.tasks if (law := channel_law(task.chain.channel))})
    return store


def _refuse_another(store: Store, scenario: Scenario, out: Path) -> None:
    """Results of other tasks alone, under whatever name, are another scenario's."""
    name, on_file = store.meta()["name"], {point.task_id for point in store.points()}
    if name != scenario.name or (on_file and not on_file & {task.task_id for task in scenario.tasks}):
        which = f"scenario {name!r}, not of {scenario.name!r}" if name != scenario.name else f"another scenario called {name!r}"
        raise RequestError(f"--out {out}: holds the results of {which}; choose another folder")


def plan(scenario: Scenario, done: set[Address]) -> Iterator[Work]:
    """Blocks of what is not on file, in order of items; equal tasks (an arm that the sweep leaves as it is) are run once."""
    _check_items(scenario)
    return _blocks(scenario, done, set(), range(scenario.items), BLOCK_ITEMS)


def execute(scenario: Scenario, store: Store, *, workers: int = 1, scheduler: str | None = None, max_seconds: float | None = None,
            memo: bool = True, progress: Progress = lambda done, total: None) -> Done:
    """Run what is missing into `store`, block by block, up to the items where the scenario's rule stops a comparison.

    workers, scheduler: see `executors.crew`; neither changes a number
    max_seconds:        after that no chain is begun; the same call goes on
    memo:               remember what was coded and decoded, in memory and next to the store; changes no number either

    A trial that raises, or that its worker dies of, is a failure on file, and is tried again by the next run.
    """
    deadline = None if max_seconds is None else time.time() + max_seconds
    sweep = _Sweep(scenario, store, progress, deadline, store.path.with_name("memo.sqlite") if memo else None)
    try:
        with crew(workers, scheduler) as team:
            begun = 0
            for look in looks(scenario):  # all arms stop here or go on together, so nothing past it is begun before
                sweep.run(team, range(begun, look))
                if sweep.is_late:
                    break
                sweep.decide(look)
                begun = look
    except KeyboardInterrupt:
        store.set_meta("interrupted", "interrupt")
        raise
    stopped = TIME_LIMIT if sweep.is_late else None
    store.set_meta("interrupted", stopped)
    return Done(sweep.num_trials, sweep.num_failed, stopped)


class _Sweep:
    """A run under way: what is planned, what was done, what is stopped."""

    def __init__(self, scenario: Scenario, store: Store, progress: Progress, deadline: float | None, memo: Path | None) -> None:
        self._scenario, self._store, self._progress, self._deadline, self._memo = scenario, store, progress, deadline, memo
        self._done = store.done()
        self._stopped: set[str] = set()
        self._planned = sum(work.num_trials for work in plan(scenario, self._done))
        self.num_trials = self.num_failed = 0
        self.is_late = False
        progress(0, self._planned)

    def run(self, team: Crew, items: range) -> None:
        """What is missing of these items."""
        most = min(BLOCK_ITEMS, -(-len(items) // (2 * team.num_workers)))  # all workers have their part of a short sweep
        works = self._in_time(_blocks(self._scenario, self._done, self._stopped, items, max(1, most)))
        memo = self._memo if team.is_here else None
        for work, block in completed(team, works, run_block, self._deadline, memo):
            self._keep(block or died(work))
            self.is_late |= block is not None and len(block.trials) + len(block.failures) < work.num_trials
            self._progress(self.num_trials + self.num_failed, self._planned)

    def decide(self, look: int) -> None:
        """Ask the rule, if there is one, now that every item before `look` is there; what it stops gets no further items."""
        if self._scenario.stop is None:
            return
        prefix = {task.task_id: self._prefix(task, look, self._scenario.stop.metric) for task in self._scenario.tasks}
        reasons = {task_id: why for task_id, why in decide(self._scenario, prefix, look).items() if task_id not in self._stopped}
        with self._store.transaction():
            for task_id, reason in reasons.items():
                self._store.set_stop(task_id, reason)
        spared = _blocks(self._scenario, self._done, self._stopped, range(look, self._scenario.items), BLOCK_ITEMS)
        self._planned -= sum(len(items) for work in spared for task, items in work.missing if task.task_id in reasons)
        self._stopped |= reasons.keys()
        self._progress(self.num_trials + self.num_failed, self._planned)

    def _prefix(self, task: Task, look: int, metric: str) -> list[Trial]:
        """The trials of the items before `look`, with what the rule looks at and nothing else: memory is dear."""
        return [replace(trial, metrics={name: pair for name, pair in trial.metrics.items() if name == metric}, ledger={}, card=None,
                        calibration=None, features=None)
                for trial in self._store.trials(task.task_id) if trial.item < look]

    def _in_time(self, works: Iterable[Work]) -> Iterator[Work]:
        for work in works:
            if self._deadline is not None and time.time() >= self._deadline:
                self.is_late = True
                return
            yield work

    def _keep(self, block: Block) -> None:
        refusals = [why for task_id, why in block.refused.items() if next(self._store.trials(task_id), None) is None]
        with self._store.transaction():
            self._store.add(block.trials, block.samples)
            for one in block.failures if not refusals else []:
                self._store.add_failure(one.task_id, one.item, one.replicate, one.error)
        if refusals:  # no item of that task was ever right: it is not the item, but what was asked for
            raise RequestError(refusals[0])
        self.num_trials += len(block.trials)
        self.num_failed += len(block.failures)


def _blocks(scenario: Scenario, done: set[Address], stopped: set[str], items: range, most: int) -> Iterator[Work]:
    tasks = {task.task_id: task for task in scenario.tasks if task.task_id not in stopped}
    for first in range(items.start, items.stop, most):
        indices = range(first, min(first + most, items.stop))
        for replicate in range(scenario.replicates):
            missing = tuple((task, some) for task_id, task in tasks.items()
                            if (some := tuple(i for i in indices if (task_id, i, replicate) not in done)))
            if missing:
                yield Work(scenario.seed, replicate, missing)


def _check_items(scenario: Scenario) -> None:
    for task in scenario.tasks:
        available = task.chain.source.num_items
        if available is not None and scenario.items > available:
            raise RequestError(f"{scenario.name}: items: {scenario.items}, but the source of arm {task.arm!r} has only "
                               f"{available}; lower items to {available}")
