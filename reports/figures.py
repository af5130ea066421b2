"""Figures for a paper: one metric over the sweep, every arm with its intervals, closed forms on the same axes.

IEEE single column (3.5 in), readable in colour, in grey and to the colour-blind; the same results give the same bytes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from reports.axes import (
    COLUMN_INCHES,
    PAGE_INCHES,
    axis_words,
    categories_of,
    curves_of,
    highest_shown,
    is_geometric,
    is_log,
    lowest_shown,
    marked,
    markers_of,
    names_of,
    panels_of,
    places_of,
    plain,
)
from reports.categories import ARMS_SHARE, aside, is_wide, name_categories, name_inches, say_not_measured
from reports.files import writing
from reports.statistics import Estimate
from reports.summary import Summary, value_text, words

KINDS = ("svg", "pdf", "png")
# Okabe and Ito's colours, darkened to 3:1 on white, ordered so that neighbours differ in grey; markers differ for all
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8C3A6E", "#111111", "#B07A00", "#3E9BC9", "#6B6B6B")
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "*", "<")  # one more than colours: arms past the eighth differ from those before
_DASHES: tuple[Any, ...] = ((0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1.5)))
_SMALLEST = 1e-9
_WORD_SHARE = 0.08
"""Of an axis: the least distance between two values that are both named."""
UNMOVED = 3
"""The arm that `plot_beside` does not move."""
_STEP_POINTS, _LIMIT_STEP_POINTS = 1.0, 3.0
"""Between arms at one place; upper limits of equal items stand at one height as well, where a step of 1 would hide them."""
_LEGEND_CHARACTERS, _LINE_CHARACTERS = 58, 30
"""Of a legend's two columns together, and of words that stand beside an axis."""
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
        swept = bool(summary.sweep_keys)
        figure, axes = lay_out(summary, _legend_labels(summary, metric), swept=swept)
        for axis, points in axes:
            (_draw_panel if swept else _draw_dots)(axis, summary, metric, points)
        if swept:
            limit_y(axes, summary, metric)
            label_axes(figure, axes, axis_words(summary.sweep_keys[0]), axis_words(metric))
        add_legend(figure)
    return figure


def limit_y(axes: Sequence[tuple[Axes, list[int]]], summary: Summary, metric: str) -> None:
    """The scale of a metric on panels that share it, once all of them are drawn: limits set before would cut the later ones."""
    for axis, _ in axes:
        _scale_y(axis, metric)
    low, high = axes[0][0].get_ylim()
    if is_log(metric) and (lowest := lowest_shown(summary, metric)):
        axes[0][0].set_ylim(lowest, min(high, 1.3 * highest_shown(summary, metric)))
    if low < 0 < high and not is_log(metric):  # above it a gain, such as confidence past the share that is right; below it none
        for axis, _ in axes:
            axis.axhline(0, color="#555555", linewidth=0.6, zorder=1)


