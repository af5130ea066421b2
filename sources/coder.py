"""Tokens to packets and back: every token at its fixed length, or by how probable a model finds it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from channel_sim.checks import require
from channel_sim.stages import Coder
from channel_sim.types import Evidence, Packets, Preamble, Reception, Tokens, bits_for, bits_to_tokens, token_bits
from sources.entropy import Lane, Payload, Run, decode_lanes, fill_packet
from sources.models.model import CausalModel


class FixedLength(Coder):
    """Every token as its ceil(log2 vocab_size) bits; a packet carries floor(packet_bits / bits_per_token) tokens.

        tokens ─▶ code words, most significant bit first ─▶ [interleave] ─▶ packets

    With `interleave` token j goes to packet j mod num_packets, so that a lost packet leaves isolated holes rather than one
    wide one. The price is delay: the first packet can't leave before the last token is there, and no stretch of the item is
    whole before the last packet has come.

    The slot says which packet a row is, so any `header_bits` will do, 0 included; they are charged, not read.
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = (
        "Fixed-length packets are known by their slot; interleaving, where it is on, spans and so delays the whole item.",
    )

    packet_bits: int = Field(512, ge=1, description="payload bits of a packet; what is less than a token stays unused, unsent")
    interleave: bool = Field(False, description="token j goes to packet j mod num_packets; costs a delay of the whole item")
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

    def _tokens_per_packet(self, vocab_size: int) -> int:
        width = bits_for(vocab_size)
        require(self.packet_bits >= width,
                f"packet_bits must be >= {width}, the bits of one token of {vocab_size}, got {self.packet_bits}: raise it")
        return self.packet_bits // width

    def _layout(self, num_tokens: int, num_packets: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
        """(order, bounds) of `Packets`, from what both ends know."""
        if self.interleave:
            order = np.argsort(np.arange(num_tokens) % max(num_packets, 1), kind="stable")
            counts = (num_tokens - np.arange(num_packets) + num_packets - 1) // max(num_packets, 1)
            bounds = np.concatenate([[0], np.cumsum(counts)])
        else:
            order = np.arange(num_tokens)
            bounds = np.minimum(np.arange(num_packets + 1) * self._tokens_per_packet(vocab_size), num_tokens)
        return order.astype(np.int32), bounds.astype(np.int32)


class Entropy(Coder):
    """Range coding under a model's integer tables, cut into packets of at most `packet_bits`, as many tokens in each as fit.

        tokens ─▶ model's table of the next token, given the context ─▶ range coder, one stream a packet ─▶ packets

    `context` is the dial between efficiency and resilience: what the model may look back on within a packet.
    independent: the packet's own tokens; it is decodable by itself
    chained:     all tokens before; it needs all packets before it
    restart:k:   the tokens since packet k·j; it needs those packets, and a loss does no harm past them

    A packet's length is not told: a range decoder reads zeros past its end. The header tells the sequence number, the first token
    and the count, since losses hide how many tokens went before; one packet alone needs no header.
    A packet is dropped if a bit of it is unknown, its CRC has failed, or it is seen to be none that this coder makes. Where bits
    are soft and no CRC checks them, the more probable ones are taken; wrong tokens that come of it pass for known.
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = ("Both ends of the entropy coder have the same model, its tables equal bit for bit.",)

    model: SerializeAsAny[CausalModel] | None = Field(None, description="the predictor; default: the shipped one that fits")
    packet_bits: int | None = Field(512, ge=1, description="payload bits of a packet at most; none = the whole item in one packet")
    context: str = Field("independent", description="independent | chained | restart:k (afresh every k packets)")
    repair: Literal["drop"] = Field("drop", description="what becomes of a damaged packet")
    header_bits: int = Field(32, ge=0, description="bits of a header, charged; holds sequence number, first token and count")

    @field_validator("context")
    @classmethod
    def _is_a_context(cls, context: str) -> str:
        require(re.fullmatch(r"independent|chained|restart:[1-9][0-9]{0,8}", context) is not None,
                f"context must be independent, chained, or restart:k with k >= 1 packets, got {context!r}")
        return context

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        items = [self._lanes(*pair) for pair in zip(receptions, preambles, strict=True)]
        decode_lanes(self._model(), [lane for lanes in items for lane in lanes])
        return [self._evidence(*pair) for pair in zip(items, preambles, strict=True)]

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        model = self._model()
        require(model.vocab_size == tokens.vocab_size,
                f"model must know the vocabulary of {tokens.vocab_size} tokens, got one of {model.vocab_size}: name one that fits")
        filled: list[tuple[np.ndarray, int, float]] = []
        first = 0
        while first < tokens.values.size:
            if len(filled) % self._packets_per_run == 0:
                run = Run(model, tokens.values[first:])
            filled.append(fill_packet(run, self.packet_bits))
            first += filled[-1][1]
        packets = self._packets(filled)
        self._check_header(packets.num_packets, tokens.values.size)
        return packets, Preamble(tokens.values.size, packets.num_packets, tokens.grid)

    def _packets(self, filled: Sequence[tuple[np.ndarray, int, float]]) -> Packets:
        numbers = np.arange(len(filled))
        counts = np.array([count for _, count, _ in filled], np.int64)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        num_bits = np.array([bits.size for bits, _, _ in filled], np.int64)
        rows = np.zeros((len(filled), num_bits.max(initial=0)), np.uint8)
        for row, (bits, _, _) in zip(rows, filled, strict=True):
            row[:bits.size] = bits
        return Packets(
            bits=rows,
            num_bits=num_bits,
            order=np.arange(bounds[-1]),
            bounds=bounds,
            header=np.stack([numbers, bounds[:-1], counts], axis=1),
            header_bits=self.header_bits,
            context=np.stack([numbers - numbers % self._packets_per_run, numbers], axis=1),
            ideal_bits=sum(ideal_bits for _, _, ideal_bits in filled),
        )

    def _lanes(self, reception: Reception, preamble: Preamble) -> list[Lane]:
        """What can be decoded: from each restart on, the packets up to the first that is missing."""
        payloads = _payloads(reception, preamble)
        runs = [payloads[start:start + self._packets_per_run] for start in range(0, len(payloads), self._packets_per_run)]
        usable = [[payload for payload in takewhile(bool, run) if payload] for run in runs]
        return [Lane(run) for run in usable if run]

    def _evidence(self, lanes: Sequence[Lane], preamble: Preamble) -> Evidence:
        known, values = np.zeros(preamble.num_tokens, bool), np.zeros(preamble.num_tokens, np.int32)
        for first, tokens in (packet for lane in lanes for packet in lane.decoded):
            known[first:first + len(tokens)] = True
            values[first:first + len(tokens)] = tokens
        return Evidence(known, values, self._model().vocab_size, preamble.grid)

    def _model(self) -> CausalModel:
        if self.model is None:
            raise ValueError("model of coder entropy must be given, got none: name one, or use a source that has a shipped one")
        return self.model

    @property
    def _packets_per_run(self) -> int:
        """How many packets share one run of the model."""
        endless = 1 << 31  # no item has that many packets
        return {"independent": 1, "chained": endless}.get(self.context) or int(self.context.removeprefix("restart:"))

    def _check_header(self, num_packets: int, num_tokens: int) -> None:
        if num_packets < 2:
            return  # the preamble has said it all
        sequence, position = (num_packets - 1).bit_length(), (num_tokens - 1).bit_length()
        needed = sequence + 2 * position
        require(self.header_bits >= needed,
                f"header_bits must be >= {needed} to hold sequence number ({sequence}), first token and count ({position} each) of "
                f"{num_tokens} tokens in {num_packets} packets, got {self.header_bits}: raise it, or send shorter items")


def _payloads(reception: Reception, preamble: Preamble) -> list[Payload | None]:
    """What each slot brought; None = lost, damaged, or with a header that can't be true of this slot."""
    decided = reception.crc_checked | np.all(reception.llr != 0, axis=1)
    intact = ~reception.lost & reception.crc_ok & decided
    alone = preamble.num_packets == 1
    headers = [[0, 0, preamble.num_tokens]] if alone else reception.header.tolist()
    payloads: list[Payload | None] = []
    end = 0
    for slot, (sequence, first, count) in enumerate(headers):
        follows = first >= end if slot and payloads[-1] is None else first == end
        sound = sequence == slot and follows and 1 <= count <= preamble.num_tokens - first
        payloads.append(Payload(reception.hard_bits[slot], first, count) if intact[slot] and sound else None)
        end = first + count if payloads[-1] else end
    return payloads


def _cells(bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(packet, place in it) of each token, in sending order; both int64 [n]."""
    rows = np.repeat(np.arange(bounds.size - 1), np.diff(bounds))
    return rows, np.arange(rows.size) - bounds[rows]


def _words(bits: np.ndarray, bounds: np.ndarray, width: int) -> np.ndarray:
    """[n, width]: each token's code word, in sending order, out of packets [num_packets, any]; 0 where a row is too short."""
    num_packets, longest = bounds.size - 1, int(np.diff(bounds).max(initial=0))
    cells = np.zeros((num_packets, longest * width), bits.dtype)
    shared = min(bits.shape[1], longest * width)
    cells[:, :shared] = bits[:, :shared]
    return cells.reshape(num_packets, longest, width)[_cells(bounds)]
