"""Tokens to packets and back, every token at its fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.checks import require
from channel_sim.stages import Coder
from channel_sim.types import (
    Evidence,
    Origin,
    Packets,
    Preamble,
    Reception,
    Reconstruction,
    Tokens,
    bits_for,
    bits_to_tokens,
    token_bits,
)

_LARGEST = 2**31 - 1
_LEAST_PROBABLE = 1e-9  # float32 posteriors say no more: a prior of ±20.7 at most


class FixedLength(Coder):
    """Every token as its ceil(log2 vocab_size) bits; a packet carries floor(packet_bits / bits_per_token) tokens.

        tokens ─▶ code words, most significant bit first ─▶ [interleave] ─▶ packets

    With `interleave` a packet carries the tokens of one class of j mod num_packets, and packets that follow one another carry
    classes that lie far apart (`spread`), so that a lost packet, or a burst of them, leaves isolated holes rather than one
    wide one. The price is delay: the first packet can't leave before the last token is there, and no stretch of the item is
    whole before the last packet has come.

    The slot says which packet a row is, so any `header_bits` will do, 0 included; they are charged, not read.
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = (
        "Fixed-length packets are known by their slot; interleaving, where it is on, spans and so delays the whole item.",
    )
    takes_posterior: ClassVar[bool] = True

    packet_bits: int = Field(512, ge=1, le=_LARGEST, description="payload bits of a packet; less than a token stays unsent")
    interleave: bool = Field(False, description="neighbouring tokens in packets far apart; costs a delay of the whole item")
    header_bits: int = Field(32, ge=0, description="bits of a packet's header, charged")
    vocab_size: int | None = Field(None, ge=2, description="vocabulary; left out, the preamble tells it and is charged for it")

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        return [self._receive(*pair) for pair in zip(receptions, preambles, strict=True)]

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        require(self.vocab_size in (None, tokens.vocab_size),
                f"vocab_size must be that of the tokens, {tokens.vocab_size}, got {self.vocab_size}: leave the key out")
        num_tokens, width = tokens.values.size, tokens.bits_per_token
        num_packets = -(-num_tokens // self._tokens_per_packet(tokens.vocab_size))
        order, bounds = self._layout(num_tokens, num_packets, tokens.vocab_size)
        rows, places = _cells(bounds)
        counts = np.diff(bounds)
        cells = np.zeros((num_packets, counts.max(initial=0), width), np.uint8)
        cells[rows, places] = token_bits(tokens.values[order], tokens.vocab_size)
        packets = Packets(
            bits=cells.reshape(num_packets, cells.shape[1] * width),
            num_bits=counts * width,
            order=order,
            bounds=bounds,
            header=np.stack([np.arange(num_packets), order[bounds[:-1]], counts], axis=1),
            header_bits=self.header_bits,
        )
        choices = (tokens.vocab_size,) if self.vocab_size is None else ()
        return packets, Preamble(num_tokens, num_packets, tokens.grid, choices)

    def _receive(self, reception: Reception, preamble: Preamble) -> Evidence:
        vocab_size = self.vocab_size or preamble.choices[0]
        order, bounds = self._layout(preamble.num_tokens, preamble.num_packets, vocab_size)
        llr = _words(reception.llr, bounds, bits_for(vocab_size))  # [n, bits_per_token], in sending order
        values = bits_to_tokens(llr > 0)
        certain = _words(reception.certain, bounds, bits_for(vocab_size)).all(axis=1)
        known = certain & (values < vocab_size)
        llr[certain] = 0  # known, or certain of something that is no token: either way no soft bits
        back = np.argsort(order)
        return Evidence(
            known=known[back],
            values=np.where(known, values, 0)[back],
            vocab_size=vocab_size,
            grid=preamble.grid,
            bit_llr=llr[back] if np.any(llr) else None,
        )

    def a_priori(self, evidence: Evidence, reconstruction: Reconstruction, preamble: Preamble) -> np.ndarray:
        vocab_size = evidence.vocab_size
        order, bounds = self._layout(preamble.num_tokens, preamble.num_packets, vocab_size)
        extrinsic = np.zeros((preamble.num_tokens, bits_for(vocab_size)))
        inferred = reconstruction.origin != Origin.RECEIVED
        assert reconstruction.posterior is not None
        ones = reconstruction.posterior.astype(np.float64) @ token_bits(np.arange(vocab_size), vocab_size)
        ones = np.clip(ones, _LEAST_PROBABLE, 1 - _LEAST_PROBABLE)  # [inferred tokens, bits_per_token]
        extrinsic[inferred] = np.log(ones / (1 - ones))
        if evidence.bit_llr is not None:
            # within the same bounds, or what the posterior cannot say comes back as a vote against a bit that is sure
            most = np.log(1 / _LEAST_PROBABLE - 1)
            extrinsic[inferred] -= np.clip(evidence.bit_llr[inferred], -most, most)
        rows, places = _cells(bounds)
        cells = np.zeros((preamble.num_packets, int(np.diff(bounds).max(initial=0)), extrinsic.shape[1]), np.float32)
        cells[rows, places] = extrinsic[order]
        return cells.reshape(preamble.num_packets, -1)

    def _tokens_per_packet(self, vocab_size: int) -> int:
        width = bits_for(vocab_size)
        require(self.packet_bits >= width,
                f"coder.packet_bits must be >= {width}, the bits of one token of {vocab_size}, got {self.packet_bits}: raise it")
        return self.packet_bits // width

    def _layout(self, num_tokens: int, num_packets: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
        """(order, bounds) of `Packets`, from what both ends know."""
        if self.interleave:
            packet_of_class = np.argsort(spread(num_packets))
            packet = packet_of_class[np.arange(num_tokens) % max(num_packets, 1)]
            order = np.argsort(packet, kind="stable")
            bounds = np.concatenate([[0], np.cumsum(np.bincount(packet, minlength=num_packets))])
        else:
            order = np.arange(num_tokens)
            bounds = np.minimum(np.arange(num_packets + 1) * self._tokens_per_packet(vocab_size), num_tokens)
        return order.astype(np.int32), bounds.astype(np.int32)


def spread(num_packets: int) -> np.ndarray:
    """int64 [num_packets]: the class of j mod num_packets that each packet carries: golden-ratio steps, whole so as to meet all."""
    steps = sorted(range(1, max(num_packets, 2)), key=lambda step: abs(step - num_packets * (np.sqrt(5) - 1) / 2))
    stride = next(step for step in steps if gcd(step, num_packets) == 1)
    return np.arange(num_packets) * stride % max(num_packets, 1)


def _cells(bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(packet, place in it) of each token, in sending order; both int64 [n]."""
    rows = np.repeat(np.arange(bounds.size - 1), np.diff(bounds))
    return rows, np.arange(rows.size) - bounds[rows]


def _words(bits: np.ndarray, bounds: np.ndarray, width: int) -> np.ndarray:
    """[n, width]: each token's code word, in sending order, out of packets [num_packets, any]; 0 where a row is too short."""
    num_packets, longest = bounds.size - 1, int(np.diff(bounds).max(initial=0))
    words = np.zeros((num_packets, longest * width), bits.dtype)
    shared = min(bits.shape[1], words.shape[1])
    words[:, :shared] = bits[:, :shared]
    return words.reshape(num_packets, longest, width)[_cells(bounds)]
