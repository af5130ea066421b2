"""What the masked model of a grid makes of a message, layer by layer, in integers; what stands is not made again."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numba import njit

from sources.models.fixed_point import ACTIVATION_BITS, PRODUCT_BITS, Dense, Each, requantised
from sources.models.masked_grid_network import NEAR

PLACES_AT_ONCE = 512
"""What is multiplied at once stays in the cache."""
MOST_REMEMBERED = 1 << 14
"""Places of the grid of which what was made is kept: 47 MB with the sizes that ship."""


class Network(NamedTuple):
    """near int32 [25 stages, tokens, channels]: what each token of each of the 25 places around adds; the rest as in training.

    heads: one a stage

    last: what was made of the message before, if nobody has it in hands
    """

    near: np.ndarray
    near_bias: np.ndarray
    blocks: tuple[tuple[Dense, Dense], ...]
    merge: Dense
    heads: tuple[Dense, ...]
    last: deque[Layers]


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

    The next message may differ anywhere: what hears a difference is forgotten, the rest stands, and only what is asked for is made.
    All is integers, so what stood and what is made anew are the same. A grid of more than `MOST_REMEMBERED` places has one array
    in place of one a layer, and nothing stands in it. A message that fills up in R rounds costs less than R messages, but not
    much: what is new lies all over the grid, and a few layers on it is heard everywhere.
    """

    def __init__(self, network: Network, grid: tuple[int, ...]) -> None:
        self._network, self.grid = network, grid
        num_layers, size = 1 + len(network.blocks), grid[0] * grid[1]
        self.remembers = size <= MOST_REMEMBERED
        kept = num_layers if self.remembers else 1
        self._streams = [np.empty((size, network.near.shape[2]), np.int32) for _ in range(kept)] * (num_layers // kept)
        padded = (grid[0] + 2, grid[1] + 2, network.near.shape[2])  # nothing stands outside
        self._active = [np.zeros(padded, np.uint8) for _ in range(num_layers)]
        self._fresh = [np.zeros(grid, np.bool_) for _ in range(num_layers)]
        self._message = np.full((*grid, len(network.heads)), -1, np.int32)

    def active(self, message: np.ndarray, asked: np.ndarray, each: Each) -> np.ndarray:
        """As `active_places` has it."""
        self._forget(message)
        missing = self._missing(asked)
        network, width = self._network, self.grid[1]
        mask, outside = network.near.shape[1] - 2, network.near.shape[1] - 1
        around = (NEAR // 2, NEAR // 2)
        tokens = np.pad(np.where(message < 0, mask, message), (around, around, (0, 0)), constant_values=outside)
        stream, active = self._streams[0], self._active[0]
        each(lambda places: _hear(stream, active, places, tokens, network.near, network.near_bias), missing[0])
        for layer, (inner, outer) in enumerate(network.blocks, 1):
            before, heard, stream, active = stream, active, self._streams[layer], self._active[layer]
            each(lambda places: _add(before, heard, stream, active, places, inner, outer), missing[layer])
        return active[asked // width + 1, asked % width + 1].astype(np.float32)

    def _forget(self, message: np.ndarray) -> None:
        """What hears a place where `message` differs from the last."""
        heard = (message != self._message).any(axis=2)
        self._message = message.copy()
        for _ in range(NEAR // 2):
            heard = _around(heard)
        for fresh in self._fresh:
            fresh &= ~heard if self.remembers else False
            heard = _around(heard)

    def _missing(self, asked: np.ndarray) -> list[np.ndarray]:
        """int64 of each layer: the places to make, so that those asked are right after the last."""
        needed, missing = np.zeros(self.grid, np.bool_), list[np.ndarray]()
        needed.ravel()[asked] = True
        for fresh in reversed(self._fresh):
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
def _hear(stream: np.ndarray, active: np.ndarray, places: np.ndarray, tokens: np.ndarray, near: np.ndarray,
          bias: np.ndarray) -> None:
    """Set `stream` at `places` to what the tokens around add up to, and `active` to what of it is."""
    width, stages = tokens.shape[1] - NEAR + 1, tokens.shape[2]
    for place in places:
        top, left = place // width, place % width
        total = stream[place]
        total[:] = bias
        for neighbour in range(NEAR * NEAR):
            for stage in range(stages):
                token = tokens[top + neighbour // NEAR, left + neighbour % NEAR, stage]
                added = near[neighbour * stages + stage, token]
                for channel in range(total.size):
                    total[channel] += added[channel]
        _activate(active[top + 1, left + 1], total)


@njit(cache=True, nogil=True)
def _add(before: np.ndarray, heard: np.ndarray, stream: np.ndarray, active: np.ndarray, places: np.ndarray, inner: Dense,
         outer: Dense) -> None:
    """One block at `places`: set `stream` to what was there `before` and what is made of the active that is heard around."""
    width = heard.shape[1] - 2
    for first in range(0, places.size, PLACES_AT_ONCE):
        some = places[first:first + PLACES_AT_ONCE]
        inside = requantised(np.dot(_squares(heard, some), inner.matrix), inner.scale, inner.bias)
        added = requantised(np.dot(activated(inside), outer.matrix), outer.scale, outer.bias)
        for row in range(some.size):
            place, total = some[row], stream[some[row]]
            for channel in range(total.size):
                total[channel] = before[place, channel] + added[row, channel]
            _activate(active[place // width + 1, place % width + 1], total)


@njit(cache=True, nogil=True)
def _squares(active: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float32 [places, 9 channels] of `active` [h + 2, w + 2, channels]."""
    channels, width = active.shape[2], active.shape[1] - 2
    found = np.empty((places.size, 9 * channels), np.float32)
    for row in range(places.size):
        top, left = places[row] // width, places[row] % width
        for down in range(3):
            start = 3 * down * channels
            found[row, start:start + 3 * channels] = active[top + down, left:left + 3].ravel()
    return found


@njit(cache=True, nogil=True)
def activated(values: np.ndarray) -> np.ndarray:
    """float32 of int32 [places, channels], as `_activate` has them."""
    factors = np.empty(values.shape, np.float32)
    for row in range(len(values)):
        _activate(factors[row], values[row])
    return factors


@njit(cache=True, nogil=True)
def _activate(factors: np.ndarray, values: np.ndarray) -> None:
    """Cut int32, unit 2^-10, to [0, 127/128], as factors of the next product, unit 2^-7."""
    shift = ACTIVATION_BITS - PRODUCT_BITS
    for place in range(values.size):
        factors[place] = max(0, min(127, (values[place] + (1 << shift - 1)) >> shift))
