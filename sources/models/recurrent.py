"""The recurrent language model as it is trained: one gated recurrent layer between an embedding and a linear head, in Keras 3.

Equations, for token x_t after state h_{t-1} (h = 0 before the first; the token `start` = vocab_size comes first):

    e_t         = tanh(embedding[x_t])                                                [embedding]
    a^z|a^r|a^n = e_t @ input + input_bias                                            [3 * hidden], of x_t alone: a table
    g^z|g^r|g^n = h_{t-1} @ recurrent                                                 [3 * hidden]
    z = sigmoid(a^z + g^z),  r = sigmoid(a^r + g^r),  n = tanh(a^n + r * (g^n + recurrent_bias))
    h_t         = n + z * (h_{t-1} - n)                                               in [-1, 1]
    logits_t    = h_t @ head + head_bias                                              [vocab_size]

All that a product is taken with (e, h) lies in [-1, 1], so an integer version can round it to fixed steps.

Source: K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation", EMNLP
2014, eq. 5 to 8, with the reset gate after the product as in cuDNN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from channel_sim.keys import Key

if TYPE_CHECKING:
    import keras


class Architecture(BaseModel):
    """The sizes that the weights' shapes follow from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(ge=2, le=65536, description="number of tokens; the start token comes on top")
    embedding: int = Field(256, ge=1, le=1040, description="length of a token's vector")
    hidden: int = Field(512, ge=1, le=1040, description="length of the state; integer products are exact up to 1,040")

    @property
    def start(self) -> int:
        """The token that is fed before the first."""
        return self.vocab_size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every weight."""
        vocab, hidden = self.vocab_size, self.hidden
        return {
            "embedding": (vocab + 1, self.embedding), "input": (self.embedding, 3 * hidden), "input_bias": (3 * hidden,),
            "recurrent": (hidden, 3 * hidden), "recurrent_bias": (hidden,), "head": (hidden, vocab), "head_bias": (vocab,),
        }

    def initial(self, key: Key) -> dict[str, np.ndarray]:
        """float32 weights before training; biases spread the update gates over memories of 1 to some 30 tokens."""
        weights = gated_layer(self.embedding, self.hidden, key)
        weights["embedding"] = key.child("embedding").normal(self.vocab_size + 1, self.embedding) * 0.5
        weights["head"] = key.child("head").normal(self.hidden, self.vocab_size) * self.hidden ** -0.5
        weights["head_bias"] = np.zeros(self.vocab_size)
        return {name: weights[name].astype(np.float32) for name in self.shapes()}

    def build(self, num_lanes: int, precision: str = "float32") -> keras.Model:
        """The network of these sizes; its `weight` and `state` are all that a checkpoint needs."""
        return network(self, num_lanes, precision)

    def examples(self, window: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(what is given, what is to be predicted) int32 [lanes, steps] of tokens [lanes, steps + 1]; a start is no target."""
        return window[:, :-1], window[:, 1:]


def gated_layer(embedding: int, hidden: int, key: Key) -> dict[str, np.ndarray]:
    """Initial weights of one gated layer: input, input_bias, recurrent (three orthogonal squares), recurrent_bias."""
    squares = np.split(key.child("recurrent").normal(hidden, 3 * hidden), 3, axis=1)
    memory = np.log(1.0 + 29.0 * key.child("memory").uniform(hidden) ** 2)
    return {
        "input": key.child("input").normal(embedding, 3 * hidden) * (embedding ** -0.5 * 1.5),
        "input_bias": np.concatenate([memory, np.zeros(2 * hidden)]),
        "recurrent": np.concatenate([np.linalg.qr(square)[0] for square in squares], axis=1),
        "recurrent_bias": np.zeros(hidden),
    }


