"""Tokens to packets and back, each at the length that a model's probability gives it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from channel_sim import memo
from channel_sim.checks import require
from channel_sim.stages import Coder
from channel_sim.types import CERTAIN_LLR, Evidence, Packets, Preamble, Reception, Tokens
from sources.entropy import Lane, Run, decode_lanes, encode_run, settled_counts
from sources.models.model import CausalModel

_ENDLESS = 1 << 31  # more packets than any item has
_LARGEST = 2**31 - 1
_FLOAT_TABLES = 1  # what the preamble says of a stream that is sure to be decoded only where it was made


class Entropy(Coder):
    """Range coding under a model's integer tables, cut into packets of at most `packet_bits`, as many tokens in each as fit.

        tokens ─▶ model's table of the next token, given the context ─▶ range coder, one stream a run ─▶ cut into packets

    `context` is the dial between efficiency and resilience: how many packets a run of model and coder lasts.
    independent: one; each packet is decodable by itself
    chained:     all; a packet needs all before it
    restart:k:   k; a packet needs those before it in its run, and a loss does no harm past the run

    A packet carries the tokens that are settled once it is there. Lengths are not told: a range decoder reads zeros past the end.
    The header tells the sequence number, the first token and the count, since losses hide how many tokens went before; nobody
    reads it, and header_bits = 0 will do, where there is one run alone (chained, or one packet) and the slot tells the rest.
    A packet is dropped if a bit of it is unknown, its CRC has failed, or its run is seen to be none that this coder makes. Where
    bits are soft and no CRC checks them, the more probable ones are taken; wrong tokens that come of it pass for known.
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = (
        "Both ends of the entropy coder have the same model, its tables equal bit for bit; the model itself is not charged.",
        "Framing tells where a packet ends on the air, and is not charged beyond the packet's header and CRC.",
    )

    model: SerializeAsAny[CausalModel] | None = Field(None, description="the predictor; default: the shipped one that fits")
    packet_bits: int | None = Field(512, ge=1, le=_LARGEST, description="payload bits of a packet at most; none = one packet")
    context: str = Field("independent", description="independent | chained | restart:k (afresh every k packets)")
    repair: Literal["drop"] = Field("drop", description="what becomes of a damaged packet")
    header_bits: int = Field(32, ge=0, description="bits of a header, charged; holds sequence number, first token and count")

    @field_validator("context")
    @classmethod
    def _is_a_context(cls, context: str) -> str:
        require(re.fullmatch(r"independent|chained|restart:[1-9][0-9]{0,8}", context) is not None,
                f"context must be independent, chained, or restart:k with k >= 1 packets, got {context!r}")
        return context

    def assumed(self) -> tuple[str, ...]:
        return self.assumptions + (self.model.assumed() if self.model is not None else ())

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        items = [self._lanes(*pair) for pair in zip(receptions, preambles, strict=True)]
        self._decode([lane for lanes in items for lane in lanes])
        return [self._evidence(*pair) for pair in zip(items, preambles, strict=True)]

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        model = self._model()
        require(model.vocab_size == tokens.vocab_size,
                f"model must know the vocabulary of {tokens.vocab_size} tokens, got one of {model.vocab_size}: name one that fits")
        packets = self._packets(self._remembered_runs(model, tokens.values))
        self._check_header(packets.num_packets, tokens.values.size)
        preamble = Preamble(tokens.values.size, packets.num_packets, tokens.grid, () if model.exact else (_FLOAT_TABLES,))
        if not model.exact:
            self._verify(tokens, packets, preamble)
        return packets, preamble

    def _verify(self, tokens: Tokens, packets: Packets, preamble: Preamble) -> None:
        """Decode what was just coded under tables that nobody vouches for."""
        intact = np.ones(packets.num_packets, bool)
        llr = np.where(packets.bits, CERTAIN_LLR, -CERTAIN_LLR).astype(np.float32)
        lanes = self._lanes(Reception(llr, ~intact, intact, packets.header), preamble)
        decode_lanes(self._model(), lanes)
        require(np.array_equal([token for lane in lanes for token in lane.tokens], tokens.values),
                "model must give the decoder the tables that it gave the encoder, and its floating-point ones came out otherwise: "
                "use one thread, or an integer model")

    def _remembered_runs(self, model: CausalModel, values: np.ndarray) -> list[_CodedRun]:
        memory = memo.current()
        if memory is None:
            return self._encode_runs(model, values)
        name = memo.key("encoded", self._law, self.context, str(self.packet_bits), values.astype("<i4").tobytes())
        known = memory.get(name)
        if known is not None:
            return [_CodedRun.from_json(run) for run in json.loads(known)]
        runs = self._encode_runs(model, values)
        memory.put(name, json.dumps([run.to_json() for run in runs]).encode())
        return runs

    def _encode_runs(self, model: CausalModel, values: np.ndarray) -> list[_CodedRun]:
        runs, first = [], 0
        while first < values.size:
            runs.append(self._encode_run(model, values[first:]))
            first += sum(runs[-1].counts)
        return runs

    def _encode_run(self, model: CausalModel, values: np.ndarray) -> _CodedRun:
        """As much of `values` as one run holds."""
        endless = self._packets_per_run == _ENDLESS
        most_bits = None if self.packet_bits is None or endless else self.packet_bits * self._packets_per_run
        stream, count, ideal_bits = encode_run(Run(model, values), most_bits)
        require(count > 0, f"packet_bits must hold the dearest token of the model, got {self.packet_bits}: raise it, 24 always do")
        width = self.packet_bits or stream.size
        # another run follows: then this one has all its packets, be it that zeros at its end need no bits
        num_packets = self._packets_per_run if count < values.size else -(-stream.size // max(width, 1))
        ends = [width * packet for packet in range(1, num_packets)]
        counts = settled_counts(Run(model, values[:count]), stream, ends) if ends else []
        # at least a bit a packet: what never goes on the air could not be lost
        pieces = [piece if piece.size else np.zeros(1, np.uint8) for piece in np.split(stream, ends)]
        return _CodedRun(pieces, np.diff([0, *counts, count]).tolist(), ideal_bits)

    def _packets(self, runs: Sequence[_CodedRun]) -> Packets:
        pieces = [piece for run in runs for piece in run.pieces]
        numbers = np.arange(len(pieces))
        counts = np.array([count for run in runs for count in run.counts], np.int64)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        num_bits = np.array([piece.size for piece in pieces], np.int64)
        bits = np.zeros((len(pieces), num_bits.max(initial=0)), np.uint8)
        for row, piece in zip(bits, pieces, strict=True):
            row[:piece.size] = piece
        return Packets(
            bits=bits,
            num_bits=num_bits,
            order=np.arange(bounds[-1]),
            bounds=bounds,
            header=np.stack([numbers, bounds[:-1], counts], axis=1),
            header_bits=self.header_bits,
            context=np.stack([numbers - numbers % self._packets_per_run, numbers], axis=1),
            ideal_bits=sum(run.ideal_bits for run in runs),
        )

    def _lanes(self, reception: Reception, preamble: Preamble) -> list[Lane]:
        """What can be decoded: each run up to the first packet that is missing."""
        claims = self._claims(reception, preamble)
        lanes = []
        for start in range(0, len(claims), self._packets_per_run):
            run = claims[start:start + self._packets_per_run]
            usable = [claim for claim in takewhile(lambda claim: claim is not None, run) if claim is not None]
            if usable:
                rows = reception.hard_bits[start:start + len(usable)]
                if len(run) > 1:
                    rows = _widened(rows, self.packet_bits or 0)
                positions = range(usable[0].start, usable[-1].stop)
                lanes.append(Lane(rows.ravel(), positions, complete=len(usable) == len(run)))
        return lanes

    def _decode(self, lanes: Sequence[Lane]) -> None:
        """Run the lanes to their ends. One that was decoded before, from the same bits under the same model, is not decoded again;
        what was encoded is no help, so an encoder and a decoder that disagree are seen to disagree.
        """
        memory = memo.current()
        if memory is None:
            decode_lanes(self._model(), lanes)
            return
        law, fresh = self._law, []
        for lane in lanes:
            name = memo.key("decoded", law, lane.content)
            tokens = memory.get(name)
            if tokens is None:
                fresh.append((name, lane))
            else:
                lane.recall(np.frombuffer(tokens, "<i4").tolist())
        decode_lanes(self._model(), [lane for _, lane in fresh])
        for name, lane in fresh:
            memory.put(name, np.array(lane.tokens, "<i4").tobytes())

    def _claims(self, reception: Reception, preamble: Preamble) -> list[range | None]:
        """The token positions that each slot brings, by its header; None = lost, damaged, or a header that can't be true there."""
        decided = reception.crc_checked | np.all(reception.llr != 0, axis=1)
        intact = (~reception.lost & reception.crc_ok & decided).tolist()
        if self._is_one_run(preamble.num_packets):
            return [range(preamble.num_tokens) if arrived else None for arrived in intact]
        claims: list[range | None] = []
        end = 0
        for slot, (sequence, first, count) in enumerate(reception.header.tolist()):
            follows = first >= end if slot and claims[-1] is None else first == end
            sound = sequence == slot and follows and 0 <= count <= preamble.num_tokens - first
            claims.append(range(first, first + count) if intact[slot] and sound else None)
            end = first + count if claims[-1] is not None else end
        return claims

    def _evidence(self, lanes: Sequence[Lane], preamble: Preamble) -> Evidence:
        known, values = np.zeros(preamble.num_tokens, bool), np.zeros(preamble.num_tokens, np.int32)
        for lane in lanes:
            decoded = lane.positions[:len(lane.tokens)]
            known[decoded.start:decoded.stop] = True
            values[decoded.start:decoded.stop] = lane.tokens
        return Evidence(known, values, self._model().vocab_size, preamble.grid)

    def _model(self) -> CausalModel:
        if self.model is None:
            raise ValueError("model of coder entropy must be given, got none: name one, or use a source that has a shipped one")
        return self.model

    @property
    def _law(self) -> str:
        """What tables and streams depend on."""
        return f"{self.revision} {memo.identity(self._model())}"

    @property
    def _packets_per_run(self) -> int:
        """At most: the last run may end sooner."""
        return {"independent": 1, "chained": _ENDLESS}.get(self.context) or int(self.context.removeprefix("restart:"))

    def _is_one_run(self, num_packets: int) -> bool:
        """Slots and preamble say all that a header would."""
        return num_packets <= 1 or self.context == "chained"

    def _check_header(self, num_packets: int, num_tokens: int) -> None:
        if self._is_one_run(num_packets):
            return
        sequence, position = (num_packets - 1).bit_length(), num_tokens.bit_length()
        needed = sequence + 2 * position
        require(self.header_bits >= needed,
                f"header_bits must be >= {needed} to hold sequence number ({sequence}), first token and count ({position} each) of "
                f"{num_tokens} tokens in {num_packets} packets, got {self.header_bits}: raise it, or send shorter items")


class _CodedRun(NamedTuple):
    """A run of model and coder, cut into packets: the bits and the number of tokens of each."""

    pieces: list[np.ndarray]
    counts: list[int]
    ideal_bits: float

    def to_json(self) -> Any:
        return [[(piece.size, np.packbits(piece).tobytes().hex()) for piece in self.pieces], self.counts, self.ideal_bits]

    @staticmethod
    def from_json(run: Any) -> _CodedRun:
        pieces, counts, ideal_bits = run
        return _CodedRun([np.unpackbits(np.frombuffer(bytes.fromhex(octets), np.uint8), count=size) for size, octets in pieces],
                         counts, ideal_bits)


def _widened(rows: np.ndarray, width: int) -> np.ndarray:
    """[len(rows), width]: cut, or filled with 0."""
    widened = np.zeros((len(rows), width), rows.dtype)
    shared = min(rows.shape[1], width)
    widened[:, :shared] = rows[:, :shared]
    return widened
