"""Placebos: priors that look like a model and lack what makes one, so that a gain can be told to be the model's."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from channel_sim.stages import Tokenizer
from sources.models import weights_file
from sources.models.model import CausalModel, FiniteContextModel
from sources.models.ngram import NGram

_LANES, _STEPS, _UNSETTLED_STEPS = 256, 32, 8
_GOLDEN_RATIO = 0.6180339887498949  # the fractions of its multiples by squares stand in no simple order


class Placebo(FiniteContextModel):
    """Another model with something taken away."""

    model: SerializeAsAny[CausalModel] = Field(NGram(), description="the model that it is a placebo of; default: the shipped one")

    @field_validator("model")
    @classmethod
    def _is_exact(cls, model: CausalModel) -> CausalModel:
        if not model.exact:
            raise ValueError(f"must be a model whose tables are integers, got {type(model).__name__}; name one that was shipped or "
                             "made by channel-sim train")
        return model

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    def start(self, num_lanes: int) -> np.ndarray:
        self.model.start(1)  # weights that were replaced are noticed there
        return super().start(num_lanes)

    def tokenizer(self) -> Tokenizer:
        return self.model.tokenizer()

    def digests(self) -> dict[str, str]:
        return {"model": self.model.coding_digest().hex()}


class Unigram(Placebo):
    """Every token as often as it occurs in what `model` itself writes, whatever came before: frequencies without context.

    They are the mean law of the 9th to the 32nd token of 256 messages drawn from the model, the same ones every time. On English
    that is .02 bit a byte, or .09 bit a byte-pair token, above the histogram of the text itself.
    """

    revision: ClassVar[int] = 1

    @property
    def context_length(self) -> int:
        return 1

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        return np.tile(_long_run(self.model, self.model.coding_digest()), (len(state), 1))


@lru_cache(maxsize=8)
def _long_run(model: CausalModel, digest: bytes) -> np.ndarray:
    """int64 [vocab_size]: the coding table of a model's mean law; `digest` is of the weights, which may be others by now."""
    state, total = model.start(_LANES), np.zeros(model.vocab_size, np.int64)
    lanes, bits = np.arange(_LANES), model.frequency_bits
    for step in range(_STEPS):
        tables = model.frequencies(state)
        if step >= _UNSETTLED_STEPS:
            total += tables.sum(axis=0)
        # spread evenly over the lanes of every step, and over them in another order in each: with a slower change of order, what a
        # lane meets in one step says what it meets in the next
        uniform = ((lanes * (4 * step**2 + 2 * step + 1) + step**3) % _LANES * 2 + 1 << bits) // (2 * _LANES)
        state = model.advance(state, np.sum(np.cumsum(tables, axis=1) <= uniform[:, None], axis=1))
    spare = (1 << bits) - model.vocab_size
    table = 1 + total * spare // total.sum()
    table[total.argmax()] += (1 << bits) - table.sum()
    return table


class ShuffledContext(Placebo):
    """`model` after the same tokens in another order: what it knows is there, where it applies is not.

    One irregular order for all, in which no token stays in its place. A model that looks back a fixed number of tokens is given
    these; another one the last `window_tokens`, from a fresh start.
    """

    revision: ClassVar[int] = 1

    window_tokens: int = Field(8, ge=2, le=64, description="tokens of context for a model that has no bound of its own")

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset({"window_tokens"}) if isinstance(self.model, FiniteContextModel) else frozenset()

    @property
    def context_length(self) -> int:
        return self.model.context_length if isinstance(self.model, FiniteContextModel) else self.window_tokens

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        shuffled = state[:, self.order()]
        if isinstance(self.model, FiniteContextModel):
            return self.model.frequencies(shuffled)
        past = self.model.start(len(state))
        for tokens in shuffled.T:
            longer = self.model.advance(past, np.maximum(tokens, 0))
            past = np.where(tokens[:, None] >= 0, longer, past)
        return self.model.frequencies(past)

    def order(self) -> np.ndarray:
        """int64 [context_length]: which token of the true context, oldest first, stands at each place."""
        cycle = np.argsort(np.arange(self.context_length) ** 2 * _GOLDEN_RATIO % 1)
        order = np.empty_like(cycle)
        order[cycle] = np.roll(cycle, 1)  # one cycle through all places: none is its own
        return order


class NGramDna(NGram):
    """A 6-gram of a bacterium's genome, four letters and nothing else: to text, a model of another domain."""

    revision: ClassVar[int] = 1
    shipped: ClassVar[Path] = weights_file.FOLDER / "ngram-dna.safetensors"
