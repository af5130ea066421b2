"""What is counted on the way through channel and protection."""

from __future__ import annotations

import numpy as np

from channel_sim.card import Card, card_of
from channel_sim.link import Received
from channel_sim.losses import PacketLossChannel
from channel_sim.stages import Channel, Detection, Observation
from channel_sim.types import Packets, Reception

Counts = dict[str, tuple[float, float]]


def channel_counts(observation: Observation, detection: Detection, reception: Reception) -> Counts:
    """What the channel did to all that was sent, parity included; `reception` is the channel's own.

    packet_loss_rate: packets lost (a packet erased because its CRC failed is lost) / packets sent
    packet_error_rate: packets lost, or decided wrongly in any bit / packets sent
    bit_error_rate:   wrong decisions / payload bits decided, before a failed CRC blanks them; an LLR of 0 decides nothing
    block_error_rate: code blocks in error / code blocks, where the channel codes
    """
    packets = observation.packets
    decided = _payload(packets) & (detection.llr != 0) & ~observation.lost[:, None]
    wrong = decided & ((detection.llr > 0) != packets.bits)
    counts = {
        "packet_loss_rate": (float(reception.lost.sum()), float(packets.num_packets)),
        "packet_error_rate": (float((reception.lost | wrong.any(axis=1)).sum()), float(packets.num_packets)),
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


def delay_counts(known_at: np.ndarray) -> Counts:
    """Packet times that the packets delivered were late.

    known_at: int [num_packets], the place on the air, from 0, of the packet with which the receiver had each of the coder's
              packets; -1 where it never did. Alone, in order and over a clean channel packet i would be there at place i.
    """
    delivered = known_at >= 0
    late = (known_at - np.arange(known_at.size))[delivered]
    return {"delay_packets": (float(late.sum()), float(delivered.sum()))}


def channel_card(channel: Channel, observation: Observation, detection: Detection) -> Card:
    """The card of what was on the air: the slots of a loss process, elsewhere packets that were lost or failed their CRC.

    Of a link that sends again what failed, it is the first transmission of every packet that counts.
    """
    state = observation.state
    if isinstance(channel, PacketLossChannel):
        return card_of(state)
    if isinstance(state, Received) and state.first is not None:
        failed, num_fades = state.first
        return card_of(observation.lost | failed, state.snr_db[:num_fades])
    return card_of(observation.lost | ~detection.crc_ok, detection.snr_db)


def _payload(packets: Packets) -> np.ndarray:
    """bool [num_packets, max_bits]: inside the payload."""
    return np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]
