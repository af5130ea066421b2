"""How fast results are written, read and reported, and what memory it takes: `python -m benchmarks.store [REPEATS]`.

Rows have 12 metrics, a full ledger and a channel card, as a run of text leaves them, in blocks of 8 items of each task with a
commit each. Every measurement has a process of its own, so that its peak memory is its own; times are of the processor.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np

from channel_sim.card import card_of
from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial

BLOCK_ITEMS, NUM_SAMPLES, SAMPLE_BYTES = 8, 2, 1024
METRICS = ("token_error_rate", "lost_token_rate", "recovered_fraction", "invented_fraction", "byte_error_rate",
           "character_error_rate", "word_error_rate", "chrf", "packet_loss_rate", "bits_per_token", "bits_per_byte",
           "channel_uses_per_sample")


@dataclass(frozen=True)
class Shape:
    """How many rows a file has, and over how many tasks they are spread."""

    num_arms: int
    num_points: int
    num_items: int

    def __str__(self) -> str:
        return f"{self.num_arms} × {self.num_points} × {self.num_items:,}"

    @property
    def num_rows(self) -> int:
        return self.num_arms * self.num_points * self.num_items

    @property
    def points(self) -> list[Point]:
        return [Point(arm, index, f"arm {arm + 1}", {"channel.loss_rate": (index + 1) / (2 * self.num_points)},
                      f"{arm:02d}{index:03d}" + "c0ffee" * 10) for arm in range(self.num_arms) for index in range(self.num_points)]


SHAPES = (Shape(1, 10, 1000), Shape(1, 10, 10_000), Shape(10, 200, 50))


def main(repeats: int) -> None:
    print(f"{'arms × points × items':<22}" + "".join(f"{shape!s:>26}" for shape in SHAPES))
    for name, work in (("write", write), ("addresses on file", addresses), ("trials.csv alone", trials_csv),
                       ("all that a run leaves", report)):
        cells = []
        for shape in SHAPES:
            seconds, megabytes, sizes = zip(*(_alone(work, shape) for _ in range(repeats)), strict=True)
            page = f" page {sizes[0] / 1e6:.1f} MB" if work is report else ""
            cells.append(f"{median(seconds):.2f} s {median(megabytes):.0f} MB{page}")
        print(f"{name:<22}" + "".join(f"{cell:>26}" for cell in cells), flush=True)


def write(path: Path, shape: Shape) -> None:
    described = {"name": "benchmark", "question": "How long does it take?", "items": shape.num_items, "replicates": 1, "seed": 1,
                 "sweep": {"channel.loss_rate": [point.sweep["channel.loss_rate"] for point in shape.points[:shape.num_points]]},
                 "arms": []}
    with closing(Store.create(path, described)) as store:
        store.set_plan(shape.points, {point.task_id: {} for point in shape.points}, [])
        for trials, samples in _blocks(shape):
            store.add(trials, samples)


def addresses(path: Path, shape: Shape) -> None:
    with closing(Store(path)) as store:
        assert len(store.done()) == shape.num_rows


def trials_csv(path: Path, shape: Shape) -> None:
    from reports.export import write_trials_csv

    with closing(Store(path)) as store:
        write_trials_csv(store, path.with_name("trials.csv"))


def report(path: Path, shape: Shape) -> None:
    """All that a run leaves beside its results: tables, samples, figures and the page."""
    from scenarios.python_api import write_results

    with closing(Store(path)) as store:
        write_results(store, path.parent)


def _alone(work: Callable[[Path, Shape], None], shape: Shape) -> tuple[float, float, int]:
    """Seconds of CPU and peak megabytes of `work`, on a file that another process has filled, and the bytes of its page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.sqlite"
        if work is not write:
            _in_process(write, path, shape)
        return _in_process(work, path, shape)


def _in_process(work: Callable[[Path, Shape], None], path: Path, shape: Shape) -> tuple[float, float, int]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_measured, work, path, shape).result()


def _measured(work: Callable[[Path, Shape], None], path: Path, shape: Shape) -> tuple[float, float, int]:
    start = process_time()
    work(path, shape)
    seconds, page = process_time() - start, path.with_name("report.html")
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, page.stat().st_size if page.exists() else 0


def _blocks(shape: Shape) -> Iterator[tuple[list[Trial], list[tuple[str, int, dict[str, Any]]]]]:
    for first in range(0, shape.num_items, BLOCK_ITEMS):
        items = range(first, min(first + BLOCK_ITEMS, shape.num_items))
        samples = [(point.task_id, item, _sample(point, item)) for point in shape.points for item in items if item < NUM_SAMPLES]
        yield [_trial(point, item) for point in shape.points for item in items], samples


def _trial(point: Point, item: int) -> Trial:
    """Numbers that spread and differ from item to item; what they say does not matter here."""
    metrics = {name: (float((item * 7919 + (point.point_index + 13 * point.arm_index) * 104729 + 31 * place) % 997), 1024.0)
               for place, name in enumerate(METRICS)}
    ledger = {field.name: float(item % 100 + place) for place, field in enumerate(fields(Ledger))}
    reasons = {"ssim": "the source is text: there are no pixels to compare"}
    return Trial(point.task_id, item, 0, metrics, reasons, ledger, 0.01, card_of(_lost(point, item)).to_list())


def _lost(point: Point, item: int) -> np.ndarray:
    """Which of 16 packets are lost, bool [16]: the same for all arms."""
    places = np.arange(16) * 7919 + item * 104729 + point.point_index * 31
    return places % 997 < 997 * point.sweep["channel.loss_rate"]


def _sample(point: Point, item: int) -> dict[str, Any]:
    """Text in packets of 64 bytes; of lost ones the arm guesses every third byte, at times rightly."""
    text = ("The quick brown fox jumps over the lazy dog. " * (SAMPLE_BYTES // 45 + 1))[:SAMPLE_BYTES]
    lost = _lost(point, item)
    origins = [0 if not lost[place // 64] else 2 if place % 3 == point.arm_index % 3 else 3 for place in range(SAMPLE_BYTES)]
    restored = "".join({0: letter, 2: "e", 3: "\0"}[origin] for letter, origin in zip(text, origins, strict=True))
    turns = [0] * bool(lost[0]) + [len(list(run)) for _, run in groupby(lost)]
    return {"kind": "text", "item": f"sentence {item}", "original": text, "restored": restored,
            "origin": [[origin, len(list(run))] for origin, run in groupby(origins)],
            "lost_packets": "".join(str(int(one)) for one in lost), "lost_slots": turns}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
