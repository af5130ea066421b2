"""No prior at all."""

from __future__ import annotations

from typing import ClassVar

from channel_sim.stages import Decoder


class NoDecoder(Decoder):
    """Hard decision of soft tokens; a token with a bit of which nothing is known, or a decision outside the vocabulary, is LOST.

    Computes argmax of p(y | token) bit by bit. No posterior; the confidence is the product over bits of their probabilities.
    """

    states_posterior: ClassVar[bool] = False
