"""Results as arrays: one file for NumPy, one for MATLAB and Octave. Equal results give equal bytes.

Both hold the same: [arms, points] where an arm meets a sweep point, [trials] where a trial is a row, NaN where not measured.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.store import Store
from reports.axes import curves_of, is_number
from reports.files import writing
from reports.statistics import Estimate
from reports.summary import Row, Summary, describe, summarise, value_text

_MAT_HEADER = b"MATLAB 5.0 MAT-file, written by channel-sim".ljust(116)  # scipy writes the date of today there
_LONGEST_FIELD = 63
_ASCII = str.maketrans({"–": "-", "—": "-", "−": "-", "×": "x", "“": '"', "”": '"', "‘": "'", "’": "'", "…": "..."})


def write_npz(store: Store, path: Path) -> list[Path]:
    """One array a name, no pickles: np.load(path)["metrics/token_error_rate/mean"] is float64 [arms, points].

    names: arms, sweep/KEY [points]; metrics/NAME/mean, low, high, num_items, method, note [arms, points] and unit; ledger/KIND
           [arms, points]; references/NAME/labels and values [labels, points]; trials/arm, point, item, replicate [trials] and
           trials/NAME [trials, 2], the metric's sums: its value over any set of trials is the ratio of their two totals.
    """
    flat: dict[str, Any] = {}
    _flatten(_tree(summarise(store)), "", flat)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **flat)
    with writing(path):
        path.write_bytes(buffer.getvalue())
    return [path]


def write_mat(store: Store, path: Path) -> list[Path]:
    """One struct `results` (MATLAB 5 format): results.arms is a struct array, results.arms(2).token_error_rate.mean 1 x points.

    sweep.KEY, with dots of a key as underscores, is 1 x points, a cell array where values are no numbers; trials.NAME is
    trials x 2 as in `write_npz`, trials.arm and trials.point count from 1 as MATLAB does.
    """
    import scipy.io  # loaded only where it is used

    tree = _tree(summarise(store))
    trials = {**tree["trials"], "arm": tree["trials"]["arm"] + 1, "point": tree["trials"]["point"] + 1}
    results = {**tree, "arms": _struct_array(tree), "trials": trials}
    for name in ("metrics", "ledger"):
        del results[name]  # they are fields of the arms
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"results": _matlab(results)}, long_field_names=True, do_compression=True, oned_as="row")
    with writing(path):
        path.write_bytes(_MAT_HEADER + buffer.getvalue()[len(_MAT_HEADER):])
    return [path]


def _tree(summary: Summary) -> dict[str, Any]:
    """All that is exported, by name; every text as a string or an array of strings."""
    points = list(summary.points)
    rows = {(row.point.arm, row.point.point_index): row for row in summary.rows}
    grid = [[rows.get((arm, point)) for point in points] for arm in summary.arms]
    kinds = sorted({kind for row in summary.rows for kind in row.ledger})
    return {
        "name": str(summary.meta.get("name", "")), "question": str(summary.meta.get("question", "")),
        "arms": np.array(summary.arms, dtype=np.str_),
        "sweep": {key: _values([summary.points[point].get(key) for point in points]) for key in summary.sweep_keys},
        "metrics": {metric: _grid(grid, metric) for metric in summary.metrics},
        "ledger": {kind: _floats([[row.ledger.get(kind) if row else None for row in line] for line in grid]) for kind in kinds},
        "references": {metric: _references(summary, metric, points) for metric in dict.fromkeys(c.metric for c in summary.curves)},
        "trials": _trials(summary, points),
    }


def _grid(grid: list[list[Row | None]], metric: str) -> dict[str, Any]:
    found: list[list[Estimate | None]] = [[row.estimate(metric) if row else None for row in line] for line in grid]
    missing = [[row.reasons.get(metric, "no trial is on file") if row else "no trial is on file" for row in line] for line in grid]
    notes = [[one.note if one else f"not measured: {why}" for one, why in zip(line, whys, strict=True)]
             for line, whys in zip(found, missing, strict=True)]
    numbers = {field: _floats([[getattr(one, field, None) for one in line] for line in found]) for field in ("mean", "low", "high")}
    return {"unit": describe(metric).unit, **numbers,
            "num_items": np.array([[one.num_items if one else 0 for one in line] for line in found]),
            "method": np.array([[one.method if one else "none" for one in line] for line in found]), "note": np.array(notes)}


def _references(summary: Summary, metric: str, points: list[int]) -> dict[str, Any]:
    curves = curves_of(summary, metric)
    return {"labels": np.array(list(curves)), "values": _floats([[one.get(point) for point in points] for one in curves.values()])}


def _trials(summary: Summary, points: list[int]) -> dict[str, np.ndarray]:
    """One row a trial of an arm at a point, in the order of arms and points."""
    arms, order = {arm: index for index, arm in enumerate(summary.arms)}, {point: index for index, point in enumerate(points)}
    heads = [np.stack([np.full(len(row.trials), arms[row.point.arm]), np.full(len(row.trials), order[row.point.point_index]),
                       row.trials.items, row.trials.replicates]) for row in summary.rows]
    columns = np.concatenate([np.zeros((4, 0), np.int64), *heads], axis=1)
    named = dict(zip(("arm", "point", "item", "replicate"), columns, strict=True))
    sums = {metric: np.concatenate([row.trials.pairs(metric) for row in summary.rows]) for metric in summary.metrics}
    return {**named, **sums}


def _values(values: list[Any]) -> np.ndarray:
    return np.array(values, np.float64) if all(map(is_number, values)) else np.array([value_text(value) for value in values])


def _floats(rows: list[list[Any]]) -> np.ndarray:
    """float64; None as NaN."""
    return np.array(rows, dtype=np.float64)


def _flatten(tree: dict[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{name}/", flat)
        else:
            flat[prefix + name] = value


def _struct_array(tree: dict[str, Any]) -> np.ndarray:
    """1 x arms: label, the ledger and every metric of one arm, each 1 x points."""
    arms = [{"label": str(arm), "ledger": {kind: values[index] for kind, values in tree["ledger"].items()},
             **{metric: {field: value if isinstance(value, str) else value[index] for field, value in one.items()}
                for metric, one in tree["metrics"].items()}} for index, arm in enumerate(tree["arms"])]
    array = np.empty((1, len(arms)), dtype=[(_field(name), object) for name in (arms[0] if arms else {"label": ""})])
    for index, arm in enumerate(arms):
        array[0, index] = tuple(_matlab(value) for value in arm.values())
    return array


def _matlab(value: Any) -> Any:
    """Names as MATLAB has them; texts in cell arrays, since rows of a character matrix have one length, and in ASCII: Octave 7
    counts the letters of a UTF-8 text as its bytes, and cuts it off. What has no likeness in ASCII becomes its escape."""
    if isinstance(value, dict):
        return {_field(name): _matlab(one) for name, one in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return np.vectorize(_matlab, otypes=[object])(value)
    return value.translate(_ASCII).encode("ascii", "backslashreplace").decode() if isinstance(value, str) else value


def _field(name: str) -> str:
    """channel.loss_rate -> channel_loss_rate; what begins with no letter would be left out of the file."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return (name if name[:1].isalpha() else f"x{name}")[:_LONGEST_FIELD]
