"""The masked model of a grid of tokens as it is trained: convolutions with a residual stream, in Keras 3.

For tokens t [h, w, stages], `mask` where one is unknown and `outside` around the grid; those of a place stand one after another:

    x   = sum over the 5 × 5 neighbours n of tanh(embedding[t_n]) @ near_n  + near_bias         [h, w, channels]
    x  += act(sum over 3 × 3 of act(x) @ inner + inner_bias) @ outer + outer_bias               once a block; nothing outside
    logits = act(act(x) @ merge + merge_bias) @ head + head_bias                                [h, w, stages vocab_size]

act(x) = x cut to [0, 127/128], so that it is an 8-bit integer once rounded. A place hears its own token, so only what is masked is
a target.

Source: H. Chang et al., "MaskGIT: masked generative image transformer", CVPR 2022, sec. 3.2 (any share of a grid is masked, all of
it is predicted at once), here with convolutions; F. Mentzer, E. Agustsson, M. Tschannen, "M2T: masking transformers twice for
faster decoding", ICCV 2023 (such a model as a coder, and well-spread masks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from channel_sim.keys import Key
from sources.packet_order import low_discrepancy

if TYPE_CHECKING:
    import keras

NEAR, LARGEST_ACTIVATION = 5, 127 / 128
_LEAST_SHARE = 1 / 8


class GridSizes(BaseModel):
    """The sizes that a training may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: int = Field(48, ge=1, description="length of a token's vector")
    channels: int = Field(96, ge=1, le=255, description="of the residual stream")
    blocks: int = Field(5, ge=0, description="residual blocks")
    merge: int = Field(192, ge=1, le=1040, description="length of the vector before the head")


class GridArchitecture(GridSizes):
    """The sizes that the weights' shapes follow from; the mask comes first after the vocabulary, then what is outside."""

    vocab_size: int = Field(512, ge=2, le=65536, description="number of tokens")
    stages: int = Field(1, ge=1, description="tokens of a place, each with an embedding and a head of its own")

    @property
    def mask(self) -> int:
        """The token that stands for one that is unknown."""
        return self.vocab_size

    @property
    def outside(self) -> int:
        """The token that stands around the grid."""
        return self.vocab_size + 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        wide = self.channels
        matrices = {"near": (NEAR ** 2 * self.stages * self.embedding, wide), "merge": (wide, self.merge),
                    "head": (self.merge, self.stages * self.vocab_size)}
        for block in range(self.blocks):
            matrices |= {f"inner_{block}": (9 * wide, wide), f"outer_{block}": (wide, wide)}
        biases = {f"{name}_bias": shape[1:] for name, shape in matrices.items()}
        return {"embedding": (self.stages * (self.vocab_size + 2), self.embedding), **matrices, **biases}

    def initial(self, key: Key) -> dict[str, np.ndarray]:
        """float32; activations begin within their range, blocks as nearly nothing."""
        gain = {"near": 1.0, "merge": 2.0, "head": 2.0, "embedding": 0.5}
        weights = {}
        for name, shape in self.shapes().items():
            first = name.split("_")[0]
            size = gain.get(first, 2.0 if first == "inner" else 0.5) * (1.0 if name == "embedding" else shape[0] ** -0.5)
            weights[name] = key.child(name).normal(*shape) * (0.0 if name.endswith("_bias") else size)
        return {name: value.astype(np.float32) for name, value in weights.items()}


def masks(key: Key, count: int, height: int, width: int, stages: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(bool [count, height, width, stages], True = masked; float32 of that shape, weights of the targets); without the last axis
    where a place has one token.

    In every grid another share is masked, evenly from (0, 1]: places drawn one by one, a stretch of the order in which tokens are
    sent (`sources.packet_order`), or what lies in some squares. Grids weigh alike whatever their share, but for small ones, as do
    the rounds of a coder that goes from no token to all. Of several tokens a place each is masked wherever the one before it is;
    with probability 1/2 it is masked in more places, as to a coder that sends first tokens first.
    """
    share = 1 - key.child("share").uniform(count, 1, 1)
    kind = key.child("kind").uniform(count, 1, 1)
    single = key.child("single").uniform(count, height, width)
    side = 2 + key.child("side").integers(3, count, 1, 1)
    down, right = np.mgrid[:height, :width]
    square = np.take_along_axis(single.reshape(count, -1), ((down // side) * width + right // side).reshape(count, -1), 1)
    even = (spread((height, width)) + key.child("first").uniform(count, 1, 1)) % 1
    by_law = [single, even, square.reshape(single.shape)]
    rank = np.where(kind < 0.5, by_law[0], np.where(kind < 0.85, by_law[1], by_law[2]))
    if stages > 1:
        rank, share = rank[..., None], share[..., None]
        thinner = np.maximum(1, 2 * key.child("first known").uniform(count, 1, 1, stages - 1))
        share = share * np.cumprod(np.concatenate([np.ones_like(share), 2 - thinner], axis=3), axis=3)[..., ::-1]
    masked = rank < share
    return masked, (masked / np.maximum(share, _LEAST_SHARE)).astype(np.float32)


def spread(grid: tuple[int, ...]) -> np.ndarray:
    """float64 [h, w] in [0, 1): what is below any threshold, or above, or between two, lies evenly over the grid."""
    order = low_discrepancy(grid)
    ranks = np.empty(order.size)
    ranks[order] = np.arange(order.size) / order.size
    return ranks.reshape(grid)


def grid_network(architecture: GridArchitecture, precision: str = "float32") -> keras.Model:
    """The Keras model: tokens int32 [n, h, w] or [n, h, w, stages], masked ones included -> logits float32 [..., vocab_size].

    `precision` is that of the products ("float32" or "bfloat16"); everything else is float32.
    """
    import keras
    from keras import ops

    class Grid(keras.Model):
        """Weights as in `GridArchitecture.shapes`; it has no other state."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = {name: self.add_weight(shape=shape, initializer="zeros", name=name)
                           for name, shape in architecture.shapes().items()}
            self.state: dict[str, Any] = {}

        def call(self, tokens: Any) -> Any:
            border, (height, width) = NEAR // 2, ops.shape(tokens)[1:3]
            cells = ops.reshape(tokens, (-1, height, width, architecture.stages))
            padded = ops.pad(cells, ((0, 0), (border, border), (border, border), (0, 0)), constant_values=architecture.outside)
            rows = padded + (architecture.vocab_size + 2) * ops.arange(architecture.stages, dtype=padded.dtype)
            given = ops.take(ops.tanh(self.weight["embedding"]), rows, axis=0)
            flat = ops.reshape(given, (-1, height + 2 * border, width + 2 * border, architecture.stages * architecture.embedding))
            stream = self._sums(flat, "near", NEAR, "valid")
            for block in range(architecture.blocks):
                inner = active(self._sums(active(stream), f"inner_{block}", 3, "same"))
                stream = stream + self._sums(inner, f"outer_{block}", 1, "same")
            logits = self._sums(active(self._sums(active(stream), "merge", 1, "same")), "head", 1, "same")
            return ops.reshape(logits, (*ops.shape(tokens), architecture.vocab_size))

        def _sums(self, given: Any, name: str, side: int, padding: str) -> Any:
            kernel = ops.reshape(self.weight[name], (side, side, given.shape[3], -1))
            sums = ops.conv(ops.cast(given, precision), ops.cast(kernel, precision), padding=padding, data_format="channels_last")
            return ops.cast(sums, "float32") + self.weight[f"{name}_bias"]

    def active(given: Any) -> Any:
        return ops.clip(given, 0.0, LARGEST_ACTIVATION)

    return Grid()
