"""Paired differences to a baseline over the sweep, for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.axes import axis_words, categories_of, marked, names_of, places_of, plain
from reports.categories import aside
from reports.differences import Gap, gaps, note
from reports.figures import UNMOVED, add_legend, arm_look, label_axes, lay_out, plot_beside, save, scale_x, style
from reports.summary import Summary


def draw_differences(summary: Summary, metric: str, baseline: str, found: Sequence[Gap]) -> Figure:
    """Each arm less the baseline, which is the line at 0; bars are paired 95 % intervals.

    A marker is filled where the arm is told apart from the baseline after Holm's procedure, and hollow where it is not.
    """
    names = names_of(summary, metric)
    arms = [names[arm] for arm in summary.arms if any(gap.arm == arm and gap.difference for gap in found)]
    swept = bool(summary.sweep_keys)
    words_y = f"Difference in {_lower(axis_words(metric))}"
    with style():
        figure, axes = lay_out(summary, [*arms, f"{baseline} (baseline)"] if swept else [], swept=swept)
        for axis, points in axes:
            here = [gap for gap in found if gap.point_index in points and gap.difference is not None]
            if swept:
                _draw_panel(axis, summary, here, points, names)
                axis.axhline(0, color="#000000", linewidth=0.8, linestyle=(0, (5, 2)), zorder=1,
                             label=f"{plain(baseline)} (baseline)")
            else:
                _draw_lines(axis, summary, here, baseline, words_y, names)
        if swept:
            label_axes(figure, axes, axis_words(summary.sweep_keys[0]), words_y)
        add_legend(figure)
    return figure


def save_differences(summary: Summary, baseline: str, folder: Path) -> dict[str, str]:
    """Write folder/METRIC-difference.svg, .pdf and .png for the metrics that the scenario shows; metric -> its caption."""
    captions = {}
    for metric in summary.highlights:
        found = gaps(summary, metric, baseline)
        if any(gap.difference for gap in found):
            save(draw_differences(summary, metric, baseline, found), folder / f"{metric}-difference")
            captions[metric] = note(found, metric, baseline)
    return captions


def _lower(text: str) -> str:
    return text if text[:2].isupper() or text.startswith("$") else text[:1].lower() + text[1:]


def _draw_panel(axis: Axes, summary: Summary, found: Sequence[Gap], points: list[int], names: dict[str, str]) -> None:
    places = places_of(summary, points)
    for number, arm in enumerate(summary.arms):
        mine = sorted((gap for gap in found if gap.arm == arm), key=lambda gap: places[gap.point_index])
        if not mine:
            continue
        x = [places[gap.point_index] + aside(summary, number) for gap in mine]
        apart = bool(categories_of(summary))
        step, joined = (UNMOVED, "none") if apart else (number, "-")
        shown = slice(None) if apart else marked(len(mine), number)
        plot_beside(axis, step, x, [_mean(gap) for gap in mine], label=plain(names[arm]), linestyle=joined, zorder=3,
                    markevery=shown, **arm_look(number))
        for gap, place in zip(mine[shown], x[shown], strict=True):
            _draw_one(axis, gap, number, (place, _mean(gap)), step=step)
    scale_x(axis, summary, points, places)
    axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _draw_lines(axis: Axes, summary: Summary, found: Sequence[Gap], baseline: str, words_x: str, names: dict[str, str]) -> None:
    """No sweep: one line an arm, first arm on top."""
    for number, arm in enumerate(summary.arms):
        for gap in found:
            if gap.arm == arm:
                _draw_one(axis, gap, number, (_mean(gap), number))
    axis.axvline(0, color="#000000", linewidth=0.8, linestyle=(0, (5, 2)), zorder=1)
    labels = [plain(f"{arm} (baseline)" if arm == baseline else name) for arm, name in names.items()]
    axis.set_yticks(range(len(summary.arms)), labels)
    axis.set_ylim(len(summary.arms) - 0.5, -0.5)
    axis.set_xlabel(words_x)
    axis.grid(axis="y")


def _draw_one(axis: Axes, gap: Gap, number: int, at: tuple[float, float], *, step: int | None = None) -> None:
    """The interval, and on top of the marker of the line a white one where the arm is not told apart.

    step: how `plot_beside` moves what stands upright; None: it lies, on a line of its own
    """
    one, look, place = gap.difference, arm_look(number), UNMOVED if step is None else step
    if one is not None and one.low is not None and one.high is not None:
        ends = ([one.low, one.high], [at[1], at[1]]) if step is None else ([at[0], at[0]], [one.low, one.high])
        plot_beside(axis, place, *ends, color=look["color"], linewidth=0.8, zorder=2)
    face = look["color"] if gap.is_told_apart else "white"
    plot_beside(axis, place, [at[0]], [at[1]], linestyle="none", markerfacecolor=face, zorder=4, **look)


def _mean(gap: Gap) -> float:
    return gap.difference.mean if gap.difference else float("nan")
