"""The byte model as it is trained: two layers over what lies around a byte, in Keras 3.

A byte x of a message has neighbours, bytes before it at fixed places: those above and to the left in a picture of `width` bytes a
row, the last ones in a sound (width = 0: one endless row). Every position has all its neighbours: one that would lie outside is
the nearest place inside that is known, and before the first byte there is only MIDDLE. What the network is given are integers, the
same in training and in use, unit 2^-7:

    s        = 128 + (neighbours - 128) @ predictor / 2^12, within 0 … 255; b = s rounded: the prediction of x
    given    = neighbours - b, once as they are and once times `fine`, each in [-127, 127];
               whether a neighbour lies inside; s - b; b - 128                                              [3 * places + 2]
    h        = tanh(given @ first + first_bias)                                                             [hidden]
    g        = tanh(h @ second + second_bias)                                                               [merge]
    logits   = g @ head + head_bias, of x - b modulo 256                                                    [256]

Source: X. Wu, N. Memon, "Context-based, adaptive, lossless image coding", IEEE Trans. Commun. 45 (1997), for coding what a
predictor leaves under a law that follows the neighbours; Y. Bengio et al., JMLR 3 (2003), for networks over a fixed context.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from channel_sim.keys import Key

if TYPE_CHECKING:
    import keras

MIDDLE, LARGEST = 128, 127
PREDICTOR_BITS = 12
_REST_SHIFT = PREDICTOR_BITS - 8  # half a level is 128 of the steps that the network is given


class Layout(NamedTuple):
    """Where the neighbours lie: distance int32 [positions, places], how many bytes back; inside bool of that shape.

    From the last `period` positions on the same ones come again and again.
    """

    distance: np.ndarray
    inside: np.ndarray
    period: int

    @property
    def reach(self) -> int:
        """The largest distance."""
        return int(self.distance.max())

    def row(self, position: np.ndarray) -> np.ndarray:
        """The row of the tables for a position, which is the number of bytes before it."""
        first = len(self.distance) - self.period
        return np.where(position < first, position, first + (position - first) % self.period)


class Architecture(BaseModel):
    """The sizes that the weights' shapes follow from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=0, description="bytes of a row of a picture; 0 = no rows, a sound")
    reach: int = Field(3, ge=1, description="rows and columns that a neighbour is away at most; in a sound the bytes")
    fine: int = Field(8, ge=1, le=127, description="factor of the differences that are given more finely")
    hidden: int = Field(128, ge=1, le=1040, description="length of the first layer")
    merge: int = Field(64, ge=1, le=1040, description="length of the second layer")

    @property
    def places(self) -> np.ndarray:
        """int32 [places, 2]: (rows up, columns to the right)."""
        if self.width == 0:
            return np.array([(0, -back) for back in range(1, self.reach + 1)], np.int32)
        left = [(0, -back) for back in range(1, self.reach + 1)]
        return np.array(left + [(up, right) for up in range(1, self.reach + 1) for right in range(-self.reach, self.reach + 1)],
                        np.int32)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every weight that is trained."""
        given = 3 * len(self.places) + 2
        matrices = {"first": (given, self.hidden), "second": (self.hidden, self.merge), "head": (self.merge, 256)}
        return {**matrices, **{f"{name}_bias": shape[1:] for name, shape in matrices.items()}}

    def initial(self, key: Key) -> dict[str, np.ndarray]:
        gain = {"first": 2.0, "second": 1.0, "head": 1.0}
        return {name: (key.child(name).normal(*shape) * gain[name] * shape[0] ** -0.5 if name in gain else np.zeros(shape))
                .astype(np.float32) for name, shape in self.shapes().items()}


@lru_cache(maxsize=8)
def layout(places: tuple[tuple[int, int], ...], width: int) -> Layout:
    """Of places (rows up, columns to the right)."""
    up, right = np.array(places).T
    rows = int(up.max())
    period = width or 1
    positions = np.arange((rows + 1) * width) if width else np.arange(int(-right.min()) + 1)
    width = width or positions.size + 1
    row, column = positions[:, None] // width, positions[:, None] % width
    inside = (row - up >= 0) & (column + right >= 0) & (column + right < width)
    there = np.maximum(row - up, 0) * width + np.clip(column + right, 0, width - 1)
    # to the left of a row's first byte, the one above it; to the right of the newest byte, that byte
    there = np.where(there >= positions[:, None], np.where((row > 0) & (column == 0), there - width, positions[:, None] - 1), there)
    return Layout((positions[:, None] - there).astype(np.int32), inside, period)


def given(neighbours: np.ndarray, inside: np.ndarray, predictor: np.ndarray, fine: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [n, 3 * places + 2] of integers in [-127, 127], b int32 [n]) of neighbours [n, places], in integers throughout."""
    sums = (MIDDLE << PREDICTOR_BITS) + (neighbours.astype(np.int64) - MIDDLE) @ predictor.astype(np.int64)
    sums = np.clip(sums, 0, 255 << PREDICTOR_BITS).astype(np.int32)
    base = (sums + (1 << PREDICTOR_BITS - 1)) >> PREDICTOR_BITS
    difference = neighbours.astype(np.int32) - base[:, None]
    rest = (sums - (base << PREDICTOR_BITS)) >> _REST_SHIFT
    columns = [difference, difference * fine, inside * LARGEST, rest[:, None], base[:, None] - MIDDLE]
    return np.clip(np.concatenate(columns, axis=1), -LARGEST, LARGEST).astype(np.float32), base


def network(architecture: Architecture, precision: str = "float32") -> keras.Model:
    """The Keras model: what `given` makes, float32 [n, 3 places + 2] -> logits float32 [n, 256].

    `precision` is that of the products ("float32" or "bfloat16"); everything else is float32.
    """
    import keras
    from keras import ops

    class Neighbourhood(keras.Model):
        """Weights as in `Architecture.shapes`; `predictor` is fitted beforehand and kept with them."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = {name: self.add_weight(shape=shape, initializer="zeros", name=name)
                           for name, shape in architecture.shapes().items()}
            self.state = {"predictor": self.add_weight(shape=(len(architecture.places),), initializer="zeros", trainable=False,
                                                       name="predictor")}

        def call(self, given: Any) -> Any:
            first = ops.tanh(self._sums(given / 128, "first"))
            return self._sums(ops.tanh(self._sums(first, "second")), "head")

        def _sums(self, given: Any, name: str) -> Any:
            sums = ops.matmul(ops.cast(given, precision), ops.cast(self.weight[name], precision))
            return ops.cast(sums, "float32") + self.weight[f"{name}_bias"]

    return Neighbourhood()
