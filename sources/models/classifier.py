"""The picture classifier, run in integers: the same class and the same features on any machine, in any company.

    activations   integers >= 0, unit 2^-10, at most 2^15 - 1; held in float64 for BLAS
    weights       int16, unit 2^-bits, one `bits` a layer; a product of both is below 2^30, a sum of 2^20 of them exact in float64

Source: J. Ballé, N. Johnston, D. Minnen, "Integer networks for data compression with latent-variable models", ICLR 2019.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.fidelity import MID_GREY
from channel_sim.metrics import OF_EVALUATORS, Measurement
from channel_sim.stages import Evaluator
from channel_sim.types import Content, Item
from sources.models.classifier_network import COLOURS, MID_PIXEL, SIDE, ClassifierArchitecture, Convolution
from sources.models.fixed_point import Weights, one_blas_thread
from sources.models.stored import Stamp, Stored

FORMAT = "channel-sim classifier 1"
_ACTIVATION_BITS, _WEIGHT_BITS = 10, 15
_LARGEST = (1 << 15) - 1
_SHAPE = (SIDE, SIDE, COLOURS)
_OF_SETS = ("kid", "kid_of_originals")


class Opinion(NamedTuple):
    """What the classifier says of a picture: its class, and float32 [features], what it says so by."""

    label: int
    features: np.ndarray


class Layer(NamedTuple):
    """A product: matrix float64 [inputs, outputs], of integers; bias float64 [outputs], unit 2^-10; bits of the matrix' unit."""

    matrix: np.ndarray
    bias: np.ndarray
    bits: int

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Integers [n, outputs], unit 2^-10, of integers [n, inputs]: an exact sum, and one rounding to even."""
        return np.rint((inputs @ self.matrix) * 2.0**-self.bits) + self.bias


class Network:
    """The classifier, ready to run, from what `quantised` makes."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.architecture = ClassifierArchitecture(width=weights["convolution_0"].shape[3], classes=weights["head"].shape[1])
        shapes = self.architecture.convolutions
        self._convolutions = [(_layer(weights, f"convolution_{number}"), shape) for number, shape in enumerate(shapes)]
        self._head = _layer(weights, "head")

    def classify(self, picture: np.ndarray) -> Opinion:
        """Of a picture uint8 [32, 32, 3]."""
        place = (picture.astype(np.float64) - MID_PIXEL) * ((1 << _ACTIVATION_BITS) / MID_PIXEL)
        with one_blas_thread():
            for layer, shape in self._convolutions:
                place = _convolved(place, layer, shape)
            total = place.sum(axis=(0, 1))
            num_places = place.shape[0] * place.shape[1]  # a power of two: means and logits are exact
            logits = total @ self._head.matrix / num_places * 2.0**-self._head.bits + self._head.bias
        return Opinion(int(np.argmax(logits)), (total / (num_places << _ACTIVATION_BITS)).astype(np.float32))


