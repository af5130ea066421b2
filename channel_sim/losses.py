"""Packet-loss processes: a packet arrives as it was sent, or not at all."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numba import njit
from pydantic import Field, model_validator

from channel_sim.keys import Key
from channel_sim.stages import Channel, Detection, Observation
from channel_sim.types import CERTAIN_LLR, Packets


class PacketLossChannel(Channel):
    """A channel that loses packets and damages none; a process of losses that steps once a slot.

    A slot is a packet. With `slot_bits` a slot is so many bits on the air instead: packets (header, payload, CRC) lie back
    to back from bit 0, and a packet is lost if any slot that it touches is. So packets of different sizes meet the same
    burst at the same time.
    """

    slot_bits: int | None = Field(None, ge=1, description="bits on the air of one slot of losses; none: a slot is a packet")

    @abstractmethod
    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        """Draw bool [num_packets]; True = lost. One step a packet, or a slot where `slot_bits` is given; prefix-stable."""

    @property
    def erasure_only(self) -> bool:
        return True

    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        return [Observation(one, self._lost(one, key.child("loss slots")), None, self.charge(one))
                for one, key in zip(packets, keys, strict=True)]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        """What arrives is certain, so a prior adds nothing."""
        bits = observation.packets.bits.astype(np.float32)
        return Detection(llr=CERTAIN_LLR * (2 * bits - 1), crc_ok=np.ones(len(bits), np.bool_))

    def _lost(self, packets: Packets, key: Key) -> np.ndarray:
        if self.slot_bits is None:
            return self.lost_packets(packets.num_packets, key)
        ends = np.cumsum(self.bits_on_air(packets))
        starts = ends - self.bits_on_air(packets)
        num_slots = -(-int(ends[-1]) // self.slot_bits) if ends.size else 0
        lost_before = np.concatenate([[0], np.cumsum(self.lost_packets(num_slots, key))])  # [num_slots + 1]
        # a packet of no bits touches no slot: its range is empty
        last = np.where(ends > starts, -(-ends // self.slot_bits), starts // self.slot_bits)
        return lost_before[last] > lost_before[starts // self.slot_bits]


class Ideal(PacketLossChannel):
    """Nothing is lost: the upper bound of every other channel."""

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return np.zeros(num_packets, np.bool_)


class PacketLoss(PacketLossChannel):
    """Independent losses. Nested in `loss_rate` for one key."""

    loss_rate: float = Field(0.1, ge=0, lt=1, description="fraction of slots lost")

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return key.uniform(num_packets) < self.loss_rate


class GilbertElliott(PacketLossChannel):
    """Burst loss: a two-state Markov chain; slots in the good state are lost with `loss_in_good`, in the bad with `loss_in_bad`.

    `loss_rate` L and `mean_burst_packets` B are what is seen from outside, the fraction of slots lost and the mean run of
    lost slots; the chain that has them follows. With g, b = `loss_in_good`, `loss_in_bad` the bad state has probability
    (L - g) / (b - g), and since P(lost, then lost) = L² + λ (L - g)(b - L) must be L (1 - 1/B), the chain's memory is

        λ = 1 - P(good → bad) - P(bad → good) = L (1 - L - 1/B) / ((L - g)(b - L)).

    With g = 0 and b = 1 (Gilbert's chain) P(bad → good) = 1/B. The chain starts in its stationary law, so the first slot is
    already lost with probability L. λ < 0, which is B < 1/(1 - L), is less bursty than independent losses. While λ >= 0 and
    g = 0, losses are nested in `loss_rate` for one key.

    Source: E. N. Gilbert, "Capacity of a burst-noise channel", Bell Syst. Tech. J. 39 (1960); E. O. Elliott, "Estimates of
    error rates for codes on burst-noise channels", ibid. 42 (1963).
    """

    source: ClassVar[str] = ("E. N. Gilbert, Bell Syst. Tech. J. 39 (1960) 1253-1265; "
                             "E. O. Elliott, Bell Syst. Tech. J. 42 (1963) 1977-1997")
    loss_rate: float = Field(0.1, ge=0, lt=1, description="long-run fraction of slots lost")
    mean_burst_packets: float = Field(3.0, ge=1, description="mean run of lost slots")
    loss_in_good: float = Field(0.0, ge=0, lt=1, description="probability that a slot in the good state is lost")
    loss_in_bad: float = Field(1.0, gt=0, le=1, description="probability that a slot in the bad state is lost")

    @model_validator(mode="after")
    def _is_a_probability(self) -> Self:
        if self.loss_rate == self.loss_in_good == 0:
            return self
        if not self.loss_in_good < self.loss_rate < self.loss_in_bad:
            raise ValueError(f"loss_rate must lie between loss_in_good={self.loss_in_good:g} and "
                             f"loss_in_bad={self.loss_in_bad:g}, got {self.loss_rate:g}")
        shortest, longest = self._shortest_and_longest_burst()
        if not shortest * (1 - 1e-12) <= self.mean_burst_packets < longest:
            at = f"at loss_rate={self.loss_rate:g}, loss_in_good={self.loss_in_good:g}, loss_in_bad={self.loss_in_bad:g}"
            below = f" and < {longest:g}" if np.isfinite(longest) else ""
            raise ValueError(f"mean_burst_packets must be >= {shortest:g}{below} {at}, got {self.mean_burst_packets:g}")
        return self

    @property
    def bad_fraction(self) -> float:
        """Stationary probability of the bad state."""
        return (self.loss_rate - self.loss_in_good) / (self.loss_in_bad - self.loss_in_good)

    @property
    def transitions(self) -> tuple[float, float]:
        """(P(good → bad), P(bad → good)) a slot."""
        if self.bad_fraction == 0:
            return 0.0, 1.0
        memory = self.loss_rate * (1 - self.loss_rate - 1 / self.mean_burst_packets) / self._variance
        return min(1.0, self.bad_fraction * (1 - memory)), min(1.0, (1 - self.bad_fraction) * (1 - memory))

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        uniform = key.uniform(num_packets, 2)  # one row a slot: prefix-stable
        to_bad, to_good = self.transitions
        bad = _bad_slots(np.ascontiguousarray(uniform[:, 0]), self.bad_fraction, to_bad, 1 - to_good)
        return uniform[:, 1] < np.where(bad, self.loss_in_bad, self.loss_in_good)

    @property
    def _variance(self) -> float:
        """Variance over the stationary law of the loss probability of a slot."""
        return (self.loss_rate - self.loss_in_good) * (self.loss_in_bad - self.loss_rate)

    def _shortest_and_longest_burst(self) -> tuple[float, float]:
        # both transitions are at most 1, so λ >= 1 - 1 / max(bad, good fraction); λ < 1, or the chain would never change state
        least = 1 - 1 / max(self.bad_fraction, 1 - self.bad_fraction)
        ends_if_least, ends_if_most = (1 - self.loss_rate - memory * self._variance / self.loss_rate for memory in (least, 1.0))
        return max(1.0, 1 / ends_if_least), 1 / ends_if_most if ends_if_most > 1e-12 else np.inf


@njit(cache=True)
def _bad_slots(uniform: np.ndarray, first: float, to_bad: float, stay_bad: float) -> np.ndarray:
    bad = np.empty(uniform.size, np.bool_)
    threshold = first
    for slot in range(uniform.size):
        bad[slot] = uniform[slot] < threshold
        threshold = stay_bad if bad[slot] else to_bad
    return bad


class LossTrace(PacketLossChannel):
    """Losses as they were measured, from a text file: one 0 or 1 a packet, 1 = lost, white space ignored.

    The trace is read cyclically from a phase that is drawn uniformly for every item and replicate, so that each slot is
    lost with the trace's own loss rate.
    """

    path: str = Field(description="text file of 0 and 1, one a packet, 1 = lost")

    @model_validator(mode="after")
    def _is_a_trace(self) -> Self:
        _trace(self.path)
        return self

    def digests(self) -> dict[str, str]:
        return {"path": hashlib.sha256(Path(self.path).read_bytes()).hexdigest()}

    @property
    def loss_rate(self) -> float:
        """Fraction of lost slots in the trace."""
        return float(_trace(self.path).mean())

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        trace = _trace(self.path)
        return trace[(int(key.integers(trace.size, 1)[0]) + np.arange(num_packets)) % trace.size]


def _trace(path: str) -> np.ndarray:
    try:
        return _read_trace(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(f"path must name a readable loss trace, got {path!r} ({error.strerror}): correct the path") from error


@lru_cache(maxsize=16)
def _read_trace(path: str, modified_ns: int) -> np.ndarray:
    """bool [num_slots]; read again when the file was modified."""
    text = b"".join(Path(path).read_bytes().split())
    foreign = sorted(set(text) - set(b"01"))
    if foreign or not text:
        found = f"holds {chr(foreign[0])!r}" if foreign else "is empty"
        raise ValueError(f"path must name a loss trace of 0 and 1 (1 = lost, white space ignored), {path!r} {found}: "
                         "write one digit a packet")
    trace = np.frombuffer(text, np.uint8) == ord("1")
    trace.flags.writeable = False
    return trace
