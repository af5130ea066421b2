"""Bjøntegaard differences: how far one rate–distortion curve lies from another, in rate at equal PSNR and in PSNR at equal rate.

    rate:  10^(mean over PSNR of log10 R_arm − log10 R_base) − 1,     PSNR:  mean over log10 R of PSNR_arm − PSNR_base

each mean over the interval that both curves reach. Between its points a curve is the monotone piecewise cubic of Fritsch and
Butland (PCHIP), so that it passes through them and has no bumps of its own; a single cubic through four points may have.

Source: G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", ITU-T SG16 Q.6, VCEG-M33 (2001); the same,
"Improvements of the BD-PSNR model", VCEG-AI11 (2008) (piecewise); F. N. Fritsch and J. Butland, "A method for constructing local
monotone piecewise cubic interpolants", SIAM J. Sci. Stat. Comput. 5 (1984), eq. 5 (the slopes).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reports.bootstrap import bca, expanded_tail, resample, units_of
from reports.files import writing
from reports.statistics import FEW_ITEMS, Estimate, by_item
from reports.summary import Row, Summary
from reports.tradeoff import costs_that_vary

QUALITY = "psnr_db"
COSTS = ("channel_uses_per_pixel", "bits_per_pixel")
FEWEST_POINTS = 4
_UNDEFINED = 0.05
"""Share of resamples without a difference beyond which there is no interval: it would be one of the others alone."""


@dataclass(frozen=True)
class Distance:
    """A mean distance of two curves over the interval that both reach, or the reason why there is none.

    overlap: that interval as a share of what the two curves span together
    """

    estimate: Estimate | None
    overlap: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Bjontegaard:
    """One arm against another. rate: per cent at equal PSNR, negative is cheaper; psnr: dB at equal rate, positive is better."""

    arm: str
    rate: Distance
    psnr: Distance


@dataclass(frozen=True)
class Comparison:
    """All arms but `baseline` against it, in PSNR over `cost`."""

    cost: str
    baseline: str
    arms: tuple[Bjontegaard, ...]


def compare(summary: Summary, baseline: str | None) -> Comparison | None:
    """Against `baseline`, or the first arm, over the cost that the figures show; None where no arm has a defined distance."""
    cost = next(iter(costs_that_vary(summary)), "")
    if cost not in COSTS:
        return None
    against = summary.arms[0] if baseline is None else baseline
    arms = bjontegaard(summary, cost, against)
    return Comparison(cost, against, tuple(arms)) if any(one.rate.estimate or one.psnr.estimate for one in arms) else None


def bjontegaard(summary: Summary, cost: str, baseline: str) -> list[Bjontegaard]:
    """Every other arm against `baseline`, PSNR over `cost`."""
    base = _points(summary, baseline, cost)
    return [_compared(arm, cost, _points(summary, arm, cost), base) for arm in summary.arms if arm != baseline]


def write_bjontegaard_csv(summary: Summary, baseline: str | None, path: Path) -> None:
    """Two lines an arm, of `compare`: the distance with its 95 % interval and overlap, or the reason why there is none."""
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "baseline", "cost", "kind", "difference", "ci_low", "ci_high", "num_items", "overlap", "reason"])
        found = compare(summary, baseline)
        if found is None:
            return
        for arm in found.arms:
            for kind, distance in (("rate_percent", arm.rate), (QUALITY, arm.psnr)):
                one = distance.estimate
                numbers = (one.mean, one.low, one.high, one.num_items, distance.overlap) if one else (None,) * 5
                writer.writerow([arm.arm, found.baseline, found.cost, kind,
                                 *("" if number is None else repr(number) for number in numbers), distance.reason])


def mean_gap(x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray) -> np.ndarray:
    """float64 [...]: mean of y_a − y_b over the x that both reach, curves through points [..., k] and [..., m] of rising x.

    NaN where x or y does not rise from point to point, or there is no such interval.
    """
    low, high, _ = _interval(x_a, x_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = [_area(x, y, high) - _area(x, y, low) for x, y in ((x_a, y_a), (x_b, y_b))]
        return np.where(_all_rise(x_a, y_a, x_b, y_b) & (high > low), (areas[0] - areas[1]) / (high - low), np.nan)


def _area(x: np.ndarray, y: np.ndarray, end: np.ndarray) -> np.ndarray:
    """float64 [...]: the integral of the curve from its first point to `end` [...]."""
    steps, slopes = np.diff(x, axis=-1), _slopes(x, y)
    s = np.clip((end[..., None] - x[..., :-1]) / steps, 0, 1)  # how much of each piece lies before the end
    from_left, from_right = s - s**3 + s**4 / 2, s**3 - s**4 / 2
    left_slope, right_slope = s**2 / 2 - 2 * s**3 / 3 + s**4 / 4, s**4 / 4 - s**3 / 3
    flat = from_left * y[..., :-1] + from_right * y[..., 1:]
    return (steps * (flat + steps * (left_slope * slopes[..., :-1] + right_slope * slopes[..., 1:]))).sum(axis=-1)


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 [..., k]: the derivatives of a rising curve at its points, of which there are three or more."""
    h = np.diff(x, axis=-1)
    secants = np.diff(y, axis=-1) / h
    before, after = 2 * h[..., 1:] + h[..., :-1], h[..., 1:] + 2 * h[..., :-1]
    inner = (before + after) / (before / secants[..., :-1] + after / secants[..., 1:])
    ends = [np.maximum(0, ((2 * h[..., a] + h[..., b]) * secants[..., a] - h[..., a] * secants[..., b]) / (h[..., a] + h[..., b]))
            for a, b in ((0, 1), (-1, -2))]
    return np.concatenate([ends[0][..., None], inner, ends[1][..., None]], axis=-1)