def network(architecture: Architecture, num_lanes: int, precision: str = "float32") -> keras.Model:
    """The Keras model: tokens int32 [num_lanes, steps] -> logits float32 [num_lanes, steps, vocab_size], all from the start state.

    With `training=True` every lane goes on from the state that the last call left, until its next start token. `precision` is
    that of the matrix products ("float32" or "bfloat16"); everything else is float32.
    """
    import keras
    from keras import ops

    class Recurrent(keras.Model):
        """Weights as in `Architecture.shapes`, and the state that training carries on."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = {name: self.add_weight(shape=shape, initializer="zeros", name=name)
                           for name, shape in architecture.shapes().items()}
            self.carried = self.add_weight(shape=(num_lanes, architecture.hidden), initializer="zeros", trainable=False,
                                           name="carried")
            self.state = {"carried": self.carried}

        def call(self, tokens: Any, training: bool = False) -> Any:
            steps = ops.transpose(tokens)
            first = self.carried + 0.0 if training else ops.zeros((tokens.shape[0], architecture.hidden))
            states = read(self.weight, steps, first, architecture.start, precision)
            if training:
                self.carried.assign(states[-1])
            return ops.transpose(dense(states, self.weight, "head", precision), (1, 0, 2))

    return Recurrent()


def read(weight: dict[str, Any], steps: Any, first: Any, start: int, precision: str, layer: str = "") -> Any:
    """States float32 [steps, lanes, hidden] after each of the tokens int32 [steps, lanes]; the token `start` forgets.

    `layer` precedes the names of the gated layer's weights; the embedding has none.
    """
    from keras import ops

    keep = ops.cast(ops.not_equal(steps, start), "float32")[..., None]
    embedded = ops.cast(ops.tanh(weight["embedding"]), precision)
    table = ops.cast(ops.matmul(embedded, ops.cast(weight[layer + "input"], precision)), "float32")
    gates = ops.take(table + weight[layer + "input_bias"], steps, axis=0)
    # tensors, since TensorFlow hands variables to a custom gradient in another way
    return unrolled(gates, keep, first, weight[layer + "recurrent"] + 0.0, weight[layer + "recurrent_bias"] + 0.0, precision)


def dense(given: Any, weight: dict[str, Any], name: str, precision: str) -> Any:
    """given float32 [steps, lanes, n] @ weight[name] [n, m] + bias, float32 [steps, lanes, m]."""
    from keras import ops

    flat = ops.cast(ops.reshape(given, (-1, given.shape[2])), precision)
    sums = ops.cast(ops.matmul(flat, ops.cast(weight[name], precision)), "float32") + weight[name + "_bias"]
    return ops.reshape(sums, (given.shape[0], given.shape[1], sums.shape[1]))


def unrolled(gates: Any, keep: Any, first: Any, recurrent: Any, bias: Any, precision: str) -> Any:
    """States float32 [steps, lanes, hidden] of the recurrence; `keep` [steps, lanes, 1] is 0 where a lane starts afresh.

    The gradient is written out, so that the weights' gradient is one large product instead of one a step, and so that it runs
    on every backend.
    """
    from keras import ops

    hidden = first.shape[-1]

    def product(left: Any, right: Any) -> Any:
        return ops.cast(ops.matmul(ops.cast(left, precision), ops.cast(right, precision)), "float32")

    @ops.custom_gradient
    def run(gates: Any, first: Any, recurrent: Any, bias: Any) -> Any:
        shared = ops.cast(recurrent, precision)

        def step(carry: Any, given: Any) -> Any:
            gate, kept = given
            before = carry[0] * kept
            inner = product(before, shared)
            both = ops.sigmoid(gate[:, :2 * hidden] + inner[:, :2 * hidden])
            update, reset, offset = both[:, :hidden], both[:, hidden:], inner[:, 2 * hidden:] + bias
            new = ops.tanh(gate[:, 2 * hidden:] + reset * offset)
            carry = (new + update * (before - new), both, new, offset)
            return carry, carry

        empty = (first, ops.concatenate([first, first], 1), first, first)
        states, both, new, offset = ops.scan(step, empty, (gates, keep))[1]

        def gradient(*given: Any, upstream: Any = None) -> Any:
            coming = given[0] if upstream is None else upstream
            before = ops.concatenate([first[None], states[:-1]], 0) * keep
            update, reset = both[..., :hidden], both[..., hidden:]
            to_new = (1 - update) * (1 - new * new)
            to_update = (before - new) * update * (1 - update)
            to_reset = offset * reset * (1 - reset)
            back = ops.transpose(shared)

            def step_back(carry: Any, given: Any) -> Any:
                come, kept, update, reset, to_new, to_update, to_reset = given
                total = carry[0] + come
                at_new = total * to_new
                inner = ops.concatenate([total * to_update, at_new * to_reset, at_new * reset], 1)
                carry = ((total * update + product(inner, back)) * kept, inner, at_new)
                return carry, carry

            start = (ops.zeros_like(first), ops.zeros_like(gates[0]), ops.zeros_like(first))
            (at_first, _, _), (_, inner, at_new) = ops.scan(
                step_back, start, (coming, keep, update, reset, to_new, to_update, to_reset), reverse=True)
            flat = ops.reshape(inner, (-1, 3 * hidden))
            at_recurrent = product(ops.transpose(ops.reshape(before, (-1, hidden))), flat)
            at_gates = ops.concatenate([inner[..., :2 * hidden], at_new], -1)
            return at_gates, at_first, at_recurrent, ops.sum(flat[:, 2 * hidden:], 0)

        return states, gradient

    return run(gates, first, recurrent, bias)