def lay_out(summary: Summary, labels: Sequence[str], *, swept: bool = True) -> tuple[Figure, list[tuple[Axes, list[int]]]]:
    """An empty figure and its panels, each with its sweep points: one column of a page wide, two where there are several.

    labels: what the legend will say; swept: panels of one height and axes in common, else a line an arm
    """
    panels = panels_of(summary)
    columns, lines = min(2, len(panels)), -(-len(panels) // 2)
    legend_inches = 0.16 * -(-len(labels) // _legend_columns(labels))
    height = (2.1 * lines + name_inches(summary) if swept else 0.75 + 0.22 * len(summary.arms)) + legend_inches
    figure = Figure(figsize=(PAGE_INCHES if is_wide(summary) else COLUMN_INCHES, height))
    axes = figure.subplots(lines, columns, squeeze=False, sharex=swept, sharey=swept)
    for axis in axes.flat[len(panels):]:
        axis.set_visible(False)
    for axis, title in zip(axes.flat, panels, strict=False):
        axis.set_title(plain(title))
    for axis in axes.flat[max(0, len(panels) - columns):len(panels)]:
        axis.tick_params(labelbottom=True)
    return figure, list(zip(axes.flat, panels.values(), strict=False))


def save_figures(summary: Summary, folder: Path, metrics: Sequence[str] | None = None) -> list[Path]:
    """Write folder/<metric>.svg and .pdf for `metrics` (default: all that were measured), and .png for those that are shown."""
    return [path for metric in (summary.metrics if metrics is None else metrics)
            for path in save(draw_metric(summary, metric), folder / metric, KINDS if metric in summary.highlights else KINDS[:2])]


def save(figure: Figure, path: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Write path.svg and so on for every kind."""
    paths = [path.with_name(f"{path.name}.{kind}") for kind in kinds]
    with style():
        if engine := figure.get_layout_engine():
            engine.execute(figure)
            figure.set_layout_engine("none")  # laid out once for all kinds
        for kind, one in zip(kinds, paths, strict=True):
            with writing(one):
                one.write_bytes(_rendered(figure, kind))
    return paths


def render(figure: Figure, kind: Literal["svg", "pdf", "png"] | str = "svg") -> bytes:
    """The figure as a file, without date or random names in it; a PNG has 300 dots an inch."""
    with style():
        return _rendered(figure, kind)


def _rendered(figure: Figure, kind: str) -> bytes:
    """By the canvas itself: `savefig` would draw everything twice."""
    buffer, dpi = io.BytesIO(), figure.dpi
    if kind == "svg":
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    elif kind == "pdf":
        FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})
    else:
        figure.set_dpi(300)
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
        figure.set_dpi(dpi)
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure here, for as long as one is drawn; `render` has it by itself."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change a figure
        matplotlib.rcParams.update(_STYLE)
        yield


def _draw_panel(axis: Axes, summary: Summary, metric: str, points: list[int]) -> None:
    places, names = places_of(summary, points), names_of(summary, metric)
    points = sorted(places, key=places.__getitem__)
    apart = bool(categories_of(summary))
    for number, arm in enumerate(summary.arms):
        rows = {row.point.point_index: row for row in summary.of(arm)}
        moved = aside(summary, number)
        measured = [(places[index] + moved, one) for index in points if index in rows and (one := rows[index].estimate(metric))]
        if measured:
            _draw_series(axis, measured, number, names[arm], log=is_log(metric), by_name=apart)
    for number, (label, curve) in enumerate(curves_of(summary, metric).items()):
        shown = [(places[index], curve[index]) for index in points if index in curve and (curve[index] > 0 or not is_log(metric))]
        if apart:  # a level of each category by itself
            shown = [(end, value) for place, value in shown
                     for end, value in ((place - ARMS_SHARE / 2, value), (place + ARMS_SHARE / 2, value), (np.nan, np.nan))]
        if shown:
            axis.plot(*zip(*shown, strict=True), zorder=1, **_curve_look(number, label))
    for marker in markers_of(summary):
        axis.axvline(marker["value"], color="#888888", linewidth=0.8, linestyle="-.", label=plain(marker["label"]), zorder=0)
    axis.autoscale_view()
    say_not_measured(axis, summary, {places[row.point.point_index] for row in summary.rows
                                     if row.point.point_index in places and row.estimate(metric)})
    scale_x(axis, summary, points, places)


def _draw_series(axis: Axes, measured: list[tuple[float, Estimate]], number: int, arm: str, *, log: bool, by_name: bool) -> None:
    """One arm: markers and intervals; on a log axis an upper limit stands alone, as 0 has no place there.

    by_name: over categories, between which there is nothing; else a line joins the markers, and arms at one place are moved
    """
    look = arm_look(number) | ({"linestyle": "none"} if by_name else {})
    shown = slice(None) if by_name else marked(len(measured), number)
    number = UNMOVED if by_name else number
    alone = [log and one.method == "upper limit" for _, one in measured]
    means = [np.nan if limit else one.mean for (_, one), limit in zip(measured, alone, strict=True)]
    x = [place for place, _ in measured]
    plot_beside(axis, number, x, means, markeredgecolor="white", markeredgewidth=0.4, label=plain(arm), zorder=3,
                markevery=shown, **look)
    intervals: list[tuple[float, float]] = []
    for (place, one), limit in zip(measured[shown], alone[shown], strict=True):
        if one.low is None or one.high is None:
            continue
        if limit:
            apart = _beside(axis, number, _LIMIT_STEP_POINTS)
            _draw_arrow(axis, (place, one.high), (place, 0.4 * one.high), look["color"], apart)
            (mark,) = axis.plot([place], [one.high], markerfacecolor="white", zorder=3, **(look | {"linestyle": "none"}))
            mark.set_transform(apart)
        elif one.method in ("upper limit", "lower limit"):
            end = one.high if one.method == "upper limit" else max(one.low, _SMALLEST) if log else one.low
            _draw_arrow(axis, (place, end), (place, one.mean), look["color"], _beside(axis, number))
        else:
            low = max(one.low, _SMALLEST) if log else one.low
            intervals += [(place, low), (place, one.high), (place, np.nan)]  # one line with gaps: lines are what drawing costs
    if intervals:
        plot_beside(axis, number, *zip(*intervals, strict=True), color=look["color"], linewidth=0.8, zorder=2)


def plot_beside(axis: Axes, number: int, x: Sequence[float], y: Sequence[float], **look: Any) -> None:
    """A line of the arm with this number, moved sideways by some points so that intervals at one place do not hide each other."""
    for line in axis.plot(x, y, **look):
        line.set_transform(_beside(axis, number))  # not before: the limits of the axes are those of the data


def _beside(axis: Axes, number: int, step: float = _STEP_POINTS) -> Transform:
    figure = axis.get_figure(root=True)
    assert figure is not None
    return axis.transData + ScaledTranslation((number % len(COLOURS) - 3) * step / 72, 0, figure.dpi_scale_trans)


def arm_look(number: int) -> dict[str, Any]:
    """Colour and marker of the arm with this number."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _curve_look(number: int, label: str) -> dict[str, Any]:
    return {"color": _CURVE_COLOURS[number % 4], "linestyle": _DASHES[number % 4], "label": plain(label)}


def _draw_arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, where: Transform) -> None:
    """From a limit to the value that was seen."""
    arrow = {"arrowstyle": "->", "color": colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6}
    drawn = axis.annotate("", end, start, xycoords=where, textcoords=where, arrowprops=arrow)
    drawn.set_in_layout(False)  # inside of the axes, where measuring thousands of them tells nothing
    if start[1] == _SMALLEST:  # a limit of 0, which a log axis does not reach
        drawn.arrow_patch.set_clip_path(axis.patch)  # type: ignore[union-attr]
    axis.update_datalim([start, end])  # an annotation alone would not widen the axis; `autoscale_view` makes it so


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
                end = one.high if one.method == "upper limit" else one.low
                _draw_arrow(axis, (end, number), (one.mean, number), colour, axis.transData)
            else:
                axis.plot([one.low, one.high], [number, number], color=colour, linewidth=0.9)
        axis.plot([one.mean], [number], color=colour, marker=marker, linestyle="none")
    for number, (label, curve) in enumerate(curves_of(summary, metric).items()):
        for value in curve.values():
            axis.axvline(value, zorder=1, **_curve_look(number, label))
    axis.autoscale_view()
    axis.set_yticks(range(len(summary.arms)), [plain(name) for name in names_of(summary, metric).values()])
    axis.set_ylim(len(summary.arms) - 0.5, -0.5)
    axis.set_xlabel(axis_words(metric))
    axis.grid(axis="y")


def label_axes(figure: Figure, axes: Sequence[tuple[Axes, list[int]]], x: str, y: str) -> None:
    """Words on the left of every line of panels, in two lines where one is higher than a panel, and below the last of a column."""
    columns = min(2, len(axes))
    for axis, _ in axes[::columns]:
        axis.set_ylabel(textwrap.fill(y, _LINE_CHARACTERS))
    for axis, _ in axes[-columns:]:
        axis.set_xlabel(x)


def add_legend(figure: Figure) -> None:
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
    names = names_of(summary, metric)
    measured = [names[arm] for arm in summary.arms if any(row.estimate(metric) for row in summary.of(arm))]
    curves = list(curves_of(summary, metric))
    return [*measured, *curves, *(marker["label"] for marker in markers_of(summary))] if summary.sweep_keys else curves


def _legend_columns(labels: Sequence[str]) -> int:
    """2 where the longest labels of both halves fit one column of text side by side."""
    half = -(-len(labels) // 2)
    widths = [max(map(len, part), default=0) for part in (labels[:half], labels[half:])]
    return 2 if sum(widths) <= _LEGEND_CHARACTERS else 1


def scale_x(axis: Axes, summary: Summary, points: list[int], places: dict[int, float]) -> None:
    """The first key of the sweep: by ratio where its values are spaced so, every value named where they are few; or categories."""
    if categories_of(summary):
        name_categories(axis, summary)
        return
    values = [summary.points[index].get(summary.sweep_keys[0]) for index in points]
    at = sorted(set(places.values()))
    if "dB" not in words(summary.sweep_keys[0]) and is_geometric(at):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
    if len(at) <= 7:
        texts = {places[index]: value_text(value).replace("-", "−") for index, value in zip(points, values, strict=True)}
        shown = at if axis.get_xscale() == "log" else _apart(at)
        axis.set_xticks(shown, [texts[place] for place in shown])
    axis.grid(axis="y")


def _apart(at: list[float]) -> list[float]:
    """Those of the places that have room for a word, from the last one down."""
    shown: list[float] = []
    for place in reversed(at):
        if not shown or shown[-1] - place >= _WORD_SHARE * (at[-1] - at[0]):
            shown.append(place)
    return shown[::-1]


def _scale_y(axis: Axes, metric: str) -> None:
    """Decades for rates of errors and losses, some six round values for the rest."""
    if not is_log(metric):
        axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        return
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    narrow = high < 30 * low  # less than one and a half decades: powers of ten alone would leave the axis bare
    axis.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if narrow else (1,)))
    if narrow:
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(LogLocator(10, subs=tuple(range(2, 10))))
    axis.yaxis.set_minor_formatter(NullFormatter())
