"""A results file as the reports see it: arms by sweep points, every metric estimated, and the words for it all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from channel_sim.ledger import Ledger
from channel_sim.metrics import CATALOGUE, Metric
from channel_sim.store import Curve, Point, Store
from reports import realism
from reports.columns import Columns
from reports.statistics import Estimate, estimate_all, reason

T = TypeVar("T")
_MAIN = ("token_error_rate", "psnr_db", "si_sdr_db", "byte_error_rate", "recovered_fraction", "bit_error_rate", "bits_per_byte",
         "bits_per_token", "channel_uses_per_sample")
_UNITS = {"db": "dB", "bits": "bits", "bytes": "bytes", "packets": "packets", "slots": "slots", "symbols": "symbols",
          "tokens": "tokens", "seconds": "s", "ns": "ns", "khz": "kHz", "ghz": "GHz", "kmh": "km/h"}
_WORDS = {
    "esno_db": "Es/N0 (dB)", "ebno_db": "Eb/N0 (dB)", "packet_bits": "packet payload (bits)",
    "n": "packets in a block, n", "k": "source packets in a block, k", "chrf": "chrF", "psnr_db": "PSNR (dB)", "ssim": "SSIM",
    "psnr_of_mean_mse_db": "PSNR of the mean squared error (dB)", "ms_ssim": "MS-SSIM", "si_sdr_db": "SI-SDR (dB)",
    "sdr_db": "SDR (dB)", "mse": "MSE per dimension", "information_bits": "information per dimension (bits)",
    "brier": "Brier score", "posterior_brier": "Brier score of the posterior", "concealment_nll_bits": "concealment NLL (bits)",
    "recovered_fraction_nonspace": "recovered fraction, non-space", "name": "component", "deadline": "deadline (packet times)",
    "interleave_depth": "interleaving depth (packets)", "target_uses": "channel uses of an item",
    "target_bytes": "size aimed at (bytes)", "target_bits_per_pixel": "size aimed at (bits a pixel)",
    "max_megabytes": "size of the model (MB)",
    "rician_k_db": "Rician K (dB)", "snr_db": "SNR (dB)", "copies": "copies of a packet",
    "size": "size (pixels)", "kid": "KID", "kid_of_originals": "KID of originals",
}


@dataclass(frozen=True)
class Row:
    """One arm at one sweep point: its trials, and each metric's estimate or the reason why there is none."""

    point: Point
    trials: Columns
    estimates: dict[str, Estimate]
    reasons: dict[str, str]
    ledger: dict[str, float]

    def estimate(self, metric: str) -> Estimate | None:
        return self.estimates.get(metric)


@dataclass(frozen=True)
class Summary:
    """All that reports read of a store: rows ordered by arm, then sweep point; a task met twice is estimated once."""

    meta: dict[str, Any]
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]

    @cached_property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(row.point.arm for row in self.rows))

    @cached_property
    def points(self) -> dict[int, dict[str, Any]]:
        """Sweep point -> its values, by dotted key; empty where nothing is swept."""
        return {row.point.point_index: row.point.sweep for row in sorted(self.rows, key=lambda row: row.point.point_index)}

    @cached_property
    def sweep_keys(self) -> list[str]:
        named = list(self.meta.get("sweep", {}))
        return named or list(dict.fromkeys(key for sweep in self.points.values() for key in sweep))

    @cached_property
    def metrics(self) -> list[str]:
        """Metrics that at least one arm measured, in the order of the catalogue."""
        measured = {metric for row in self.rows for metric in row.estimates}
        return _in_order(measured)

    @cached_property
    def highlights(self) -> list[str]:
        """The metrics to show first, the main one before all: those that the scenario names, else the usual ones."""
        named = [metric for metric in self.meta.get("show", ()) if metric in self.metrics]
        return named or [metric for metric in _MAIN if metric in self.metrics][:3] or self.metrics[:3]

    def at(self, point_index: int) -> list[Row]:
        """The rows of one sweep point, by arm."""
        return [row for row in self.rows if row.point.point_index == point_index]

    def of(self, arm: str) -> list[Row]:
        """The rows of one arm, by sweep point."""
        return [row for row in self.rows if row.point.arm == arm]

    @cached_property
    def num_items(self) -> int:
        return max((len(row.trials.distinct_items) for row in self.rows), default=0)


