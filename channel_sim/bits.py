"""Binary channels: every packet arrives, its bits flipped or erased one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim.crc import crc
from channel_sim.keys import Key
from channel_sim.stages import Channel, Detection, Observation
from channel_sim.types import CERTAIN_LLR, Packets

_HEADER, _PAYLOAD, _CHECK = range(3)


@dataclass(frozen=True, eq=False)
class _Hits:
    """Which bits the channel hit: `payload` bool [num_packets, max_bits], `check` bool [num_packets, crc_bits]."""

    payload: np.ndarray
    check: np.ndarray


class BinaryChannel(Channel):
    """A memoryless channel for bits. Headers arrive intact; a packet whose CRC failed is delivered, and known to have failed.

    Bit t on the air, counted over the item's packets back to back, is hit when its uniform number is below the channel's
    probability: hits are nested in the probability, and packets of other sizes meet the same hits at the same times.
    """

    assumptions: ClassVar[tuple[str, ...]] = ("Packet headers arrive intact.",)

    @property
    @abstractmethod
    def hit_probability(self) -> float:
        """Probability that a bit is hit."""

    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        return [Observation(one, np.zeros(one.num_packets, np.bool_), self._hits(one, key.child("bit noise")), self.charge(one))
                for one, key in zip(packets, keys, strict=True)]

    def _hits(self, packets: Packets, key: Key) -> _Hits:
        hit = key.uniform(int(self.bits_on_air(packets).sum())) < self.hit_probability
        part = self._parts(packets)
        payload = np.zeros(packets.bits.shape, np.bool_)
        payload[np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]] = hit[part == _PAYLOAD]
        return _Hits(payload, hit[part == _CHECK].reshape(packets.num_packets, self.crc_bits))

    def _checks(self, packets: Packets) -> np.ndarray:
        """uint8 [num_packets, bits of the CRC], as sent; the header is taken as intact, and left out."""
        sent = [crc(bits[:size], self.crc) for bits, size in zip(packets.bits, packets.num_bits, strict=True)]
        return np.array(sent, np.uint8).reshape(packets.num_packets, self.crc_bits)

    def _parts(self, packets: Packets) -> np.ndarray:
        """uint8 [bits on the air]: what each bit belongs to, header, payload or CRC."""
        lengths = np.empty((packets.num_packets, 3), np.int64)
        lengths[:, _HEADER], lengths[:, _PAYLOAD], lengths[:, _CHECK] = packets.header_bits, packets.num_bits, self.crc_bits
        return np.repeat(np.tile(np.arange(3, dtype=np.uint8), packets.num_packets), lengths.ravel())


class BinarySymmetric(BinaryChannel):
    """Every bit flips with `flip_probability`. The CRC is linear, so it is checked on the flips alone.

    Without a CRC nothing flags a flipped bit. With `soft` the receiver states how far it trusts any: by ±ln((1-q)/q), q the
    channel's own flip probability, or the one that it believes in, `stated_flip_probability`.
    """

    flip_probability: float = Field(0.01, gt=0, le=0.5, description="probability that a bit flips")
    soft: bool = Field(False, description="LLRs ±ln((1-q)/q), the channel's own reliability, rather than hard decisions taken "
                                          "as certain")
    stated_flip_probability: float | None = Field(
        None, gt=0, lt=0.5, description="q that the receiver believes in, with soft = true; default: flip_probability")

    @model_validator(mode="after")
    def _is_stated_where_it_counts(self) -> Self:
        if self.stated_flip_probability is not None and not self.soft:
            raise ValueError("stated_flip_probability needs soft = true, got soft = false, which takes every bit as certain; "
                             "set soft, or leave it out")
        return self

    @property
    def hit_probability(self) -> float:
        return self.flip_probability

    @property
    def erasure_only(self) -> bool:
        return not self.soft and self.crc != "none"

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        """Bits are sent one by one, so a prior changes nothing that the channel says of them."""
        hits: _Hits = observation.state
        stated = self.stated_flip_probability or self.flip_probability
        reliability = float(np.log((1 - stated) / stated)) if self.soft else CERTAIN_LLR
        received = observation.packets.bits ^ hits.payload
        level = min(reliability, CERTAIN_LLR)
        llr = level * (2 * received.astype(np.float32) - 1)
        check = level * (2 * (self._checks(observation.packets) ^ hits.check).astype(np.float32) - 1)
        return Detection(llr=llr, crc_ok=self._crc_ok(observation.packets, hits), check_llr=check)

    def _crc_ok(self, packets: Packets, hits: _Hits) -> np.ndarray:
        patterns = zip(hits.payload, packets.num_bits, hits.check, strict=True)
        return np.array([np.array_equal(crc(flips[:size], self.crc), check) for flips, size, check in patterns], np.bool_)


class BinaryErasure(BinaryChannel):
    """Every bit is erased with `erasure_probability`, LLR 0, else certain.

    A CRC that misses a bit, its own or the payload's, cannot be checked and counts as failed.
    """

    erasure_probability: float = Field(0.1, ge=0, lt=1, description="probability that a bit is erased")

    @property
    def hit_probability(self) -> float:
        return self.erasure_probability

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        """Bits are sent one by one, so a prior changes nothing that the channel says of them."""
        hits: _Hits = observation.state
        sign = 2 * observation.packets.bits.astype(np.float32) - 1
        incomplete = np.logical_or(hits.payload.any(axis=1), hits.check.any(axis=1))
        checkable = ~incomplete if self.crc != "none" else np.ones_like(incomplete)
        check = CERTAIN_LLR * (2 * self._checks(observation.packets).astype(np.float32) - 1)
        return Detection(llr=np.where(hits.payload, np.float32(0), CERTAIN_LLR * sign), crc_ok=checkable,
                         check_llr=np.where(hits.check, np.float32(0), check))
