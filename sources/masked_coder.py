"""Tokens to packets and back under a masked model: any set of known tokens may be the context of any other."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from channel_sim import memo
from channel_sim.checks import require
from channel_sim.stages import Coder
from channel_sim.types import Evidence, Packets, Preamble, Reception, Tokens
from sources.entropy import Lane, Writer, at_least_a_bit, coding_weights, in_rows
from sources.models.model import MaskedModel
from sources.packet_order import in_packets, parted

_LAYERS = 4
_PLACES_AT_ONCE = 1 << 14


class MaskedEntropy(Coder):
    """Range coding under a masked model's integer tables, in packets of equal numbers of tokens that lie all over the grid.

        tokens ─▶ low-discrepancy order, cut into `num_packets` ─▶ each packet in `rounds`: model's tables of a round's tokens,
                  given the packet's context and its earlier rounds ─▶ range coder, one stream a packet

    The cells of a packet, and the tokens of a round, are consecutive in the order of `sources.packet_order`; where a cell has
    several tokens they go in the same packet, the first of all its cells first (in one round no second token is given its first): a
    lost packet leaves holes apart from one another, with known tokens around them to conceal from. More rounds let more tokens of a
    packet be context of the others; each costs a call of the model. Both ends ask the model about the same places of the same
    messages.

    `context` is the dial between efficiency and resilience: which packets must be there before a packet can be decoded.
    independent: none; a loss does no harm to other packets
    chained:     all before it; what comes after the first loss is of no use
    layered:k:   all packets of the layers below; k layers of consecutive packets, as many in each, give or take one. A loss does no
                 harm within its layer. `layered` alone is layered:4
    mdc:k:       every k-th before it; k descriptions, chained each in itself; a loss does no harm to the other descriptions
    A packet is usable if it arrived, its CRC is right, and all its context is usable.

    Slot and preamble tell which tokens a packet brings, so the header is not read and `header_bits` may be 0; it is charged.
    Lengths are not told: a range decoder reads zeros past the end. A packet is dropped if a bit of it is unknown or its CRC has
    failed. Where bits are soft and no CRC checks them, the more probable ones are taken; wrong tokens that come of it pass for
    known, unless the stream is seen to be none that this coder makes.

    Source: S. Wang, J. Dai, X. Qin, K. Yang, K. Niu, P. Zhang, "ResiComp: loss-resilient image compression via dual-functional
    masked visual token modeling", IEEE Trans. Circuits Syst. Video Technol. (2025), arXiv 2502.10812; in rounds of a fixed order
    F. Mentzer, E. Agustsson, M. Tschannen, "M2T: masking transformers twice for faster decoding", ICCV 2023.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "S. Wang et al., arXiv 2502.10812; F. Mentzer, E. Agustsson, M. Tschannen, ICCV 2023"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Both ends of the masked entropy coder have the same model, its tables equal bit for bit; the model itself is not charged.",
        "Packets of masked_entropy are known by their slot, and framing tells where one ends; every packet spans the whole item.",
    )

    model: SerializeAsAny[MaskedModel] | None = Field(None, description="the predictor; default: the shipped one that fits")
    num_packets: int = Field(8, ge=1, le=1 << 12, description="packets of an item, at most one a cell")
    context: str = Field("independent", description="independent | chained | layered:k (layers) | mdc:k (k in turn)")
    rounds: int = Field(4, ge=1, le=1 << 12, description="groups in which a packet's tokens are coded, one after another")
    header_bits: int = Field(32, ge=0, description="bits of a packet's header, charged")

    @field_validator("context")
    @classmethod
    def _is_a_context(cls, context: str) -> str:
        require(re.fullmatch(r"independent|chained|layered|(layered|mdc):[1-9][0-9]{0,8}", context) is not None,
                f"context must be independent, chained, layered, or layered:k or mdc:k with k >= 1, got {context!r}")
        return context

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        model = self._model()
        items = [_Incoming(*pair, self._plan(pair[1].grid)) for pair in zip(receptions, preambles, strict=True)]
        for turn in range(max((one.plan.num_turns for one in items), default=0)):
            waiting = [(one, packet, _Decoding(one.plan, packet, one.values, self.rounds, one.stream(packet)))
                       for one in items for packet in one.ready(turn)]
            self._decode(model, [decoding for *_, decoding in waiting])
            for one, packet, decoding in waiting:
                one.enter(packet, decoding.tokens)
        return [Evidence(one.values >= 0, np.maximum(one.values, 0), model.vocab_size, preamble.grid)
                for one, preamble in zip(items, preambles, strict=True)]

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        require(self._model().vocab_size == tokens.vocab_size, f"model must know the vocabulary of {tokens.vocab_size} tokens, "
                f"got one of {self._model().vocab_size}: name one that fits")
        plan = self._plan(tokens.grid)
        payloads, ideal_bits = self._remembered(tokens, plan)
        bits, num_bits = in_rows(payloads)
        counts = np.array([places.size for places in plan.packets], np.int64)
        packets = Packets(
            bits=bits,
            num_bits=num_bits,
            order=np.concatenate([np.zeros(0, np.int64), *plan.packets]),
            bounds=np.concatenate([[0], np.cumsum(counts)]),
            header=np.array([(packet, places[0], places.size) for packet, places in enumerate(plan.packets)]).reshape(-1, 3),
            header_bits=self.header_bits,
            context=np.array([(needs.start, needs.stop, needs.step) for needs in plan.needs]).reshape(-1, 3),
            ideal_bits=ideal_bits,
        )
        return packets, Preamble(tokens.values.size, len(payloads), tokens.grid)

    def _remembered(self, tokens: Tokens, plan: _Plan) -> tuple[list[np.ndarray], float]:
        """The payload of each packet, and the ideal bits of all."""
        memory = memo.current()
        if memory is None:
            return self._payloads(tokens, plan)
        fields = json.dumps([self.context, self.num_packets, self.rounds, tokens.grid])
        name = memo.key("masked encoded", self._law, fields, tokens.values.astype("<i4").tobytes())
        known = memory.get(name)
        if known is None:
            payloads, ideal_bits = self._payloads(tokens, plan)
            pieces = [(payload.size, np.packbits(payload).tobytes().hex()) for payload in payloads]
            memory.put(name, json.dumps([pieces, ideal_bits]).encode())
            return payloads, ideal_bits
        pieces, ideal_bits = json.loads(known)
        return [np.unpackbits(np.frombuffer(bytes.fromhex(octets), np.uint8), count=size) for size, octets in pieces], ideal_bits

    def _payloads(self, tokens: Tokens, plan: _Plan) -> tuple[list[np.ndarray], float]:
        codings = [_Encoding(plan, packet, tokens.values, self.rounds) for packet in range(len(plan.packets))]
        _run(self._model(), codings)
        return [at_least_a_bit(one.writer.stream()) for one in codings], sum(one.ideal_bits for one in codings)

    def _decode(self, model: MaskedModel, decodings: Sequence[_Decoding]) -> None:
        """Run them to their ends. One that was decoded before, from the same bits and context, is not decoded again; what was
        encoded is no help, so an encoder and a decoder that disagree are seen to disagree.
        """
        memory = memo.current()
        if memory is None:
            _run(model, decodings)
            return
        names = [memo.key("masked decoded", self._law, one.content) for one in decodings]
        found = [memory.get(name) for name in names]
        _run(model, [one for one, known in zip(decodings, found) if known is None])
        for one, name, known in zip(decodings, names, found, strict=True):
            if known is None:
                memory.put(name, one.tokens.astype("<i4").tobytes())
            else:
                one.recall(np.frombuffer(known, "<i4"))

    def _plan(self, grid: tuple[int, ...]) -> _Plan:
        packets = in_packets(grid, self.num_packets)
        slots = range(len(packets))
        kind, _, number = self.context.partition(":")
        if kind == "layered":
            layers = parted(np.arange(len(packets)), int(number or _LAYERS))
            return _Plan(grid, packets, [range(layer[0]) for layer in layers for _ in layer])
        step = int(number) if number else {"independent": len(packets), "chained": 1}[kind]
        return _Plan(grid, packets, [range(slot % step, slot, step) for slot in slots])

    def _model(self) -> MaskedModel:
        if self.model is None:
            raise ValueError("coder.model must be given, got none: name one, or use a tokenizer that has one")
        return self.model

    @property
    def _law(self) -> str:
        """What tables and streams depend on."""
        return f"{self.revision} {memo.identity(self._model())}"


