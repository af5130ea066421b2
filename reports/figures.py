"""Figures for a paper: one metric over the sweep, every arm with its intervals, closed forms on the same axes.

IEEE single column (3.5 in), readable in colour, in grey and to the colour-blind; the same results give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from reports.axes import (
    axis_words,
    curves_of,
    highest_shown,
    is_geometric,
    is_log,
    is_number,
    lowest_shown,
    markers_of,
    panels_of,
    places_of,
)
from reports.files import writing
from reports.statistics import Estimate
from reports.summary import Summary, value_text, words

COLUMN_INCHES = 3.5
# Okabe and Ito's colours, darkened to 3:1 on white, ordered so that neighbours differ in grey; markers differ for all
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8C3A6E", "#111111", "#B07A00", "#3E9BC9", "#6B6B6B")
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "*")
_DASHES: tuple[Any, ...] = ((0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1.5)))
_SMALLEST = 1e-9
_LEGEND_CHARACTERS = 58
_CURVE_COLOURS = ("#000000", "#555555", "#000000", "#555555")
_STYLE: dict[Any, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Sans"], "mathtext.fontset": "stix", "font.size": 8, "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "legend.fontsize": 7.5, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "ytick.minor.width": 0.4,
    "axes.axisbelow": True, "grid.linewidth": 0.4, "grid.color": "#DDDDDD", "lines.linewidth": 1.0, "lines.markersize": 4,
    "legend.frameon": False, "legend.handlelength": 2.6, "svg.hashsalt": "channel-sim", "svg.fonttype": "path", "pdf.fonttype": 42,
    "figure.constrained_layout.use": True, "axes.unicode_minus": True, "axes.formatter.useoffset": False,
}


def draw_metric(summary: Summary, metric: str) -> Figure:
    """`metric` of every arm over the first sweep key, one panel for each value of the others; by arm where nothing is swept.

    Bars are 95 % intervals; an arrow marks a limit (no event, or nothing but events); dashed lines are closed forms.
    """
    with style():
        panels = panels_of(summary)
        columns, lines = min(2, len(panels)), -(-len(panels) // 2)
        swept = bool(summary.sweep_keys)
        labels = _legend_labels(summary, metric)
        legend_inches = 0.16 * -(-len(labels) // _legend_columns(labels))
        height = (2.1 * lines if swept else 0.75 + 0.22 * len(summary.arms)) + legend_inches
        figure = Figure(figsize=(COLUMN_INCHES * columns, height))
        axes = figure.subplots(lines, columns, squeeze=False, sharex=swept, sharey=swept)
        for axis in axes.flat[len(panels):]:
            axis.set_visible(False)
        for axis, (title, points) in zip(axes.flat, panels.items(), strict=False):
            axis.set_title(title)
            (_draw_panel if swept else _draw_dots)(axis, summary, metric, points)
        for axis in axes.flat[max(0, len(panels) - columns):len(panels)]:
            axis.tick_params(labelbottom=True)
        if swept:
            _label(figure, axes, summary, metric)
        _add_legend(figure)
    return figure


def save_figures(summary: Summary, folder: Path, metrics: Sequence[str] | None = None) -> list[Path]:
    """Write folder/<metric>.svg and .pdf for `metrics` (default: all that were measured)."""
    paths = []
    for metric in summary.metrics if metrics is None else metrics:
        figure = draw_metric(summary, metric)
        for kind in ("svg", "pdf"):
            path = folder / f"{metric}.{kind}"
            with writing(path):
                path.write_bytes(render(figure, kind))
            paths.append(path)
    return paths


def render(figure: Figure, kind: Literal["svg", "pdf"] | str = "svg") -> bytes:
    """The figure as a file, without date or random names in it."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else {"CreationDate": None})
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure here, for as long as one is drawn; `render` has it by itself."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change a figure
        matplotlib.rcParams.update(_STYLE)
        yield


def _draw_panel(axis: Axes, summary: Summary, metric: str, points: list[int]) -> None:
    places = places_of(summary, points)
    points = sorted(places, key=places.__getitem__)
    for number, arm in enumerate(summary.arms):
        rows = {row.point.point_index: row for row in summary.of(arm)}
        measured = [(places[index], one) for index in points if index in rows and (one := rows[index].estimate(metric))]
        if measured:
            _draw_series(axis, measured, number, arm, log=is_log(metric))
    for number, (label, curve) in enumerate(curves_of(summary, metric).items()):
        shown = [(places[index], curve[index]) for index in points if index in curve and (curve[index] > 0 or not is_log(metric))]
        if shown:
            axis.plot(*zip(*shown, strict=True), zorder=1, **_curve_look(number, label))
    for marker in markers_of(summary):
        axis.axvline(marker["value"], color="#888888", linewidth=0.8, linestyle="-.", label=_plain(marker["label"]), zorder=0)
    _scale_x(axis, summary, points, places)
    _scale_y(axis, metric)
    if is_log(metric) and (lowest := lowest_shown(summary, metric)):
        axis.set_ylim(lowest, min(axis.get_ylim()[1], 1.3 * highest_shown(summary, metric)))


