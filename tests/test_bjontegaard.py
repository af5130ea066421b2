"""Bjøntegaard differences against closed forms, SciPy's interpolant, and areas counted by hand."""

import csv
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import scipy

from channel_sim.keys import Key
from channel_sim.store import Point, Store, Trial
from reports.bjontegaard import Bjontegaard, bjontegaard, mean_gap, write_bjontegaard_csv
from reports.html import write_report
from reports.summary import summarise

RATES = np.array([0.2, 0.5, 0.9, 1.7, 3.0])
PSNR = np.array([26.0, 30.5, 33.0, 36.0, 41.0])


def compared(path: Path, arms: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[Bjontegaard]:
    """The second arm and later ones against the first; each has bits a pixel [points] and PSNR [items, points]."""
    with closing(Store.create(path, {"sweep": {"tokenizer.quality": [0]}, "show": ["psnr_db"], "arms": []})) as store:
        points = [Point(a, p, arm, {"tokenizer.quality": p}, f"{a}-{p}" if rates[p] != rates[p - 1] or not p else f"{a}-0")
                  for a, (arm, (rates, _)) in enumerate(arms.items()) for p in range(len(rates))]
        store.set_plan(points, {point.task_id: {} for point in points}, [])
        for point in {point.task_id: point for point in points}.values():
            rates, psnr = arms[point.arm]
            store.add([Trial(point.task_id, i, 0, {"psnr_db": (psnr[i, point.point_index], 1.0),
                                                   "bits_per_pixel": (rates[point.point_index] * 64, 64.0)}, {}, {})
                       for i in range(len(psnr))], [])
        return bjontegaard(summarise(store), "bits_per_pixel", next(iter(arms)))


def items(psnr: np.ndarray, num: int = 24) -> np.ndarray:
    """[num, points]: pictures that are far from equally hard."""
    return psnr + 8 * (Key(1).uniform(num) - 0.5)[:, None]


def test_equal_curves_at_nine_tenths_of_the_rate_differ_by_minus_10_per_cent(tmp_path: Path) -> None:
    """Catches a mean of rates in place of that of their logarithms, a swapped sign, and a share of the wrong arm."""
    arms = {"base": (RATES, items(PSNR)), "arm": (0.9 * RATES, items(PSNR)), "same": (RATES, items(PSNR))}
    found, same = compared(tmp_path / "a.sqlite", arms)
    assert found.rate.estimate and found.rate.estimate.mean == pytest.approx(-10, abs=1e-9)
    assert found.rate.estimate.low == pytest.approx(-10, abs=1e-6) and found.rate.estimate.high == pytest.approx(-10, abs=1e-6)
    assert found.rate.overlap == pytest.approx(1) and found.psnr.estimate and found.psnr.estimate.mean > 0
    assert found.psnr.overlap == pytest.approx(np.log(3.0 * 0.9 / 0.2) / np.log(3.0 / 0.18))
    assert same.rate.estimate and same.psnr.estimate
    assert (same.rate.estimate.mean, same.psnr.estimate.mean) == (0, 0)  # the control: no difference where there is none
    other_way, _ = compared(tmp_path / "b.sqlite", {"base": arms["arm"], "arm": arms["base"], "same": arms["arm"]})
    assert other_way.rate.estimate and other_way.rate.estimate.mean == pytest.approx(100 / 0.9 - 100)


def test_a_curve_one_decibel_higher_differs_by_one_decibel(tmp_path: Path) -> None:
    """Catches a mean over the wrong axis, and one over the points instead of the interval."""
    (found,) = compared(tmp_path / "a.sqlite", {"base": (RATES, items(PSNR)), "arm": (RATES, items(PSNR + 1))})
    assert found.psnr.estimate and found.psnr.estimate.mean == pytest.approx(1, abs=1e-9)
    assert found.psnr.overlap == pytest.approx(1) and found.rate.overlap == pytest.approx(14 / 16)


def test_straight_lines_are_integrated_as_by_hand() -> None:
    """Catches an interval that is not the common one: lines 2x and 3x − 1 meet over [1, 4], the gap x − 1 has the mean 1.5."""
    x_a, x_b = np.array([0, 1.5, 2, 4.0]), np.array([1, 2, 4.5, 6, 7.0])
    assert mean_gap(x_b, 3 * x_b - 1, x_a, 2 * x_a) == pytest.approx(1.5)
    assert mean_gap(x_a, 2 * x_a, x_b, 3 * x_b - 1) == pytest.approx(-1.5)


def test_curves_that_cross_differ_by_their_areas() -> None:
    """Catches absolute areas: x against 3x − 3 over [0, 3] is 3 − 2x, mean 0; up to 2 it is 1, and from 1 on −1."""
    for low, high, mean in ((0, 3, 0), (0, 2, 1), (1, 3, -1)):
        x = np.linspace(low, high, 4)
        assert mean_gap(x, x, x, 3 * x - 3) == pytest.approx(mean, abs=1e-12)


def test_areas_are_those_of_scipys_monotone_cubic() -> None:
    """Catches a wrong slope at a point or an end, and a piece cut at the wrong place; straight lines are the control."""
    away = 0
    for trial in range(200):
        drawn = Key(2).child("curve", trial).uniform(4, 6) ** 2 + 0.01
        x_a, y_a, x_b, y_b = np.cumsum(drawn, axis=1)
        low, high = max(x_a[0], x_b[0]), min(x_a[-1], x_b[-1])
        if low >= high:
            assert np.isnan(mean_gap(x_a, y_a, x_b, y_b))
            continue
        cubic_a, cubic_b = (scipy.interpolate.PchipInterpolator(x, y) for x, y in ((x_a, y_a), (x_b, y_b)))
        expected = (cubic_a.integrate(low, high) - cubic_b.integrate(low, high)) / (high - low)
        assert mean_gap(x_a, y_a, x_b, y_b) == pytest.approx(expected, abs=1e-9)
        grid = np.linspace(low, high, 2001)
        away += abs(np.mean(np.interp(grid, x_a, y_a) - np.interp(grid, x_b, y_b)) - expected) > 1e-3
    assert away > 100  # the control


def test_what_has_no_difference_says_why(tmp_path: Path) -> None:
    """Catches an extrapolation, a cubic through three points, a curve that falls, and an arm that the sweep does not change."""
    arms = {"base": (RATES, items(PSNR)), "cheap": (RATES / 20, items(PSNR)), "poor": (RATES, items(PSNR - 20)),
            "falls": (RATES, items(PSNR[[0, 1, 3, 2, 4]])), "short": (RATES[:3], items(PSNR[:3])),
            "one": (np.full(5, 0.7), items(np.full(5, 31.0)))}
    cheap, poor, falls, short, one = compared(tmp_path / "a.sqlite", arms)
    assert cheap.rate.estimate and cheap.rate.estimate.mean == pytest.approx(-95)
    assert cheap.psnr.estimate is None and cheap.psnr.reason == "the curves share no rate"
    assert poor.rate.estimate is None and poor.rate.reason == "the curves share no PSNR" and poor.psnr.estimate
    assert falls.rate.estimate is falls.psnr.estimate is None and "does not rise" in falls.rate.reason
    for few in (short, one):
        assert few.rate.estimate is few.psnr.estimate is None and few.rate.reason == "fewer than 4 different points"


def test_intervals_are_those_of_the_mean_difference_of_items(tmp_path: Path) -> None:
    """Catches arms or points resampled apart: at equal rates the difference is the mean of items' own, with Student's interval.

    Pictures differ by 8 dB among themselves and by some .5 dB in what the arm gains.
    """
    gain = 1 + 0.5 * np.sqrt(12) * (Key(3).uniform(60) - 0.5)
    hard = items(PSNR, 60)
    (found,) = compared(tmp_path / "a.sqlite", {"base": (RATES, hard), "arm": (RATES, hard + gain[:, None])})
    one = found.psnr.estimate
    low, high = scipy.stats.t.interval(0.95, 59, gain.mean(), gain.std(ddof=1) / np.sqrt(60))
    assert one and one.low is not None and one.high is not None and one.mean == pytest.approx(gain.mean())
    assert (one.low, one.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02)) and not one.note
    apart = 2 * 1.96 * np.sqrt(2) * hard[:, 0].std() / np.sqrt(60)
    assert apart > 4 * (one.high - one.low)  # the control: arms that are resampled apart