def read_once(read: Callable[[Store], T]) -> Callable[[Store], T]:
    """`read`, once as long as nothing is written: tables, figures and report share what it gives."""
    known: WeakKeyDictionary[Store, tuple[tuple[int, int], T]] = WeakKeyDictionary()

    @wraps(read)
    def shared(store: Store) -> T:
        version = store.version()
        if store not in known or known[store][0] != version:
            known[store] = (version, read(store))
        return known[store][1]

    return shared


@read_once
def summarise(store: Store) -> Summary:
    """Read and estimate everything."""
    points = store.points()
    trials = {task_id: Columns(store.outcomes(task_id)) for task_id in dict.fromkeys(point.task_id for point in points)}
    estimates: dict[str, dict[str, Estimate]] = {task_id: {} for task_id in trials}
    reasons: dict[str, dict[str, str]] = {task_id: {} for task_id in trials}
    for metric in _in_order({name for columns in trials.values() for name in columns.names}):
        tasks = [task_id for task_id, columns in trials.items() if metric in columns.names]
        for task_id, one in zip(tasks, estimate_all([trials[task_id] for task_id in tasks], metric), strict=True):
            if one is None:
                reasons[task_id][metric] = reason(trials[task_id], metric)
            else:
                estimates[task_id][metric] = one
    for task_id in [task_id for task_id, chain in store.tasks().items() if task_id in trials and "evaluator" in chain]:
        estimates[task_id] |= realism.realism(store, task_id)
        reasons[task_id] = {metric: why for metric, why in reasons[task_id].items() if metric not in estimates[task_id]}
    known = {task_id: (columns, estimates[task_id], reasons[task_id], _mean_ledger(columns)) for task_id, columns in trials.items()}
    first = {point.point_index: point.task_id for point in reversed(points)}
    curves = [*store.curves(), *(one for index, task_id in first.items() for one in realism.reference(index, estimates[task_id]))]
    return Summary(store.meta(), tuple(Row(point, *known[point.task_id]) for point in points), tuple(curves))


def describe(metric: str) -> Metric:
    """The catalogue's entry, or a neutral one for a metric that it does not know."""
    return CATALOGUE.get(metric, Metric("1", "neither", ""))


def words(name: str) -> str:
    """A sweep key or metric in words, with its unit: channel.loss_rate -> 'loss rate', channel.esno_db -> 'Es/N0 (dB)'.

    >>> words("channel.slot_bits"), words("bits_per_byte")
    ('slot (bits)', 'bits per byte')
    """
    last = name.rpartition(".")[2]
    if last in _WORDS:
        return f"{name.split('.')[0]}" if last == "name" else _WORDS[last]
    *start, end = last.split("_")
    if start == ["num"]:
        return f"number of {end}"
    if start and end in _UNITS and "per" not in start:
        return f"{' '.join(start)} ({_UNITS[end]})"
    return last.replace("_", " ")


def value_text(value: Any) -> str:
    """A scenario value as a reader writes it: 0.1, true, rayleigh."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def with_minus(text: str) -> str:
    """A number with a minus sign in place of its hyphen, as it is printed."""
    return re.sub(r"^-(?=\d)", "−", text)


def point_text(sweep: dict[str, Any]) -> str:
    """'loss rate 0.1, Es/N0 3 dB'; '' where nothing is swept."""
    return ", ".join(_one_value(key, value) for key, value in sweep.items())


def significant(value: float, digits: int) -> str:
    """A number with that many digits and never a power of ten; whole from 1,000 on.

    >>> significant(100.0, 2), significant(1.23e-6, 2), significant(12345.6, 4)
    ('100', '0.0000012', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 999.5 else np.format_float_positional(value, digits, fractional=False, trim="-")


def _one_value(key: str, value: Any) -> str:
    unit = re.fullmatch(r"(.*) \((.*)\)", words(key))
    text = with_minus(value_text(value))
    return f"{unit[1]} {text} {unit[2]}" if unit else f"{words(key)} {text}"


def _mean_ledger(trials: Columns) -> dict[str, float]:
    """Field -> mean over trials; empty without trials."""
    if not trials:
        return {}
    return {field.name: trials.ledger_sum(field.name) / len(trials) for field in fields(Ledger)}


def _in_order(metrics: set[str]) -> list[str]:
    return [name for name in CATALOGUE if name in metrics] + sorted(metrics - CATALOGUE.keys())
