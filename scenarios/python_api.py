"""A run from Python: conduct a scenario into a folder, and read what was measured back as plain records."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from channel_sim.checks import RequestError
from channel_sim.metrics import value_of
from channel_sim.store import Failure, Point, Store, Trial
from reports.summary import Row, describe, summarise
from scenarios import runner
from scenarios.notes import notes
from scenarios.progress import Progress, count
from scenarios.rehearsal import rehearse
from scenarios.scenario import Scenario, load


@dataclass(frozen=True)
class TrialRecord:
    """One trial: the value of each metric, None where it is not defined; `reasons` says why."""

    arm: str
    sweep: dict[str, Any]
    item: int
    replicate: int
    metrics: dict[str, float | None]
    reasons: dict[str, str]
    task_id: str


@dataclass(frozen=True)
class SummaryRecord:
    """One metric of one arm at one sweep point: mean and 95 % interval [low, high] over `num_items` items.

    mean, low and high are None where nothing was measured; `reason` says why, or else what to know before trusting the
    interval. method is that of `reports.statistics.Estimate`: with "upper limit" no event was seen, and `high` is the result.
    stop: why the point has no more items
    """

    arm: str
    sweep: dict[str, Any]
    metric: str
    unit: str
    mean: float | None
    low: float | None
    high: float | None
    num_items: int
    method: str
    reason: str
    stop: str
    task_id: str


@dataclass(frozen=True)
class Results:
    """What a run measured. `stopped` is "time limit" where the run ended before all was done; `out` is its folder."""

    name: str
    summary: tuple[SummaryRecord, ...]
    trials: tuple[TrialRecord, ...]
    failures: tuple[Failure, ...]
    num_failed: int
    stopped: str | None
    out: Path | None

    def find(self, metric: str, arm: str | None = None, **sweep: Any) -> list[SummaryRecord]:
        """The summary rows of a metric; `sweep` by the last word of the key: find("token_error_rate", loss_rate=0.1)."""
        return [row for row in self.summary if row.metric == metric and arm in (None, row.arm) and _is_at(row.sweep, sweep)]

    def to_pandas(self, table: str = "summary") -> Any:
        """`table` "summary" or "trials" as a pandas.DataFrame; every sweep key, and every metric of a trial, is a column."""
        if table not in ("summary", "trials"):
            raise RequestError(f"to_pandas: table: must be 'summary' or 'trials', got {table!r}")
        try:
            import pandas
        except ImportError as error:
            raise RequestError("to_pandas: pandas is not installed; pip install pandas, or use the records themselves") from error
        return pandas.DataFrame([_flat(record) for record in getattr(self, table)])


def run(request: str | Path | Mapping[str, Any], out: str | Path | None, *, items: int | None, workers: int,
        scheduler: str | None, overrides: Mapping[str, Any] | None, max_seconds: float | None,
        progress: Callable[[int, int], None] | bool) -> Results:
    """See `scenarios.run`."""
    if workers < 1 or (max_seconds is not None and not max_seconds > 0):
        raise RequestError(f"run: workers must be at least 1 and max_seconds above 0, got {workers} and {max_seconds}")
    scenario = load(request, {**(overrides or {}), **({} if items is None else {"items": items})})
    folder = nullcontext(str(out)) if out is not None else tempfile.TemporaryDirectory()
    with folder as name, shown(scenario, progress) as report:
        done = conduct(scenario, Path(name), "scenarios.run", workers=workers, scheduler=scheduler, max_seconds=max_seconds,
                       progress=report, write=out is not None)
        with closing(Store(Path(name) / "results.sqlite")) as store:
            return read(store, done, Path(name) if out is not None else None)


def conduct(scenario: Scenario, out: Path, command: str, *, workers: int, scheduler: str | None, max_seconds: float | None,
            progress: Callable[[int, int], None], write: bool = True) -> runner.Done:
    """Run what is missing in `out`, then write tables, samples, figures and report, of a run that was cut short as well."""
    runner.plan(scenario, set())
    rehearse(scenario)  # both refuse what cannot be run before anything is written
    with closing(runner.open_store(scenario, out, command)) as store:
        done = runner.execute(scenario, store, workers=workers, scheduler=scheduler, max_seconds=max_seconds, progress=progress)
        if scenario.stop is None and done.stopped is None:
            with store.transaction():
                for task_id in {task.task_id for task in scenario.tasks}:
                    store.set_stop(task_id, f"{count(scenario.items, 'item')}, all that were asked for")
        store.set_meta("notes", [*_flags(done), *notes(scenario, store)])
        if write:
            write_results(store, out)
    return done


def _flags(done: runner.Done) -> list[str]:
    """What the reader of a report must know of a run that is not whole."""
    failed = f"{done.num_failed} trials ended with an error and are left out; `channel-sim status` names them."
    stopped = f"The run ended early ({done.stopped}): arms and points hold fewer items than planned. The same command goes on."
    return [failed] * bool(done.num_failed) + [stopped] * bool(done.stopped)


def write_results(store: Store, out: Path, baseline: str | None = None) -> None:
    """Tables, samples, figures and report of a results file; with a baseline the differences of all other arms to it as well."""
    from reports.bjontegaard import write_bjontegaard_csv
    from reports.card import write_card_csv
    from reports.differences import write_differences_csv
    from reports.export import write_samples, write_summary_csv, write_trials_csv
    from reports.html import write_report
    from reports.ledgers import write_cost_csv
    from reports.links import write_link_csv
    from reports.reliability import write_calibration_csv

    if baseline is not None:
        write_differences_csv(summarise(store), baseline, out / "differences.csv")
    write_trials_csv(store, out / "trials.csv")
    write_summary_csv(store, out / "summary.csv")
    write_card_csv(store, out / "card.csv")
    write_cost_csv(store, out / "cost.csv")
    write_link_csv(store, out / "link.csv")
    write_calibration_csv(store, out / "calibration.csv")
    write_bjontegaard_csv(summarise(store), baseline, out / "bjontegaard.csv")
    write_samples(store, out / "samples")
    write_report(store, out, baseline)


def read(store: Store, done: runner.Done, out: Path | None) -> Results:
    """All records of a results file."""
    summary = summarise(store)
    trials = tuple(_trial_record(row.point, trial) for row in summary.rows for trial in row.trials)
    stops = store.stops()
    records = tuple(record for row in summary.rows for record in _summary_records(row, stops.get(row.point.task_id, "")))
    return Results(summary.meta["name"], records, trials, tuple(store.failures()), done.num_failed, done.stopped, out)


@contextmanager
def shown(scenario: Scenario, progress: Callable[[int, int], None] | bool) -> Iterator[Callable[[int, int], None]]:
    """`progress` as a function: the caller's own, a bar, or one that says nothing."""
    if callable(progress):
        yield progress
    elif progress:
        with Progress.of(scenario) as bar:
            yield bar
    else:
        yield lambda done, total: None


