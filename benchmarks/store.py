"""How fast results are written, read and reported, and what memory it takes: `python -m benchmarks.store [ROWS] [REPEATS]`.

Rows have 12 metrics and a full ledger, as a run of text leaves them, in blocks of 80 (8 items of 10 tasks) with a commit each.
Every measurement has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial

NUM_TASKS, BLOCK_ITEMS = 10, 8
METRICS = ("token_error_rate", "lost_token_rate", "recovered_fraction", "invented_fraction", "byte_error_rate",
           "character_error_rate", "word_error_rate", "chrf", "packet_loss_rate", "bits_per_token", "bits_per_byte",
           "channel_uses_per_sample")
TASKS = [f"{index:02d}" + "c0ffee" * 10 for index in range(NUM_TASKS)]
RATES = [0.05 * (index + 1) for index in range(NUM_TASKS)]


def main(num_rows: int, repeats: int) -> None:
    print(f"{'':<22}{f'{num_rows // 10:,} rows':>28}{f'{num_rows:,} rows':>28}")
    for name, work in (("write", write), ("addresses on file", addresses), ("trials.csv alone", trials_csv),
                       ("tables and report", report)):
        cells = []
        for rows in (num_rows // 10, num_rows):
            seconds, megabytes = zip(*(_alone(work, rows) for _ in range(repeats)), strict=True)
            cells.append(f"{median(seconds):>14.2f} s {median(megabytes):>8.0f} MB")
        print(f"{name:<22}" + "".join(f"{cell:>28}" for cell in cells))


def write(path: Path, num_rows: int) -> None:
    with closing(_empty(path, num_rows)) as store:
        for block in _blocks(num_rows):
            store.add(block)


def addresses(path: Path, num_rows: int) -> None:
    with closing(Store(path)) as store:
        assert len(store.done()) == num_rows


def trials_csv(path: Path, num_rows: int) -> None:
    from reports.export import write_trials_csv

    with closing(Store(path)) as store:
        write_trials_csv(store, path.with_name("trials.csv"))


def report(path: Path, num_rows: int) -> None:
    """All that a run leaves beside its results: both tables, figures and the page."""
    from reports.export import write_summary_csv, write_trials_csv
    from reports.html import write_report

    with closing(Store(path)) as store:
        write_trials_csv(store, path.with_name("trials.csv"))
        write_summary_csv(store, path.with_name("summary.csv"))
        write_report(store, path.parent)


def _alone(work: object, num_rows: int) -> tuple[float, float]:
    """Wall seconds and peak megabytes of `work`, on a file that another process has filled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.sqlite"
        if work is not write:
            _in_process(write, path, num_rows)
        return _in_process(work, path, num_rows)


def _in_process(work: object, path: Path, num_rows: int) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_measured, work, path, num_rows).result()


def _measured(work: object, path: Path, num_rows: int) -> tuple[float, float]:
    assert callable(work)
    start = perf_counter()
    work(path, num_rows)
    return perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _empty(path: Path, num_rows: int) -> Store:
    described = {"name": "benchmark", "question": "How long does it take?", "items": num_rows // NUM_TASKS, "replicates": 1,
                 "seed": 1, "sweep": {"channel.loss_rate": RATES}, "arms": []}
    store = Store.create(path, described)
    points = [Point(0, index, "arm", {"channel.loss_rate": rate}, TASKS[index]) for index, rate in enumerate(RATES)]
    store.set_plan(points, {task: {} for task in TASKS}, [])
    return store


def _blocks(num_rows: int) -> Iterator[list[Trial]]:
    for first in range(0, num_rows // NUM_TASKS, BLOCK_ITEMS):
        items = range(first, min(first + BLOCK_ITEMS, num_rows // NUM_TASKS))
        yield [_trial(task, index, item) for index, task in enumerate(TASKS) for item in items]


def _trial(task_id: str, index: int, item: int) -> Trial:
    """Numbers that spread and differ from item to item; what they say does not matter here."""
    metrics = {name: (float((item * 7919 + index * 104729 + 31 * place) % 997), 1024.0) for place, name in enumerate(METRICS)}
    ledger = {field.name: float(item % 100 + place) for place, field in enumerate(fields(Ledger))}
    return Trial(task_id, item, 0, metrics, {"ssim": "the source is text: there are no pixels to compare"}, ledger, 0.01)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
