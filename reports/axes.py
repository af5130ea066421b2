"""What goes on the axes of a figure, however it is drawn: panels, places, scales, closed forms and words."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.comparability import COSTS, marks
from reports.summary import Summary, describe, point_text, value_text, words

COLUMN_INCHES, PAGE_INCHES = 3.5, 7.16
"""The width of an IEEE column, and of its page."""
_MARKED = 25
_MATHS = {"Es/N0 (dB)": "$E_s/N_0$ (dB)", "Eb/N0 (dB)": "$E_b/N_0$ (dB)"}


def panels_of(summary: Summary) -> dict[str, list[int]]:
    """Panel title -> its sweep points, in order of the first key's values where they are numbers."""
    panels: dict[str, list[int]] = {}
    for index, sweep in summary.points.items():
        rest = point_text({key: sweep.get(key) for key in summary.sweep_keys[1:]})
        panels.setdefault(rest[:1].upper() + rest[1:], []).append(index)
    return panels


def names_of(summary: Summary, metric: str) -> dict[str, str]:
    """Arm -> its name in a legend, with what keeps it from being compared: 'compress, drop lost (−41 % uses)'.

    Where the metric is a cost itself, that is what is compared, and the name stands alone.
    """
    marked = {} if metric in COSTS else marks(summary)
    return {arm: f"{arm} ({marked[arm]})" if arm in marked else arm for arm in summary.arms}


def places_of(summary: Summary, points: list[int]) -> dict[int, float]:
    """Sweep point -> its place on the x axis: the value itself, or the order of writing where values are not numbers."""
    values: dict[int, Any] = {index: summary.points[index].get(summary.sweep_keys[0]) for index in points}
    order = categories_of(summary)
    if not order:
        return {index: float(value) for index, value in values.items()}
    return {index: float(order.index(value_text(value))) for index, value in values.items()}


def marked(num_points: int, number: int = 0) -> slice:
    """Which points of the line of the arm with this number bear marker and interval: all of them, or 25 to 49, spread evenly, and
    others for the next arm; a band of markers that hide each other would tell nothing."""
    step = max(1, num_points // _MARKED)
    return slice(number % step, None, step)


def categories_of(summary: Summary) -> list[str]:
    """The values of the first key as text where they are names and not all numbers: points side by side, nothing between them."""
    values = [sweep.get(summary.sweep_keys[0]) for sweep in summary.points.values()] if summary.sweep_keys else []
    return [] if all(map(is_number, values)) else list(dict.fromkeys(map(value_text, values)))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_geometric(at: list[float]) -> bool:
    """Spaced more evenly by ratio than by difference, over a decade or more."""
    if at[0] <= 0 or at[-1] < 10 * at[0]:
        return False
    even, ratio = np.diff(at), np.diff(np.log(at))
    return bool(ratio.max() / ratio.min() < even.max() / even.min() or len(at) == 2)


def is_log(metric: str) -> bool:
    """Rates of errors and losses span decades; a rate of what went well does not."""
    return metric.endswith("_rate") and describe(metric).better != "higher" and metric not in COSTS


def lowest_shown(summary: Summary, metric: str) -> float:
    """Where a log axis begins: below every mean and limit, so that an interval down to 0 does not stretch it."""
    found = [one for row in summary.rows if (one := row.estimate(metric))]
    heights = [one.mean or one.high or 0 for one in found]
    heights += [value for curve in curves_of(summary, metric).values() for value in curve.values()]
    return 0.3 * min((height for height in heights if height > 0), default=0)


def highest_shown(summary: Summary, metric: str) -> float:
    """The most that is drawn, and at least 1: a share ends there, but errors can be more than there are words."""
    found = [one for row in summary.rows if (one := row.estimate(metric))]
    return max([1.0, *(one.mean for one in found), *(one.high for one in found if one.high is not None)])


def curves_of(summary: Summary, metric: str) -> dict[str, dict[int, float]]:
    """Label -> sweep point -> value: closed forms, then envelopes of arms."""
    found: dict[str, dict[int, float]] = {}
    for curve in summary.curves:
        if curve.metric == metric:
            found.setdefault(curve.label, {})[curve.point_index] = curve.value
    return found | envelopes_of(summary, metric)


def envelopes_of(summary: Summary, metric: str) -> dict[str, dict[int, float]]:
    """Label -> sweep point -> `metric` of the arm that is best there; none of costs.

    One sender has one arm: at each point it is the best by the first metric that the scenario shows and of which more or less is
    better. It was chosen with the very items that are drawn, by a sender who knew, so it is called an oracle.
    """
    if describe(metric).better == "neither" or describe(metric).unit in ("use", "bit"):
        return {}
    found = {f"{label} (oracle)": _along(summary, metric, arms) for label, arms in summary.meta.get("envelopes", {}).items()}
    return {label: curve for label, curve in found.items() if curve}


def _along(summary: Summary, metric: str, arms: list[str]) -> dict[int, float]:
    chosen_by = next(one for one in [*summary.highlights, metric] if describe(one).better != "neither")
    sign = 1 if describe(chosen_by).better == "higher" else -1
    curve = {}
    for index in summary.points:
        rows = [(sign * one.mean, row) for row in summary.at(index) if row.point.arm in arms and (one := row.estimate(chosen_by))]
        best = max(rows, key=lambda entry: entry[0], default=None)
        if best and (shown := best[1].estimate(metric)):
            curve[index] = shown.mean
    return curve


def markers_of(summary: Summary) -> list[dict[str, Any]]:
    """Places on the first axis that theory names: {key, value, label}."""
    return [marker for marker in summary.meta.get("markers", []) if marker["key"] == summary.sweep_keys[0]]


def axis_words(name: str) -> str:
    """Words for an axis: 'Token error rate'; the unit where the words do not hold it."""
    text, unit = words(name), describe(name).unit
    if unit not in ("1", "") and "(" not in text and "per" not in text:
        text = f"{text} ({unit})"
    return _MATHS.get(text, text[:1].upper() + text[1:])


def plain(label: str) -> str:
    """A label as it is written: no mathematics in it, and no leading underscore, which would hide it from the legend."""
    return label.replace("$", r"\$").lstrip("_")