def _trial_record(point: Point, trial: Trial) -> TrialRecord:
    values = {name: value_of(name, *sums) for name, sums in trial.metrics.items()}
    return TrialRecord(point.arm, point.sweep, trial.item, trial.replicate, values | dict.fromkeys(trial.reasons), trial.reasons,
                       trial.task_id)


def _summary_records(row: Row, stop: str) -> Iterator[SummaryRecord]:
    for metric in sorted({*row.estimates, *row.reasons}):
        head = (row.point.arm, row.point.sweep, metric, describe(metric).unit)
        one = row.estimate(metric)
        if one is None:
            yield SummaryRecord(*head, None, None, None, 0, "none", row.reasons[metric], stop, row.point.task_id)
        else:
            yield SummaryRecord(*head, one.mean, one.low, one.high, one.num_items, one.method, one.note, stop, row.point.task_id)


def _is_at(sweep: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(any(key.rpartition(".")[2] == name and value == at for key, value in sweep.items()) for name, at in wanted.items())


def _flat(record: SummaryRecord | TrialRecord) -> dict[str, Any]:
    """A record as one table row; reasons of a trial are left to the record."""
    row: dict[str, Any] = {}
    for field, value in asdict(record).items():
        if field != "reasons":
            row |= value if field in ("sweep", "metrics") else {field: value}
    return row
