"""The masked language model as it is trained: two gated layers that read towards each other, merged at every token, in Keras 3.

For tokens x_1 … x_n between two edges x_0 = x_{n+1} = `edge`, any of them replaced by `mask` where it is unknown:

    f_t = forward state after x_0 … x_t,   b_t = backward state after x_{n+1} … x_t       [hidden], as in `recurrent`, either way
    m_t = tanh([f_{t-1}; b_{t+1}] @ merge + merge_bias)                                   [merge]
    logits_t = m_t @ head + head_bias                                                     [vocab_size]

x_t itself is no part of f_{t-1} or b_{t+1}, so every token is a target at once, masked or not; a share of the tokens given is
masked all the same, so that the network copes with other holes near by.

Source: A. Baevski et al., "Cloze-driven pretraining of self-attention networks", EMNLP 2019, sec. 3 (every token is predicted from
a tower that reads from the left and one that reads from the right); O. Melamud, J. Goldberger, I. Dagan, "context2vec", CoNLL
2016, sec. 3 (two recurrent networks and a layer that merges them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from channel_sim.keys import Key
from sources.models.recurrent import Architecture, dense, gated_layer, read

if TYPE_CHECKING:
    import keras

DIRECTIONS = ("forward_", "backward_")
_MOST_MASKED = 0.5
_RUNS = (1, 2, 4)


class MaskedArchitecture(Architecture):
    """The sizes that the weights' shapes follow from; the edge comes first after the vocabulary, then the mask."""

    hidden: int = Field(384, ge=1, le=520, description="length of either state; a product of both is exact up to 1,040")
    merge: int = Field(512, ge=1, le=1040, description="length of the vector that both states are merged into")

    @property
    def mask(self) -> int:
        """The token that stands for one that is unknown."""
        return self.vocab_size + 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        vocab, hidden = self.vocab_size, self.hidden
        layer = {"input": (self.embedding, 3 * hidden), "input_bias": (3 * hidden,), "recurrent": (hidden, 3 * hidden),
                 "recurrent_bias": (hidden,)}
        return {
            "embedding": (vocab + 2, self.embedding),
            **{direction + name: shape for direction in DIRECTIONS for name, shape in layer.items()},
            "merge": (2 * hidden, self.merge), "merge_bias": (self.merge,), "head": (self.merge, vocab), "head_bias": (vocab,),
        }

    def initial(self, key: Key) -> dict[str, np.ndarray]:
        weights = {direction + name: value for direction in DIRECTIONS
                   for name, value in gated_layer(self.embedding, self.hidden, key.child(direction)).items()}
        scales = {"embedding": 0.5, "merge": (2 * self.hidden) ** -0.5 * 1.5, "head": self.merge ** -0.5}
        weights |= {name: key.child(name).normal(*self.shapes()[name]) * scale for name, scale in scales.items()}
        weights |= {"merge_bias": np.zeros(self.merge), "head_bias": np.zeros(self.vocab_size)}
        return {name: weights[name].astype(np.float32) for name in self.shapes()}

    def build(self, num_lanes: int, precision: str = "float32") -> keras.Model:
        return masked_network(self, precision)

    def examples(self, window: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(given int32 [lanes, steps + 2], partly masked between two edges; targets [lanes, steps]); an edge is no target."""
        targets = window[:, :-1]
        hidden = masks(key, *targets.shape) & (targets != self.start)
        edge = np.full((len(targets), 1), self.start, np.int32)
        return np.concatenate([edge, np.where(hidden, self.mask, targets), edge], axis=1).astype(np.int32), targets


def masks(key: Key, lanes: int, steps: int) -> np.ndarray:
    """bool [lanes, steps], True = masked: in every lane another share, up to a half, and runs of 1, 2 or 4 tokens that may meet."""
    rate = _MOST_MASKED * key.child("rate").uniform(lanes, 1) ** 2
    length = np.array(_RUNS)[key.child("run").integers(len(_RUNS), lanes, 1)]
    first = key.child("first").uniform(lanes, steps) < rate / length
    masked = np.zeros_like(first)
    for back in range(max(_RUNS)):
        masked[:, back:] |= (first & (back < length))[:, :steps - back]
    return masked


def masked_network(architecture: MaskedArchitecture, precision: str = "float32") -> keras.Model:
    """The Keras model: tokens int32 [lanes, steps + 2], edges included -> logits float32 [lanes, steps, vocab_size].

    `precision` is that of the matrix products ("float32" or "bfloat16"); everything else is float32.
    """
    import keras
    from keras import ops

    class Masked(keras.Model):
        """Weights as in `MaskedArchitecture.shapes`; it carries no state on."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = {name: self.add_weight(shape=shape, initializer="zeros", name=name)
                           for name, shape in architecture.shapes().items()}
            self.state: dict[str, Any] = {}

        def call(self, tokens: Any) -> Any:
            steps = ops.transpose(tokens)
            first = ops.zeros((tokens.shape[0], architecture.hidden))
            forward = read(self.weight, steps, first, architecture.start, precision, DIRECTIONS[0])
            backward = read(self.weight, ops.flip(steps, 0), first, architecture.start, precision, DIRECTIONS[1])
            both = ops.concatenate([forward[:-2], ops.flip(backward, 0)[2:]], 2)
            merged = ops.tanh(dense(both, self.weight, "merge", precision))
            return ops.transpose(dense(merged, self.weight, "head", precision), (1, 0, 2))

    return Masked()
