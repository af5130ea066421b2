"""Parity packets: an erasure code over the packets of an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim import reed_solomon
from channel_sim.counts import channel_card, channel_counts, delay_counts, residual_counts
from channel_sim.interleaving import air_order, inverse, on_air, picked
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.protection import Interleaved, refuse_doubtful
from channel_sim.stages import Channel, Delivery, Observation
from channel_sim.types import CERTAIN_LLR, Packets, Reception


class ReedSolomon(Interleaved):
    """Parity packets of a systematic erasure code over GF(256): as many as are missing, any of them, are replaced.

        packets ─┬─────────────────────────────────────────────▶ rows ─▶ channel ─┬─▶ what arrived ──────┬─▶ packets
                 └─▶ bytes, padded ─▶ blocks ─▶ Cauchy code ─▶ parity ─┘          └─▶ solve the block ───┘

    The packets are cut into the fewest blocks of at most `k`, of sizes that differ by at most one, and ceil(packets (n - k) / k)
    parity packets are dealt out as evenly. Where k divides the packets, that is n - k a block. On the air each block's packets
    come first, then its parity; blocks follow one another, so a receiver waits for one block, not for the item. With
    `interleave_depth` d the packets of d blocks take turns, so that a burst hits each of them less, and it waits for d.

    A code symbol is a byte at one place of a block's packets, each padded with zeros to the item's longest. Zeros need not be
    sent: packets go at their own length, parity packets at that of the longest in whole bytes. If packets have headers, the
    code also covers their first token and token count, in as few bytes as hold the number of tokens; the slot tells the rest.
    What a block with too few packets did receive is kept, since the code is systematic.

    With `target_uses`, `n` and `k` are not used: each item has as many parity packets as fit into so many channel uses beside
    its packets, with all headers and CRCs and the number of parity packets, which is sent as side information; the preamble
    is not among them. Blocks are then the fewest of at most 255 rows.

    Source: I. S. Reed and G. Solomon, "Polynomial codes over certain finite fields", J. SIAM 8 (1960); as a packet code L. Rizzo,
    "Effective erasure codes for reliable computer communication protocols", ACM SIGCOMM CCR 27 (1997).
    """

    source: ClassVar[str] = "I. S. Reed, G. Solomon, J. SIAM 8 (1960) 300-304; L. Rizzo, ACM SIGCOMM CCR 27 (1997) 24-36"
    assumptions: ClassVar[tuple[str, ...]] = (
        "The receiver knows from its slot which packet of the code a packet is.",
    )
    n: int = Field(20, ge=1, le=reed_solomon.MOST_ROWS, description="packets of a block, parity included")
    k: int = Field(16, ge=1, le=reed_solomon.MOST_ROWS, description="the coder's packets of a block")
    target_uses: int | None = Field(None, ge=0, description="channel uses of an item's packets and parity; n, k are then unused")

    @model_validator(mode="after")
    def _has_parity(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k must be <= n={self.n}, got {self.k}: lower k or raise n")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset({"target_uses"} if self.target_uses is None else {"n", "k"})

    def check(self, channel: Channel) -> None:
        refuse_doubtful("reed_solomon replaces missing packets", channel)

    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        self.check(channel)
        coded = [_encode(one, self._blocks(one, channel), self.interleave_depth) for one in packets]
        in_order = self.interleave_depth == 1
        observations = channel.transmit([one.sent if in_order else on_air(one.sent, one.air) for one in coded], keys)
        return [self._deliver(one, observation, channel) for one, observation in zip(coded, observations, strict=True)]

    def _deliver(self, coded: _Coded, observation: Observation, channel: Channel) -> Delivery:
        detection = channel.detect(observation)
        received = channel.deliver(observation, detection)
        places = inverse(coded.air)
        rows = received if self.interleave_depth == 1 else picked(coded.sent, received, places)
        reception, known_at = _decode(coded, rows, places)
        counts = (channel_counts(observation, detection, received) | residual_counts(coded.packets, reception)
                  | delay_counts(np.where(reception.lost, -1, known_at)))
        return Delivery(reception, self._ledger(coded, observation.ledger, channel), counts,
                        channel_card(channel, observation, detection))

    def _ledger(self, coded: _Coded, sent: Ledger, channel: Channel) -> Ledger:
        coded_bits = int(coded.packets.num_bits.sum())
        split = replace(sent, coded_bits=coded_bits, parity_bits=sent.coded_bits - coded_bits)
        if self.target_uses is None:
            return split
        side_bits = number_bits(sum(block.num_parity for block in coded.blocks))
        uses = channel.side_uses(side_bits)
        return split + Ledger(side_bits=side_bits, channel_uses=uses, energy=float(uses))

    def _blocks(self, packets: Packets, channel: Channel) -> list[_Block]:
        num_packets = packets.num_packets
        if self.target_uses is None:
            return _deal(num_packets, -(-num_packets * (self.n - self.k) // self.k), -(-num_packets // self.k))
        num_parity = self._affordable_parity(packets, channel, self.target_uses)
        num_blocks = -(-(num_packets + num_parity) // reed_solomon.MOST_ROWS)
        while -(-num_packets // max(num_blocks, 1)) + -(-num_parity // max(num_blocks, 1)) > reed_solomon.MOST_ROWS:
            num_blocks += 1
        return _deal(num_packets, num_parity, num_blocks)

    @staticmethod
    def _affordable_parity(packets: Packets, channel: Channel, target_uses: int) -> int:
        if packets.num_packets == 0:
            return 0
        parity_bits = packets.header_bits + 8 * sum(row_widths(packets)) + channel.crc_bits
        uses, side = int(channel.channel_uses(np.array([parity_bits]))[0]), channel.side_uses(number_bits(1))
        spare = target_uses - int(channel.channel_uses(channel.bits_on_air(packets)).sum())
        # a block of one packet has 254 parity packets at most, and more tell no more
        num_parity = min(max(0, (spare - side) // max(uses, 1)), (reed_solomon.MOST_ROWS - 1) * packets.num_packets)
        while num_parity and num_parity * uses + channel.side_uses(number_bits(num_parity)) > spare:
            num_parity -= 1
        return num_parity


@dataclass(frozen=True)
class _Block:
    """`num_data` packets from packet `first` on; they and `num_parity` parity packets are sent from row `row` on."""

    first: int
    row: int
    num_data: int
    num_parity: int


@dataclass(frozen=True, eq=False)
class _Coded:
    """The coder's packets and what is sent for them; `rows` int [num_packets], which row of `sent` each of them is, and `air`
    int [num_rows], which row is sent at each place."""

    packets: Packets
    sent: Packets
    blocks: list[_Block]
    rows: np.ndarray
    air: np.ndarray


def _deal(num_packets: int, num_parity: int, num_blocks: int) -> list[_Block]:
    blocks: list[_Block] = []
    first = row = 0
    for block in range(num_blocks):
        num_data, parity = ((of + num_blocks - 1 - block) // num_blocks for of in (num_packets, num_parity))
        blocks.append(_Block(first, row, num_data, parity))
        first, row = first + num_data, row + num_data + parity
    return blocks


def number_bits(number: int) -> int:
    """Bits of a number >= 0 that is sent as side information, LEB128."""
    return 8 * max(1, -(-number.bit_length() // 7))


def row_widths(packets: Packets) -> tuple[int, int]:
    """Bytes of a code symbol row: (of each of two header fields) x 2 and of the payload, as (header, payload)."""
    field = -(-int(packets.order.size).bit_length() // 8) if packets.header_bits else 0
    return 2 * field, -(-int(packets.num_bits.max(initial=0)) // 8)


def as_bytes(header: np.ndarray, bits: np.ndarray, widths: tuple[int, int]) -> np.ndarray:
    """uint8 [num_packets, header + payload bytes]: first token and token count, big-endian, then the payload."""
    field = widths[0] // 2
    shifts = 8 * np.arange(field)[::-1]
    fields = (header[:, 1:, None] >> shifts & 255).astype(np.uint8).reshape(len(header), 2 * field)
    payload = np.zeros((len(bits), 8 * widths[1]), np.uint8)
    payload[:, :bits.shape[1]] = bits[:, :payload.shape[1]]
    return np.concatenate([fields, np.packbits(payload, axis=1)], axis=1)


def _encode(packets: Packets, blocks: list[_Block], depth: int) -> _Coded:
    data = as_bytes(packets.header, packets.bits, row_widths(packets))
    num_rows = sum(block.num_data + block.num_parity for block in blocks)
    rows = np.concatenate([block.row + np.arange(block.num_data) for block in blocks] or [np.zeros(0, int)])
    parity_rows = np.setdiff1d(np.arange(num_rows), rows)
    parity = [reed_solomon.encode(data[block.first:block.first + block.num_data], block.num_parity) for block in blocks]
    bits = np.zeros((num_rows, max(packets.bits.shape[1], 8 * data.shape[1])), np.uint8)
    bits[rows, :packets.bits.shape[1]] = packets.bits
    if parity_rows.size:
        bits[parity_rows, :8 * data.shape[1]] = np.unpackbits(np.concatenate(parity), axis=1)
    num_bits = np.full(num_rows, 8 * data.shape[1], np.int32)
    num_bits[rows] = packets.num_bits
    header = np.zeros((num_rows, 3), np.int32)
    header[rows] = packets.header
    header[parity_rows, 0] = packets.num_packets + np.arange(parity_rows.size)
    bounds = np.concatenate([[0], np.cumsum(header[:, 2])]).astype(np.int32)
    sent = Packets(bits=bits, num_bits=num_bits, order=packets.order, bounds=bounds, header=header,
                   header_bits=packets.header_bits)
    return _Coded(packets, sent, blocks, rows, air_order([block.num_data + block.num_parity for block in blocks], depth))


def _decode(coded: _Coded, received: Reception, places: np.ndarray) -> tuple[Reception, np.ndarray]:
    """The coder's packets again, those that arrived, and of each block with enough rows the others too; and the place on the air,
    int [num_packets], with which each of them was there."""
    widths = row_widths(coded.packets)
    words = _words(coded, received, widths)
    restored, known_at = {}, places[coded.rows]
    for block in coded.blocks:
        inside = np.arange(block.row, block.row + block.num_data + block.num_parity)
        usable = received.crc_ok[inside]
        if usable[:block.num_data].all() or usable.sum() < block.num_data:
            continue
        data = reed_solomon.decode(words[inside[usable]], np.flatnonzero(usable), block.num_data)
        solved_at = np.sort(places[inside[usable]])[block.num_data - 1]
        for missing in np.flatnonzero(~usable[:block.num_data]):
            restored[block.first + int(missing)] = data[missing]
            known_at[block.first + missing] = solved_at
    return _fill(coded, received, restored, widths), known_at


def _words(coded: _Coded, received: Reception, widths: tuple[int, int]) -> np.ndarray:
    """uint8 [num_rows, bytes]: every row as a row of the code; what did not arrive is never looked at."""
    is_data = np.zeros(received.num_packets, np.bool_)
    is_data[coded.rows] = True
    words = np.zeros((received.num_packets, sum(widths)), np.uint8)
    words[is_data] = as_bytes(received.header[is_data], received.hard_bits[is_data], widths)
    words[~is_data] = as_bytes(received.header[~is_data], received.hard_bits[~is_data], (0, sum(widths)))
    return words


def _fill(coded: _Coded, received: Reception, restored: dict[int, np.ndarray], widths: tuple[int, int]) -> Reception:
    lost, crc_ok, header = (array[coded.rows].copy() for array in (received.lost, received.crc_ok, received.header))
    arrived = coded.packets.num_bits[~lost]
    width = max(8 * widths[1] if restored else 0, int(arrived.max(initial=0)))
    llr = received.llr[coded.rows, :width].copy()
    for packet, word in restored.items():
        first, count = header_fields(word[:widths[0]]) if widths[0] else coded.packets.header[packet, 1:].tolist()
        if max(first, count) > coded.packets.order.size:
            continue  # a failed CRC went unnoticed in a row that this one was made from
        llr[packet] = -CERTAIN_LLR
        llr[packet, :8 * widths[1]] = CERTAIN_LLR * (2.0 * np.unpackbits(word[widths[0]:]) - 1)
        lost[packet], crc_ok[packet], header[packet] = False, True, (coded.packets.header[packet, 0], first, count)
    return Reception(llr=llr, lost=lost, crc_ok=crc_ok, header=header, crc_checked=received.crc_checked)


def header_fields(code: np.ndarray) -> tuple[int, int]:
    """(first token, token count) from the bytes that stand before a payload."""
    first, count = (int.from_bytes(half.tobytes(), "big") for half in np.split(code, 2))
    return first, count
