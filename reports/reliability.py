"""Reliability: how often restored tokens are right, over the confidence that their decoder states; pooled over all trials."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from channel_sim.metrics import CALIBRATION_BINS
from channel_sim.store import Store
from reports.axes import COLUMN_INCHES, plain
from reports.figures import add_legend, arm_look, save, style
from reports.files import writing
from reports.statistics import Estimate, estimate_sums
from reports.summary import read_once

_LIKE = "recovered_fraction"  # the same kind of share: tokens that are right, of those that were restored
_GAP = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Bin:
    """The restored tokens of one arm whose confidence lies in [low, low + 0.1): `right` is the share of them that is right."""

    low: float
    num_tokens: int
    mean_confidence: float
    right: Estimate


@read_once
def reliability(store: Store) -> dict[str, list[Bin]]:
    """Arm -> its bins that hold a token, over all points of the sweep; an arm that restored nothing has none and is left out."""
    tasks: dict[str, list[str]] = {}
    for point in store.points():
        if point.task_id not in tasks.setdefault(point.arm, []):
            tasks[point.arm].append(point.task_id)
    return {arm: bins for arm, of_arm in tasks.items() if (bins := _bins(store, of_arm))}


def _bins(store: Store, tasks: list[str]) -> list[Bin]:
    by_item: dict[int, np.ndarray] = {}  # tokens of an item depend on one another, so do its trials at other points: one unit
    for task in tasks:
        for item, rows in store.calibrations(task):
            counts = by_item.setdefault(item, np.zeros((CALIBRATION_BINS, 3)))
            for place, *numbers in rows:
                counts[int(place)] += numbers
    if not by_item:
        return []
    counts = np.stack([by_item[item] for item in sorted(by_item)])  # [items, bins, (tokens, right, sum of confidence)]
    tokens, _, confidence = counts.sum(axis=0).T
    right = estimate_sums([counts[:, place, [1, 0]] for place in range(CALIBRATION_BINS)], _LIKE)
    return [Bin(place / CALIBRATION_BINS, int(tokens[place]), float(confidence[place] / tokens[place]), one)
            for place, one in enumerate(right) if one is not None]


def write_calibration_csv(store: Store, path: Path) -> None:
    """One line an arm and bin of confidence, pooled over the sweep: tokens, mean confidence, share right with its 95 % interval."""
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "confidence_from", "confidence_to", "num_tokens", "num_items", "mean_confidence", "share_right",
                         "ci_low", "ci_high"])
        for arm, bins in reliability(store).items():
            for one in bins:
                ends = ("" if end is None else repr(end) for end in (one.right.low, one.right.high))
                writer.writerow([arm, one.low, round(one.low + 1 / CALIBRATION_BINS, 1), one.num_tokens, one.right.num_items,
                                 repr(one.mean_confidence), repr(one.right.mean), *ends])


def save_reliability(store: Store, folder: Path) -> list[Path]:
    """Write folder/calibration.svg, .pdf and .png; nothing where no arm restored a token."""
    arms = reliability(store)
    return save(draw_reliability(arms, list(dict.fromkeys(p.arm for p in store.points()))), folder / "calibration") if arms else []


def draw_reliability(arms: dict[str, list[Bin]], order: list[str]) -> Figure:
    """Share right over mean confidence with 95 % intervals, the line of a confidence that can be believed, and tokens a bin below.

    order: all arms of the run, so that an arm looks as it does in the other figures
    """
    with style():
        figure = Figure(figsize=(COLUMN_INCHES, 3.5 + 0.16 * -(-(len(arms) + 1) // 2)))
        shares, tokens = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for arm, bins in arms.items():
            _draw_arm(shares, tokens, arm, bins, order.index(arm))
        shares.plot([0, 1], [0, 1], color="#000000", linewidth=0.8, linestyle="--", label="right as often as stated", zorder=1)
        shares.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="Share right")
        tokens.set_yscale("log")
        tokens.set_ylim(0.8, 2 * max(one.num_tokens for bins in arms.values() for one in bins))
        tokens.yaxis.set_major_locator(LogLocator(10, numticks=4))
        tokens.yaxis.set_minor_locator(NullLocator())
        tokens.yaxis.set_minor_formatter(NullFormatter())
        tokens.set(xlabel="Confidence stated", ylabel="Tokens")
        for axis in (shares, tokens):
            axis.grid(axis="y")
        figure.align_ylabels()
        add_legend(figure)
    return figure


def _draw_arm(shares: Axes, tokens: Axes, arm: str, bins: list[Bin], number: int) -> None:
    look, x = arm_look(number), [one.mean_confidence for one in bins]
    shares.plot(x, [one.right.mean for one in bins], label=plain(arm), markeredgecolor="white", markeredgewidth=0.4, zorder=3,
                **look)
    bars: list[tuple[float, float]] = []
    for place, one in zip(x, bins, strict=True):
        if one.right.low is not None and one.right.high is not None:
            bars += [(place, one.right.low), (place, one.right.high), _GAP]
    if bars:
        shares.plot(*zip(*bars, strict=True), color=look["color"], linewidth=0.8, zorder=2)
    tokens.plot(x, [one.num_tokens for one in bins], markersize=3, linewidth=0.8, **look)
