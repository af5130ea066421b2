"""Trials by columns: the same trials in less room, the same estimates, and intervals whose cost does not grow with items."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.store import Point, Store, Trial
from reports import bootstrap
from reports.columns import Columns
from reports.statistics import estimate, paired_difference, reason
from reports.summary import summarise


def trials(num_items: int, rate: float = 0.2, replicates: int = 1) -> list[Trial]:
    """Items with a rate of their own, so that tokens of an item go together; chrF is measured in every third item only."""
    made = []
    for item in range(num_items):
        own = Key(1).child("item", item).uniform(1)[0] * 2 * rate
        for replicate in range(replicates):
            wrong = float(np.sum(Key(1).child("item", item).child("channel", replicate).uniform(20) < own))
            metrics: dict[str, tuple[float, float]] = {"token_error_rate": (wrong, 20.0)}
            reasons = {"ssim": "no pixels"} if item % 4 else {"ssim": "too small"}
            if item % 3 == 0:
                metrics["chrf"] = (wrong / 7, 1.0)
            else:
                reasons["chrf"] = "empty"
            ledger = {"coded_bits": item, "energy": item + 0.5}
            made.append(Trial("t0", item, replicate, metrics, reasons, ledger, 0.25))
    return made


def test_the_trials_come_back():
    """Catches a column that is shifted by a trial which lacks it, and numbers that change their type."""
    made = trials(10, replicates=2)
    columns = Columns(iter(made))
    assert list(columns) == made and columns[-1] == made[-1] and columns[3:5] == made[3:5] and len(columns) == 20
    assert columns[0].seconds == 0.25 and isinstance(columns[0].ledger["coded_bits"], int)
    assert columns.names == {"token_error_rate", "chrf", "ssim"} and columns.ledger_sum("energy") == 2 * (45 + 5)
    assert list(Columns([])) == [] and not Columns([]) and Columns([]).ledger_sum("energy") == 0


@pytest.mark.parametrize("num_items", [1, 7, 60])
def test_estimates_are_those_of_the_trials_themselves(num_items: int):
    """Catches an absent value that is counted, and an order of summation that depends on the container."""
    one, other = trials(num_items, replicates=2), trials(num_items, rate=0.4, replicates=2)
    for metric in ("token_error_rate", "chrf", "ssim", "unknown"):
        assert estimate(Columns(one), metric) == estimate(one, metric) == estimate(one[::-1], metric)
        assert paired_difference(Columns(one), Columns(other), metric) == paired_difference(one, other, metric)
        assert reason(Columns(one), metric) == reason(one, metric)
    assert reason(Columns(one), "ssim") == ("no pixels" if num_items > 2 else "too small")
    assert reason(Columns([]), "chrf") == "no trial is on file" and reason(one, "unknown") == "not part of this chain"


def test_groups_of_items_give_the_interval_of_the_items(monkeypatch: pytest.MonkeyPatch):
    """Catches groups that overlap, leave items out or narrow the interval; 2000 resamples know its ends to some 5 %."""
    made, other = trials(3001), trials(3001, rate=0.25)
    grouped, difference = estimate(made, "token_error_rate"), paired_difference(made, other, "token_error_rate")
    monkeypatch.setattr(bootstrap, "MAX_UNITS", 10_000)
    whole, whole_difference = estimate(made, "token_error_rate"), paired_difference(made, other, "token_error_rate")
    for ours, reference in ((grouped, whole), (difference, whole_difference)):
        assert ours.mean == reference.mean and ours.num_items == reference.num_items == 3001 and ours.low != reference.low
        width = reference.high - reference.low
        assert abs(ours.low - reference.low) < 0.1 * width and abs(ours.high - reference.high) < 0.1 * width


def test_groups_hold_every_item_once():
    """Catches a last group that is dropped where the number of items is no multiple of the groups'."""
    for num_items in (999, 1000, 1001, 2000, 2999, 10_007):
        sums = np.arange(2.0 * num_items).reshape(-1, 2)
        units = bootstrap.units_of(sums)
        assert len(units) <= 1000 and np.array_equal(units.sum(axis=0), sums.sum(axis=0))
        assert len(units) > 450


def test_a_summary_is_that_of_what_is_on_file_now(tmp_path: Path):
    """Catches a report made from what was on file before, be it this program that wrote since, or another one."""
    path = tmp_path / "results.sqlite"
    with closing(Store.create(path, {"question": "?"})) as store, closing(Store(path, writable=True)) as other:
        store.set_plan([Point(0, 0, "a", {}, "t0")], {"t0": {}}, [])
        assert summarise(store).num_items == 0 and summarise(store) is summarise(store)
        store.add(trials(2))
        assert summarise(store).num_items == 2
        other.add(trials(5))
        assert summarise(store).num_items == 5 and summarise(store) is summarise(store)
        other.set_meta("question", "!")
        assert summarise(store).meta["question"] == "!"
