"""Packets of random bits, sent over a coded link: what the tests of the link share."""

from __future__ import annotations

from typing import Any

import numpy as np

from channel_sim.fading import Heard, Propagation
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.link import CodedLink
from channel_sim.stages import Detection, Observation
from channel_sim.types import Packets

DELIVER: dict[str, Any] = {"crc": "none", "on_crc_failure": "deliver"}


def random_packets(num_bits: list[int], header_bits: int = 0, label: str = "packets") -> Packets:
    """Packets of independent uniform bits, without tokens."""
    count, width = len(num_bits), max(num_bits, default=0)
    inside = np.arange(width) < np.array(num_bits, int)[:, None]
    bits = Key(3).child(label).integers(2, count, width) * inside
    return Packets(bits=bits.astype(np.uint8), num_bits=np.array(num_bits, np.int32), order=np.zeros(0, np.int32),
                   bounds=np.zeros(count + 1, np.int32), header=np.zeros((count, 3), np.int32), header_bits=header_bits)


def send(channel: CodedLink, packets: Packets, key: Key = Key(1)) -> tuple[Observation, Detection]:
    observation, = channel.transmit([packets], [key])
    return observation, channel.detect(observation)


def inside(packets: Packets) -> np.ndarray:
    return np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]


class Listener(Propagation):
    """Another propagation, of which it keeps what went in and came out."""

    def __init__(self, propagation: Propagation) -> None:
        self.propagation = propagation
        self.sent: list[np.ndarray] = []
        self.heard: list[Heard] = []

    def charges(self, num_symbols: int) -> Ledger:
        return self.propagation.charges(num_symbols)

    def carry(self, symbols: np.ndarray, no: float, key: Key) -> Heard:
        self.sent.append(symbols)
        self.heard.append(self.propagation.carry(symbols, no, key))
        return self.heard[-1]
