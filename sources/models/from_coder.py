"""Any coder as a model: what it makes short is probable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, SerializeAsAny

from channel_sim import memo
from channel_sim.checks import RequestError
from channel_sim.stages import Coder
from channel_sim.types import Tokens
from sources.models.model import CausalModel

_LEAST_LIKELY_BITS = 40
"""A token that makes the code so much longer than the best gets the floor alone."""


class FromCoder(CausalModel):
    """ρ(b | x) = 2^(ℓ(x) − ℓ(xb)), normalised over b: the token b is as probable as the coder makes x short with it.

    ℓ is the number of payload bits of all packets that the coder makes of the tokens; headers and preamble are not counted. For a
    coder that spends −log2 p bits this is p. Real codes are of whole bits: those of a compressor that ends on a whole byte are
    alike for most tokens and differ by factors of 256 for the others. A sealed range code (`entropy`) is right to a bit or two for
    most tokens, but leaves zeros at its end unwritten, and a token that these say costs nothing: drawn step after step, what is
    written is what zeros decode to, by its own account nearly certain. To draw by such a coder's probabilities name its model.

    Slow by nature: every token that is asked about costs `vocab_size` encodings of the last `context_tokens` tokens, one after
    another. Meant for continuations (decoder posterior_sample behind channel cut_off) of some hundred tokens, not for coding.

    Source: G. Delétang et al., "Language modeling is compression", ICLR 2024 (arXiv 2309.10668), section 2 (compressors as
    generative models).
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Delétang et al., ICLR 2024 (arXiv 2309.10668), section 2"

    coder: SerializeAsAny[Coder] | None = Field(None, description="whose lengths they are: a table, such as { name = \"entropy\" }")
    context_tokens: int = Field(1024, ge=1, le=1 << 16, description="how many tokens back the coder is shown")
    vocab_size: int = Field(256, ge=2, le=1024, description="number of tokens; as many encodings a token")

    row_tokens: int | None = Field(
        None, ge=1, description="tokens of a picture's row: the coder is shown whole ones, up to the token asked about; or none")

    def assumed(self) -> tuple[str, ...]:
        return self.assumptions + self._given_coder().assumed()

    def digests(self) -> dict[str, str]:
        return {"coder": hashlib.sha256(memo.identity(self._given_coder()).encode()).hexdigest()}

    def start(self, num_lanes: int) -> np.ndarray:
        """object [lanes]: the past of each, bytes of int32."""
        return np.full(num_lanes, b"", object)

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        longer = np.empty(len(state), object)
        for lane, token in enumerate(np.asarray(tokens, "<i4")):
            longer[lane] = (state[lane] + token.tobytes())[-4 * self.context_tokens:]
        return longer

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        # lanes with one past, as at the beginning of a message, are asked about once
        tables = {past: shares(self.lengths(np.frombuffer(past, "<i4")), 1 << self.frequency_bits) for past in set(state)}
        return np.stack([tables[past] for past in state])

    def lengths(self, past: np.ndarray) -> np.ndarray:
        """[vocab_size]: bits of the past, int32 [n], with each token after it."""
        shown = min(past.size + 1, self.context_tokens)
        if self.row_tokens is not None and shown >= self.row_tokens:
            shown -= shown % self.row_tokens
        kept = past[past.size + 1 - shown:]
        longer = np.concatenate([np.tile(kept, (self.vocab_size, 1)), np.arange(self.vocab_size)[:, None]], axis=1)
        return self.bits([Tokens(row, self.vocab_size, self._grid(row.size)) for row in longer])

    def bits(self, tokens: Sequence[Tokens]) -> np.ndarray:
        """[items]: the code length of each."""
        return self._given_coder().coded_bits(tokens)

    def _grid(self, num_tokens: int) -> tuple[int, ...]:
        if self.row_tokens is None or num_tokens % self.row_tokens:
            return ()
        return num_tokens // self.row_tokens, self.row_tokens, 1

    def _given_coder(self) -> Coder:
        if self.coder is None:
            raise RequestError('coder of model from_coder must be given, got none; name one: coder = { name = "entropy" }')
        return self.coder


def shares(lengths: np.ndarray, total: int) -> np.ndarray:
    """int64 [n] of sum `total`: 1 each, and of the rest a share proportional to 2^-length, rounded down; the shortest gets what is
    left. Whole lengths give the same shares on every machine: powers of two, their sum and their products are exact.
    """
    excess = np.minimum(lengths - lengths.min(), _LEAST_LIKELY_BITS)
    whole = np.floor(excess)
    weights = np.ldexp(np.exp2(whole - excess), -whole.astype(np.int64))
    found = 1 + np.floor(weights * (total - lengths.size) / weights.sum()).astype(np.int64)
    found[int(lengths.argmin())] += total - found.sum()
    return found
