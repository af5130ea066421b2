"""What the masked model of a grid makes of a message, layer by layer, in integers; what stands is not made again."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeVar

import numpy as np
from numba import njit

from sources.models.fixed_point import ACTIVATION_BITS, PRODUCT_BITS, Dense, Each, requantised
from sources.models.masked_grid_network import NEAR

Place = TypeVar("Place", int, np.ndarray)
PLACES_AT_ONCE = 512
"""What is multiplied at once stays in the cache."""
AT_ONCE = 4
"""So many rows of a matrix are added up in one go."""
MOST_REMEMBERED = 1 << 14
"""Places of the grid of which what was made is kept: 80 MB with the sizes that ship."""


class Network(NamedTuple):
    """near int16 or int32 [25 stages, tokens + 1, channels]: what each token of each of the 25 places around adds; in the end, none

    blocks: their two products, matrices int8; merge, heads (one a stage): as in training
    last:   what was made of the message before, if nobody has it in hands
    """

    near: np.ndarray
    near_bias: np.ndarray
    blocks: tuple[tuple[Dense, Dense], ...]
    merge: Dense
    heads: tuple[Dense, ...]
    last: deque[Layers]


class Active(NamedTuple):
    """What is above 0 in n vectors. In trained networks that is little, and to skip the rest changes nothing: all is integers.

    num:   uint8 [n]
    found: uint16 [n, channels + AT_ONCE - 1], the first `num` of each vector: 256 channel + activation, unit 2^-7; then some 0
    """

    num: np.ndarray
    found: np.ndarray


def active_places(network: Network, message: np.ndarray, asked: np.ndarray, each: Each) -> np.ndarray:
    """float32 [places asked, channels], unit 2^-7: what is active after the last block."""
    layers = _last(network)
    if layers is None or layers.grid != message.shape[:2]:
        layers = Layers(network, message.shape[:2])
    active = layers.active(message, asked, each)
    if layers.remembers:
        network.last.append(layers)
    return active


def _last(network: Network) -> Layers | None:
    try:
        return network.last.pop()
    except IndexError:  # the first, or another thread has it
        return None


class Layers:
    """The residual stream of one grid after every layer, where it was asked for, and of which message it is.

    The next message may differ anywhere. What the tokens add up to is brought from one to the other by what differs; of the layers
    above, what hears a difference is forgotten, the rest stands, and only what is asked for is made. All is integers, so what stood
    and what is made anew are the same. A message that fills up in R rounds costs less than R messages, but not much: what is new
    lies all over the grid, and a few layers on it is heard everywhere. A grid of more than `MOST_REMEMBERED` places has one array
    in place of one a layer, and serves one message.
    """

    def __init__(self, network: Network, grid: tuple[int, ...]) -> None:
        self._network, self.grid = network, grid
        num_layers, size = 1 + len(network.blocks), grid[0] * grid[1]
        self.remembers = size <= MOST_REMEMBERED
        kept = num_layers if self.remembers else 1
        self._streams = [np.tile(network.near_bias, (size, 1)) for _ in range(kept)] * (num_layers // kept)
        padded = (grid[0] + 2) * (grid[1] + 2)  # nothing stands outside
        self._active = [_nothing(padded, network.near.shape[2]) for _ in range(num_layers)]
        self._fresh = [np.zeros(grid, np.bool_) for _ in range(num_layers)]
        self._tokens = np.full((grid[0] + NEAR - 1, grid[1] + NEAR - 1, len(network.heads)), network.near.shape[1] - 1)

    def active(self, message: np.ndarray, asked: np.ndarray, each: Each) -> np.ndarray:
        """As `active_places` has it."""
        network, width = self._network, self.grid[1]
        mask, outside = network.near.shape[1] - 3, network.near.shape[1] - 2
        before, around = self._tokens, (NEAR // 2, NEAR // 2)
        tokens = self._tokens = np.pad(np.where(message < 0, mask, message), (around, around, (0, 0)), constant_values=outside)
        self._forget((tokens != before).any(axis=2)[NEAR // 2:-(NEAR // 2), NEAR // 2:-(NEAR // 2)])
        missing = self._missing(asked)
        stream, active = self._streams[0], self._active[0]
        each(lambda places: _hear(stream, active, places, before, tokens, network.near), missing[0])
        for layer, (inner, outer) in enumerate(network.blocks, 1):
            last, heard, stream, active = stream, active, self._streams[layer], self._active[layer]
            each(lambda places: _add(last, heard, stream, active, places, width, inner, outer), missing[layer])
        return _dense(active, _padded(asked, width))

    def _forget(self, heard: np.ndarray) -> None:
        """What hears a place that is new."""
        for _ in range(NEAR // 2):
            heard = _around(heard)
        for fresh in self._fresh:
            fresh &= ~heard
            heard = _around(heard)

    def _missing(self, asked: np.ndarray) -> list[np.ndarray]:
        """int64 of each layer: the places to make, so that those asked are right after the last."""
        needed, missing = np.zeros(self.grid, np.bool_), list[np.ndarray]()
        needed.ravel()[asked] = True
        for fresh in reversed(self._fresh):
            if fresh is self._fresh[0] and self.remembers:  # its sums are brought from message to message
                needed[:] = True
            needed &= ~fresh
            fresh |= needed
            missing.append(np.flatnonzero(needed))
            needed = _around(needed)
        return missing[::-1]


@njit(cache=True)
def _around(marked: np.ndarray) -> np.ndarray:
    """bool [h, w]: what lies in the 3 × 3 around any that is marked."""
    found = np.zeros_like(marked)
    for row in range(marked.shape[0]):
        for column in range(marked.shape[1]):
            if marked[row, column]:
                found[max(0, row - 1):row + 2, max(0, column - 1):column + 2] = True
    return found


@njit(cache=True, nogil=True)
def _hear(stream: np.ndarray, active: Active, places: np.ndarray, before: np.ndarray, tokens: np.ndarray, near: np.ndarray) -> None:
    """Bring `stream` at `places` from what the tokens `before` added up to to what those now do, and `active` with it."""
    width, stages, cut = tokens.shape[1] - NEAR + 1, tokens.shape[2], np.empty(stream.shape[1], np.uint8)
    for place in places:
        top, left, total = place // width, place % width, stream[place]
        for neighbour in range(NEAR * NEAR):
            row, column = top + neighbour // NEAR, left + neighbour % NEAR
            for stage in range(stages):
                if tokens[row, column, stage] != before[row, column, stage]:
                    added = near[neighbour * stages + stage, tokens[row, column, stage]]
                    gone = near[neighbour * stages + stage, before[row, column, stage]]
                    for channel in range(total.size):
                        total[channel] += np.int32(added[channel]) - np.int32(gone[channel])
        _activate(active, _padded(place, width), total, cut)


@njit(cache=True, nogil=True)
def _add(before: np.ndarray, heard: Active, stream: np.ndarray, active: Active, places: np.ndarray, width: int, inner: Dense,
         outer: Dense) -> None:
    """One block at `places`: set `stream` to what was there `before` and what is made of the active that is heard around."""
    inside, alone = _nothing(PLACES_AT_ONCE, len(outer.matrix)), np.zeros(1, np.int64)
    square = np.array([down * (width + 2) + right for down in (-1, 0, 1) for right in (-1, 0, 1)])
    cut = np.empty(len(outer.matrix), np.uint8)
    for first in range(0, places.size, PLACES_AT_ONCE):
        some = places[first:first + PLACES_AT_ONCE]
        sums = requantised(_product(heard, _padded(some, width), square, inner.matrix), inner.scale, inner.bias)
        for row in range(some.size):
            _activate(inside, row, sums[row], cut)
        added = requantised(_product(inside, np.arange(some.size), alone, outer.matrix), outer.scale, outer.bias)
        for row in range(some.size):
            place, total = some[row], stream[some[row]]
            for channel in range(total.size):
                total[channel] = before[place, channel] + added[row, channel]
            _activate(active, _padded(place, width), total, cut)


@njit(cache=True, nogil=True)
def _product(active: Active, places: np.ndarray, around: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """int32 [places, columns]: vectors of `places` + `around`, side by side, times `matrix` int8 [around channels, columns]."""
    channels = len(matrix) // around.size
    sums = np.zeros((places.size, matrix.shape[1]), np.int32)
    for lane in range(places.size):
        total = sums[lane]
        for part in range(around.size):
            place, rows = places[lane] + around[part], matrix[part * channels:(part + 1) * channels]
            found = active.found[place]
            for first in range(0, active.num[place], AT_ONCE):  # written out, for one pass over the sums
                one, two, three, four = found[first], found[first + 1], found[first + 2], found[first + 3]
                by_one, by_two, by_three, by_four = rows[one >> 8], rows[two >> 8], rows[three >> 8], rows[four >> 8]
                one, two, three, four = np.int32(one & 255), np.int32(two & 255), np.int32(three & 255), np.int32(four & 255)
                for column in range(total.size):
                    total[column] += np.int32(one * np.int32(by_one[column]) + two * np.int32(by_two[column])
                                              + three * np.int32(by_three[column]) + four * np.int32(by_four[column]))
    return sums


@njit(cache=True, nogil=True)
def _nothing(places: int, channels: int) -> Active:
    return Active(np.zeros(places, np.uint8), np.zeros((places, channels + AT_ONCE - 1), np.uint16))


@njit(cache=True, nogil=True)
def _padded(place: Place, width: int) -> Place:
    """Where `place` of a grid is in one with a place more on every side."""
    return (place // width + 1) * (width + 2) + place % width + 1


@njit(cache=True, nogil=True)
def _activate(active: Active, place: int, values: np.ndarray, cut: np.ndarray) -> None:
    """Set `place` to `values`, int32, unit 2^-10, cut to [0, 127/128]; `cut` is room for as many."""
    found, count = active.found[place], np.uint64(0)
    for channel in range(values.size):
        cut[channel] = _cut(values[channel])
    for channel in range(values.size):
        found[count] = 256 * channel + cut[channel]
        count = np.uint64(count + np.uint64(cut[channel] > 0))  # no branch that could be foretold wrongly
    found[count:count + np.uint64(AT_ONCE - 1)] = 0
    active.num[place] = count


@njit(cache=True, nogil=True)
def _dense(active: Active, places: np.ndarray) -> np.ndarray:
    """float32 [places, channels], unit 2^-7."""
    factors = np.zeros((places.size, active.found.shape[1] - AT_ONCE + 1), np.float32)
    for row in range(places.size):
        for one in active.found[places[row], :active.num[places[row]]]:
            factors[row, one >> 8] = one & 255
    return factors


@njit(cache=True, nogil=True)
def activated(values: np.ndarray) -> np.ndarray:
    """float32 of int32 [places, channels], unit 2^-10, cut to [0, 127/128]: factors of the next product, unit 2^-7."""
    factors = np.empty(values.shape, np.float32)
    for row in range(len(values)):
        for channel in range(values.shape[1]):
            factors[row, channel] = _cut(values[row, channel])
    return factors


@njit(cache=True, nogil=True)
def _cut(value: int) -> int:
    shift = ACTIVATION_BITS - PRODUCT_BITS
    return max(0, min(127, (value + (1 << shift - 1)) >> shift))
