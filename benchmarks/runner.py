"""What a sweep costs beside its trials, and what pairing saves: `python -m benchmarks.runner [ITEMS [REPEATS [MINUTES]]]`.

    overhead   share of the CPU time of a sweep, in one process, that is not spent in its blocks: plan, store, progress;
               with MINUTES also of a sweep that takes so many, which is a matter of replicates
    workers    trials a second of two workers over those of one, between a worker's first block and the end: start-up is once a run
    memory     peak of a run of one process, by its number of trials
    pairing    var(a) + var(b) over var(a - b), between items: how many times as many items an unpaired comparison would need
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from statistics import median, variance
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

from channel_sim.store import Store
from scenarios import runner
from scenarios.blocks import run_block
from scenarios.scenario import Scenario, load

METRIC = "token_error_rate"
MEMORY_TRIALS = (1_000, 10_000, 50_000)
MEMORY_TABLES = {"question": "?", "source": {"name": "markov", "num_symbols": 50}, "channel": {"name": "packet_loss"},
                 "arm": [{"label": str(loss_rate), "channel": {"loss_rate": loss_rate}} for loss_rate in (0.1, 0.2, 0.3, 0.4, 0.5)]}


def main(items: int, repeats: int, minutes: float) -> None:
    for name in ("quickstart", "markov_optimum"):
        measured = [_alone(overhead, name, items) for _ in range(repeats)]
        _say(name, *zip(*measured))
        if minutes:
            share, seconds = _alone(overhead, name, items, round(60 * minutes / measured[-1][1]))
            _say(name, (share,), (seconds,))
    rates = [[_alone(trials_per_second, "quickstart", items, workers) for workers in (1, 2)] for _ in range(repeats)]
    ratios = [two / one for one, two in rates]
    print(f"workers   quickstart: {median(one for one, _ in rates):.1f} and {median(two for _, two in rates):.1f} trials/s, "
          f"median ratio {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    for trials in MEMORY_TRIALS:
        print(f"memory    {trials:7,} trials: {_alone(peak_megabytes, trials):.0f} MB")
    for line in _alone(pairing, "quickstart", items):
        print(f"pairing   {line}")


def _say(name: str, shares: tuple[float, ...], seconds: tuple[float, ...]) -> None:
    print(f"overhead  {name}, {median(seconds):.0f} s of CPU time: median {100 * median(shares):.2f} %, "
          f"worst {100 * max(shares):.2f} %", flush=True)


def overhead(name: str, items: int, replicates: int = 1) -> tuple[float, float]:
    """(share of CPU time outside run_block, CPU seconds of the sweep)."""
    inside = 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal inside
        start = process_time()
        block = run_block(*arguments)
        inside += process_time() - start
        return block

    _run(load(name, {"items": 1}))  # compiled and loaded once a process
    start = process_time()
    with patch.object(runner, "run_block", timed):
        _run(load(name, {"items": items, "replicates": replicates}))
    seconds = process_time() - start
    return 1 - inside / seconds, seconds


def trials_per_second(name: str, items: int, workers: int) -> float:
    """From the first block of every worker on."""
    marks: list[tuple[float, int]] = []
    _run(load(name, {"items": items}), workers=workers, progress=lambda done, total: marks.append((perf_counter(), done)))
    warm = marks[workers]  # marks[0]: nothing is done yet
    return (marks[-1][1] - warm[1]) / (marks[-1][0] - warm[0])


def peak_megabytes(trials: int) -> float:
    _run(load(MEMORY_TABLES, {"items": trials // len(MEMORY_TABLES["arm"])}))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pairing(name: str, items: int) -> list[str]:
    """One line a sweep point: the median and the range over all pairs of arms that differ at all."""
    return _run(load(name, {"items": items}), then=_ratios)


def _ratios(store: Store) -> Iterator[str]:
    rates: dict[str, dict[str, list[float]]] = {}
    for point in store.points():
        pairs = [trial.metrics[METRIC] for trial in store.trials(point.task_id)]
        rates.setdefault(str(point.sweep), {})[point.arm] = [errors / count for errors, count in pairs]
    for at, arms in rates.items():
        ratios = [(variance(one) + variance(two)) / difference for one, two in combinations(arms.values(), 2)
                  if (difference := variance([x - y for x, y in zip(one, two, strict=True)])) > 0]
        if ratios:
            yield f"{at}: median {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f} ({len(ratios)} pairs of arms)"


def _run(scenario: Scenario, then: Callable[[Store], Iterator[str]] | None = None, **options: Any) -> list[str]:
    """Run it in a folder of its own; hands back what `then` says of the store."""
    with TemporaryDirectory() as folder, closing(runner.open_store(scenario, Path(folder), "benchmark")) as store:
        runner.execute(scenario, store, **options)
        return list(then(store)) if then else []


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, so that nothing is warm and peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60, int(sys.argv[2]) if len(sys.argv) > 2 else 3,
         float(sys.argv[3]) if len(sys.argv) > 3 else 0)
