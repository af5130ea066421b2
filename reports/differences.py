"""Every arm against one of them, the baseline: paired differences over the same items, point by point."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from channel_sim.checks import RequestError
from reports.files import writing
from reports.findings import is_told_apart
from reports.statistics import Difference, holm, paired_differences, require_equal_items
from reports.summary import Row, Summary, value_text, words


@dataclass(frozen=True)
class Gap:
    """One arm less the baseline at one sweep point; None where one of the two has not measured the metric.

    adjusted_p: Holm's, over all arms and points of the metric; is_told_apart: both it and the interval exclude equality
    """

    arm: str
    point_index: int
    difference: Difference | None
    adjusted_p: float
    is_told_apart: bool


def gaps(summary: Summary, metric: str, baseline: str) -> list[Gap]:
    """Every other arm at every point, arm by arm. `RequestError` if there is no such arm, or its items are not those of another."""
    if baseline not in summary.arms:
        raise RequestError(f"--baseline {baseline!r}: must be one of the arms {', '.join(map(repr, summary.arms))}")
    base = {row.point.point_index: row for row in summary.of(baseline)}
    pairs = [(row, base[row.point.point_index]) for arm in summary.arms if arm != baseline
             for row in summary.of(arm) if row.point.point_index in base]
    found = list(zip((row for row, _ in pairs), _differences(pairs, metric), strict=True))
    tested = [(row, one) for row, one in found if one is not None]
    adjusted = dict(zip((id(row) for row, _ in tested), holm([one.p_value for _, one in tested]), strict=True))
    return [Gap(row.point.arm, row.point.point_index, one, adjusted.get(id(row), 1.0),
                one is not None and is_told_apart(one, adjusted[id(row)])) for row, one in found]


def note(found: Sequence[Gap], metric: str, baseline: str) -> str:
    """What stands beside a figure or table of these differences."""
    number = sum(gap.difference is not None for gap in found)
    told = sum(gap.is_told_apart for gap in found)
    return (f"{words(metric)[:1].upper()}{words(metric)[1:]} of each arm less that of “{baseline}” over the same items, losses and "
            f"noise, with 95 % intervals of the paired bootstrap, each for itself. Of {number} comparisons {told} (filled markers) "
            "differ from 0 by Holm's procedure at 5 % in all.")


def write_differences_csv(summary: Summary, baseline: str, path: Path) -> None:
    """One line an arm, sweep point and metric: the difference to the baseline, empty where one of the two was not measured."""
    header = ["arm", "baseline", *summary.sweep_keys, "metric", "difference", "ci_low", "ci_high", "num_items", "p_value", "holm_p"]
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for metric in summary.metrics:
            for gap in gaps(summary, metric, baseline):
                sweep = summary.points[gap.point_index]
                where = [value_text(sweep[key]) if key in sweep else "" for key in summary.sweep_keys]
                writer.writerow([gap.arm, baseline, *where, metric, *_numbers(gap)])


def _numbers(gap: Gap) -> list[str]:
    if gap.difference is None:
        return [""] * 6
    one = gap.difference
    numbers = (one.mean, one.low, one.high, one.num_items, one.p_value, gap.adjusted_p)
    return ["" if number is None else repr(number) for number in numbers]


def _differences(pairs: Sequence[tuple[Row, Row]], metric: str) -> list[Difference | None]:
    for row, base in pairs:
        try:
            require_equal_items(row.trials, base.trials)
        except ValueError as error:
            raise RequestError(f"{row.point.arm!r} and {base.point.arm!r}: {error}") from error
    return paired_differences([(row.trials, base.trials) for row, base in pairs], metric)
