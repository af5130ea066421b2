"""The trials of one task by columns: what an estimate needs of 100,000 trials fits in some ten megabytes."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np

from channel_sim.store import Trial

_BLOCK = 1000
"""Trials that are taken up at a time: what they are as objects is forgotten before the next ones are read."""


class Columns(Sequence[Trial]):
    """A sequence of trials that is read once and kept as numbers; its trials are made anew when asked for."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._tasks: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        self._fractional: set[str] = set()
        heads, seconds = array("q"), array("d")
        metrics, reasons, ledger = _Table(2), _Table(1), _Table(1)
        left = iter(trials)
        while block := list(islice(left, _BLOCK)):
            for trial in block:
                heads.extend((self._tasks.setdefault(trial.task_id, len(self._tasks)), trial.item, trial.replicate))
            seconds.extend([trial.seconds for trial in block])
            metrics.add([trial.metrics for trial in block])
            reasons.add([{name: self._texts.setdefault(text, len(self._texts)) for name, text in trial.reasons.items()}
                         for trial in block])
            ledger.add([trial.ledger for trial in block])
            self._fractional |= {name for trial in block for name, value in trial.ledger.items() if type(value) is float}
        self._heads, self._seconds = _frozen(heads).reshape(-1, 3), _frozen(seconds)
        self._metrics = metrics.columns()
        self._reasons = {name: column[:, 0] for name, column in reasons.columns().items()}
        self._ledger = {name: column[:, 0] for name, column in ledger.columns().items()}

    @property
    def items(self) -> np.ndarray:
        """int64 [n]."""
        return self._heads[:, 1]

    @property
    def replicates(self) -> np.ndarray:
        """int64 [n]."""
        return self._heads[:, 2]

    @property
    def names(self) -> set[str]:
        """Metrics that some trial measured or gave a reason for."""
        return {*self._metrics, *self._reasons}

    def pairs(self, metric: str) -> np.ndarray:
        """float64 [n, 2], numerators and denominators; (0, 0) where it was not measured."""
        return np.nan_to_num(self._metrics[metric]) if metric in self._metrics else np.zeros((len(self), 2))

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


class _Table:
    """Rows of name -> one number or `width` of them, kept as columns; rows of the same names are taken up together."""

    def __init__(self, width: int) -> None:
        self._width, self._num_rows = width, 0
        self._parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        alike: dict[tuple[str, ...], list[int]] = {}
        for place, row in enumerate(rows):
            alike.setdefault(tuple(row), []).append(place)
        for names, places in alike.items():
            values = np.array([list(rows[place].values()) for place in places], np.float64)
            values = values.reshape(len(places), len(names), self._width)  # [rows, names, width]
            where = np.array(places) + self._num_rows
            for index, name in enumerate(names):
                self._parts.setdefault(name, []).append((where, values[:, index]))
        self._num_rows += len(rows)

    def columns(self) -> dict[str, np.ndarray]:
        """float64 [rows, width] of every name, NaN where a row has not got it."""
        columns = {name: np.full((self._num_rows, self._width), np.nan) for name in self._parts}
        for name, parts in self._parts.items():
            for where, values in parts:
                columns[name][where] = values
            columns[name].flags.writeable = False
        return columns


def _frozen(values: Any) -> np.ndarray:
    frozen = np.array(values)
    frozen.flags.writeable = False
    return frozen


def _counts(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and counts in the order in which values are first met, so that ties fall as in a Counter of the trials."""
    values, first, counts = np.unique(codes, return_index=True, return_counts=True)
    order = np.argsort(first)
    return values[order], counts[order]
