"""Calibration: what is kept of the confidence in every trial, what results of older versions lack, and the diagram of it."""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, StoreConflict, Trial
from reports.figures import COLOURS
from reports.html import write_report
from reports.reliability import draw_reliability, reliability, write_calibration_csv
from scenarios.merge import merge
from tests.test_metrics import confidence_metrics

BINS = [[2, 5, 1, 1.25], [9, 4, 4, 3.9]]


def store_with(path: Path, calibration: list[list[float]] | None, *, older: bool = False) -> Path:
    """A results file of one trial; `older`: as a version left it that kept no calibration."""
    with closing(Store.create(path, {"name": "s", "seed": 1})) as store:
        store.set_plan([Point(0, 0, "a", {}, "t")], {"t": {}}, [])
        store.add([Trial("t", 0, 0, {"brier": (0.5, 9.0)}, {}, {}, 0.0, None, calibration)])
    if older:
        with closing(sqlite3.connect(path)) as connection, connection:
            names = [name for _, name, *_ in connection.execute("PRAGMA table_info(trials)")]
            for name in names[names.index("card") + 1:]:
                connection.execute(f"ALTER TABLE trials DROP COLUMN {name}")
    return path


def on_file(path: Path) -> list[tuple[int, list[list[float]]]]:
    with closing(Store(path)) as store:
        return list(store.calibrations("t"))


def test_bins_hold_every_restored_token_once() -> None:
    """Catches a confidence of 1 outside all bins, one at the edge in the bin below, and right ones counted as all."""
    confidence, right = [0.0, 0.1, 0.25, 0.29, 0.95, 1.0, 1.0], [False, True, True, False, True, True, False]
    measured = confidence_metrics(confidence, right)
    expected = [[0, 1, 0, 0.0], [1, 1, 1, 0.1], [2, 2, 1, 0.54], [9, 3, 2, 2.95]]
    assert measured.calibration is not None and np.allclose(measured.calibration, expected, atol=1e-5)
    gaps = sum(abs(total - hits) for _, _, hits, total in measured.calibration)
    assert measured["expected_calibration_error"] == pytest.approx(gaps / 7, abs=1e-5)


def test_no_restored_token_leaves_no_bins() -> None:
    """Catches an empty list on file for every trial of an arm that restores nothing."""
    assert confidence_metrics([], []).calibration is None


def test_bins_come_back_from_the_file(tmp_path: Path) -> None:
    """Catches counts that become text or floats on disk."""
    path = store_with(tmp_path / "r.sqlite", BINS)
    with closing(Store(path)) as store:
        (trial,) = store.trials("t")
    assert trial.calibration == BINS and isinstance(trial.calibration[0][1], int)
    assert on_file(path) == [(0, BINS)] and on_file(store_with(tmp_path / "none.sqlite", None)) == []


def test_an_older_file_is_read_as_it_is_and_gone_on_with(tmp_path: Path) -> None:
    """Catches a reader that needs the column, one that writes to the file, and a run that cannot be gone on with."""
    path = store_with(tmp_path / "r.sqlite", BINS, older=True)
    before = path.read_bytes()
    with closing(Store(path)) as store:
        (trial,) = store.trials("t")
    assert trial.calibration is None and on_file(path) == [] and path.read_bytes() == before
    with closing(Store(path, writable=True)) as store:
        store.add([Trial("t", 1, 0, {"brier": (0.5, 9.0)}, {}, {}, calibration=BINS)])
    assert on_file(path) == [(1, BINS)]


def test_bins_conflict_where_both_are_known_and_not_where_one_is_missing(tmp_path: Path) -> None:
    """Catches two versions of a decoder under one address, and a merge refused because an older part kept less."""
    path, other = store_with(tmp_path / "a.sqlite", BINS), [[2, 5, 2, 1.25], [9, 4, 3, 3.9]]
    with closing(Store(path, writable=True)) as store, pytest.raises(StoreConflict, match="two versions of code") as conflict:
        store.add([Trial("t", 0, 0, {"brier": (0.5, 9.0)}, {}, {}, calibration=other)])
    assert conflict.value.values[0] != conflict.value.values[1] and on_file(path) == [(0, BINS)]
    older = store_with(tmp_path / "b.sqlite", BINS, older=True)
    for number, parts in enumerate(([path, older], [older, path])):
        merge(parts, tmp_path / f"whole-{number}.sqlite")
        assert on_file(tmp_path / f"whole-{number}.sqlite") == [(0, BINS)]


