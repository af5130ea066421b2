"""The shipped masked model of pictures' tokens, and any that `channel-sim train image-masked` makes: in integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numba import njit

from channel_sim.checks import RequestError
from sources.models import fixed_point
from sources.models.fixed_point import ACTIVATION_BITS, PRODUCT_BITS, Dense
from sources.models.masked_grid_network import NEAR
from sources.models.model import MaskedModel
from sources.models.trained import Trained

FORMAT = "channel-sim masked-grid 1"
_PLACES_AT_ONCE = 1024


class Network(NamedTuple):
    """near int32 [25, tokens, channels]: what a token at each of the 25 places around adds; the rest as in training."""

    near: np.ndarray
    near_bias: np.ndarray
    blocks: tuple[tuple[Dense, Dense], ...]
    merge: Dense
    head: Dense


class MaskedGrid(Trained, MaskedModel):
    """p(token | all known tokens around it) on a grid: convolutions with a residual stream, in integers.

    A message is int32 [h, w], -1 where the token is unknown; `asked` are places in its flat order, all of them unknown, since a
    convolution hears its own place. Weights are int8, activations 8-bit integers, products exact: the same tables on every machine,
    for any number of messages and threads. Only the places that those asked can hear are computed.

    Source: H. Chang et al., "MaskGIT: masked generative image transformer", CVPR 2022; F. Mentzer, E. Agustsson, M. Tschannen,
    "M2T: masking transformers twice for faster decoding", ICCV 2023; in integers as J. Ballé, N. Johnston, D. Minnen, ICLR 2019.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "H. Chang et al., CVPR 2022; F. Mentzer, E. Agustsson, M. Tschannen, ICCV 2023"
    form: ClassVar[str] = FORMAT
    kind: ClassVar[str] = "masked_grid"
    maker: ClassVar[str] = "channel-sim train image-masked"

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of what the tokens that it knows follow from, `VqImage.tokens_digest`."""
        return str(self.loaded().tokens["tokens_sha256"])

    @staticmethod
    def assemble(weights: fixed_point.Weights) -> Network:
        first = fixed_point.dense(weights, "near")
        length = weights["embedded"].shape[1]
        vectors, unbiased = weights["embedded"].astype(np.float32), first._replace(bias=np.zeros_like(first.bias))
        near = [fixed_point.logits(unbiased._replace(matrix=part), vectors) for part in first.matrix.reshape(NEAR ** 2, length, -1)]
        count = sum(name.startswith("inner_") and name.count("_") == 1 for name in weights)
        blocks = tuple((fixed_point.dense(weights, f"inner_{block}"), fixed_point.dense(weights, f"outer_{block}"))
                       for block in range(count))
        return Network(np.stack(near), first.bias, blocks, fixed_point.dense(weights, "merge"), fixed_point.dense(weights, "head"))

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        network: Network = self.loaded().network
        with fixed_point.one_blas_thread():  # products of a few places each: threads cost more than they bring
            return [self._tables(network, message, places) for message, places in zip(messages, asked)]

    def _tables(self, network: Network, message: np.ndarray, places: np.ndarray) -> np.ndarray:
        if message.ndim != 2:
            raise RequestError(f"a model of kind {self.kind} reads grids of two sides, got {message.ndim}; use decoder "
                               "masked_image or coder masked_entropy, and tokenizer vq_image")
        assert np.all(message.ravel()[places] < 0), "a convolution hears its own place"
        stream = _stream(network, message, places)
        tables = np.empty((places.size, self.vocab_size), np.int64)
        for first in range(0, places.size, _PLACES_AT_ONCE):
            rows = slice(first, first + _PLACES_AT_ONCE)
            merged = fixed_point.logits(network.merge, _active(stream[places[rows]]))
            logits = fixed_point.logits(network.head, _active(merged))
            tables[rows] = fixed_point.frequencies(logits, self.frequency_bits)
        return tables


class ImageMaskedSmall(MaskedGrid):
    """The shipped masked model of the tokens of `vq_image`."""

    shipped: ClassVar[str] = "image-masked-small"


def _stream(network: Network, message: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """int32 [h * w, channels], unit 2^-10: the residual stream after the last block, at the places asked."""
    height, width = message.shape
    needed = np.zeros((height, width), np.bool_)
    needed.ravel()[asked] = True
    reach = [needed]  # from the last block to the first: what the next one hears
    for _ in network.blocks:
        reach.append(_around(reach[-1]))
    mask, outside = network.near.shape[1] - 2, network.near.shape[1] - 1
    tokens = np.pad(np.where(message < 0, mask, message), NEAR // 2, constant_values=outside)
    stream = np.zeros((height * width, network.near.shape[2]), np.int32)
    _hear(stream, tokens, np.flatnonzero(reach.pop()), network.near, network.near_bias)
    for inner, outer in network.blocks:
        active = np.zeros((height + 2, width + 2, stream.shape[1]), np.float32)
        active[1:-1, 1:-1] = _active(stream).reshape(height, width, -1)
        places = np.flatnonzero(reach.pop())
        for first in range(0, places.size, _PLACES_AT_ONCE):  # what is multiplied at once stays in the cache
            some = places[first:first + _PLACES_AT_ONCE]
            heard = fixed_point.logits(inner, _squares(active, some))
            stream[some] += fixed_point.logits(outer, _active(heard))
    return stream


def _around(marked: np.ndarray) -> np.ndarray:
    """bool [h, w]: what lies in the 3 × 3 around any that is marked."""
    down = marked.copy()
    down[1:] |= marked[:-1]
    down[:-1] |= marked[1:]
    wide = down.copy()
    wide[:, 1:] |= down[:, :-1]
    wide[:, :-1] |= down[:, 1:]
    return wide


@njit(cache=True, nogil=True)
def _hear(stream: np.ndarray, tokens: np.ndarray, places: np.ndarray, near: np.ndarray, bias: np.ndarray) -> None:
    """Set `stream` at `places` to what the tokens around add up to."""
    width = tokens.shape[1] - NEAR + 1
    for place in places:
        top, left = place // width, place % width
        total = stream[place]
        total[:] = bias
        for neighbour in range(NEAR * NEAR):
            added = near[neighbour, tokens[top + neighbour // NEAR, left + neighbour % NEAR]]
            for channel in range(total.size):
                total[channel] += added[channel]


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
def _active(values: np.ndarray) -> np.ndarray:
    """float32 of int32, unit 2^-10: cut to [0, 127/128], as factors of the next product, unit 2^-7."""
    factors = np.empty(values.shape, np.float32)
    shift = ACTIVATION_BITS - PRODUCT_BITS
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            factors[row, column] = max(0, min(127, (values[row, column] + (1 << shift - 1)) >> shift))
    return factors
