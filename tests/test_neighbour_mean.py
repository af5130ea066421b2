"""The mean of what lies around a hole: by hand on small grids, and whatever arrives."""

from __future__ import annotations

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin
from decoders.neighbour_mean import NeighbourMean, places_beside
from tests.grid_models import neighbours


def restored(evidence: Evidence):
    return NeighbourMean().restore([evidence], [Key(1)])[0]


def lost_at(values, lost, grid, vocab_size=6) -> Evidence:
    known = ~np.isin(np.arange(len(values)), lost)
    return Evidence(known, np.where(known, values, 0), vocab_size, grid)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4,), (3, 4), (5, 2)])
def test_beside_are_the_next_cells_along_each_side(grid):
    """Catches cells that wrap round an edge; reference: coordinates one by one."""
    for place, found in enumerate(places_beside(grid)):
        assert sorted(found[found >= 0].tolist()) == sorted(neighbours(grid, place))


def test_a_lone_hole_is_the_mean_of_the_four_around():
    """Catches diagonal neighbours, weights that do not sum to one, and a value that is not in the mean at all."""
    found = restored(lost_at([5, 1, 5, 2, 0, 1, 5, 3, 5], [4], (3, 3)))
    np.testing.assert_allclose(found.blend, [[0, 0.5, 0.25, 0.25, 0, 0]])
    assert found.values[4] == 1 and found.origin[4] == Origin.CONCEALED and found.posterior is None
    corner = restored(lost_at([0, 4, 5, 2, 3, 1], [0], (2, 3)))
    np.testing.assert_allclose(corner.blend, [[0, 0, 0.5, 0, 0.5, 0]])
    assert corner.values[0] == 2, "of equals the smallest"


def test_wide_holes_are_filled_from_the_rim():
    """Catches a hole that is filled from cells not yet filled, and a rim that hears itself; by hand in one dimension and two."""
    found = restored(lost_at([1, 0, 0, 0, 2], [1, 2, 3], (5,)))
    np.testing.assert_allclose(found.blend[:, 1:3], [[1, 0], [0.5, 0.5], [0, 1]])
    found = restored(lost_at([1, 0, 0, 3, 4, 2], [1, 2], (2, 3)))
    np.testing.assert_allclose(found.blend[:, 1:5], [[0.5, 0, 0, 0.5], [0, 1, 0, 0]])


def by_loops(values, lost, grid, vocab_size):
    """{lost place: its weights float64 [vocab_size]}, rim by rim; tokens hear those of their own stage in the cells beside."""
    weights = {place: np.eye(vocab_size)[values[place]] for place in range(len(values)) if place not in lost}
    waiting = set(lost)
    while waiting:
        filled = {}
        for place in waiting:
            *cell, stage = (int(at) for at in np.unravel_index(place, grid))
            beside = [neighbour * grid[2] + stage for neighbour in neighbours(grid[:2], int(np.ravel_multi_index(cell, grid[:2])))]
            heard = [weights[one] for one in beside if one in weights]
            if heard:
                filled[place] = np.mean(heard, axis=0)
        if not filled:
            break
        weights |= filled
        waiting -= set(filled)
    return {place: weights[place] for place in lost if place in weights}


@pytest.mark.parametrize("grid", [(4, 5, 2), (1, 6, 3), (3, 3, 1)])
def test_of_several_tokens_a_cell_each_hears_those_of_its_own_stage(grid):
    """Catches codes of one stage mixed into another, whose vectors are differences, and a cell that is beside itself."""
    for item in range(6):
        key = Key(4).child(item)
        values, size = key.integers(6, int(np.prod(grid))), int(np.prod(grid))
        lost = np.flatnonzero(key.child("lost").uniform(size) < 0.15 * (item + 1)).tolist()
        found, expected = restored(lost_at(values, lost, grid)), by_loops(values, lost, grid, 6)
        assert np.flatnonzero(found.lost).tolist() == [place for place in lost if place not in expected]
        for place, row in zip(lost, found.blend, strict=True):
            if place in expected:
                np.testing.assert_allclose(row, expected[place], atol=1e-6)
                assert found.values[place] == row.argmax() and found.origin[place] == Origin.CONCEALED


def test_a_stage_of_which_nothing_arrived_is_given_up():
    """Catches a search for neighbours that never ends, and tokens that nobody knows passed off as concealed."""
    second = np.arange(1, 24, 2)
    found = restored(lost_at(np.arange(24) % 6, [0, *second.tolist()], (3, 4, 2)))
    assert np.array_equal(np.flatnonzero(found.lost), second) and found.origin[0] == Origin.CONCEALED
    assert not found.values[second].any() and not found.confidence[second].any()
    np.testing.assert_allclose(found.blend[0], np.eye(6)[[2, 8 % 6]].mean(axis=0))


def test_soft_tokens_are_decided_and_then_known():
    """Catches soft tokens among the holes, and rows of the blend that belong to other tokens."""
    llr = np.zeros((3, 3), np.float32)
    llr[0] = 4, -4, 4  # token 5
    found = restored(Evidence(np.array([False, False, True]), np.array([0, 0, 3]), 6, bit_llr=llr))
    np.testing.assert_allclose(found.blend, [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0.5, 0, 0.5]])
    assert found.values.tolist() == [5, 3, 3] and found.origin.tolist() == [Origin.INFERRED, Origin.CONCEALED, Origin.RECEIVED]


def test_confidence_is_how_often_received_neighbours_are_equal():
    """Catches pairs with lost tokens in them; by hand: of 3 pairs seen from both sides, 1 is equal."""
    found = restored(lost_at([1, 1, 2, 4, 0], [4], (5,)))
    assert found.confidence[4] == pytest.approx((2 + 0.5) / (6 + 1)) and np.all(found.confidence[:4] == 1)


@pytest.mark.parametrize(("size", "num_lost"), [(0, 0), (1, 1), (12, 12), (12, 0), (12, 11)])
def test_whatever_arrives_is_restored(size: int, num_lost: int):
    """Catches crashes and endless filling; with nothing received all is given up."""
    found = restored(lost_at(np.arange(size) % 6, range(num_lost), (size // 4, 4) if size == 12 else (size,)))
    assert found.lost.sum() == (size if num_lost == size else 0)
    if 0 < num_lost < size:
        assert np.all(found.values == 11 % 6), "the only one that is known fills all"