def _points(summary: Summary, arm: str, cost: str) -> list[Row]:
    """The different points of an arm, by their cost; one that the sweep does not change has a single one."""
    rows = {row.point.task_id: row for row in summary.of(arm) if row.estimate(cost) and row.estimate(QUALITY)}
    return sorted(rows.values(), key=lambda row: row.estimates[cost].mean)


def _compared(arm: str, cost: str, rows: list[Row], base: list[Row]) -> Bjontegaard:
    for of_arm in (rows, base):
        if len(of_arm) < FEWEST_POINTS:
            none = Distance(None, reason=f"fewer than {FEWEST_POINTS} different points")
            return Bjontegaard(arm, none, none)
    items = [row.trials.items for row in (*rows, *base)]
    if any(set(one) != set(items[0]) for one in items):
        none = Distance(None, reason="the points do not hold the same items")
        return Bjontegaard(arm, none, none)
    sums = np.hstack([by_item(row.trials, metric)[1] for row in (*rows, *base) for metric in (cost, QUALITY)])
    rate, psnr = (_distance(sums, len(rows), flipped=flipped) for flipped in (True, False))
    return Bjontegaard(arm, rate, psnr)


def _distance(sums: np.ndarray, num_points: int, *, flipped: bool) -> Distance:
    """From float64 [n, 4 points]: numerators and denominators of cost and PSNR, the first `num_points` points being the arm's.

    flipped: the distance in rate instead of that in PSNR
    """
    (x_a, y_a), (x_b, y_b) = _curves(sums.sum(axis=0), num_points, flipped=flipped)
    if not _all_rise(x_a, y_a, x_b, y_b):
        return Distance(None, reason="PSNR does not rise with cost from point to point")
    low, high, span = _interval(x_a, x_b)
    if low >= high:
        return Distance(None, reason=f"the curves share no {'PSNR' if flipped else 'rate'}")
    observed, overlap = mean_gap(x_a, y_a, x_b, y_b), float((high - low) / span)
    ends = _ends(sums, num_points, float(observed), flipped=flipped)
    values = [100 * (10.0**one - 1) if flipped else one for one in (float(observed), *(ends or ()))]
    n = len(sums)
    if ends is None:
        return Distance(Estimate(values[0], None, None, n, "none", "too few draws of items have curves to compare"), overlap)
    note = f"too few items ({n}): the interval is likely too narrow" if n < FEW_ITEMS else ""
    return Distance(Estimate(values[0], values[1], values[2], n, "bootstrap", note), overlap)


def _ends(sums: np.ndarray, num_points: int, observed: float, *, flipped: bool) -> tuple[float, float] | None:
    """The 95 % interval over items, each drawn with all its points of both arms; None where too many draws have no distance."""
    units = units_of(sums)
    if len(units) < 2:
        return None
    drawn = _gap(resample(units[None], "bjontegaard")[0], num_points, flipped=flipped)
    left_out = _gap(units.sum(axis=0) - units, num_points, flipped=flipped)
    if np.isnan(left_out).any() or np.isnan(drawn).mean() > _UNDEFINED:
        return None
    low, high = bca(drawn, left_out, observed, tail=expanded_tail(len(units)))
    return float(low), float(high)


def _gap(sums: np.ndarray, num_points: int, *, flipped: bool) -> np.ndarray:
    arm, base = _curves(sums, num_points, flipped=flipped)
    return mean_gap(*arm, *base)


def _curves(sums: np.ndarray, num_points: int, *, flipped: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """(x, y) of arm and baseline: log10 of the rate and PSNR, or `flipped`."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw may hold no item that measures a point
        ratios = sums[..., 0::2] / sums[..., 1::2]
        axes = (np.log10(ratios[..., 0::2]), ratios[..., 1::2])
    x, y = axes[::-1] if flipped else axes
    return [(x[..., :num_points], y[..., :num_points]), (x[..., num_points:], y[..., num_points:])]


def _all_rise(*curves: np.ndarray) -> np.ndarray:
    """bool [...]: whether each of float64 [..., k] rises from point to point."""
    return np.all([np.all(np.diff(one, axis=-1) > 0, axis=-1) for one in curves], axis=0)


def _interval(x_a: np.ndarray, x_b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, high, length of what either spans) of two curves over rising x; low >= high where they share nothing."""
    low, high = np.maximum(x_a[..., 0], x_b[..., 0]), np.minimum(x_a[..., -1], x_b[..., -1])
    return low, high, np.maximum(x_a[..., -1], x_b[..., -1]) - np.minimum(x_a[..., 0], x_b[..., 0])
