"""The networks of the picture tokenizer: equations that stand once, for the arrays of Keras, where they are trained, and of NumPy.

    picture [h, w, 3] ─fold, conv─▶ [h/2, w/2, fine] ─fold, conv─▶ [h/4, w/4, wide] ─blocks, 1 × 1─▶ z [h/4, w/4, code]
                                                                                                     └─nearest code─▶ token
    picture [h, w, 3] ◀─conv, unfold─ block ◀─ [h/2, w/2, fine] ◀─conv, unfold─ blocks ◀─ [h/4, w/4, wide] ◀─conv─ code vector

A fold takes squares of 2 × 2 places into the channels. A block is x + W relu(conv(relu(x))). Convolutions are 3 × 3, nothing
stands outside. The nearest code's gradient is passed straight through; codes are running means of what is nearest to them.

Source: A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017, eq. 1 to 3 and
appendix A.1 (running means); W. Williams et al., "Hierarchical quantized autoencoders", NeurIPS 2020 (codes that go unused are
drawn anew); J. Shi et al., "Real-time single image and video super-resolution …", CVPR 2016 (unfolding).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from channel_sim.keys import Key

if TYPE_CHECKING:
    import keras

FACTOR = 4
"""Pixels of a cell's side."""
_CELL = 3 * FACTOR**2
_COMMITMENT = 0.25
_MEMORY = 0.99  # of the running means
_PLACES_AT_ONCE = 1024


