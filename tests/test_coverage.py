"""Do 95 % intervals hold the truth 95 % of the time? Simulated reruns, at fixed counts of items and under every stop rule.

By default 400 reruns against a bound that only a broken interval misses; marked slow, 10,000 against the promised coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from channel_sim.keys import Key
from channel_sim.store import Trial
from reports import statistics
from reports.statistics import Estimate, clopper_pearson, estimate, paired_difference
from scenarios import stopping
from scenarios.stopping import Stop, decide, looks

RATE = "token_error_rate"
MAX_ITEMS = 400
PROMISED, BROKEN = 0.93, 0.90
"""Least coverage that is promised of a bootstrap over 50 items, and what 400 reruns can tell from it: 2.7 standard errors."""
RERUNS = [pytest.param(400, BROKEN, id="400"), pytest.param(10_000, PROMISED, id="10000", marks=pytest.mark.slow)]


@dataclass(frozen=True)
class Law:
    """How error rates of items are distributed: from two uniforms to a rate, and the mean of it."""

    rate: Callable[[np.ndarray, np.ndarray], np.ndarray]
    mean: float


LAWS = {
    "dense": Law(lambda u, _: beta.ppf(u, 0.5, 4.5), 0.1),
    "outage": Law(lambda u, severity: np.where(u < 0.1, severity, 0.0), 0.05),  # nine in ten are zero
    "binary": Law(lambda u, _: (u < 0.1).astype(np.float64), 0.1),
}


def rates(law: str, num_reruns: int, num_items: int) -> np.ndarray:
    """float64 [num_reruns, num_items]."""
    key = Key(1).child("coverage", law)
    return LAWS[law].rate(key.child("rate").uniform(num_reruns, num_items), key.child("severity").uniform(num_reruns, num_items))


def trials_of(arm: np.ndarray, label: str = "a") -> list[Trial]:
    return [Trial(label, i, 0, {RATE: (float(rate), 1.0)}, {}, {}) for i, rate in enumerate(arm)]


def intervals(*arms: np.ndarray) -> list[Estimate]:
    """What `estimate` (one arm) or `paired_difference` (two) say of each rerun; arms are rates [num_reruns, num_items]."""
    ones = np.ones_like(arms[0])
    sums = np.stack([column for arm in arms for column in (arm, ones)], axis=2)
    found = [_without_resampling(*rows) for rows in zip(*arms, strict=True)]
    left = [one for one, known in zip(sums, found, strict=True) if known is None]
    resampled = iter(statistics._resampled(left, RATE) if len(arms) == 1 else statistics._resampled_differences(left, RATE))
    return [next(resampled) if known is None else known for known in found]


def _without_resampling(*rows: np.ndarray) -> Estimate | None:
    if len(rows) == 2:
        return _equal_arms(len(rows[0])) if np.array_equal(*rows) else None
    return None if np.any(rows[0] % 1) else _binary(int(rows[0].sum()), len(rows[0]))


@lru_cache(maxsize=None)
def _binary(events: int, num_items: int) -> Estimate:
    found = estimate(trials_of(np.arange(num_items) < events), RATE)
    assert found is not None
    return found


@lru_cache(maxsize=None)
def _equal_arms(num_items: int) -> Estimate:
    found = paired_difference(trials_of(np.zeros(num_items)), trials_of(np.zeros(num_items)), RATE)
    assert found is not None
    return found


def share_held(found: list[Estimate], truth: float) -> float:
    return float(np.mean([covers(one, truth) for one in found]))


def covers(one: Estimate, truth: float) -> bool:
    assert one.low is not None and one.high is not None
    return one.low <= truth <= one.high


def stopped(stop: Stop, *arms: np.ndarray) -> list[Estimate]:
    """The interval of each rerun where `decide` stops it; `decide` is handed the batched intervals."""
    labels = ["a", "b"][:len(arms)]
    tasks = [SimpleNamespace(point_index=0, arm=label, task_id=label) for label in labels]
    scenario: Any = SimpleNamespace(stop=stop, items=arms[0].shape[1], tasks=tasks)
    known: list[dict[int, Estimate]] = [{} for _ in arms[0]]
    going, ended = list(range(len(known))), list[Estimate]()
    for look in looks(scenario):
        if stop.errors is None:
            for i, one in zip(going, intervals(*(arm[going, :look] for arm in arms)), strict=True):
                known[i][look] = one
        ends = [i for i in going if _ends(scenario, [arm[i, :look] for arm in arms], known[i])]
        ended += [known[i][look] for i in ends] if stop.errors is None else intervals(*(arm[ends, :look] for arm in arms))
        going = sorted({*going} - {*ends})
    assert not going
    return ended


def _ends(scenario: Any, rows: list[np.ndarray], known: dict[int, Estimate]) -> bool:
    prefix = {task.task_id: [_trial(i, bool(rate)) for i, rate in enumerate(row)]
              for task, row in zip(scenario.tasks, rows, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("estimate", "paired_difference"):
            patch.setattr(stopping, name, lambda trials, *_: known[len(trials)])
        return bool(decide(scenario, prefix, len(rows[0])))


@lru_cache(maxsize=None)
def _trial(item: int, wrong: bool) -> Trial:
    return Trial("a", item, 0, {RATE: (float(wrong), 1.0)}, {}, {})


def thinned(arm: np.ndarray) -> np.ndarray:
    """The other arm of a pair: half of the items that had errors have none."""
    return arm * (Key(2).child("coverage").uniform(*arm.shape) < 0.5)


@pytest.mark.parametrize("law", ["dense", "outage"])
def test_batched_intervals_are_those_of_the_report(law: str) -> None:
    """Catches a simulation of something else than what is reported."""
    arm = rates(law, 20, 60)
    for row, batched in zip(arm, intervals(arm), strict=True):
        plain = estimate(trials_of(row), RATE)
        assert plain is not None and (plain.low, plain.high) == pytest.approx((batched.low, batched.high), rel=1e-9)
        assert (plain.method, plain.note) == (batched.method, batched.note)
    for row, other, batched in zip(arm, thinned(arm), intervals(arm, thinned(arm)), strict=True):
        plain = paired_difference(trials_of(row), trials_of(other), RATE)
        assert plain is not None and (plain.low, plain.high) == pytest.approx((batched.low, batched.high), rel=1e-9)
        assert plain.note == batched.note


@pytest.mark.parametrize("num_trials, probability", [(50, 0.1), (50, 0.5), (400, 0.02)])
def test_clopper_pearson_covers(num_trials: int, probability: float) -> None:
    """Catches a tail of 5 % on either side; 10,000 reruns, at least 95 % less four standard errors."""
    uniforms = Key(3).child("coverage").uniform(10_000, num_trials)
    events = np.sum(uniforms < probability, axis=1)
    low, high = np.array([_clopper_pearson(int(count), num_trials) for count in events]).T
    assert np.mean((low <= probability) & (probability <= high)) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 10_000)


@lru_cache
def _clopper_pearson(events: int, num_trials: int) -> tuple[float, float]:
    return clopper_pearson(events, num_trials)


@pytest.mark.parametrize("num_reruns, least", RERUNS)
@pytest.mark.parametrize("law", ["dense", "outage"])
def test_the_bootstrap_over_50_items_covers(law: str, num_reruns: int, least: float) -> None:
    """Catches intervals that are too narrow where rates are skewed or nine in ten are zero."""
    arm = rates(law, num_reruns, 50)
    assert share_held(intervals(arm), LAWS[law].mean) >= least
    other = thinned(arm) if law == "dense" else arm / 2
    assert share_held(intervals(arm, other), LAWS[law].mean / 2) >= least


@pytest.mark.parametrize("num_reruns, least", RERUNS)
def test_differences_in_few_items_do_not_mislead(num_reruns: int, least: float) -> None:
    """Where nineteen in twenty items do not differ, coverage is lost at 50 items. Catches intervals that miss and do not say so."""
    arm = rates("outage", num_reruns, 50)
    found, truth = intervals(arm, thinned(arm)), LAWS["outage"].mean / 2
    assert np.mean([not covers(one, truth) and not one.note for one in found]) <= (1 - least) / 2


@pytest.mark.parametrize("num_reruns, least", RERUNS)
@pytest.mark.parametrize("num_items", [20, 30])
@pytest.mark.parametrize("law", ["dense", "outage"])
def test_fewer_items_cover_where_nothing_is_said(law: str, num_items: int, num_reruns: int, least: float) -> None:
    """Catches a warning that comes too late: of intervals without a note at least as many hold the truth."""
    silent = [one for one in intervals(rates(law, num_reruns, num_items)) if not one.note]
    assert len(silent) > num_reruns / 10 and share_held(silent, LAWS[law].mean) >= least


def test_too_few_items_are_always_said() -> None:
    """Catches silence below the number of items where coverage is lost: at ten items it is lost indeed."""
    found = intervals(rates("dense", 2000, 10))
    assert all("too few items" in one.note for one in found)
    assert share_held(found, LAWS["dense"].mean) < PROMISED


@pytest.mark.parametrize("num_reruns, least", RERUNS)
@pytest.mark.parametrize("law, half_width", [("dense", 0.03), ("dense", 0.02), ("outage", 0.03), ("binary", 0.05)])
def test_half_width_stops_with_honest_intervals(law: str, half_width: float, num_reruns: int, least: float) -> None:
    """Catches stopping on widths that are small by luck: too many looks, too early, on too few events."""
    found = stopped(Stop(metric=RATE, half_width=half_width), rates(law, num_reruns, MAX_ITEMS))
    assert np.mean([one.num_items < MAX_ITEMS for one in found]) > 0.9, "the rule must have stopped most reruns"
    assert share_held(found, LAWS[law].mean) >= least


@pytest.mark.parametrize("num_reruns, least", RERUNS)
@pytest.mark.parametrize("law", ["dense", "outage"])
def test_difference_half_width_stops_with_honest_intervals(law: str, num_reruns: int, least: float) -> None:
    """The same for a paired difference: catches widths of the arms themselves, and stopping where few items differ."""
    arm = rates(law, num_reruns, MAX_ITEMS)
    found = stopped(Stop(metric=RATE, difference_half_width=0.025, baseline="b"), arm, thinned(arm))
    assert np.mean([one.num_items < MAX_ITEMS for one in found]) > 0.9, "the rule must have stopped most reruns"
    assert share_held(found, LAWS[law].mean / 2) >= least


@pytest.mark.parametrize("num_reruns, least", RERUNS)
@pytest.mark.parametrize("law", ["binary", "outage"])
def test_a_count_of_errors_stops_with_honest_intervals(law: str, num_reruns: int, least: float) -> None:
    """Catches the bias of stopping at the k-th error (the mean is then (k - 1) / (n - 1), not k / n) growing past the interval."""
    found = stopped(Stop(metric=RATE, errors=15), rates(law, num_reruns, MAX_ITEMS))
    assert len({one.num_items for one in found}) > 2, "the rule must have stopped at different counts"
    assert share_held(found, LAWS[law].mean) >= least
    assert abs(np.mean([one.mean for one in found]) / LAWS[law].mean - 1) < 0.1


def test_negative_control_looking_after_every_item_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation must tell: from four items on, at every second, warnings unheeded, coverage is lost."""
    monkeypatch.setattr(stopping, "looks", lambda scenario: [*range(4, 101, 2)])
    monkeypatch.setattr(statistics, "_few", lambda num_items: "")
    monkeypatch.setattr(statistics, "_few_events", lambda sums: "")
    monkeypatch.setitem(globals(), "looks", stopping.looks)
    found = stopped(Stop(metric=RATE, half_width=0.04, min_items=4), rates("dense", 200, 100))
    assert share_held(found, LAWS["dense"].mean) < 0.87
