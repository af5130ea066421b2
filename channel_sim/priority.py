"""Unequal loss protection: the beginning of an item survives more losses than what follows it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim import reed_solomon
from channel_sim.counts import channel_card, channel_counts, delay_counts, residual_counts
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.parity import as_bytes, header_fields, number_bits, row_widths
from channel_sim.protection import refuse_doubtful
from channel_sim.stages import Channel, Delivery, Observation, Protection
from channel_sim.types import CERTAIN_LLR, Packets, Reception


class Priority(Protection):
    """`n` packets, any `needed[0]` of which give the beginning of the item, any `needed[1]` what comes next, and so on.

        bytes of the coder's packets, in order:  | layer 0 |  layer 1   |    layer 2     |  (what does not fit is not sent)
                                                      │          │              │
        each sent packet has a share of every layer:  | 1 of 4   | 1 of 6       | 1 of 7 |      n = 8, needed = [4, 6, 7]

    Layer j is cut into needed[j] rows of equal size, to which n - needed[j] rows of parity are added (the code of `reed_solomon`);
    packet i on the air is row i of all layers, side by side. So all packets matter alike, and how much of the beginning comes
    through depends on how many of them arrive, not on which: quality falls in steps, where a single code has a cliff. Rows are
    those of the layer itself first: what arrived of a layer that cannot be solved is kept.

    `shares` says how much of every packet each layer has, in proportion. Where `shares` are the bytes of the packets themselves,
    as `channel_sim.theory.priority` finds them, layers take just these. A coder's packet is delivered where all its bytes are
    known, so small ones (8 bits for a progressive stream of bytes) let the prefix end where the layer does; their headers are coded
    with them, in as few bytes as hold the number of tokens, and `header_bits` is charged for each packet that is sent.

    With `target_uses`, packets are as long as so many channel uses allow, headers, CRCs and side information included (the
    preamble is not), and the item ends where they are full; else all of it is sent. How long the coder's packets are is sent as
    side information, unless no packet is. Shorter ones are padded to the longest.

    Source: A. Albanese, J. Blömer, J. Edmonds, M. Luby, M. Sudan, "Priority encoding transmission", IEEE Trans. Inf. Theory 42
    (1996), section III; for progressive streams A. E. Mohr, E. A. Riskin, R. E. Ladner, "Unequal loss protection: graceful
    degradation of image quality over packet erasure channels through forward error correction", IEEE JSAC 18 (2000).
    """

    revision: ClassVar[int] = 2
    source: ClassVar[str] = ("A. Albanese et al., IEEE Trans. Inf. Theory 42 (1996) 1737-1744; A. E. Mohr, E. A. Riskin, "
                             "R. E. Ladner, IEEE JSAC 18 (2000) 819-828")
    assumptions: ClassVar[tuple[str, ...]] = (
        "The receiver knows from its slot which packet of the code a packet is.",
    )
    n: int = Field(16, ge=1, le=reed_solomon.MOST_ROWS, description="packets that are sent for an item")
    needed: tuple[int, ...] = Field((8, 12), min_length=1, description="packets that give each layer, in order: fewest first")
    shares: tuple[float, ...] | None = Field(None, description="part of every packet that each layer has, in proportion; or equal")
    target_uses: int | None = Field(None, ge=0, description="channel uses of an item's packets: what does not fit is not sent")

    @model_validator(mode="after")
    def _is_a_profile(self) -> Self:
        rises = all(fewer < more for fewer, more in zip((0, *self.needed), (*self.needed, self.n + 1), strict=True))
        if not rises:
            raise ValueError(f"needed must rise from layer to layer, from 1 to n={self.n} at most, got {list(self.needed)}: put "
                             "what matters most first, with the fewest packets")
        shares = self.shares if self.shares is not None else (1.0,) * len(self.needed)
        if len(shares) != len(self.needed) or not all(0 < share < np.inf for share in shares):
            raise ValueError(f"shares must be as many as needed={list(self.needed)} and above 0, got {list(shares)}: give one for "
                             "each layer, or leave the key out")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset(name for name in ("shares", "target_uses") if getattr(self, name) is None)

    def check(self, channel: Channel) -> None:
        refuse_doubtful("priority replaces missing packets", channel)

    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        self.check(channel)
        coded = [self._encode(one, channel) for one in packets]
        observations = channel.transmit([one.sent for one in coded], keys)
        return [_deliver(one, observation, channel) for one, observation in zip(coded, observations, strict=True)]

    def capacity(self, packet_bytes: int) -> int:
        """Bytes of the item in packets of `packet_bytes`."""
        return sum(layer.size for layer in self._layers(packet_bytes))

    def _layers(self, packet_bytes: int) -> list[_Layer]:
        shares = np.array(self.shares or (1.0,) * len(self.needed))
        # a byte that is to be parted goes to the layer before
        edges = np.ceil(packet_bytes * np.cumsum(shares) / shares.sum() - 1e-6).astype(int)
        layers, first, column = list[_Layer](), 0, 0
        for needed, edge in zip(self.needed, edges.tolist(), strict=True):
            layers.append(_Layer(first, needed, column, edge))
            first, column = first + layers[-1].size, edge
        return layers

    def _encode(self, packets: Packets, channel: Channel) -> _Coded:
        widths = row_widths(packets)
        stream = as_bytes(packets.header, packets.bits, widths).ravel()
        packet_bytes = self._packet_bytes(stream.size, packets, channel)
        num_rows, layers = (self.n, self._layers(packet_bytes)) if packet_bytes > 0 else (0, [])
        word = np.zeros((num_rows, max(packet_bytes, 0)), np.uint8)
        for layer in layers:
            data = np.zeros(layer.size, np.uint8)
            inside = stream[layer.first:layer.first + layer.size]
            data[:inside.size] = inside
            rows = data.reshape(layer.needed, layer.width)
            word[:, layer.columns] = np.concatenate([rows, reed_solomon.encode(rows, self.n - layer.needed)])
        header = np.zeros((num_rows, 3), np.int32)
        header[:, 0] = np.arange(num_rows)
        sent = Packets(bits=np.unpackbits(word, axis=1), num_bits=np.full(num_rows, 8 * word.shape[1], np.int32),
                       order=np.zeros(0, np.int32), bounds=np.zeros(num_rows + 1, np.int32), header=header,
                       header_bits=packets.header_bits)
        return _Coded(packets, sent, layers, widths)

    def _packet_bytes(self, num_bytes: int, packets: Packets, channel: Channel) -> int:
        """The fewest that hold `num_bytes` of the item, or the most within `target_uses`; -1 where no packet is within."""
        enough = bisect_right(range(num_bytes + 1), num_bytes - 1, key=self.capacity)
        if self.target_uses is None:
            return enough
        return bisect_right(range(enough + 1), self.target_uses, key=lambda size: self._uses(size, packets, channel)) - 1

    def _uses(self, packet_bytes: int, packets: Packets, channel: Channel) -> int:
        of_packet = channel.channel_uses(np.array([packets.header_bits + 8 * packet_bytes + channel.crc_bits]))
        return self.n * int(of_packet[0]) + channel.side_uses(_side_bits(packets))


@dataclass(frozen=True)
class _Layer:
    """Bytes of the item from `first` on, in the columns `start` to `end` of every packet; any `needed` of these restore them."""

    first: int
    needed: int
    start: int
    end: int

    @property
    def width(self) -> int:
        return self.end - self.start

    @property
    def size(self) -> int:
        return self.needed * self.width

    @property
    def columns(self) -> slice:
        return slice(self.start, self.end)


@dataclass(frozen=True, eq=False)
class _Coded:
    """The coder's packets, what is sent for them, and how; `widths` are the bytes of their headers and of their payloads."""

    packets: Packets
    sent: Packets
    layers: list[_Layer]
    widths: tuple[int, int]


