"""The shipped neural models of text, and any that `channel-sim train text` makes: recurrent, in integers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from channel_sim.stages import Tokenizer
from sources.models import fixed_point
from sources.models.model import CausalModel
from sources.models.trained import Trained, forget

FORMAT = "channel-sim recurrent 1"


class Recurrent(Trained, CausalModel):
    """p(token | all tokens before it): a gated recurrent network, in integers from end to end.

    Weights are int8, activations fixed-point, nonlinearities tables, coding tables integer quotients: they are the same on every
    machine, for any number of lanes and threads, step by step or over a whole message. The equations are those of the network that
    is trained (`sources.models.recurrent`). Products run as float32 matrix products of small integers, which are exact.

    Source: K. Cho et al., EMNLP 2014, eq. 5 to 8; J. Ballé, D. Minnen, N. Johnston, "Integer networks for data compression with
    latent-variable models", ICLR 2019.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "K. Cho et al., EMNLP 2014; J. Ballé, N. Johnston, D. Minnen, ICLR 2019"
    form: ClassVar[str] = FORMAT
    kind: ClassVar[str] = "recurrent model"

    @staticmethod
    def assemble(weights: fixed_point.Weights) -> fixed_point.Network:
        return fixed_point.assemble(weights)

    def start(self, num_lanes: int) -> np.ndarray:
        forget()
        before = np.zeros((num_lanes, self._network().layer.hidden), np.int32)
        return self.advance(before, np.full(num_lanes, self.vocab_size))  # the start token comes after the last of the vocabulary

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return fixed_point.step(self._network().layer, state, tokens)

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        network = self._network()
        return fixed_point.frequencies(fixed_point.logits(network.head, fixed_point.rounded(state)), self.frequency_bits)

    def tables(self, state: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # the head, half of the work, in one product instead of one a token
        with fixed_point.one_blas_thread():
            states = np.concatenate([state, fixed_point.run(self._network().layer, state, np.asarray(values))])
        return self.frequencies(states[:-1]), states[-1:]

    def tokenizer(self) -> Tokenizer:
        return super().tokenizer()

    def _network(self) -> fixed_point.Network:
        network: fixed_point.Network = self.loaded().network
        return network


class TextSmall(Recurrent):
    """English text over 1,024 byte-pair tokens; a recurrent network in integers, trained on books and technical prose."""

    shipped: ClassVar[str] = "text-small"


class TextByteSmall(Recurrent):
    """English text byte by byte; a recurrent network in integers, trained on books and technical prose."""

    shipped: ClassVar[str] = "text-byte-small"