def test_points_over_other_items_are_not_compared(tmp_path: Path) -> None:
    """Catches a difference of curves of different pictures, after a run that was cut short."""
    (found,) = compared(tmp_path / "a.sqlite", {"base": (RATES, items(PSNR, 24)), "arm": (RATES, items(PSNR + 1, 20))})
    assert found.rate.estimate is found.psnr.estimate is None and found.psnr.reason == "the points do not hold the same items"


def test_the_report_states_method_overlap_and_reasons(tmp_path: Path) -> None:
    """Catches a table without its method, a missing file, and numbers of the page that are not those of the file."""
    arms = {"base": (RATES, items(PSNR)), "arm": (0.9 * RATES, items(PSNR)), "falls": (RATES, items(PSNR[[0, 1, 3, 2, 4]]))}
    compared(tmp_path / "r.sqlite", arms)
    with closing(Store(tmp_path / "r.sqlite")) as store:
        page = write_report(store, tmp_path).read_text(encoding="utf-8")
        write_bjontegaard_csv(summarise(store), None, tmp_path / "bjontegaard.csv")
    rows = list(csv.DictReader((tmp_path / "bjontegaard.csv").read_text(encoding="utf-8").splitlines()))
    kinds = ("rate_percent", "psnr_db")
    assert [(row["arm"], row["kind"]) for row in rows] == [(arm, kind) for arm in ("arm", "falls") for kind in kinds]
    assert float(rows[0]["difference"]) == pytest.approx(-10) and rows[2]["difference"] == "" and "rise" in rows[2]["reason"]
    section = page[page.index("Bjøntegaard differences"):]
    assert "−10" in section and "VCEG-AI11" in section and "does not rise" in section and "bjontegaard.csv" in section