def _side_bits(packets: Packets) -> int:
    return number_bits(row_widths(packets)[1])


def _deliver(coded: _Coded, observation: Observation, channel: Channel) -> Delivery:
    detection = channel.detect(observation)
    received = channel.deliver(observation, detection)
    stream, known_at = _decode(coded, received)
    reception = _reception(coded, stream, known_at >= 0, received.crc_checked)
    # a packet on the air takes as long as so many of the coder's
    longer = coded.sent.bits.shape[1] / max(8 * sum(coded.widths), 1)
    late = np.where(reception.lost, -1, np.ceil((known_at.max(axis=1, initial=-1) + 1) * longer).astype(np.int64) - 1)
    counts = channel_counts(observation, detection, received) | residual_counts(coded.packets, reception) | delay_counts(late)
    return Delivery(reception, _ledger(coded, observation.ledger, channel), counts, channel_card(channel, observation, detection))


def _decode(coded: _Coded, received: Reception) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 bytes of the coder's packets, int the place on the air with which each was known, -1: never), [num_packets, bytes]."""
    num_packets, width = coded.packets.num_packets, sum(coded.widths)
    size = max(num_packets * width, sum(layer.size for layer in coded.layers))
    stream, known_at = np.zeros(size, np.uint8), np.full(size, -1)
    arrived = np.flatnonzero(received.crc_ok)
    words = np.packbits(received.hard_bits[arrived], axis=1)
    for layer in coded.layers if arrived.size else ():
        rows, places = np.zeros((layer.needed, layer.width), np.uint8), np.full((layer.needed, layer.width), -1)
        if arrived.size >= layer.needed:
            rows = reed_solomon.decode(words[:, layer.columns], arrived, layer.needed)
            places[:] = arrived[layer.needed - 1]
        of_layer = arrived < layer.needed
        rows[arrived[of_layer]] = words[of_layer, layer.columns]
        places[arrived[of_layer]] = arrived[of_layer, None]
        inside = slice(layer.first, layer.first + layer.size)
        stream[inside], known_at[inside] = rows.ravel(), places.ravel()
    shape = (num_packets, width)
    return stream[:num_packets * width].reshape(shape), known_at[:num_packets * width].reshape(shape)