class _Plan:
    """What both ends know of an item: the grid, the places int64 of each packet, and the packets that each needs as context.

    turns: when each packet can be decoded: in turn 0 without context, else in the turn after the last that it needs
    """

    def __init__(self, grid: tuple[int, ...], packets: list[np.ndarray], needs: list[range]) -> None:
        self.grid, self.packets, self.needs = grid, packets, needs
        self.turns = list[int]()
        for slots in needs:
            self.turns.append(self.turns[slots[-1]] + 1 if slots else 0)

    @property
    def num_turns(self) -> int:
        return max(self.turns, default=-1) + 1

    def message(self, values: np.ndarray, packet: int) -> np.ndarray:
        """int32 [n]: the context of `packet` as it stands in `values`, -1 elsewhere."""
        message = np.full(values.size, -1, np.int32)
        for needed in self.needs[packet]:
            message[self.packets[needed]] = values[self.packets[needed]]
        return message


class _Coding(ABC):
    """One packet on its way through the coder: what is known of the item by now, and the places of the rounds ahead."""

    def __init__(self, plan: _Plan, packet: int, values: np.ndarray, rounds: int) -> None:
        self.grid, self.message = plan.grid, plan.message(values, packet)
        self.ahead = parted(plan.packets[packet], rounds)

    def code(self, table: np.ndarray, frequency_bits: int) -> None:
        """The next round, under its tables int64 [places, vocab_size]."""
        places = self.ahead.pop(0)
        self.message[places] = self._tokens(places, table, frequency_bits)

    @abstractmethod
    def _tokens(self, places: np.ndarray, table: np.ndarray, frequency_bits: int) -> np.ndarray:
        """int32: the tokens in these places, written to the stream or read from it."""