def scaled(pictures: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1] of uint8: what the network takes."""
    return pictures.astype(np.float32) / np.float32(127.5) - 1


class Layers(Protocol):
    """What the equations are made of, over arrays [pictures, h, w, channels] of whatever library."""

    def convolved(self, given: Any, name: str) -> Any:
        """By the weights called `name` [side, side, channels, channels], and their bias; zeros stand outside."""

    def rectified(self, given: Any) -> Any:
        """max(0, x)."""

    def folded(self, given: Any) -> Any:
        """[n, h, w, c] -> [n, h/2, w/2, 4c]."""

    def unfolded(self, given: Any) -> Any:
        """[n, h, w, 4c] -> [n, 2h, 2w, c]."""


class VqArchitecture(BaseModel):
    """The sizes that the weights' shapes follow from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_codes: int = Field(512, ge=2, le=65536, description="token values")
    stages: int = Field(1, ge=1, le=8, description="tokens of a cell, each of what those before it leave")
    alone: bool = Field(False, description="whether tokens tell of their own cell's pixels only")
    code_length: int = Field(32, ge=1, description="length of a code vector")
    channels: int = Field(96, ge=1, description="of the layers on the grid of tokens")
    fine_channels: int = Field(48, ge=1, description="of the layers on the grid twice as fine")
    encoder_blocks: int = Field(2, ge=0, description="residual blocks before the codes; none if cells are coded alone")
    decoder_blocks: int = Field(3, ge=0, description="residual blocks after the codes")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every weight that is trained by gradients."""
        wide, fine, code = self.channels, self.fine_channels, self.code_length
        kernels = {"decode_code": (3, code, wide), "decode_fine": (3, wide, 4 * fine), "decode_pixels": (3, fine, 12)}
        blocks = {f"decode_{block}": wide for block in range(self.decoder_blocks)} | {"decode_last": fine}
        if self.alone:
            kernels |= {"encode_cell": (1, _CELL, code), "decode_cell": (1, code, _CELL)}
        else:
            kernels |= {"encode_fine": (3, 12, fine), "encode_coarse": (3, 4 * fine, wide), "encode_code": (1, wide, code)}
            blocks |= {f"encode_{block}": wide for block in range(self.encoder_blocks)}
        for name, size in blocks.items():
            kernels |= {f"{name}_inner": (3, size, size), f"{name}_outer": (1, size, size)}
        matrices = {name: (side, side, taken, given) for name, (side, taken, given) in kernels.items()}
        return {**matrices, **{f"{name}_bias": shape[-1:] for name, shape in matrices.items()}}

    def initial(self, key: Key) -> dict[str, np.ndarray]:
        """float32; a block begins as nearly nothing."""
        weights = {}
        for name, shape in self.shapes().items():
            gain = {"bias": 0.0, "outer": 0.3, "pixels": 0.1 if self.alone else 1.0}.get(name.split("_")[-1], 1.0)
            scale = gain * (2.0 / np.prod(shape[:-1])) ** 0.5
            weights[name] = (key.child(name).normal(*shape) * scale).astype(np.float32)
        if self.alone:  # a cell's vector begins as its pixels, turned
            turned = np.linalg.qr(key.child("turned").normal(_CELL, _CELL))[0][:, :self.code_length]
            weights["encode_cell"][0, 0] = 2 * np.resize(turned.T, (self.code_length, _CELL)).T
            weights["decode_cell"][0, 0] = np.linalg.pinv(weights["encode_cell"][0, 0])
        return weights

    def encoded(self, layers: Layers, pictures: Any) -> Any:
        """[n, h, w, 3] in [-1, 1] -> [n, h/4, w/4, code_length]."""
        if self.alone:
            return layers.convolved(layers.folded(layers.folded(pictures)), "encode_cell")
        fine = layers.rectified(layers.convolved(layers.folded(pictures), "encode_fine"))
        coarse = layers.convolved(layers.folded(fine), "encode_coarse")
        for block in range(self.encoder_blocks):
            coarse = _block(layers, coarse, f"encode_{block}")
        return layers.convolved(layers.rectified(coarse), "encode_code")

    def decoded(self, layers: Layers, codes: Any) -> Any:
        """[n, h/4, w/4, code_length] -> [n, h, w, 3], about [-1, 1]."""
        coarse = layers.convolved(codes, "decode_code")
        for block in range(self.decoder_blocks):
            coarse = _block(layers, coarse, f"decode_{block}")
        fine = _block(layers, layers.unfolded(layers.convolved(layers.rectified(coarse), "decode_fine")), "decode_last")
        pixels = layers.unfolded(layers.convolved(layers.rectified(fine), "decode_pixels"))
        return pixels + layers.unfolded(layers.unfolded(layers.convolved(codes, "decode_cell"))) if self.alone else pixels


def _block(layers: Layers, given: Any, name: str) -> Any:
    inner = layers.rectified(layers.convolved(layers.rectified(given), f"{name}_inner"))
    return given + layers.convolved(inner, f"{name}_outer")


def vq_network(architecture: VqArchitecture, precision: str = "float32") -> keras.Model:
    """The Keras model: pictures float32 [n, h, w, 3] in [-1, 1] -> the same, through tokens; h and w are multiples of 4.

    `weight` is trained by gradients, `state` are the codes, how often each is used and the sum of what is nearest to it, which
    calls with `training=True` bring up to date. `precision` is that of the convolutions ("float32" or "bfloat16").
    """
    import keras
    from keras import ops

    used = (architecture.stages, architecture.num_codes)

    class Vq(keras.Model):
        """Weights as in `VqArchitecture.shapes`."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = {name: self.add_weight(shape=shape, initializer="zeros", name=name)
                           for name, shape in architecture.shapes().items()}
            shapes = {"codes": (*used, architecture.code_length), "use": used, "sums": (*used, architecture.code_length)}
            self.state = {name: self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)
                          for name, shape in shapes.items()}
            self.layer = KerasLayers(self.weight, precision)

        def call(self, pictures: Any, training: bool = False) -> Any:
            vectors = architecture.encoded(self.layer, pictures)
            chosen, seen = ops.zeros_like(vectors), []
            for stage in range(architecture.stages):
                left = ops.stop_gradient(vectors) - chosen
                nearest = _nearest(left, self.state["codes"][stage])
                chosen = chosen + ops.take(self.state["codes"][stage], nearest, axis=0)
                seen.append((left, nearest))
            if training:
                self._remember(seen)
            self.add_loss(_COMMITMENT * ops.mean(ops.square(vectors - ops.stop_gradient(chosen))))
            return architecture.decoded(self.layer, vectors + ops.stop_gradient(chosen - vectors))

        def _remember(self, seen: list[tuple[Any, Any]]) -> None:
            """Bring the codes up to date with the (vectors, nearest codes) of each stage."""
            flat = [ops.reshape(vectors, (-1, architecture.code_length)) for vectors, _ in seen]
            which = [ops.one_hot(ops.reshape(nearest, (-1,)), architecture.num_codes, dtype="float32") for _, nearest in seen]
            fresh = {"use": ops.stack([ops.sum(one, 0) for one in which]),
                     "sums": ops.stack([ops.matmul(ops.transpose(one), vectors) for one, vectors in zip(which, flat)])}
            for name, brought in fresh.items():
                self.state[name].assign(_MEMORY * self.state[name] + (1 - _MEMORY) * brought)
            self.state["codes"].assign(self.state["sums"] / ops.maximum(self.state["use"], 1e-6)[..., None])

    def _nearest(vectors: Any, codes: Any) -> Any:
        far = ops.sum(ops.square(codes), 1) - 2 * ops.matmul(vectors, ops.transpose(codes))
        return ops.argmin(far, axis=-1)

    return Vq()