def _reception(coded: _Coded, stream: np.ndarray, known: np.ndarray, crc_checked: bool) -> Reception:
    packets, (field, _) = coded.packets, coded.widths
    whole, header = np.asarray(known.all(axis=1)), packets.header.copy()
    for packet in np.flatnonzero(whole) if field else ():
        header[packet, 1:] = header_fields(stream[packet, :field])
        # a failed CRC went unnoticed in a row that this one was made from
        whole[packet] = header[packet, 1:].max() <= packets.order.size
    header[~whole] = -1
    bits = np.unpackbits(stream[:, field:] if whole.any() else stream[:, :0], axis=1)
    llr = np.where(whole[:, None], CERTAIN_LLR * (2.0 * bits - 1), 0).astype(np.float32)
    return Reception(llr=llr, lost=~whole, crc_ok=whole, header=header, crc_checked=crc_checked)


def _ledger(coded: _Coded, sent: Ledger, channel: Channel) -> Ledger:
    """What of the rows is the coder's payload, its headers, parity and, last, what only fills them."""
    num_sent = sum(layer.size for layer in coded.layers) // max(sum(coded.widths), 1)
    of_coder = coded.packets.num_bits[:num_sent]
    payload, fields = int(of_coder.sum()), 8 * coded.widths[0] * of_coder.size
    parity = sum(8 * layer.width * (coded.sent.num_packets - layer.needed) for layer in coded.layers)
    padding = sent.coded_bits - payload - fields - parity
    split = replace(sent, coded_bits=payload, header_bits=sent.header_bits + fields, parity_bits=parity,
                    padding_bits=sent.padding_bits + padding)
    side_bits = _side_bits(coded.packets) if coded.sent.num_packets else 0
    uses = channel.side_uses(side_bits)
    return split + Ledger(side_bits=side_bits, channel_uses=uses, energy=float(uses))
