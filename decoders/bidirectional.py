"""Left to right with a causal model, met from the right by a simpler one: part of what a beam gives, for the price of greed."""

from __future__ import annotations

from typing import ClassVar

from decoders.lm_greedy import LmGreedy


class Bidirectional(LmGreedy):
    """Each unknown token by p(token | past) · p(y | token) · p(what follows | token), and taken for true by those after it.

    The past is heard through the causal model; what follows through its law of one token after another, passed backwards over the
    gap (`decoders.first_order`): one known token after it, and the soft evidence in between. Neither the best symbols nor the
    best sequence: it commits at once, and past the next known token it hears nothing. Exact for one erased symbol between known
    ones of a first-order source; inside a longer gap it stays with the left side, where the best guess changes sides in the
    middle, so on a symmetric Markov source it errs more than p / (1 - λe²) by what holes of two and more cost: 1.03 to 1.25 times
    that (`benchmarks.optimum`). One step of the model a token, whatever is lost. p(y | token) is the product over the bits of
    `bit_llr`.

    Source: M. K. Pitt, N. Shephard, J. Am. Stat. Assoc. 94 (1999), the look ahead, here as the posterior itself.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Pitt, Shephard, J. Am. Stat. Assoc. 94 (1999)"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Decoder bidirectional takes the bit LLRs of a token as independent of each other.",
        "Decoder bidirectional is not the optimum but for lone erasures of a first-order source: it decides from left to right.")
    _hears_on: ClassVar[bool] = True