class _Encoding(_Coding):
    """A packet to be sent; `values` are the tokens of the item."""

    def __init__(self, plan: _Plan, packet: int, values: np.ndarray, rounds: int) -> None:
        super().__init__(plan, packet, values, rounds)
        self._values, self.writer, self.ideal_bits = values, Writer(), 0.0

    def _tokens(self, places: np.ndarray, table: np.ndarray, frequency_bits: int) -> np.ndarray:
        tokens = self._values[places]
        self.writer.write(tokens, coding_weights(table, frequency_bits))
        self.ideal_bits += float(frequency_bits * tokens.size - np.log2(table[np.arange(tokens.size), tokens]).sum())
        return tokens


class _Decoding(_Coding):
    """A packet that arrived; `values` are what is known of the item. It ends with no tokens if no encoder makes such a stream."""

    def __init__(self, plan: _Plan, packet: int, values: np.ndarray, rounds: int, stream: np.ndarray) -> None:
        super().__init__(plan, packet, values, rounds)
        self._lane = Lane(stream, range(plan.packets[packet].size), complete=True)
        law = np.concatenate([[len(self.grid)], self.grid, [rounds], plan.packets[packet], self.message]).astype("<i8")
        self.content = law.tobytes() + self._lane.content
        """All that the tokens depend on beside the model."""

    @property
    def tokens(self) -> np.ndarray:
        """int32: those of the packet, in its order."""
        return np.array(self._lane.tokens, np.int32)

    def recall(self, tokens: np.ndarray) -> None:
        """End with the tokens that a packet of the same content ended with, under the same model."""
        self._lane.recall(tokens.tolist())

    def _tokens(self, places: np.ndarray, table: np.ndarray, frequency_bits: int) -> np.ndarray:
        weights = coding_weights(table, frequency_bits)
        tokens = np.array([self._lane.step(weights[row:row + 1]) for row in range(places.size)], np.int32)
        if self._lane.done:
            self.ahead.clear()
        return tokens


class _Incoming:
    """One item on the receiving side: values int32 [n], -1 where a token is not known (yet)."""

    def __init__(self, reception: Reception, preamble: Preamble, plan: _Plan) -> None:
        self.plan, self.values = plan, np.full(preamble.num_tokens, -1, np.int32)
        decided = reception.crc_checked | np.all(reception.llr != 0, axis=1)
        self._bits, self._arrived = reception.hard_bits, ~reception.lost & reception.crc_ok & decided

    def ready(self, turn: int) -> list[int]:
        """The packets of this turn that can be decoded."""
        return [packet for packet, own in enumerate(self.plan.turns) if own == turn and self._arrived[packet]
                and all(self._is_there(needed) for needed in self.plan.needs[packet])]

    def stream(self, packet: int) -> np.ndarray:
        return self._bits[packet]

    def enter(self, packet: int, tokens: np.ndarray) -> None:
        if tokens.size:
            self.values[self.plan.packets[packet]] = tokens

    def _is_there(self, packet: int) -> bool:
        return bool(self.values[self.plan.packets[packet][0]] >= 0)


def _run(model: MaskedModel, codings: Sequence[_Coding]) -> None:
    """All rounds of all packets, those of like grids side by side."""
    for together in _side_by_side(codings):
        while asking := [one for one in together if one.ahead]:
            tables = model.frequencies([one.message.reshape(one.grid) for one in asking], [one.ahead[0] for one in asking])
            for one, table in zip(asking, tables, strict=True):
                one.code(table, model.frequency_bits)


def _side_by_side(codings: Sequence[_Coding]) -> Iterator[Sequence[_Coding]]:
    """As many at once as have `_PLACES_AT_ONCE` places together, at least one."""
    first = 0
    while first < len(codings):
        ends = np.cumsum([one.message.size for one in codings[first:]])
        num = max(1, int(np.searchsorted(ends, _PLACES_AT_ONCE, side="right")))
        yield codings[first:first + num]
        first += num
