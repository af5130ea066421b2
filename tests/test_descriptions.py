"""Descriptions of an item that need no other: what a loss leaves, and what they cost."""

from __future__ import annotations

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Tokens
from sources.coder import Entropy
from sources.models.model import CausalModel
from sources.models.ngram import NGram
from tests.test_coder import received
from tests.test_entropy import got, sent, text_tokens


def test_descriptions_do_no_harm_to_one_another():
    """Catches an item of which nothing is left after one loss: with two descriptions half of it stays, and more with more."""
    tokens = text_tokens(3000)
    for descriptions, least in ((1, 0.0), (2, 0.45), (4, 0.65)):
        coder = Entropy(model=NGram(), packet_bits=512, context=f"mdc:{descriptions}")
        packets, preamble = sent(coder, tokens)
        evidence = got(coder, received(packets, (0,)), preamble)
        assert least <= evidence.known.mean() <= least + 0.1
        assert np.array_equal(evidence.values[evidence.known], tokens.values[evidence.known])


class Counting(CausalModel):
    """p(token) by how often it has been: a model that learns as long as it runs."""

    vocab_size: int = 16

    def start(self, num_lanes: int) -> np.ndarray:
        return np.ones((num_lanes, 16), np.int64)

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return state + (np.asarray(tokens)[:, None] == np.arange(16))

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        table = 1 + state * 65_000 // state.sum(axis=1, keepdims=True)
        table[:, 0] += (1 << 16) - table.sum(axis=1)
        return table


def test_what_descriptions_cost():
    """Catches descriptions that start afresh with every packet, or that know what the others say."""
    skewed = (16 * Key(9).child("skewed").uniform(6000) ** 4).astype(np.int32)
    bits = []
    for context in ("mdc:1", "mdc:3", "mdc:9", "independent"):
        packets, _ = sent(Entropy(model=Counting(), packet_bits=128, context=context, header_bits=64), Tokens(skewed, 16))
        bits.append(int(packets.num_bits.sum()))
    assert packets.num_packets > 50 and bits == sorted(bits) and bits[2] > bits[0] + 100