class NumpyLayers:
    """`Layers` over float32 arrays of NumPy, of one picture [1, h, w, channels] at a time."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights

    def convolved(self, given: np.ndarray, name: str) -> np.ndarray:
        kernel, bias = self.weights[name], self.weights[f"{name}_bias"]
        _, height, width, channels = given.shape
        if len(kernel) == 1:
            return given @ kernel[0, 0] + bias
        padded = np.pad(given[0], ((1, 1), (1, 1), (0, 0)))
        matrix, sums = kernel.reshape(9 * channels, -1), np.empty((1, height, width, kernel.shape[3]), np.float32)
        rows = max(1, _PLACES_AT_ONCE // width)
        for first in range(0, height, rows):  # what is multiplied at once stays in the cache
            last = min(height, first + rows)
            squares = [padded[first + down:last + down, right:right + width] for down in range(3) for right in range(3)]
            sums[0, first:last] = np.concatenate(squares, axis=2) @ matrix + bias
        return sums

    def rectified(self, given: np.ndarray) -> np.ndarray:
        return np.maximum(given, 0)

    def folded(self, given: np.ndarray) -> np.ndarray:
        _, height, width, channels = given.shape
        split = given.reshape(height // 2, 2, width // 2, 2, channels)
        return split.transpose(0, 2, 1, 3, 4).reshape(1, height // 2, width // 2, 4 * channels)

    def unfolded(self, given: np.ndarray) -> np.ndarray:
        _, height, width, channels = given.shape
        split = given.reshape(height, width, 2, 2, channels // 4)
        return split.transpose(0, 2, 1, 3, 4).reshape(1, 2 * height, 2 * width, channels // 4)


class KerasLayers:
    """`Layers` over tensors of Keras."""

    def __init__(self, weight: dict[str, Any], precision: str = "float32") -> None:
        self._weight, self._precision = weight, precision

    def convolved(self, given: Any, name: str) -> Any:
        from keras import ops

        kernel = ops.cast(self._weight[name], self._precision)
        sums = ops.conv(ops.cast(given, self._precision), kernel, padding="same", data_format="channels_last")
        return ops.cast(sums, "float32") + self._weight[f"{name}_bias"]

    def rectified(self, given: Any) -> Any:
        from keras import ops

        return ops.relu(given)

    def folded(self, given: Any) -> Any:
        from keras import ops

        (_, height, width, _), channels = ops.shape(given), given.shape[3]
        split = ops.reshape(given, (-1, height // 2, 2, width // 2, 2, channels))
        return ops.reshape(ops.transpose(split, (0, 1, 3, 2, 4, 5)), (-1, height // 2, width // 2, 4 * channels))

    def unfolded(self, given: Any) -> Any:
        from keras import ops

        (_, height, width, _), channels = ops.shape(given), given.shape[3]
        split = ops.reshape(given, (-1, height, width, 2, 2, channels // 4))
        return ops.reshape(ops.transpose(split, (0, 1, 3, 2, 4, 5)), (-1, 2 * height, 2 * width, channels // 4))
