"""Redundancy around the channel: none, copies, and the order on the air."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.counts import channel_card, channel_counts, delay_counts, residual_counts
from channel_sim.interleaving import air_order, inverse, on_air, picked
from channel_sim.keys import Key
from channel_sim.stages import Channel, Delivery, Detection, Observation, Protection
from channel_sim.types import Packets


class Interleaved(Protection):
    """A protection whose packets can change places before they are sent."""

    interleave_depth: int = Field(1, ge=1, description="packets of one block lie so many places apart on the air; 1: in order")


class NoProtection(Interleaved):
    """The packets as they are. With `interleave_depth` d neighbours go d places apart: d blocks of d packets take turns."""

    detects_again: ClassVar[bool] = True

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset({"interleave_depth"} if self.interleave_depth == 1 else ())

    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        if self.interleave_depth == 1:
            return [self._deliver(one, observation, None, channel, channel.detect(observation))
                    for one, observation in zip(packets, channel.transmit(packets, keys), strict=True)]
        orders = [air_order(self._blocks(one.num_packets), self.interleave_depth) for one in packets]
        observations = channel.transmit([on_air(*sides) for sides in zip(packets, orders, strict=True)], keys)
        return [self._deliver(one, observation, inverse(order), channel, channel.detect(observation))
                for one, observation, order in zip(packets, observations, orders, strict=True)]

    def _blocks(self, num_packets: int) -> list[int]:
        depth = self.interleave_depth
        return [min(depth, num_packets - first) for first in range(0, num_packets, depth)]

    def _deliver(self, packets: Packets, observation: Observation, places: np.ndarray | None, channel: Channel,
                 detection: Detection) -> Delivery:
        received = channel.deliver(observation, detection)
        reception = received if places is None else picked(packets, received, places)
        known_at = np.arange(packets.num_packets) if places is None else places
        counts = (channel_counts(observation, detection, received) | residual_counts(packets, reception)
                  | delay_counts(np.where(reception.lost, -1, known_at)))

        def again(prior: np.ndarray) -> Delivery:
            anew = channel.detect(observation, prior[np.argsort(known_at)])
            # decoded from scratch it would fail again: what is known has no prior
            kept = detection.crc_ok & (channel.crc != "none")
            return self._deliver(packets, observation, places, channel, anew.with_packets_of(detection, kept))

        return Delivery(reception, observation.ledger, counts, channel_card(channel, observation, detection), again)


class Repeat(Interleaved):
    """Every packet is sent `copies` times; the first copy that arrives is taken.

        interleave_depth 1:  0 0 1 1 2 2 3 3        2:  0 1 0 1 2 3 2 3        4:  0 1 2 3 0 1 2 3

    With `interleave_depth` d the packets are sent in groups of at least d, each group `copies` times, so that the copies of a
    packet lie d places apart. Independent losses p leave p^copies of the packets missing; of a chain of losses, what its
    steps of d places leave.
    """

    copies: int = Field(2, ge=1, description="times that every packet is sent")

    def check(self, channel: Channel) -> None:
        refuse_doubtful("repeat takes the first copy that arrives", channel)

    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        self.check(channel)
        orders = [air_order([self.copies] * one.num_packets, self.interleave_depth) for one in packets]
        sent = [on_air(one, order // self.copies) for one, order in zip(packets, orders, strict=True)]
        observations = channel.transmit(sent, keys)
        return [self._deliver(*sides, channel) for sides in zip(packets, observations, orders, strict=True)]

    def _deliver(self, packets: Packets, observation: Observation, order: np.ndarray, channel: Channel) -> Delivery:
        detection = channel.detect(observation)
        received = channel.deliver(observation, detection)
        places = inverse(order).reshape(packets.num_packets, self.copies)  # in the order in which they are sent
        arrived = received.crc_ok[places]
        first = places[np.arange(packets.num_packets), arrived.argmax(axis=1)]
        known_at = np.where(arrived.any(axis=1), first, -1)
        reception = picked(packets, received, known_at)
        counts = (channel_counts(observation, detection, received) | residual_counts(packets, reception)
                  | delay_counts(known_at))
        once = int(packets.num_bits.sum())
        ledger = replace(observation.ledger, coded_bits=once, repeated_bits=observation.ledger.coded_bits - once)
        return Delivery(reception, ledger, counts, channel_card(channel, observation, detection))


def refuse_doubtful(what: str, channel: Channel) -> None:
    """A `RequestError` where a channel delivers packets that may be wrong."""
    if not channel.erasure_only:
        fields = type(channel).model_fields
        cures = (cure for key, cure in (("soft", "soft = false"), ("on_crc_failure", 'on_crc_failure = "erase"')) if key in fields)
        with_crc = "".join(f'give it a CRC (crc = "crc16") with {cure}, or ' for cure in cures)
        raise RequestError(f"{what}, and {type(channel).__name__} delivers doubtful ones; {with_crc}choose a channel that only "
                           'loses packets, or protection "none"')
