"""A Jupyter notebook that loads the results: NumPy and Matplotlib are all that it needs, and the .npz file beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from channel_sim.store import Store
from reports.arrays import write_npz
from reports.files import writing
from reports.findings import answer
from reports.headline import headline
from reports.summary import summarise

_LOAD = """\
import matplotlib.pyplot as plt
import numpy as np

with np.load("results.npz") as file:
    results = dict(file)  # every array by name
arms = results["arms"]
sweep = {name.removeprefix("sweep/"): results[name] for name in results if name.startswith("sweep/")}
metrics = sorted({name.split("/")[1] for name in results if name.startswith("metrics/")})
print(", ".join(metrics))"""
_TABLE = """\
metric = METRIC
mean, low, high = (results[f"metrics/{metric}/{name}"] for name in ("mean", "low", "high"))  # [arms, points], NaN: not measured
for arm, *rows in zip(arms, mean, low, high, strict=True):
    print(f"{arm:40}", "  ".join(f"{m:.4g} [{a:.4g}, {b:.4g}]" for m, a, b in zip(*rows, strict=True)))"""
_FIGURE = """\
place = next(iter(sweep.values()), np.zeros(mean.shape[1]))  # the first key of the sweep
x = place if np.issubdtype(place.dtype, np.number) else np.arange(len(place))
figure, axis = plt.subplots(figsize=(7.16, 4))
for arm, *rows in zip(arms, mean, low, high, strict=True):
    axis.errorbar(x, rows[0], [rows[0] - rows[1], rows[2] - rows[0]], marker="o", capsize=2, label=arm,
                  linestyle="-" if x is place else "none")
if x is not place:  # names, between which there is nothing
    axis.set_xticks(x, place)
axis.set_xlabel(next(iter(sweep), ""))
axis.set_ylabel(metric)
axis.legend(fontsize="small")
plt.show()"""
_PAIRED = """\
first, second, point = 0, min(1, len(arms) - 1), 0  # any two arms at one point of the sweep


def sums(arm):
    \"\"\"Items and the sums of the metric over each: its value is the ratio of the totals, not the mean of ratios.\"\"\"
    here = (results["trials/arm"] == arm) & (results["trials/point"] == point)
    items, of_item = np.unique(results["trials/item"][here], return_inverse=True)
    total = np.zeros((len(items), 2))
    np.add.at(total, of_item, results[f"trials/{metric}"][here])
    return items, total


(items, a), (others, b) = sums(first), sums(second)
assert np.array_equal(items, others), "both arms must hold the same items"
drawn = np.random.default_rng(0).integers(len(items), size=(2000, len(items)))  # whole items, both arms together
with np.errstate(invalid="ignore"):
    one, other = (total[drawn].sum(axis=1) for total in (a, b))
    differences = one[:, 0] / one[:, 1] - other[:, 0] / other[:, 1]
print(f"{arms[first]} less {arms[second]}: 95 % within", np.nanquantile(differences, [0.025, 0.975]))"""


def write_notebook(store: Store, path: Path) -> list[Path]:
    """Write the notebook (nbformat 4.5) and results.npz beside it."""
    summary = summarise(store)
    metric = summary.highlights[0] if summary.highlights else ""
    title = summary.meta.get("question") or summary.meta.get("name") or "Results"
    said = [f"# {title}", *([headline(summary, metric), *answer(summary, metric)] if metric else [])]
    cells = [_cell("markdown", "about", "\n\n".join(filter(None, said))), _cell("code", "load", _LOAD)]
    if metric:
        cells += [_cell("code", "table", _TABLE.replace("METRIC", repr(metric))), _cell("code", "figure", _FIGURE),
                  _cell("markdown", "paired", "Arms meet the same items, losses and noise: differences are resampled in pairs."),
                  _cell("code", "difference", _PAIRED)]
    book = {"cells": cells, "nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}}
    arrays = write_npz(store, path.with_name("results.npz"))
    with writing(path):
        path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    return [path, *arrays]


def _cell(kind: str, name: str, text: str) -> dict[str, Any]:
    lines = text.splitlines(keepends=True)
    return {"cell_type": kind, "id": name, "metadata": {}, "source": lines} | (
        {"execution_count": None, "outputs": []} if kind == "code" else {})
