"""Progress of long work: a bar with rate and time left on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from scenarios.scenario import Scenario

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Called with (done, total); use as a context manager. With `per_item`, the trials of one item, items are shown as well."""

    def __init__(self, title: str, per_item: int | None = None) -> None:
        self._title, self._per_item = title, per_item
        self._bar: Any = None
        self._start = self._last = time.monotonic()

    @classmethod
    def of(cls, scenario: Scenario) -> Progress:
        """Progress of a run: its title says arms and points; items advance together in all of them."""
        arms, points = ({getattr(task, index) for task in scenario.tasks} for index in ("arm_index", "point_index"))
        per_item = len({task.task_id for task in scenario.tasks}) * scenario.replicates
        return cls(f"{scenario.name}, {count(arms, 'arm')} × {count(points, 'point')}", per_item)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, items="")
        return self

    def __call__(self, done: int, total: int) -> None:
        items = self._items(done, total)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, items=items)
        elif done == total or time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            print(f"{self._title}: {done}/{total}{items and ' trials, '}{items} {self._pace(done, total)}", file=sys.stderr)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _items(self, done: int, total: int) -> str:
        return f"{done // self._per_item}/{-(-total // self._per_item)} items" if self._per_item else ""

    def _pace(self, done: int, total: int) -> str:
        seconds = self._last - self._start
        if done == total or not done or not seconds:
            return f"in {duration(seconds)}"
        return f"in {duration(seconds)}, {done / seconds:.3g}/s, {duration((total - done) * seconds / done)} left"


def count(things: Any, noun: str) -> str:
    """'1 arm', '3 arms'; `things` is a number or a collection."""
    number = things if isinstance(things, int) else len(things)
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time as one reads it: '40 s', '12 min', '3.4 h', '2.1 days'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn, TimeElapsedColumn, TimeRemainingColumn

    rate = TextColumn("{task.speed:.1f}/s", justify="right")
    rate.render = lambda task: f"{task.speed:.1f}/s" if task.speed else ""  # type: ignore[method-assign,assignment,return-value]
    return Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[items]}"), rate,
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True))
