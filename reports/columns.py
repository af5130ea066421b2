"""The trials of one task by columns: what an estimate needs of 100,000 trials fits in some ten megabytes."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, groupby, islice
from typing import Any, TypeVar, overload

import numpy as np

from channel_sim.store import Outcome, Trial

T = TypeVar("T")
_ABSENT = float("nan")
_AT_ONCE = 1000


class Columns(Sequence[Trial]):
    """A sequence of trials that is read once and kept as numbers; its trials are made anew when asked for."""

    def __init__(self, trials: Iterable[Trial | Outcome]) -> None:
        self._tasks: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        heads, seconds = array("q"), array("d")
        metrics: dict[str, array[float]] = {}
        reasons: dict[str, array[float]] = {}
        ledger: dict[str, array[float]] = {}
        self._fractional: set[str] = set()
        for some in _alike(trials):
            row = len(seconds)
            for trial in some:
                heads.extend((self._tasks.setdefault(trial.task_id, len(self._tasks)), trial.item, trial.replicate))
            seconds.extend([trial.seconds for trial in some])
            for name, pairs in _turned([trial.metrics for trial in some]):
                _column(metrics, name, 2 * row).extend(chain.from_iterable(pairs))
            for name, texts in _turned([trial.reasons for trial in some]):
                _column(reasons, name, row).extend([self._texts.setdefault(text, len(self._texts)) for text in texts])
            for name, values in _turned([trial.ledger for trial in some]):
                _column(ledger, name, row).extend(values)
                if set(map(type, values)) != {int}:
                    self._fractional.add(name)
        num_rows = len(seconds)
        self._heads, self._seconds = _frozen(heads).reshape(-1, 3), _frozen(seconds)
        self._metrics = {name: _frozen(_column(metrics, name, 2 * num_rows)).reshape(-1, 2) for name in metrics}
        self._reasons = {name: _frozen(_column(reasons, name, num_rows)) for name in reasons}
        self._ledger = {name: _frozen(_column(ledger, name, num_rows)) for name in ledger}

    @property
    def items(self) -> np.ndarray:
        """int64 [n]."""
        return self._heads[:, 1]

    @property
    def replicates(self) -> np.ndarray:
        """int64 [n]."""
        return self._heads[:, 2]

    @cached_property
    def distinct_items(self) -> np.ndarray:
        """int64, ascending."""
        return np.unique(self.items)

    @cached_property
    def is_one_an_item(self) -> bool:
        """Whether items ascend, with one trial each."""
        return bool(np.all(self.items[1:] > self.items[:-1]))

    @property
    def names(self) -> set[str]:
        """Metrics that some trial measured or gave a reason for."""
        return {*self._metrics, *self._reasons}

    def pairs(self, metric: str) -> np.ndarray:
        """float64 [n, 2], numerators and denominators; (0, 0) where it was not measured."""
        if metric not in self._metrics:
            return np.zeros((len(self), 2))
        column = self._metrics[metric]
        absent = np.isnan(column)
        return np.where(absent, 0.0, column) if absent.any() else column

    def measured(self, metric: str) -> bool:
        """Whether some trial has it among its metrics, be there anything to count or not."""
        return metric in self._metrics

    def reasons(self, metric: str) -> Counter[str]:
        """How many trials give which reason for not having measured it."""
        codes = self._reasons.get(metric, np.zeros(0))
        texts = list(self._texts)
        return Counter({texts[int(code)]: int(count) for code, count in zip(*_counts(codes[~np.isnan(codes)]), strict=True)})

    def ledger_sum(self, name: str) -> float:
        return float(np.nansum(self._ledger[name])) if name in self._ledger else 0.0

    def __len__(self) -> int:
        return len(self._heads)

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...

    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        task, item, replicate = self._heads[index].tolist()
        tasks, texts = list(self._tasks), list(self._texts)
        metrics = {name: (float(column[index, 0]), float(column[index, 1])) for name, column in self._metrics.items()
                   if column[index, 1] == column[index, 1]}
        reasons = {name: texts[int(column[index])] for name, column in self._reasons.items() if column[index] == column[index]}
        ledger = {name: float(column[index]) if name in self._fractional else int(column[index])
                  for name, column in self._ledger.items() if column[index] == column[index]}
        return Trial(tasks[task], item, replicate, metrics, reasons, ledger, float(self._seconds[index]))


def _alike(trials: Iterable[Trial | Outcome]) -> Iterator[list[Trial | Outcome]]:
    """Runs of neighbouring trials that have the same names in everything, some at a time."""
    for _, run in groupby(trials, lambda trial: (*trial.metrics, None, *trial.reasons, None, *trial.ledger)):
        while some := list(islice(run, _AT_ONCE)):
            yield some


def _turned(rows: Sequence[Mapping[str, T]]) -> Iterator[tuple[str, tuple[T, ...]]]:
    """Name -> its value in every row, of rows that all have the same names in the same order."""
    return zip(rows[0], zip(*(row.values() for row in rows), strict=True), strict=True)


def _column(columns: dict[str, array[float]], name: str, length: int) -> array[float]:
    """The column, filled up with what is absent to `length` numbers."""
    column = columns.setdefault(name, array("d"))
    if len(column) < length:
        column.extend([_ABSENT] * (length - len(column)))
    return column


def _frozen(values: Any) -> np.ndarray:
    frozen = np.array(values)
    frozen.flags.writeable = False
    return frozen


def _counts(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and counts in the order in which values are first met, so that ties fall as in a Counter of the trials."""
    values, first, counts = np.unique(codes, return_index=True, return_counts=True)
    order = np.argsort(first)
    return values[order], counts[order]
