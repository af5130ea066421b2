"""Quality against what was spent: rate and distortion, errors and channel uses; each arm's points joined in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.axes import axis_words, categories_of, curves_of, is_log, marked, names_of, plain
from reports.comparability import COSTS
from reports.figures import add_legend, arm_look, label_axes, lay_out, limit_y, save, style
from reports.statistics import Estimate
from reports.summary import Row, Summary, value_text

_SAME = 0.02
_GAP = (float("nan"), float("nan"))


def save_tradeoffs(summary: Summary, folder: Path) -> list[Path]:
    """Write folder/METRIC-over-COST.svg, .pdf and .png for what the scenario shows, where the sweep changes what an arm spends."""
    return [path for cost in costs_that_vary(summary)[:1] for metric in summary.highlights
            if metric not in COSTS and any(_shown(row, metric, cost) for row in summary.rows)
            for path in save(draw_tradeoff(summary, metric, cost), folder / f"{metric}-over-{cost}")]


def costs_that_vary(summary: Summary) -> list[str]:
    """The costs that some arm changes by more than 2 % over the sweep; what the scenario shows first, then uses before bits.

    None where the sweep is over sources: what one of them costs is no price of the quality of another.
    """
    if "source" in summary.sweep_keys:
        return []
    costs = sorted(COSTS, key=lambda cost: cost not in summary.highlights)
    return [cost for cost in costs if any(_varies(summary, arm, cost) for arm in summary.arms)]


def _varies(summary: Summary, arm: str, cost: str) -> bool:
    means = [one.mean for row in summary.of(arm) if (one := row.estimate(cost)) and one.mean > 0]
    return bool(means) and max(means) > (1 + _SAME) * min(means)


def draw_tradeoff(summary: Summary, metric: str, cost: str) -> Figure:
    """`metric` over the mean `cost` of each arm and sweep point, with the 95 % intervals of both.

    A reference of the metric is drawn where all arms of a point cost the same, since only there has it a place. Points that go
    by a name bear it, above the frame where all arms cost the same. The line between them tells their order and nothing else.
    """
    names = names_of(summary, metric)
    with style():
        figure, axes = lay_out(summary, [*names.values(), *curves_of(summary, metric)])
        for axis, points in axes:
            for number, arm in enumerate(summary.arms):
                _draw_arm(axis, summary, (metric, cost), points, number, names[arm])
            if categories_of(summary):
                _name_points(axis, summary, (metric, cost), points)
            for label, curve in curves_of(summary, metric).items():
                placed = sorted((place, curve[point]) for point in points if point in curve
                                and (place := _common_cost(summary, point, cost)) is not None)
                if len({place for place, _ in placed}) > 1:
                    axis.plot(*zip(*placed, strict=True), color="#000000", linestyle="--", label=plain(label), zorder=1)
            axis.grid(axis="y")
        limit_y(axes, summary, metric)
        label_axes(figure, axes, axis_words(cost), axis_words(metric))
        add_legend(figure)
    return figure


def _draw_arm(axis: Axes, summary: Summary, what: tuple[str, str], points: list[int], number: int, name: str) -> None:
    metric, cost = what
    found = [pair for row in summary.of(summary.arms[number]) if row.point.point_index in points
             and (pair := _shown(row, metric, cost))]
    look, shown = arm_look(number), slice(None) if categories_of(summary) else marked(len(found), number)
    if not found:
        return
    joined: dict[str, Any] = {"linestyle": (0, (1, 2)), "linewidth": 0.7} if categories_of(summary) else {}
    axis.plot([x.mean for x, _ in found], [y.mean for _, y in found], label=plain(name), zorder=3, markeredgecolor="white",
              markeredgewidth=0.4, markevery=shown, **look, **joined)
    crosses: list[tuple[float, float]] = []
    for x, y in found[shown]:
        (left, right), (low, high) = _ends(x), _ends(y)
        low = max(low, 1e-9) if is_log(metric) else low
        crosses += [(x.mean, low), (x.mean, high), _GAP, (left, y.mean), (right, y.mean), _GAP]
    axis.plot(*zip(*crosses, strict=True), color=look["color"], linewidth=0.8, zorder=2)  # one line: lines are what drawing costs


def _name_points(axis: Axes, summary: Summary, what: tuple[str, str], points: list[int]) -> None:
    metric, cost = what
    for point in points:
        found = [(pair[0].mean, pair[1].mean) for row in summary.at(point) if (pair := _shown(row, metric, cost))]
        if not found:
            continue  # its name alone would stand outside of the axes
        name = plain(value_text(summary.points[point][summary.sweep_keys[0]]))
        # above the frame, where no interval crosses it, if one name will do for all arms
        common = _common_cost(summary, point, cost)
        places = found if common is None else [(common, 1.0)]
        for place in places:
            axis.annotate(name, place, (2, 3), xycoords="data" if common is None else ("data", "axes fraction"), rotation=40,
                          textcoords="offset points", rotation_mode="anchor", ha="left", va="bottom", fontsize=6.5,
                          annotation_clip=False)
    axis.margins(x=0.12, y=0.2 if any(_common_cost(summary, point, cost) is None for point in points) else None)


def _shown(row: Row, metric: str, cost: str) -> tuple[Estimate, Estimate] | None:
    """(cost, metric) of what has a place: 0 has none on a log axis."""
    x, y = row.estimate(cost), row.estimate(metric)
    return None if x is None or y is None or (is_log(metric) and y.mean <= 0) else (x, y)


def _ends(one: Estimate) -> tuple[float, float]:
    return (one.mean, one.mean) if one.low is None or one.high is None else (one.low, one.high)


def _common_cost(summary: Summary, point: int, cost: str) -> float | None:
    means = [one.mean for row in summary.at(point) if (one := row.estimate(cost))]
    return sum(means) / len(means) if means and max(means) <= (1 + _SAME) * min(means) else None
