"""In which order the tokens of a grid are sent and filled in: any stretch of it lies evenly over the whole grid."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from math import prod

import numpy as np

_UNIT_BITS = 62


@lru_cache(maxsize=64)
def low_discrepancy(grid: tuple[int, ...]) -> np.ndarray:
    """int64 [places], read-only: every flat place of the grid once, in the order in which the points of R_d meet its cells.

    R_d is x_k = frac(1/2 + k (1/φ, …, 1/φ^d)) with φ^(d+1) = φ + 1, over the d sides of the grid that are longer than 1. It runs in
    integers of 64 bits, so all machines agree. Cells that are met again are passed over.

    Source: M. Roberts, "The unreasonable effectiveness of quasirandom sequences", extremelearning.com.au (2018); on a grid of
    tokens F. Mentzer, E. Agustsson, M. Tschannen, "M2T: masking transformers twice for faster decoding", ICCV 2023.

    >>> low_discrepancy((5,)).tolist(), low_discrepancy((2, 3)).tolist()
    ([2, 0, 3, 1, 4], [4, 0, 1, 3, 5, 2])
    """
    sides = [side for side in grid if side > 1]
    num_places = prod(grid)
    steps = _steps(len(sides))
    found, num_points = np.zeros(min(num_places, 1), np.int64), 0
    while found.size < num_places:
        num_points += 4 * num_places
        turns = np.arange(num_points, dtype=np.uint64)
        places = np.zeros(num_points, np.int64)
        for side, step in zip(sides, steps, strict=True):
            points = np.uint64(1 << 63) + turns * np.uint64(step)  # modulo 2^64: the fraction
            places = places * side + ((points >> np.uint64(32)) * np.uint64(side) >> np.uint64(32)).astype(np.int64)
        found = places[np.sort(np.unique(places, return_index=True)[1])]
    found.flags.writeable = False
    return found


def in_packets(grid: tuple[int, ...], num_packets: int) -> list[np.ndarray]:
    """int64: the places of each packet, at most `num_packets`: cells in the order of `low_discrepancy`, in equal numbers.

    A grid of three sides has several tokens a cell, which go together: in a packet the first of all its cells, then the second.
    None where there are no tokens.

    >>> [places.tolist() for places in in_packets((2, 2, 2), 2)]
    [[6, 0, 7, 1], [2, 4, 3, 5]]
    """
    tokens = np.arange(prod(grid[2:]))
    cells = parted(low_discrepancy(grid[:2]), num_packets) if tokens.size else []
    return [(tokens.size * some + tokens[:, None]).ravel() for some in cells]


def in_order(grid: tuple[int, ...]) -> np.ndarray:
    """int64 [places]: every place once, as in a single packet."""
    return np.concatenate([np.zeros(0, np.int64), *in_packets(grid, 1)])


def parted(places: np.ndarray, num_parts: int) -> list[np.ndarray]:
    """`places` [n] in stretches of equal length, give or take one, none of them empty: at most `num_parts`."""
    bounds = np.arange(num_parts + 1) * places.size // num_parts
    return [places[first:last] for first, last in zip(bounds, bounds[1:]) if first < last]


def _steps(num_sides: int) -> list[int]:
    """1/φ, …, 1/φ^d in units of 2^-64, d of the last digits lost: x = 1/φ is where x^d (1 + x) = 1."""
    one = 1 << _UNIT_BITS
    first = bisect_left(range(one), True, key=lambda x: x**num_sides * (one + x) > one**(num_sides + 1)) - 1
    return [(first**power >> _UNIT_BITS * (power - 1)) << 64 - _UNIT_BITS for power in range(1, num_sides + 1)]
