"""The shipped masked model of pictures' tokens, and any that `channel-sim train image-masked` makes: in integers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from channel_sim.checks import RequestError
from sources.models import fixed_point
from sources.models.fixed_point import Each
from sources.models.masked_grid_layers import PLACES_AT_ONCE, Network, activated, active_places
from sources.models.masked_grid_network import NEAR
from sources.models.model import MaskedModel
from sources.models.trained import Trained

FORMAT = "channel-sim masked-grid 1"


class MaskedGrid(Trained, MaskedModel):
    """p(token | all known tokens around it) on a grid: convolutions with a residual stream, in integers.

    A message is int32 [h, w], or [h, w, stages] where a place has several tokens, -1 where one is unknown; `asked` are places in
    its flat order, all of them unknown, since a convolution hears its own place. Weights are int8, activations 8-bit integers,
    products exact: the same tables on every machine, for any number of messages and threads, whatever was asked before. Only the
    places that those asked can hear are computed; what was computed of the last message is kept, and serves where the next one is
    the same.

    Source: H. Chang et al., "MaskGIT: masked generative image transformer", CVPR 2022; F. Mentzer, E. Agustsson, M. Tschannen,
    "M2T: masking transformers twice for faster decoding", ICCV 2023; in integers as J. Ballé, N. Johnston, D. Minnen, ICLR 2019.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "H. Chang et al., CVPR 2022; F. Mentzer, E. Agustsson, M. Tschannen, ICCV 2023"
    form: ClassVar[str] = FORMAT
    kind: ClassVar[str] = "masked_grid model"
    maker: ClassVar[str] = "channel-sim train image-masked"

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of what the tokens that it knows follow from, `VqImage.tokens_digest`."""
        return str(self.tokens["tokens_sha256"])

    @property
    def vocab_size(self) -> int:
        return len(self.loaded().network.heads[0].bias)

    @staticmethod
    def assemble(weights: fixed_point.Weights) -> Network:
        first = fixed_point.dense(weights, "near")
        length = weights["embedded"].shape[1]
        vectors, unbiased = weights["embedded"].astype(np.float32), first._replace(bias=np.zeros_like(first.bias))
        head = fixed_point.dense(weights, "head")
        stages = len(first.matrix) // (NEAR ** 2 * length)
        near = [fixed_point.logits(unbiased._replace(matrix=part), of_stage)
                for parts in first.matrix.reshape(NEAR ** 2, stages, length, -1)
                for part, of_stage in zip(parts, np.split(vectors, stages))]
        count = sum(name.startswith("inner_") and name.count("_") == 1 for name in weights)
        blocks = tuple((_whole(weights, f"inner_{block}"), _whole(weights, f"outer_{block}")) for block in range(count))
        return Network(_short(np.pad(near, ((0, 0), (0, 1), (0, 0)))), first.bias, blocks, fixed_point.dense(weights, "merge"),
                       tuple(fixed_point.Dense(*columns) for columns in zip(*(np.split(one, stages, axis=-1) for one in head))),
                       deque(maxlen=1))

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        network: Network = self.loaded().network
        with fixed_point.shared_out() as each:
            return [self._tables(network, message, places, each) for message, places in zip(messages, asked)]

    def _tables(self, network: Network, message: np.ndarray, places: np.ndarray, each: Each) -> np.ndarray:
        stages = len(network.heads)
        if message.ndim not in (2, 3) or message.size != np.prod(message.shape[:2]) * stages:
            count = f"{stages} token{'s' * (stages > 1)}"
            raise RequestError(f"this {self.kind} reads grids of two sides with {count} a place, got one of shape {message.shape}; "
                               "use decoder masked_image or coder masked_entropy, and the tokenizer that the model was trained on")
        assert np.all(message.ravel()[places] < 0), "a convolution hears its own place"
        active = active_places(network, message.reshape(*message.shape[:2], stages), places // stages, each)
        tables = np.empty((places.size, self.vocab_size), np.int64)
        for stage, head in enumerate(network.heads):
            rows = np.flatnonzero(places % stages == stage)
            for first in range(0, rows.size, PLACES_AT_ONCE):
                some = rows[first:first + PLACES_AT_ONCE]
                merged = fixed_point.logits(network.merge, active[some])
                tables[some] = fixed_point.frequencies(fixed_point.logits(head, activated(merged)), self.frequency_bits)
        return tables


def _whole(weights: fixed_point.Weights, name: str) -> fixed_point.Dense:
    return fixed_point.dense(weights, name)._replace(matrix=weights[name])


def _short(values: np.ndarray) -> np.ndarray:
    """In two bytes each where that changes none: half the memory to be read."""
    return values.astype(np.int16) if np.abs(values).max() < 1 << 15 else values


class ImageMaskedSmall(MaskedGrid):
    """The shipped masked model of the tokens of `vq_image`."""

    shipped: ClassVar[str] = "image-masked-small"


class ImageMaskedRvq(MaskedGrid):
    """The shipped masked model of the tokens of `rvq_image`."""

    shipped: ClassVar[str] = "image-masked-rvq"
