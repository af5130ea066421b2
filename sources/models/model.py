"""What a generative model is to the rest: probabilities for inference, integer frequencies for coding."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from channel_sim.checks import require
from channel_sim.stages import Component, Tokenizer
from sources.tokenizers import BytesTokenizer

State = Any


class Predictor(Component):
    """What gives every token of its vocabulary an integer probability."""

    if TYPE_CHECKING:  # declared, not defined: a record's field can't take the place of a property
        @property
        def vocab_size(self) -> int:
            """Number of tokens that the model knows; every model has it, as a property or as a field."""

    @property
    def frequency_bits(self) -> int:
        """Bits of a coding table's sum."""
        # the floor of 1 costs .011 bit a token at 512 symbols and 2^16, but .53 at 20,000
        return 16 if self.vocab_size <= 1024 else 22


class CausalModel(Predictor, ABC):
    """p(next token | past), step by step over parallel lanes.

    Coding and reporting use one table: `frequencies`, int64 [lanes, vocab_size], every entry >= 1, each row summing to
    2^frequency_bits. They come from integer arithmetic alone, so encoder and decoder agree on any machine, whatever the
    number of lanes. A state is opaque; lanes never influence one another.
    """

    exact: ClassVar[bool] = True
    """Whether the tables are integer arithmetic from end to end; else what they code is decoded at once, and says what it is."""

    @abstractmethod
    def start(self, num_lanes: int) -> State:
        """The state before the first token, for `num_lanes` independent lanes."""

    @abstractmethod
    def advance(self, state: State, tokens: np.ndarray) -> State:
        """The state after one more token a lane, int [lanes]; `state` itself is left as it was."""

    @abstractmethod
    def frequencies(self, state: State) -> np.ndarray:
        """int64 [lanes, vocab_size]: the coding table of each lane's next token."""

    def log_probabilities(self, state: State) -> np.ndarray:
        """float64 [lanes, vocab_size]: natural logarithms, for inference; by default those of the coding table."""
        return np.log(self.frequencies(state)) - self.frequency_bits * np.log(2.0)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose tokens it predicts."""
        require(self.vocab_size == 256, f"model must predict bytes, or tokens of bytes, got one of {self.vocab_size} symbols")
        return BytesTokenizer()

    def coding_digest(self) -> bytes:
        """SHA-256 of all that the coding tables depend on; where the weights lie is no part of it."""
        fields = {name: repr(getattr(self, name)) for name in type(self).model_fields if name not in self.digests()}
        described = [type(self).__qualname__, self.revision, fields, self.digests()]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).digest()

    def tables(self, state: State, values: np.ndarray) -> tuple[np.ndarray, State]:
        """(frequencies int64 [n, vocab_size] of each of `values` given what came before it, state after them); one lane."""
        rows = np.empty((len(values), self.vocab_size), np.int64)
        for position, value in enumerate(np.asarray(values)):
            rows[position] = self.frequencies(state)[0]
            state = self.advance(state, np.array([value]))
        return rows, state


class FiniteContextModel(CausalModel, ABC):
    """A model that looks back `context_length` tokens; its state is int32 [lanes, context_length], oldest first, -1 = none."""

    @property
    @abstractmethod
    def context_length(self) -> int:
        """How many tokens back the model looks, at least 1."""

    def start(self, num_lanes: int) -> np.ndarray:
        return np.full((num_lanes, self.context_length), -1, np.int32)

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return np.concatenate([state, np.asarray(tokens, np.int32)[:, None]], axis=1)[:, 1:]

    def tables(self, state: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # all contexts are known beforehand: one call instead of a step a token
        past = np.concatenate([state[0], np.asarray(values, np.int32)])
        contexts = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(past, self.context_length))
        return self.frequencies(contexts[:-1]), contexts[-1:]


class MaskedModel(Predictor, ABC):
    """p(token | all known tokens of its message, before it and after it), for many messages side by side.

    A message is int32 [n], -1 where the token is unknown. A place that is asked about may be known or not: its own token is never
    heard. Tables are integers, alike on any machine and in any company; messages never influence one another.
    """

    @abstractmethod
    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        """int64 [places asked, vocab_size] of each message, every entry >= 1, each row summing to 2^frequency_bits.

        `asked` int64 [places] of each message, every place once.
        """
