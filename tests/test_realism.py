"""Kernel distances between sets of pictures: against moments of Gaussians, and how often their intervals hold the truth."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.store import Point, Store, Trial, pack_features
from reports.export import write_summary_csv
from reports.figures import draw_metric
from reports.html import write_report
from reports.realism import FEW_PICTURES, REFERENCE, kernel_distance, nearer_by
from reports.statistics import Estimate
from reports.summary import summarise

DIMENSION = 6


def gaussian(num: int, key: Key, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return mean + spread * key.normal(num, DIMENSION)


def distance(originals: np.ndarray, restored: np.ndarray) -> Estimate:
    found = kernel_distance(originals, restored, np.arange(len(originals)))
    assert found is not None
    return found


def kernel_mean(mean_a: float, spread_a: float, mean_b: float, spread_b: float) -> float:
    """E (a·b / d + 1)^3 of independent Gaussians with those means and deviations of every component, by tensors of moments."""
    def moments(mean: float, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        m, same = np.full(DIMENSION, float(mean)), np.eye(DIMENSION) * spread**2
        third = np.einsum("i,j,k->ijk", m, m, m)
        third += np.einsum("ij,k->ijk", same, m) + np.einsum("ik,j->ijk", same, m) + np.einsum("jk,i->ijk", same, m)
        return m, np.outer(m, m) + same, third

    powers = [float(np.sum(a * b)) / DIMENSION ** (order + 1)
              for order, (a, b) in enumerate(zip(moments(mean_a, spread_a), moments(mean_b, spread_b), strict=True))]
    return 1 + 3 * powers[0] + 3 * powers[1] + powers[2]


def true_distance(mean: float, spread: float) -> float:
    return kernel_mean(0, 1, 0, 1) + kernel_mean(mean, spread, mean, spread) - 2 * kernel_mean(0, 1, mean, spread)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.7), (0.5, 1.4)])
def test_the_mean_of_many_estimates_is_the_distance_of_the_laws(mean: float, spread: float):
    """Catches a bias (pairs of one item taken, a wrong divisor) and another kernel; equal laws are 0, from both sides."""
    key, expected = Key(1).child("closed form"), true_distance(mean, spread)
    found = np.array([distance(gaussian(25, key.child("a", i)), gaussian(25, key.child("b", i), mean, spread)).mean
                      for i in range(200)])
    deviation = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - expected) < 4.9 * deviation, (found.mean(), expected, deviation)
    if (mean, spread) == (0.0, 1.0):
        assert 0.2 < np.mean(found < 0) < 0.9
    else:
        assert expected > 10 * deviation  # the test could tell it from 0


def test_a_set_that_is_what_it_was_is_at_distance_0_and_what_resembles_it_is_unbiased():
    """Catches an estimate that takes picture i for independent of what it became: such a mean lies far below the truth."""
    key = Key(2)
    same = gaussian(40, key)
    assert distance(same, same) == Estimate(0.0, 0.0, 0.0, 40, "constant")
    found, with_own = [], []
    for i in range(120):
        originals = gaussian(25, key.child("x", i))
        restored = 0.8 * originals
        found.append(distance(originals, restored).mean)
        with_own.append(found[-1] - 2 / 25 * float(np.mean((np.sum(originals * restored, axis=1) / DIMENSION + 1) ** 3
                                                           - _across(originals, restored))))
    deviation = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - true_distance(0.0, 0.8)) < 4.9 * deviation
    assert np.mean(with_own) < true_distance(0.0, 0.8) - 4.9 * deviation  # the negative control


def _across(originals: np.ndarray, restored: np.ndarray) -> float:
    kernel = (originals @ restored.T / DIMENSION + 1) ** 3
    return float((kernel.sum() - np.trace(kernel)) / (kernel.size - len(kernel)))


def test_replicates_of_an_item_are_no_further_items():
    """Catches restorations of one picture that count as independent pictures, and an order of rows that matters."""
    key = Key(3)
    originals, restored = gaussian(30, key.child("x")), gaussian(30, key.child("y"), 0.4)
    once = distance(originals, restored)
    twice = kernel_distance(originals, np.concatenate([restored, restored]), np.tile(np.arange(30), 2))
    assert twice is not None and twice.num_items == 30
    np.testing.assert_allclose([twice.mean, twice.low, twice.high], [once.mean, once.low, once.high], rtol=1e-9)
    order = np.argsort(key.child("order").uniform(30))
    moved = kernel_distance(originals, restored[order], order)
    assert moved is not None and moved.mean == pytest.approx(once.mean, rel=1e-12)


def test_few_pictures_are_told():
    """Catches an interval of two items, a crash on fewer, and a rough one without a word."""
    key = Key(4)
    for num, says in ((2, "two items"), (3, "of 3 pictures"), (FEW_PICTURES - 1, "rough"), (FEW_PICTURES, "")):
        found = distance(gaussian(num, key), gaussian(num, key.child("y")))
        assert says in found.note and bool(found.note) == bool(says) and (found.low is None) == (num == 2)
    assert kernel_distance(gaussian(1, key), gaussian(1, key), np.zeros(1, np.int64)) is None


def test_two_restorations_of_the_same_pictures_are_compared_picture_by_picture():
    """Catches a difference of the wrong sign, and an interval as wide as that of sets that have nothing to do with each other."""
    key = Key(6)
    originals, shared = gaussian(80, key.child("x")), 0.4 * gaussian(80, key.child("shared"))
    near, far = 0.9 * originals + shared, 0.77 * originals + shared
    lead = nearer_by(originals, near, far)
    alone = [distance(originals, one) for one in (near, far)]
    assert lead is not None and lead.low is not None and lead.high is not None
    assert lead.mean == pytest.approx(alone[1].mean - alone[0].mean)
    assert lead.low > 0 and alone[1].low < alone[0].high  # apart as a pair, not by themselves
    assert nearer_by(originals, near, near) == Estimate(0.0, 0.0, 0.0, 80, "constant")
    assert nearer_by(originals[:1], near[:1], far[:1]) is None


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "scale", "least"), [(0.5, 1.0, 0.93), (0.0, 0.8, 0.93), (0.0, 1.0, 0.95)])
def test_intervals_hold_the_truth(mean: float, scale: float, least: float):
    """Catches intervals that are too narrow; where nothing differs in law they are wider than they need be, never narrower."""
    key, hits, runs = Key(5).child("coverage", int(10 * mean), int(10 * scale)), 0, 600
    expected = true_distance(mean, scale)
    for i in range(runs):
        originals = gaussian(60, key.child("x", i))
        restored = scale * originals + mean if scale != 1 else gaussian(60, key.child("y", i), mean)
        found = distance(originals, restored)
        assert found.low is not None and found.high is not None
        hits += found.low <= expected <= found.high
    assert least - 3 * np.sqrt(least * (1 - least) / runs) < hits / runs <= 1, hits / runs


def results(path: Path, num_items: int = 60) -> Store:
    """Two arms over two sweep points: `near` changes its pictures little, `far` much; both measured something else, too."""
    key = Key(6)
    store = Store.create(path, {"name": "pictures", "question": "?", "sweep": {"channel.loss_rate": [0.1, 0.2]}, "show": ["kid"],
                                "items": num_items, "replicates": 1})
    arms = {"near": 0.05, "far": 0.6}
    points = [Point(a, p, arm, {"channel.loss_rate": rate}, f"{arm}{p}") for a, arm in enumerate(arms)
              for p, rate in enumerate((0.1, 0.2))]
    store.set_plan(points, {point.task_id: {"evaluator": {"name": "e"}} for point in points}, [])
    for point in points:
        shift = arms[point.arm] * (1 + point.point_index)
        for item in range(num_items):
            original = key.child("x", item).normal(DIMENSION)
            pair = np.stack([original, original + shift]).astype(np.float32)
            store.add([Trial(point.task_id, item, 0, {"task_agreement": (1.0, 1.0)}, {"kid": "not of one trial"}, {},
                             features=pack_features(pair))])
    return store


def test_the_distance_is_in_tables_figures_and_the_page(tmp_path: Path):
    """Catches a distance of other pictures, one that only a script could read, and a report without what 0 looks like."""
    with closing(results(tmp_path / "results.sqlite")) as store:
        summary = summarise(store)
        near, far = (summary.of(arm)[1] for arm in ("near", "far"))
        original = np.array([Key(6).child("x", item).normal(DIMENSION) for item in range(60)]).astype(np.float32)
        expected = distance(original, (np.array([Key(6).child("x", item).normal(DIMENSION) for item in range(60)]) + 1.2)
                            .astype(np.float32))
        assert far.estimate("kid") == expected and far.estimate("kid").low > near.estimate("kid").high
        real = far.estimate("kid_of_originals")
        halves = np.argsort(Key(0).child("halves").uniform(60)).reshape(2, 30)
        assert real == near.estimate("kid_of_originals") == distance(*original[halves]) and real.num_items == 30
        assert not far.reasons.keys() & far.estimates.keys()
        assert [(one.label, one.value) for one in summary.curves] == [(REFERENCE, real.mean)] * 2
        write_summary_csv(store, tmp_path / "summary.csv")
        lines = (tmp_path / "summary.csv").read_text().splitlines()
        assert f"far,0.2,kid,1,{expected.mean!r},{expected.low!r},{expected.high!r},60,far1" in lines
        assert any(line.startswith("far,0.2,kid_of_originals,") for line in lines)
        assert REFERENCE in [text.get_text() for text in draw_metric(summary, "kid").legends[0].get_texts()]
        page = write_report(store, tmp_path).read_text()
        assert "<svg" in page and REFERENCE in page and "kid" in page


def test_halves_of_originals_are_alike_whatever_their_order(tmp_path: Path):
    """Catches halves by the order of items: of tiles, picture by picture, they would be of different photographs."""
    key, photographs = Key(7), 12
    with closing(Store.create(tmp_path / "r.sqlite", {"name": "s"})) as store:
        store.set_plan([Point(0, 0, "a", {}, "t")], {"t": {"evaluator": {}}}, [])
        tiles = np.repeat(2.0 * (np.arange(photographs) >= photographs // 2), 10)[:, None] + key.normal(120, DIMENSION) * 0.1
        pairs = np.stack([tiles, tiles], axis=1).astype(np.float32)
        store.add([Trial("t", item, 0, {}, {}, {}, features=pack_features(pair)) for item, pair in enumerate(pairs)])
        (row,) = summarise(store).rows
    real, apart = row.estimate("kid_of_originals"), distance(tiles[:60], tiles[60:])
    assert real is not None and real.low < 0 < real.high and apart.low > 10 * real.high  # the negative control


def test_a_store_without_features_is_reported_as_it_was(tmp_path: Path):
    """Catches a report that asks a run without an evaluator for features."""
    with closing(Store.create(tmp_path / "r.sqlite", {"name": "s"})) as store:
        store.set_plan([Point(0, 0, "a", {}, "t")], {"t": {"evaluator": {}}}, [])
        store.add([Trial("t", 0, 0, {"psnr_db": (1.0, 1.0)}, {"kid": "pictures of another size"}, {})])
        (row,) = summarise(store).rows
        assert row.reasons["kid"] == "pictures of another size" and "kid" not in row.estimates and not summarise(store).curves
