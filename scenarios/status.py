"""How a run stands (done, missing, failed, how wide the intervals are, why points ended) and what a run would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from channel_sim.checks import RequestError
from channel_sim.store import Failure, Store, Trial
from reports.statistics import Estimate, estimate, reason
from reports.summary import point_text
from scenarios.progress import count, duration
from scenarios.scenario import Scenario
from scenarios.stopping import Stop

_USUAL = ("token_error_rate", "bit_error_rate", "block_error_rate", "bits_per_byte")
_SHOWN = 3
_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Standing:
    """One arm at one sweep point: trials done, failed and missing, why it ended ("" if it did not), and its metrics so far."""

    arm: str
    sweep: dict[str, Any]
    done: int
    failed: int
    missing: int
    stop: str
    metrics: dict[str, Estimate | str]


def standings(store: Store) -> list[Standing]:
    """One a point of the plan, in its order. A point that a stop rule ended misses nothing."""
    meta, stops, failures = store.meta(), store.stops(), Counter(one.task_id for one in failed_trials(store))
    found: dict[str, Standing] = {}
    rows = []
    for point in store.points():
        if point.task_id not in found:
            trials = [trial for trial in store.trials(point.task_id) if _is_planned(trial, meta)]
            failed, stop = failures[point.task_id], stops.get(point.task_id, "")
            missing = 0 if stop else meta["items"] * meta["replicates"] - len(trials) - failed
            found[point.task_id] = Standing(point.arm, point.sweep, len(trials), failed, missing, stop, _metrics(meta, trials))
        one = found[point.task_id]
        rows.append(Standing(point.arm, point.sweep, one.done, one.failed, one.missing, one.stop, one.metrics))
    return rows


def failed_trials(store: Store) -> list[Failure]:
    """The failures at addresses that the plan asks for."""
    meta, tasks = store.meta(), {point.task_id for point in store.points()}
    return [one for one in store.failures() if one.task_id in tasks and _is_planned(one, meta)]


def status(folder: Path) -> str:
    """How the results in `folder` stand, as text: a line a point, the first errors, and one line for it all."""
    with closing(Store(folder / "results.sqlite")) as store:
        rows, meta = standings(store), store.meta()
        tasks = {point.task_id: row for point, row in zip(store.points(), rows, strict=True)}.values()
        failures = failed_trials(store)
    lines = [line for row in rows for line in _row_lines(row)]
    lines += [f"failed: item {one.item}, replicate {one.replicate}, task {one.task_id[:12]}: {_first_line(one.error)}"
              for one in failures[:_ERRORS_SHOWN]]
    if len(failures) > _ERRORS_SHOWN:
        lines.append(f"failed: {len(failures) - _ERRORS_SHOWN} more")
    done, missing = sum(row.done for row in tasks), sum(row.missing for row in tasks)
    left = [f"{count(number, 'trial')} {what}" for number, what in ((len(failures), "failed"), (missing, "missing")) if number]
    left += [f"ended by {meta['interrupted']}"] if missing and meta.get("interrupted") else []
    verdict = ", ".join(left) + "; run the same command to go on" if left else "complete"
    return "\n".join([*lines, f"{meta['name']}: {verdict} ({count(done, 'trial')} on file)"])


def dry_run(scenario: Scenario, out: Path, workers: int = 1) -> str:
    """What `run` would do, without doing or writing it: the plan, the number of trials, and a time from those on file."""
    tasks = {task.task_id: task for task in scenario.tasks}
    arms, points = ({getattr(task, index) for task in scenario.tasks} for index in ("arm_index", "point_index"))
    known = _timings(scenario, out, list(tasks))
    planned = scenario.items * scenario.replicates
    missing = {task_id: max(0, planned - len(known.get(task_id, ()))) for task_id in tasks}
    same = len(scenario.tasks) - len(tasks)
    lines = [
        f"{scenario.name}: {scenario.question}",
        f"{count(scenario.items, 'item')} × {count(scenario.replicates, 'replicate')} × {count(arms, 'arm')} × "
        f"{count(points, 'point')} = {len(scenario.tasks) * planned} trials"
        + (f", of which {same * planned} are met twice and run once" if same else ""),
        *(f"arm: {arm}" for arm in dict.fromkeys(task.arm for task in scenario.tasks)),
        *(f"sweep: {key} = {', '.join(map(str, values))}" for key, values in scenario.sweep.items()),
        *(f"stop: {_rule_text(rule)}; fewer trials where it is met before" for rule in [scenario.stop] if rule),
        f"on file in {out}: {sum(map(len, known.values()))} trials; to run: {sum(missing.values())}",
        _time_text(missing, known, workers),
    ]
    return "\n".join(lines)


def _timings(scenario: Scenario, out: Path, tasks: list[str]) -> dict[str, list[float]]:
    """task_id -> seconds of each of its trials on file."""
    if not (out / "results.sqlite").exists():
        return {}
    with closing(Store(out / "results.sqlite")) as store:
        if store.meta()["name"] != scenario.name:
            raise RequestError(f"--out {out}: holds the results of scenario {store.meta()['name']!r}, not of {scenario.name!r}; "
                               "choose another folder")
        return {task_id: [trial.seconds for trial in store.trials(task_id)
                          if trial.item < scenario.items and trial.replicate < scenario.replicates] for task_id in tasks}


def _rule_text(rule: Stop) -> str:
    return ", ".join(f"{key} {value}" for key, value in rule.model_dump(exclude_none=True).items())


def _time_text(missing: dict[str, int], known: dict[str, list[float]], workers: int) -> str:
    timed = {task_id: mean(seconds) for task_id, seconds in known.items() if seconds}
    if not timed:
        return "time: no estimate, nothing of this plan is on file; run a few items first, --items 8"
    usual = mean(timed.values())
    seconds = sum(number * timed.get(task_id, usual) for task_id, number in missing.items()) / workers
    return (f"time: about {duration(seconds)} with {count(workers, 'worker')}, "
            f"from {count(sum(map(len, known.values())), 'trial')} on file")


def _is_planned(one: Trial | Failure, meta: dict[str, Any]) -> bool:
    """A run may have been asked for fewer items than the one before it."""
    return one.item < meta["items"] and one.replicate < meta["replicates"]


def _metrics(meta: dict[str, Any], trials: list[Trial]) -> dict[str, Estimate | str]:
    """The metrics that the scenario shows, or the usual ones: an estimate, or why there is none."""
    measured = {metric for trial in trials for metric in trial.metrics}
    names = meta.get("show") or [metric for metric in _USUAL if metric in measured]
    return {metric: estimate(trials, metric) or reason(trials, metric) for metric in names[:_SHOWN]}


def _row_lines(row: Standing) -> Iterator[str]:
    at = point_text(row.sweep)
    planned = row.done + row.failed + row.missing
    ends = [f"{row.failed} failed"] * bool(row.failed) + [f"stopped: {row.stop}"] * bool(row.stop)
    yield f"{row.done:6}/{planned} trials  {row.arm}{', ' + at if at else ''}{'; ' if ends else ''}{'; '.join(ends)}"
    for metric, one in row.metrics.items():
        if row.done:
            yield f"{'':15}{metric}: {one if isinstance(one, str) else _estimate_text(one)}"


def _estimate_text(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.mean:.4g}, no interval: {one.note}"
    if one.method == "upper limit":
        return f"below {one.high:.3g}, no event in {count(one.num_items, 'item')}"
    width = f"[{one.low:.4g}, {one.high:.4g}], width {one.high - one.low:.2g}"
    return f"{one.mean:.4g} {width}{', ' + one.note if one.note else ''}"


def _first_line(text: str) -> str:
    return (text.strip() or "no message").splitlines()[0]
