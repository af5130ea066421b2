"""The shipped byte models of grey pictures and 8-bit sounds, and any that `channel-sim train bytes` makes, in integers."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numba import njit
from pydantic import Field

from channel_sim.checks import RequestError
from sources.models import fixed_point
from sources.models.fixed_point import Dense, Weights
from sources.models.model import CausalModel
from sources.models.neighbourhood_network import MIDDLE, Architecture, Layout, given, layout
from sources.models.trained import Trained, forget

FORMAT = "channel-sim neighbourhood 1"


class Network(NamedTuple):
    """The network, ready to run; places int [places, 2], predictor int32 [places]."""

    places: tuple[tuple[int, int], ...]
    width: int
    fine: int
    predictor: np.ndarray
    first: Dense
    second: Dense
    head: Dense

    def frequencies(self, neighbours: np.ndarray, inside: np.ndarray, frequency_bits: int) -> np.ndarray:
        """int64 [n, 256]: the coding table of each byte whose neighbours [n, places] are given."""
        factors, base = given(neighbours, inside, self.predictor, self.fine)
        factors = fixed_point.activations(self.second, fixed_point.activations(self.first, factors))
        table = fixed_point.frequencies(fixed_point.logits(self.head, factors), frequency_bits)
        return _rolled(table, base)


class Neighbourhood(Trained, CausalModel):
    """p(byte | bytes near it that came before): a network over a fixed neighbourhood, in integers from end to end.

    In a picture the neighbourhood is that of rows of `width` bytes, in a sound the last bytes. A linear predictor makes a guess
    from it, and the network, which is given the differences from the guess, tells the law of what is left. Bytes of any other
    kind can be coded too, at what they cost. Tables are the same on every machine, for any number of lanes and threads, step by
    step or many at once. A state is int32 [lanes, 1 + bytes looked back]: the place in the row and in the message, and the bytes
    before it, oldest first; before the first byte there are 128s.

    Source: X. Wu, N. Memon, "Context-based, adaptive, lossless image coding", IEEE Trans. Commun. 45 (1997); J. Ballé, N.
    Johnston, D. Minnen, "Integer networks for data compression with latent-variable models", ICLR 2019.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "X. Wu, N. Memon, IEEE Trans. Commun. 45 (1997); J. Ballé, N. Johnston, D. Minnen, ICLR 2019"
    form: ClassVar[str] = FORMAT
    kind: ClassVar[str] = "neighbourhood model"
    maker: ClassVar[str] = "channel-sim train bytes"

    width: int | None = Field(None, ge=1, description="bytes of a row of the pictures; default: of those it was trained on")

    @staticmethod
    def assemble(weights: Weights) -> Network:
        places = tuple((int(up), int(right)) for up, right in weights["places"])
        return Network(places, int(weights["width"].item()), int(weights["fine"].item()), weights["predictor"],
                       *(fixed_point.dense(weights, name) for name in ("first", "second", "head")))

    def start(self, num_lanes: int) -> np.ndarray:
        forget()
        state = np.full((num_lanes, 1 + self._layout().reach), MIDDLE, np.int32)
        state[:, 0] = 0
        return state

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        after = np.empty_like(state)
        after[:, 0] = self._layout().row(state[:, 0] + 1)
        after[:, 1:-1] = state[:, 2:]
        after[:, -1] = tokens
        return after

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        return self._frequencies(state[:, 0], state[:, 1:])

    def tables(self, state: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # all neighbours are known beforehand: one call instead of a step a byte
        past = np.concatenate([state[0, 1:], np.asarray(values, np.int32)])
        windows = np.lib.stride_tricks.sliding_window_view(past, state.shape[1] - 1)
        rows = self._layout().row(state[0, 0] + np.arange(len(values) + 1))
        return self._frequencies(rows[:-1], windows[:-1]), np.concatenate([rows[-1:], windows[-1]])[None].astype(np.int32)

    def _frequencies(self, rows: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """Of bytes at `rows` of the layout after `windows` [n, reach], oldest first."""
        near = self._layout()
        neighbours = np.take_along_axis(windows, windows.shape[1] - near.distance[rows], axis=1)
        return self._network().frequencies(neighbours, near.inside[rows], self.frequency_bits)

    def _network(self) -> Network:
        network: Network = self.loaded().network
        return network

    def _layout(self) -> Layout:
        network = self._network()
        if self.width is not None and network.width == 0:
            raise RequestError(f"model.width must be left out: the model is one of sounds, which have no rows, got {self.width}")
        return layout(network.places, self.width or network.width)


class ImageByteSmall(Neighbourhood):
    """Grey pictures pixel by pixel, row by row; a network over the 24 pixels next to each, in integers, trained on photographs."""

    shipped: ClassVar[str] = "image-byte-small"


class SoundByteSmall(Neighbourhood):
    """8-bit sound sample by sample; a network over the last samples, in integers, trained on English speech at 16 kHz."""

    shipped: ClassVar[str] = "sound-byte-small"


def stored(weights: dict[str, np.ndarray], architecture: Architecture) -> Weights:
    """What a weights file holds, of the float weights of a training, `predictor` among them."""
    trained = {name: value for name, value in weights.items() if name != "predictor"}
    return {**fixed_point.quantise(trained), "predictor": weights["predictor"].astype(np.int32), "places": architecture.places,
            "width": np.array(architecture.width, np.int32), "fine": np.array(architecture.fine, np.int32)}


@njit(cache=True)
def _rolled(table: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Of tables over x - base modulo 256: those over x."""
    rolled = np.empty_like(table)
    for row in range(table.shape[0]):
        for rest in range(256):
            rolled[row, (rest + base[row]) & 255] = table[row, rest]
    return rolled
