"""Axes of names: categories side by side, the arms of each beside one another, and nothing drawn between them."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from typing import Any

from matplotlib.axes import Axes

from reports.axes import COLUMN_INCHES, PAGE_INCHES, categories_of, panels_of, plain
from reports.summary import Summary

ARMS_SHARE = 0.8
"""Of the width of a category: what its arms take."""
_MOST_MARKERS = 40
"""Arms times categories that have room in one column; more of them take the width of the page."""
_LETTER_POINTS = 3.6
_MARGIN_INCHES = 0.6
_TILT = 40
_TILTED_LETTERS = 30


def is_wide(summary: Summary) -> bool:
    """Whether a figure takes the width of a page: several panels, or categories with more arms than a column has room for."""
    return len(panels_of(summary)) > 1 or len(categories_of(summary)) * len(summary.arms) > _MOST_MARKERS


def aside(summary: Summary, number: int) -> float:
    """How far the arm with this number stands from the middle of its category, so that no arm hides another; 0 among numbers."""
    return ARMS_SHARE * ((number + 0.5) / len(summary.arms) - 0.5) if categories_of(summary) else 0.0


def name_categories(axis: Axes, summary: Summary) -> None:
    """Every category by name, and a thin line between neighbours."""
    names, tilt = _names(summary)
    axis.set_xlim(-0.5, len(names) - 0.5)
    tilted: dict[str, Any] = {"rotation": tilt, "ha": "right", "rotation_mode": "anchor"} if tilt else {}
    axis.set_xticks(range(len(names)), list(map(plain, names)), **tilted)
    axis.tick_params(axis="x", length=0)
    for edge in range(1, len(names)):
        axis.axvline(edge - 0.5, color="#DDDDDD", linewidth=0.6, zorder=0)
    axis.grid(axis="y")


def say_not_measured(axis: Axes, summary: Summary, measured: Collection[float]) -> None:
    """Across every category, by its place, that no arm has measured."""
    for place in range(len(categories_of(summary))):
        if place not in measured:
            axis.text(place, 0.5, "not measured", transform=axis.get_xaxis_transform(), rotation=90, ha="center", va="center",
                      fontsize=7, color="#595959")


def name_inches(summary: Summary) -> float:
    """The height that the names need beyond a single line; 0 of numbers."""
    names, tilt = _names(summary)
    if tilt:
        return 0.65 * _LETTER_POINTS / 72 * max(len(line) for name in names for line in name.split("\n"))
    return 0.12 * max((name.count("\n") for name in names), default=0)


def _names(summary: Summary) -> tuple[list[str], int]:
    """The names broken into lines that stand side by side, at angle 0; tilted where a word is too long for that."""
    names = categories_of(summary)
    panel_inches = PAGE_INCHES if len(panels_of(summary)) == 1 and is_wide(summary) else COLUMN_INCHES
    letters = int(72 * (panel_inches - _MARGIN_INCHES) / max(1, len(names)) / _LETTER_POINTS) - 1
    if all(len(word) <= letters for name in names for word in name.split()):
        return [textwrap.fill(name, letters) for name in names], 0
    return [textwrap.fill(name, _TILTED_LETTERS) for name in names], _TILT
