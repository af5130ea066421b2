"""The learned denoiser as it is trained: convolutions that predict what a Gaussian denoiser left over, in Keras 3.

    given [32, 32, 6] ─fold, near─▶ x [16, 16, fine] ─blocks─▶ x ──────────────────(+)─blocks─▶ x ─pixels, unfold─▶ F [32, 32, 3]
                                                               └─fold, down─▶ [8, 8, wide] ─blocks─▶ up, unfold─┘

A block is x + W act(conv(cut(x)) + level), where `level` follows from the noise level alone; convolutions are 3 x 3, nothing stands
outside. cut(x) is x cut to [-127/128, 127/128] and act(x) to [0, 127/128], so that both are 8-bit integers once rounded.

Source: J. Ho, A. Jain, P. Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (a U-Net told the noise level);
T. Karras, M. Aittala, T. Aila, S. Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, sec. 5
(inputs and targets of unit variance at every level), here with a Gaussian denoiser where they have a scaled input; K. Zhang,
W. Zuo, L. Zhang, "FFDNet: toward a fast and flexible solution for CNN-based image denoising", IEEE Trans. Image Process. 27 (2018),
sec. III (folded pictures).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from channel_sim.keys import Key

if TYPE_CHECKING:
    import keras

SIDE, COLOURS = 32, 3
LARGEST = 127 / 128
NUM_FEATURES = 8
"""Numbers that tell a noise level."""
_GIVEN, _PIXELS = 4 * 2 * COLOURS, 4 * COLOURS


class Architecture(BaseModel):
    """The sizes that the weights' shapes follow from; sums of up to 1,040 products are exact, nine a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fine: int = Field(64, ge=1, le=115, description="channels on 16 x 16 places")
    wide: int = Field(96, ge=1, le=115, description="channels on 8 x 8 places")
    early_blocks: int = Field(2, ge=0, description="blocks on 16 x 16 places, on the way down")
    coarse_blocks: int = Field(4, ge=1, description="blocks on 8 x 8 places")
    late_blocks: int = Field(2, ge=1, description="blocks on 16 x 16 places, on the way up")

    @property
    def blocks(self) -> dict[str, int]:
        """Channels of each block, in the order in which they run."""
        stages = (("early", self.early_blocks, self.fine), ("coarse", self.coarse_blocks, self.wide),
                  ("late", self.late_blocks, self.fine))
        return {f"{stage}_{number}": channels for stage, count, channels in stages for number in range(count)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Matrices [inputs, outputs], inputs of a convolution being its places times its channels; biases [outputs]."""
        fine, wide, blocks = self.fine, self.wide, self.blocks
        matrices = {"near": (9 * _GIVEN, fine), "down": (4 * fine, wide), "up": (wide, 4 * fine), "pixels": (9 * fine, _PIXELS),
                    "level": (NUM_FEATURES, sum(blocks.values()))}
        for name, channels in blocks.items():
            matrices |= {f"{name}_inner": (9 * channels, channels), f"{name}_outer": (channels, channels)}
        return {**matrices, **{f"{name}_bias": shape[1:] for name, shape in matrices.items()}}

    def initial(self, key: Key) -> dict[str, np.ndarray]:
        """float32; activations begin within their range, blocks as nearly nothing, and what is predicted too."""
        gain = {"bias": 0.0, "outer": 0.3, "inner": 1.2, "pixels": 0.2, "level": 0.3, "up": 0.3}
        weights = {}
        for name, shape in self.shapes().items():
            size = gain.get(name.split("_")[-1], 1.0) * shape[0] ** -0.5
            weights[name] = (key.child(name).normal(*shape) * size).astype(np.float32)
        return weights


def folded(given: Any, ops: Any = np) -> Any:
    """[n, h, w, c] -> [n, h/2, w/2, 4c]: squares of 2 x 2 places become channels; `ops` is NumPy or keras.ops."""
    _, height, width, channels = given.shape
    split = ops.reshape(given, (-1, height // 2, 2, width // 2, 2, channels))
    return ops.reshape(ops.transpose(split, (0, 1, 3, 2, 4, 5)), (-1, height // 2, width // 2, 4 * channels))


def unfolded(given: Any, ops: Any = np) -> Any:
    """[n, h, w, 4c] -> [n, 2h, 2w, c], the inverse of `folded`."""
    _, height, width, channels = given.shape
    split = ops.reshape(given, (-1, height, width, 2, 2, channels // 4))
    return ops.reshape(ops.transpose(split, (0, 1, 3, 2, 4, 5)), (-1, 2 * height, 2 * width, channels // 4))


def network(architecture: Architecture, precision: str = "float32", most_memory: float = 0.999) -> keras.Model:
    """The Keras model: (given float32 [n, 32, 32, 6], features [n, NUM_FEATURES]) -> float32 [n, 32, 32, 3].

    `weight` is trained by gradients; `state` holds running means of the weights, in which an update keeps the part `most_memory`
    of what was (less at first: t / (t + 9) at update t). They are what runs when it is not trained. `precision` is that of the
    products.
    """
    import keras
    from keras import ops

    class Denoiser(keras.Model):
        """Weights as in `Architecture.shapes`."""

        def __init__(self) -> None:
            super().__init__()
            shapes = architecture.shapes()
            self.weight = {name: self.add_weight(shape=shape, initializer="zeros", name=name) for name, shape in shapes.items()}
            self.state = {f"mean_{name}": self.add_weight(shape=shape, initializer="zeros", trainable=False, name=f"mean_{name}")
                          for name, shape in shapes.items()}
            self.state["updates"] = self.add_weight(shape=(), initializer="zeros", trainable=False, name="updates")

        def call(self, inputs: Any, training: bool = False) -> Any:
            given, features = inputs
            if training:
                self._remember()
            weight = self.weight if training else {name: self.state[f"mean_{name}"] for name in self.weight}
            levels = features @ weight["level"] + weight["level_bias"]
            place, first = _sums(weight, "near", folded(given, ops), 3), 0
            skipped = place
            for name, channels in architecture.blocks.items():
                if name == "coarse_0":
                    skipped, place = place, _sums(weight, "down", folded(_cut(place), ops), 1)
                if name == "late_0":
                    place = skipped + unfolded(_sums(weight, "up", _cut(place), 1), ops)
                level = levels[:, None, None, first:first + channels]
                inner = ops.clip(_sums(weight, f"{name}_inner", _cut(place), 3) + level, 0.0, LARGEST)
                place, first = place + _sums(weight, f"{name}_outer", inner, 1), first + channels
            return unfolded(_sums(weight, "pixels", _cut(place), 3), ops)

        def _remember(self) -> None:
            count = self.state["updates"]
            memory = ops.minimum(most_memory, count / (count + 9))
            for name, value in self.weight.items():
                mean = self.state[f"mean_{name}"]
                mean.assign(memory * mean + (1 - memory) * ops.stop_gradient(value))
            count.assign(count + 1)

    def _cut(given: Any) -> Any:
        return ops.clip(given, -LARGEST, LARGEST)

    def _sums(weight: dict[str, Any], name: str, given: Any, side: int) -> Any:
        kernel = ops.reshape(weight[name], (side, side, given.shape[3], -1))
        sums = ops.conv(ops.cast(given, precision), ops.cast(kernel, precision), padding="same", data_format="channels_last")
        return ops.cast(sums, "float32") + weight[f"{name}_bias"]

    return Denoiser()
