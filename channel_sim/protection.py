"""Redundancy around the channel, and what is counted on the way through it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Channel, Delivery, Detection, Observation, Protection
from channel_sim.types import Packets, Reception

Counts = dict[str, tuple[float, float]]


class NoProtection(Protection):
    """The packets as they are."""

    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        return [self._deliver(observation, channel) for observation in channel.transmit(packets, keys)]

    def _deliver(self, observation: Observation, channel: Channel) -> Delivery:
        detection = channel.detect(observation)
        reception = channel.deliver(observation, detection)
        counts = channel_counts(observation, detection, reception) | residual_counts(observation.packets, reception)
        return Delivery(reception, observation.ledger, counts)


def channel_counts(observation: Observation, detection: Detection, reception: Reception) -> Counts:
    """What the channel did to all that was sent, parity included; `reception` is the channel's own.

    packet_loss_rate: packets lost (a packet erased because its CRC failed is lost) / packets sent
    bit_error_rate:   wrong decisions / payload bits decided, before a failed CRC blanks them; an LLR of 0 decides nothing
    block_error_rate: code blocks in error / code blocks, where the channel codes
    """
    packets = observation.packets
    decided = _payload(packets) & (detection.llr != 0) & ~observation.lost[:, None]
    wrong = decided & ((detection.llr > 0) != packets.bits)
    counts = {
        "packet_loss_rate": (float(reception.lost.sum()), float(packets.num_packets)),
        "bit_error_rate": (float(wrong.sum()), float(decided.sum())),
    }
    if detection.num_blocks is not None and detection.block_errors is not None:
        counts["block_error_rate"] = (float(detection.block_errors), float(detection.num_blocks))
    return counts


def residual_counts(packets: Packets, reception: Reception) -> Counts:
    """What is left of the coder's packets after protection.

    residual_packet_loss_rate: packets missing / the coder's packets
    undetected_error_rate:     packets with a bit that is taken as sent and wrong / packets delivered
    """
    width = min(packets.bits.shape[1], reception.llr.shape[1])
    wrong = reception.certain[:, :width] & (reception.hard_bits[:, :width] != packets.bits[:, :width])
    deceived = (wrong & _payload(packets)[:, :width]).any(axis=1)
    return {
        "residual_packet_loss_rate": (float(reception.lost.sum()), float(packets.num_packets)),
        "undetected_error_rate": (float(deceived.sum()), float((~reception.lost).sum())),
    }


def _payload(packets: Packets) -> np.ndarray:
    """bool [num_packets, max_bits]: inside the payload."""
    return np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]