class ImageClassifierSmall(Stored, Evaluator):
    """Which of the ten classes of CIFAR-10 a 32x32 RGB picture shows, by a small convolutional network.

    An item's label is a place in the list of classes: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
    What can't be decoded is of no class: it counts as wrong, and for distances between sets mid-grey stands for it.
    """

    assumptions: ClassVar[tuple[str, ...]] = (
        "Task accuracy, agreement and KID are those of one small classifier, which no arm uses.",)
    source: ClassVar[str] = ("A. Krizhevsky, Learning multiple layers of features from tiny images, 2009; M. Bińkowski, D. J. "
                             "Sutherland, M. Arbel, A. Gretton, Demystifying MMD GANs, ICLR 2018")

    form, kind, key, maker = FORMAT, "classifier", "evaluator", "channel-sim train classifier"
    shipped = "image-classifier-small"

    @staticmethod
    def assemble(weights: Weights) -> Network:
        return Network(weights)

    def measure(self, item: Item, content: Content, missing: np.ndarray) -> Measurement:
        book = Measurement()
        if not _is_kind(item.content):
            book.reasons = dict.fromkeys(OF_EVALUATORS, f"the evaluator judges pictures of {SIDE}x{SIDE} pixels in RGB alone")
            return book
        book.reasons = dict.fromkeys(_OF_SETS, "a distance between sets of pictures, of which a trial has one")
        clean = self._opinion(item.content).label
        restored = self._opinion(content).label if _is_kind(content) and not missing.all() else None
        book.ratio("task_agreement", restored == clean, 1, "")
        is_labelled = item.label is not None
        if is_labelled:
            self._check_label(item)
        book.ratio("task_accuracy", restored == item.label, is_labelled, "the item has no label")
        book.ratio("clean_task_accuracy", clean == item.label, is_labelled, "the item has no label")
        return book

    def features(self, item: Item, content: Content) -> np.ndarray | None:
        if not _is_kind(item.content):
            return None
        shown = content if _is_kind(content) else np.full(_SHAPE, MID_GREY, np.uint8)
        return np.stack([self._opinion(one).features for one in (item.content, shown)])

    def _check_label(self, item: Item) -> None:
        classes = self.loaded().network.architecture.classes
        if not 0 <= (item.label or 0) < classes:
            raise RequestError(f"label of item {item.name!r} must be a class of the evaluator, 0 to {classes - 1}, got "
                               f"{item.label}; leave labels out of the data, or train a classifier of its classes")

    def _opinion(self, picture: Content) -> Opinion:
        assert isinstance(picture, np.ndarray)
        return _opinion(self.stamp(), picture.tobytes())


@lru_cache(maxsize=4096)  # all arms send the same pictures, and where nothing was lost they receive them; 4 KB each
def _opinion(stamp: Stamp, picture: bytes) -> Opinion:
    found: Opinion = ImageClassifierSmall.read(stamp).network.classify(np.frombuffer(picture, np.uint8).reshape(_SHAPE))
    return found


def _is_kind(content: Content) -> bool:
    return isinstance(content, np.ndarray) and content.shape == _SHAPE and content.dtype == np.uint8


def _convolved(place: np.ndarray, layer: Layer, shape: Convolution) -> np.ndarray:
    """Integers [height, width, outputs] of integers [height, width, inputs]: convolution, rectification and pooling."""
    padded = np.pad(place, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (shape.kernel, shape.kernel), axis=(0, 1))
    windows = windows[::shape.stride, ::shape.stride].transpose(0, 1, 3, 4, 2)  # [height, width, kernel, kernel, inputs]
    height, width = windows.shape[:2]
    sums = layer.run(windows.reshape(height * width, -1))
    after = np.clip(sums, 0, _LARGEST).reshape(height, width, shape.outputs)
    return after.reshape(height // 2, 2, width // 2, 2, -1).max(axis=(1, 3)) if shape.pooled else after


def _layer(weights: dict[str, np.ndarray], name: str) -> Layer:
    matrix = weights[name]
    return Layer(matrix.reshape(-1, matrix.shape[-1]).astype(np.float64), weights[f"{name}_bias"].astype(np.float64),
                 int(weights[f"{name}_bits"].item()))


def quantised(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From what `classifier_network.folded` gives, by rounding: int16 matrices, the bits of their units, int32 biases."""
    whole = {}
    for name in (name for name in weights if not name.endswith("_bias")):
        largest = float(np.abs(weights[name]).max())
        bits = _WEIGHT_BITS - int(np.ceil(np.log2(max(largest, 2.0**-_WEIGHT_BITS))))
        limit = (1 << _WEIGHT_BITS) - 1
        whole[name] = np.clip(np.rint(weights[name] * 2.0**bits), -limit, limit).astype(np.int16)
        whole[f"{name}_bits"] = np.array(bits, np.int32)
        whole[f"{name}_bias"] = np.rint(weights[f"{name}_bias"] * (1 << _ACTIVATION_BITS)).astype(np.int32)
    return whole
