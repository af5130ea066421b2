"""Calibration: what is kept of the confidence in every trial, what results of older versions lack, and the diagram of it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from channel_sim.store import Point, Store, StoreConflict, Trial
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
            connection.execute("ALTER TABLE trials DROP COLUMN calibration")
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