def _draw_series(axis: Axes, measured: list[tuple[float, Estimate]], number: int, arm: str, *, log: bool) -> None:
    """One arm: markers joined by a line, and intervals; on a log axis an upper limit stands alone, as 0 has no place there."""
    look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
    alone = [log and one.method == "upper limit" for _, one in measured]
    means = [np.nan if limit else one.mean for (_, one), limit in zip(measured, alone, strict=True)]
    axis.plot([x for x, _ in measured], means, markeredgecolor="white", markeredgewidth=0.4, label=_plain(arm), zorder=3, **look)
    for (x, one), limit in zip(measured, alone, strict=True):
        if one.low is None or one.high is None:
            continue
        if limit:
            _draw_arrow(axis, (x, one.high), (x, 0.4 * one.high), look["color"])
            axis.plot([x], [one.high], markerfacecolor="white", linestyle="none", zorder=3, **look)
        elif one.method in ("upper limit", "lower limit"):
            _draw_arrow(axis, (x, one.high if one.method == "upper limit" else one.low), (x, one.mean), look["color"])
        else:
            axis.plot([x, x], [max(one.low, _SMALLEST) if log else one.low, one.high], color=look["color"], linewidth=0.8, zorder=2)


def _curve_look(number: int, label: str) -> dict[str, Any]:
    return {"color": _CURVE_COLOURS[number % 4], "linestyle": _DASHES[number % 4], "label": _plain(label)}


def _plain(label: str) -> str:
    """A label as it is written: no mathematics in it, and no leading underscore, which would hide it from the legend."""
    return label.replace("$", r"\$").lstrip("_")


def _draw_arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """From a limit to the value that was seen."""
    arrow = {"arrowstyle": "->", "color": colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6}
    axis.annotate("", end, start, arrowprops=arrow)
    axis.plot(*zip(start, end, strict=True), alpha=0)  # an annotation alone would not widen the axis


def _draw_dots(axis: Axes, summary: Summary, metric: str, points: list[int]) -> None:
    """No sweep: one line an arm, first arm on top."""
    for number, arm in enumerate(summary.arms):
        one = next((row.estimate(metric) for row in summary.of(arm) if row.point.point_index in points), None)
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        if one is None:
            axis.text(0.02, number, "not measured", transform=axis.get_yaxis_transform(), va="center", fontsize=7, color="#595959")
            continue
        if one.low is not None and one.high is not None:
            if one.method in ("upper limit", "lower limit"):
                _draw_arrow(axis, (one.high if one.method == "upper limit" else one.low, number), (one.mean, number), colour)
            axis.plot([one.low, one.high], [number, number], color=colour, linewidth=0.9)
        axis.plot([one.mean], [number], color=colour, marker=marker, linestyle="none")
    for number, (label, curve) in enumerate(curves_of(summary, metric).items()):
        for value in curve.values():
            axis.axvline(value, zorder=1, **_curve_look(number, label))
    axis.set_yticks(range(len(summary.arms)), [_plain(arm) for arm in summary.arms])
    axis.set_ylim(len(summary.arms) - 0.5, -0.5)
    axis.set_xlabel(axis_words(metric))
    axis.grid(axis="y")


def _label(figure: Figure, axes: np.ndarray, summary: Summary, metric: str) -> None:
    for axis in axes[:, 0]:
        axis.set_ylabel(axis_words(metric))
    for axis in [axis for axis in axes.flat if axis.get_visible()][-axes.shape[1]:]:
        axis.set_xlabel(axis_words(summary.sweep_keys[0]))


def _add_legend(figure: Figure) -> None:
    """One legend below all panels: arms in their order, then closed forms."""
    found: dict[str, Any] = {}
    for axis in figure.axes:
        handles, labels = axis.get_legend_handles_labels()
        found.update(zip(labels, handles, strict=True))
    if found:
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=_legend_columns(list(found)),
                      columnspacing=1.5)


def _legend_labels(summary: Summary, metric: str) -> list[str]:
    """What the legend will say: arms, closed forms and markers, where an axis is swept."""
    measured = [arm for arm in summary.arms if any(row.estimate(metric) for row in summary.of(arm))]
    curves = list(curves_of(summary, metric))
    return [*measured, *curves, *(marker["label"] for marker in markers_of(summary))] if summary.sweep_keys else curves


def _legend_columns(labels: Sequence[str]) -> int:
    """2 where the longest labels of both halves fit one column of text side by side."""
    half = -(-len(labels) // 2)
    widths = [max(map(len, part), default=0) for part in (labels[:half], labels[half:])]
    return 2 if sum(widths) <= _LEGEND_CHARACTERS else 1


def _scale_x(axis: Axes, summary: Summary, points: list[int], places: dict[int, float]) -> None:
    values = [summary.points[index].get(summary.sweep_keys[0]) for index in points]
    at, numbers = sorted(set(places.values())), all(map(is_number, values))
    few = len(at) <= 7
    if numbers and "dB" not in words(summary.sweep_keys[0]) and is_geometric(at):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
    if few or not numbers:
        axis.set_xticks([places[index] for index in points], [value_text(value) for value in values])
    axis.grid(axis="y")


def _scale_y(axis: Axes, metric: str) -> None:
    if not is_log(metric):
        axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        return
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    narrow = high / low < 30  # less than one and a half decades: powers of ten alone would leave the axis bare
    axis.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if narrow else (1,)))
    if narrow:
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(LogLocator(10, subs=tuple(range(2, 10))))
    axis.yaxis.set_minor_formatter(NullFormatter())