def run_of(path: Path, arms: dict[str, float], num_items: int = 40) -> Store:
    """Arms at two points whose decoders state a confidence and are right with the given share of it; every tenth item is whole."""
    store = Store.create(path, {"sweep": {"channel.loss_rate": [0.1, 0.2]}, "arms": [], "show": []})
    points = [Point(a, p, arm, {"channel.loss_rate": rate}, f"{arm}{p}") for a, arm in enumerate(arms)
              for p, rate in enumerate((0.1, 0.2))]
    store.set_plan(points, {point.task_id: {} for point in points}, [])
    for point in points:
        for item in range(num_items):
            drawn = Key(3).child(point.task_id, item)
            stated = drawn.child("stated").uniform(60)
            right = drawn.child("right").uniform(60) < arms[point.arm] * stated
            bins = confidence_metrics(stated.tolist(), right.tolist()).calibration if item % 10 else None
            store.add([Trial(point.task_id, item, 0, {"brier": (1.0, 60.0)}, {}, Ledger().to_dict(), calibration=bins)])
    return store


def test_the_diagram_pools_all_trials_and_tells_honest_from_too_sure(tmp_path: Path) -> None:
    """Catches bins of one point only, confidence and share mixed up, and intervals that hold anything (the negative control)."""
    with closing(run_of(tmp_path / "r.sqlite", {"honest": 1.0, "too sure": 0.6, "silent": 0.0})) as store:
        found = reliability(store)
    assert [one.low for one in found["honest"]] == [k / 10 for k in range(10)]
    assert {sum(one.num_tokens for one in bins) for bins in found.values()} == {2 * 36 * 60}
    within = {arm: [one.right.low <= one.mean_confidence <= one.right.high for one in bins] for arm, bins in found.items()}
    assert sum(within["honest"]) >= 8 and sum(within["too sure"]) <= 2
    assert all(one.low <= one.mean_confidence < one.low + 0.1 and one.right.num_items == 36 for one in found["honest"])
    assert {(one.right.mean, one.right.method) for one in found["silent"]} == {(0.0, "upper limit")}


def test_an_item_is_one_unit_at_all_points(tmp_path: Path) -> None:
    """Catches tokens taken as independent: the same item at ten points is no more than one item."""
    with closing(Store.create(tmp_path / "r.sqlite", {"sweep": {}})) as store:
        points = [Point(0, p, "a", {"channel.loss_rate": p}, f"t{p}") for p in range(10)]
        store.set_plan(points, {point.task_id: {} for point in points}, [])
        store.add([Trial(f"t{p}", item, 0, {}, {}, {}, calibration=[[5, 50, 50 * (item % 2), 27.5]])
                   for p in range(10) for item in range(30)])
        (one,) = reliability(store)["a"]
    assert one.num_tokens == 15_000 and one.right.num_items == 30 and one.right.mean == 0.5
    assert one.right.low is not None and one.right.low < 0.4  # of 15,000 independent tokens it would be 0.492


def test_the_diagram_is_drawn_tabled_and_on_the_page(tmp_path: Path) -> None:
    """Catches a figure wider than a column or of small print, an arm in another colour than elsewhere, and a page without it."""
    with closing(run_of(tmp_path / "r.sqlite", {"one": 1.0, "two": 0.7}, 12)) as store:
        figure = draw_reliability({"two": reliability(store)["two"]}, ["one", "two"])
        page = write_report(store, tmp_path).read_text(encoding="utf-8")
        write_calibration_csv(store, tmp_path / "calibration.csv")
        rows = list(csv.DictReader((tmp_path / "calibration.csv").read_text(encoding="utf-8").splitlines()))
        shown = reliability(store)["two"]
    assert [float(row["share_right"]) for row in rows if row["arm"] == "two"] == [one.right.mean for one in shown]
    shares, tokens = figure.axes
    assert figure.get_size_inches()[0] == 3.5 and all(t.get_fontsize() >= 6 for t in figure.findobj(Text) if t.get_text())
    (line,) = [line for line in shares.lines if line.get_label() == "two"]
    assert to_hex(line.get_color()).upper() == COLOURS[1]
    assert (shares.get_ylabel(), tokens.get_ylabel()) == ("Share right", "Tokens")
    assert len(rows) == 20 and {"svg", "pdf", "png"} == {f.suffix[1:] for f in (tmp_path / "figures").glob("calibration.*")}
    assert 'aria-label="calibration' in page and "calibration.csv" in page


def test_a_run_that_kept_no_bins_has_a_page_without_the_diagram(tmp_path: Path) -> None:
    """Catches an empty diagram, and a report that fails on results of an older version."""
    path = store_with(tmp_path / "r.sqlite", BINS, older=True)
    with closing(Store(path)) as store:
        page = write_report(store, tmp_path).read_text(encoding="utf-8")
    assert "Brier score" in page and 'aria-label="calibration' not in page and not list(tmp_path.glob("figures/calibration.*"))
