"""Two-sided restoration of bytes with the n-gram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, SerializeAsAny

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Reconstruction
from decoders.far_side import short_law
from decoders.lm_beam import filled
from decoders.ngram_lattice import Law, Paths, Window, forward_backward, message_start
from sources.models.ngram import NGram

WINDOW_TOKENS = 1024


class NGramRestorer(Decoder):
    """Each unknown byte by its posterior given everything received, before it and after it, under the n-gram.

        evidence ─▶ forward over the contexts alive ─▶ backward ─▶ P(byte | y), each unknown byte ─▶ the most probable

    Symbol-wise maximum a posteriori, which leaves the fewest wrong bytes if the model is true. It is exact where its paths hold
    every way through a gap. Where they do not, the less promising ways forget their context (see `decoders.ngram_lattice`). It
    takes a byte n-gram alone, no other law: of one trained on 10^6 symbols of a Markov source it errs up to 1.03 times the optimum.
    A byte is decided with what follows it, up to `lookahead_bytes` beyond its window of 1,024 bytes. p(y | byte) is taken as the
    product over the bits of `bit_llr`: exact for uncoded binary signalling with known channel state, an approximation elsewhere.

    Source: Bahl, Cocke, Jelinek, Raviv, IEEE Trans. Inf. Theory 20 (1974); Franz, Anderson, IEEE J. Sel. Areas Commun. 16 (1998).
    """

    revision: ClassVar[int] = 2
    source: ClassVar[str] = ("Bahl, Cocke, Jelinek, Raviv, IEEE Trans. Inf. Theory 20 (1974); Franz, Anderson, "
                             "IEEE J. Sel. Areas Commun. 16 (1998)")
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder ngram takes the bit LLRs of a byte as independent of each other.",
        "Decoder ngram is the optimum only as far as its n-gram is the source's law and its paths are all ways through a gap.")

    model: SerializeAsAny[NGram] | None = Field(None, description="the n-gram; default: the shipped one")
    num_paths: int = Field(128, ge=1, le=4096, description="paths kept at a byte")
    hole_paths: int = Field(512, ge=1, le=4096, description="paths kept inside a hole of two erased bytes and more")
    lookahead_bytes: int = Field(64, ge=0, le=4096, description="bytes after a window of 1,024 that are heard before it is decided")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        return [self._restore(one) for one in evidence]

    def digests(self) -> dict[str, str]:
        return {} if self.model else {"model": NGram().digests()["path"]}  # a model that is named tells its own

    def _restore(self, evidence: Evidence) -> Reconstruction:
        if evidence.vocab_size != 256:
            raise RequestError(f"decoder ngram needs tokens that are bytes (vocab_size 256), got {evidence.vocab_size}; "
                               "use tokenizer bytes, or another decoder")
        posterior = self._posterior(evidence)
        return filled(evidence, posterior.argmax(axis=1), posterior)

    def _posterior(self, evidence: Evidence) -> np.ndarray:
        """float32 [unknown tokens, 256], window by window: memory beside it does not grow with the item."""
        model = self.model or NGram()
        law, states, paths = Law(model.trie(), short_law(model)), message_start(), Paths(self.num_paths, self.hole_paths)
        values = np.where(evidence.known, evidence.values, -1).astype(np.int32)
        rows = [np.zeros((0, 256), np.float32)]
        for begin in range(0, values.size, WINDOW_TOKENS):
            heard = values[begin:begin + WINDOW_TOKENS + self.lookahead_bytes]
            log_likelihood = evidence.log_likelihood(begin + np.flatnonzero(heard < 0))
            likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True, initial=-np.inf))
            decided, states = forward_backward(law, states, Window(heard, likelihood), paths, min(WINDOW_TOKENS, heard.size))
            rows.append(decided)
        return np.concatenate(rows)
