"""Retransmission: what the receiver misses is asked for and sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.card import Card
from channel_sim.counts import Counts, channel_card, channel_counts, delay_counts, residual_counts
from channel_sim.interleaving import joined, on_air, picked
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.losses import PacketLossChannel
from channel_sim.protection import refuse_doubtful
from channel_sim.stages import Channel, Delivery, Detection, Observation, Protection
from channel_sim.types import Packets, Reception

MOST_TRANSMISSIONS = 1024
"""Of a packet. At a loss rate of 0.99, one in 30,000 is then still missing."""


class Arq(Protection):
    """Selective repeat in rounds: all packets, then those that were not acknowledged, until none is left or no round.

        round 0:  0 1 2 3 4 5 6 7 ─▶ feedback: all but 2, 5 ─▶ round 1:  2 5 ─▶ feedback: all but 5 ─▶ round 2:  5

    Time is counted in packets on the air, which follow one another without a gap. Feedback on a round is there when the round is
    over. A packet is sent at most `max_transmissions` times, and never later than `deadline` packet times after it was sent
    first. With `feedback_loss_rate` f the sender does not hear of an arrival with probability f, and sends the packet once more
    for nothing; the receiver keeps what arrived first. All transmissions are charged; the feedback itself is not.

    Losses of a packet-level channel go on from round to round, so that a burst may meet a retransmission as well. On any other
    channel a round meets the channel anew, as after a pause longer than its memory.

    With independent losses p and m transmissions, p^m of the packets stay missing, and a packet is sent (1 - c^m) / (1 - c)
    times on average, c = 1 - (1 - p)(1 - f).
    """

    assumptions: ClassVar[tuple[str, ...]] = (
        "ARQ feedback takes no time, no channel uses and no energy, and tells the sender which packets arrived; what is lost of "
        "it is feedback_loss_rate.",
    )
    max_transmissions: int = Field(4, ge=1, le=MOST_TRANSMISSIONS, description="times that a packet is sent at most")
    deadline: int | None = Field(None, ge=0, description="packet times after its first transmission, past which none is sent again")
    feedback_loss_rate: float = Field(0.0, ge=0, lt=1, description="probability that the sender does not hear of an arrival")

    def check(self, channel: Channel) -> None:
        refuse_doubtful("arq asks for missing packets", channel)

    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        self.check(channel)
        exchanges = [_Exchange(one, key, np.arange(one.num_packets)) for one, key in zip(packets, keys, strict=True)]
        for turn in range(self.max_transmissions):
            waiting = [one for one in exchanges if one.due.size or not turn]
            if not waiting:
                break
            for one, observation in zip(waiting, _transmit(waiting, channel, turn), strict=True):
                one.hear(observation, channel)
                one.due = self._due(one) if turn + 1 < self.max_transmissions else one.due[:0]
        return [one.delivery(channel) for one in exchanges]

    def _due(self, exchange: _Exchange) -> np.ndarray:
        """The packets to send in the next round, in order."""
        num_sent = exchange.rows.size
        # one draw a transmission, in the order of the air: prefix-stable
        heard = exchange.key.child("feedback").uniform(num_sent)[num_sent - exchange.due.size:] >= self.feedback_loss_rate
        due = exchange.due[~(exchange.received.crc_ok[-exchange.due.size:] & heard)]
        if self.deadline is None:
            return due
        # packet i was first sent at place i; one that is too late makes room, so that those behind it are earlier
        kept: list[int] = []
        for packet in due.tolist():
            if num_sent + len(kept) - packet <= self.deadline:
                kept.append(packet)
        return np.array(kept, np.int64)


@dataclass(eq=False)
class _Exchange:
    """One item under way: `due`, the packets of the round; `rows`, which packet was sent at each place so far."""

    packets: Packets
    key: Key
    due: np.ndarray
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    observations: list[tuple[Observation, Detection, Reception]] = field(default_factory=list)
    card: Card | None = None

    @property
    def received(self) -> Reception:
        """All that was received so far, one row a transmission."""
        return joined([received for _, _, received in self.observations])

    def hear(self, observation: Observation, channel: Channel) -> None:
        self.rows = np.concatenate([self.rows, self.due])
        detection = channel.detect(observation)
        # of round 0 alone: more is sent after a burst than elsewhere, so that all rounds together are no fair sample
        self.card = self.card or channel_card(channel, observation, detection)
        if isinstance(channel, PacketLossChannel):
            self.observations.clear()  # the observation begins with all rounds before
        self.observations.append((observation, detection, channel.deliver(observation, detection)))

    def delivery(self, channel: Channel) -> Delivery:
        received, known_at = self.received, np.full(self.packets.num_packets, -1)
        arrived = np.flatnonzero(received.crc_ok)[::-1]
        known_at[self.rows[arrived]] = arrived  # the first arrival is written last
        reception = picked(self.packets, received, known_at)
        counts = _sum([channel_counts(*one) for one in self.observations])
        ledger = sum((observation.ledger for observation, _, _ in self.observations), Ledger())
        once = int(self.packets.num_bits.sum())
        ledger = replace(ledger, coded_bits=once, repeated_bits=ledger.coded_bits - once)
        counts |= residual_counts(self.packets, reception) | delay_counts(known_at)
        return Delivery(reception, ledger, counts, self.card)


def _transmit(exchanges: Sequence[_Exchange], channel: Channel, turn: int) -> list[Observation]:
    if isinstance(channel, PacketLossChannel):  # its draws are prefix-stable: sent again from the start, the past is the same
        sent = [on_air(one.packets, np.concatenate([one.rows, one.due])) for one in exchanges]
        return channel.transmit(sent, [one.key for one in exchanges])
    keys = [one.key.child("round", turn) if turn else one.key for one in exchanges]
    return channel.transmit([on_air(one.packets, one.due) for one in exchanges], keys)


def _sum(counts: Sequence[Counts]) -> Counts:
    names = dict.fromkeys(name for one in counts for name in one)
    return {name: (sum(one[name][0] for one in counts if name in one), sum(one[name][1] for one in counts if name in one))
            for name in names}
