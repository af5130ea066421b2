"""The picture classifier as it is trained: five convolutions, each normalised over its batch, in Keras 3.

    picture [32, 32, 3], (pixel - 128) / 128
      -> 4x4, stride 2 [16, 16, w] -> 3x3 [16, 16, 2w], pool [8, 8, 2w] -> 3x3 [8, 8, 4w] -> 3x3 [8, 8, 4w], pool [4, 4, 4w]
      -> 3x3 [4, 4, 4w] -> mean over places: features [4w] -> dense: logits [classes]

Once trained, a normalisation is a factor and an offset of each channel, and `folded` makes them part of the convolution before it.

Source: S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift", ICML
2015; K. He et al., "Delving deep into rectifiers", ICCV 2015, eq. 10 (initial weights).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from channel_sim.keys import Key

if TYPE_CHECKING:
    import keras

SIDE, COLOURS, MID_PIXEL = 32, 3, 128
_VARIANCE_FLOOR, _MOMENTUM = 1e-3, 0.95


class Convolution(NamedTuple):
    """kernel: side of its window; stride: places between two windows; pooled: 2x2 places become one, their largest."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    pooled: bool


class ClassifierArchitecture(BaseModel):
    """The sizes that the weights' shapes follow from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(32, ge=1, le=256, description="channels of the first convolution; the last has four times as many")
    classes: int = Field(10, ge=2, description="classes that a picture may be of")

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        once, twice, four = self.width, 2 * self.width, 4 * self.width
        return (Convolution(COLOURS, once, kernel=4, stride=2, pooled=False), Convolution(once, twice, 3, 1, pooled=True),
                Convolution(twice, four, 3, 1, pooled=False), Convolution(four, four, 3, 1, pooled=True),
                Convolution(four, four, 3, 1, pooled=False))

    @property
    def num_features(self) -> int:
        return self.convolutions[-1].outputs

    def build(self) -> keras.Model:
        """The Keras model: pictures float32 [batch, 32, 32, 3] -> logits float32 [batch, classes]."""
        import keras
        from keras import layers

        given = place = keras.Input((SIDE, SIDE, COLOURS))
        for number, one in enumerate(self.convolutions):
            place = layers.ZeroPadding2D(1)(place)
            place = layers.Conv2D(one.outputs, one.kernel, one.stride, use_bias=False, name=f"convolution_{number}")(place)
            place = layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_VARIANCE_FLOOR, name=f"normal_{number}")(place)
            place = layers.ReLU()(place)
            place = layers.MaxPooling2D()(place) if one.pooled else place
        return keras.Model(given, layers.Dense(self.classes, name="head")(layers.GlobalAveragePooling2D()(place)))

    def initial(self, key: Key) -> dict[str, np.ndarray]:
        """float32, by the paths of Keras: what `build` does not start from 0 or 1 itself."""
        weights = {}
        for number, one in enumerate(self.convolutions):
            shape = (one.kernel, one.kernel, one.inputs, one.outputs)
            spread = np.sqrt(2 / np.prod(shape[:3]))
            weights[f"convolution_{number}/kernel"] = key.child("convolution", number).normal(*shape) * spread
        weights["head/kernel"] = key.child("head").normal(self.num_features, self.classes) * self.num_features ** -0.5
        return {name: value.astype(np.float32) for name, value in weights.items()}


def centred(pictures: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1), what the network is given, of pictures uint8 [n, 32, 32, 3]."""
    return (pictures.astype(np.float32) - MID_PIXEL) / MID_PIXEL


def folded(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """float64 with no normalisation: `convolution_i` [kernel, kernel, inputs, outputs], `head`, and a `_bias` [outputs] each."""
    plain = {"head": weights["head/kernel"].astype(np.float64), "head_bias": weights["head/bias"].astype(np.float64)}
    for name in (name.removesuffix("/kernel") for name in weights if name.startswith("convolution_")):
        gamma, beta, mean, variance = (weights[f"{name.replace('convolution', 'normal')}/{part}"].astype(np.float64)
                                       for part in ("gamma", "beta", "moving_mean", "moving_variance"))
        factor = gamma / np.sqrt(variance + _VARIANCE_FLOOR)
        plain[name] = weights[f"{name}/kernel"] * factor
        plain[f"{name}_bias"] = beta - mean * factor
    return plain
