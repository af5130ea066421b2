"""The shipped masked model of text, and any that `channel-sim train text` makes that reads both sides: in integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from sources.models import fixed_point
from sources.models.masked_network import DIRECTIONS
from sources.models.model import MaskedModel
from sources.models.trained import Trained

FORMAT = "channel-sim masked 1"
_HEARD_AT_ONCE = 256


class Network(NamedTuple):
    """A layer that reads forward, one that reads backward, what merges them, and the head."""

    forward: fixed_point.Gated
    backward: fixed_point.Gated
    merge: fixed_point.Dense
    head: fixed_point.Dense


class Masked(Trained, MaskedModel):
    """p(token | all known tokens before and after it): two gated recurrent networks that read towards each other, in integers.

    Weights are int8, activations fixed-point, nonlinearities tables: the same on every machine, for any number of messages and
    threads. The equations are those of the network that is trained (`sources.models.masked_network`).

    Source: A. Baevski et al., "Cloze-driven pretraining of self-attention networks", EMNLP 2019, sec. 3; O. Melamud, J. Goldberger,
    I. Dagan, "context2vec", CoNLL 2016; in integers as J. Ballé, D. Minnen, N. Johnston, ICLR 2019.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "A. Baevski et al., EMNLP 2019; O. Melamud, J. Goldberger, I. Dagan, CoNLL 2016"
    form: ClassVar[str] = FORMAT
    kind: ClassVar[str] = "masked model"

    @staticmethod
    def assemble(weights: fixed_point.Weights) -> Network:
        forward, backward = (fixed_point.gated(weights, direction) for direction in DIRECTIONS)
        return Network(forward, backward, fixed_point.dense(weights, "merge"), fixed_point.dense(weights, "head"))

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        network: Network = self.loaded().network
        with fixed_point.one_blas_thread():
            before = heard(network.forward, messages, asked, self.vocab_size)
            turned = [one.size - 1 - places for one, places in zip(messages, asked)]
            after = heard(network.backward, [one[::-1] for one in messages], turned, self.vocab_size)
            return [self._tables(network, *both) for both in zip(before, after)]

    def _tables(self, network: Network, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        tables = np.empty((len(before), self.vocab_size), np.int64)
        for first in range(0, len(before), _HEARD_AT_ONCE):  # products of bounded size, however much is asked
            rows = slice(first, first + _HEARD_AT_ONCE)
            both = np.concatenate([before[rows], after[rows]], axis=1).astype(np.float32)
            logits = fixed_point.logits(network.head, fixed_point.activations(network.merge, both))
            tables[rows] = fixed_point.frequencies(logits, self.frequency_bits)
        return tables


class TextMaskedSmall(Masked):
    """English text over 1,024 byte-pair tokens, each from all others; in integers, trained on books and technical prose."""

    shipped: ClassVar[str] = "text-masked-small"


def heard(layer: fixed_point.Gated, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray], edge: int) -> list[np.ndarray]:
    """int8 [asked, hidden] of each message: the state after the edge and all tokens before each place, in units of 2^-7.

    Messages int [n], -1 = unknown, side by side.
    """
    states = [np.zeros((places.size, layer.hidden), np.int8) for places in asked]
    rows = [_rows(one.size, places) for one, places in zip(messages, asked)]
    running = np.array([i for i, places in enumerate(asked) if places.size], np.int64)
    hidden = fixed_point.step(layer, np.zeros((running.size, layer.hidden), np.int32), np.full(running.size, edge))
    last = np.array([max(places, default=-1) for places in asked])
    for at in range(max(last, default=-1) + 1):
        for lane, i in enumerate(running):
            if rows[i][at] >= 0:
                states[i][rows[i][at]] = fixed_point.rounded(hidden[lane:lane + 1])[0]
        on = last[running] > at
        running, hidden = running[on], hidden[on]
        tokens = np.array([messages[i][at] for i in running], np.int64)
        hidden = fixed_point.step(layer, hidden, np.where(tokens < 0, edge + 1, tokens))
    return states


def _rows(num_tokens: int, asked: np.ndarray) -> np.ndarray:
    """int64 [n]: which of the `asked` places each token is, -1 for none."""
    rows = np.full(num_tokens, -1)
    rows[asked] = np.arange(asked.size)
    return rows
