"""One draw of all unknown tokens at once, from what the evidence and a model leave open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Evidence, Reconstruction
from decoders.beam import check_vocabulary, find
from decoders.continuation import continued
from decoders.lm_beam import BeamDecoder, filled


class PosteriorSample(BeamDecoder):
    """A sample of p(unknown tokens | y) under a causal model: what may well have been sent, and different in every replicate.

    The tokens of one sample fit together; over many, each token comes as often as its posterior says. A sample is wrong more
    often than the best guess: of a binary symbol whose best guess errs with probability q, with 2q(1 - q). Drawn backwards off the
    lattice of `lm_beam`, so as exact as that: exact for a model that looks back no further than `look_ahead` with a beam that
    holds all ways, as for a Markov source. Of the ways that the beam does not hold, a token and its past are drawn apart.
    `confidence` is the posterior probability of the token drawn, and `posterior` that of `lm_beam`.

    Erased tokens at the end of an item, which nothing follows, need no lattice: they are drawn one after another, each given all
    before it, so exactly for every model. There `posterior` is given what was drawn, not summed over it, and the product of the
    confidences is the probability of the whole continuation.

    Source: C. K. Carter, R. Kohn, "On Gibbs sampling for state space models", Biometrika 81 (1994); S. J. Godsill, A. Doucet,
    M. West, "Monte Carlo smoothing for nonlinear time series", J. Am. Stat. Assoc. 99 (2004).
    """

    revision: ClassVar[int] = 3
    source: ClassVar[str] = "Carter, Kohn, Biometrika 81 (1994); Godsill, Doucet, West, J. Am. Stat. Assoc. 99 (2004)"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder posterior_sample takes the bit LLRs of a token as independent of each other.",
        "Decoder posterior_sample is not the optimum: a draw errs with 2q(1 - q) where the best guess errs with q.")

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        search = self.search()
        check_vocabulary(search.model, evidence)
        uniforms = [key.child("posterior_sample").uniform(one.num_tokens, 2, 4) for one, key in zip(evidence, keys)]
        heads = [_head(one) for one in evidence]
        found = find(search, heads, uniforms)
        tails = continued(search.model, [_told(one, two.drawn) for one, two in zip(heads, found)],
                          [one[head.num_tokens:, 0, 0] for one, head in zip(uniforms, heads)])
        return [filled(one, np.concatenate([two.drawn, drawn]), np.concatenate([two.posterior, posterior]))
                for one, two, (drawn, posterior) in zip(evidence, found, tails)]


def _head(evidence: Evidence) -> Evidence:
    """All up to the last token of which anything was received."""
    heard = np.flatnonzero(~evidence.erased)
    end = int(heard[-1]) + 1 if heard.size else 0
    llr = None if evidence.bit_llr is None else evidence.bit_llr[:end]
    return Evidence(evidence.known[:end], evidence.values[:end], evidence.vocab_size, bit_llr=llr)


def _told(evidence: Evidence, drawn: np.ndarray) -> np.ndarray:
    """int32 [n]: the tokens, those drawn where they are unknown."""
    values = evidence.values.copy()
    values[~evidence.known] = drawn
    return values
