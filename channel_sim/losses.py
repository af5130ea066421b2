"""Packet-loss processes: a packet arrives as it was sent, or not at all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal, Self

import numpy as np
from numba import njit
from pydantic import Field, model_validator

from channel_sim.keys import Key
from channel_sim.loss_law import NEVER_LOST, LossLaw, chain_law, stationary
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
        return [Observation(one, *self._lost(one, key.child("loss slots")), self.charge(one))
                for one, key in zip(packets, keys, strict=True)]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        """What arrives is certain, so a prior adds nothing."""
        bits = observation.packets.bits.astype(np.float32)
        return Detection(llr=CERTAIN_LLR * (2 * bits - 1), crc_ok=np.ones(len(bits), np.bool_))

    def _lost(self, packets: Packets, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(bool [num_packets], bool [num_slots]): the packets lost, and the slots, which are the observation's state."""
        if self.slot_bits is None:
            lost = self.lost_packets(packets.num_packets, key)
            return lost, lost
        ends = np.cumsum(self.bits_on_air(packets))
        starts = ends - self.bits_on_air(packets)
        num_slots = -(-int(ends[-1]) // self.slot_bits) if ends.size else 0
        slots = self.lost_packets(num_slots, key)
        lost_before = np.concatenate([[0], np.cumsum(slots)])  # [num_slots + 1]
        # a packet of no bits touches no slot: its range is empty
        last = np.where(ends > starts, -(-ends // self.slot_bits), starts // self.slot_bits)
        return lost_before[last] > lost_before[starts // self.slot_bits], slots


class Ideal(PacketLossChannel):
    """Nothing is lost: the upper bound of every other channel."""

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return np.zeros(num_packets, np.bool_)

    def loss_law(self) -> LossLaw:
        return NEVER_LOST


class PacketLoss(PacketLossChannel):
    """Independent losses. Nested in `loss_rate` for one key."""

    loss_rate: float = Field(0.1, ge=0, lt=1, description="fraction of slots lost")

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return key.uniform(num_packets) < self.loss_rate

    def loss_law(self) -> LossLaw:
        return chain_law(np.ones((1, 1)), np.array([self.loss_rate]))


class CutOff(PacketLossChannel):
    """A connection that breaks off: of an item's slots the first `kept_fraction` arrive, to the nearest slot, and none after them.

    Nothing is drawn. Which slots are lost depends on how many there are, as with no other process of losses: it is a fraction of
    the item that is cut off, so that a decoder can be asked to go on from there.
    """

    kept_fraction: float = Field(0.5, ge=0, le=1, description="part of an item's slots that arrives")

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return np.arange(num_packets) >= int(self.kept_fraction * num_packets + 0.5)

    def loss_law(self) -> LossLaw:
        return LossLaw(1 - self.kept_fraction) if self.kept_fraction < 1 else NEVER_LOST


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

    def loss_law(self) -> LossLaw:
        to_bad, to_good = self.transitions
        return chain_law(np.array([[1 - to_bad, to_bad], [to_good, 1 - to_good]]),
                         np.array([self.loss_in_good, self.loss_in_bad]))

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


Pattern = Literal["EP1", "EP2", "EP3", "EP4", "EP5", "EP6"]
_PUBLISHED: dict[Pattern, tuple[float, float, float, float]] = {
    "EP1": (0.99968, 0.1538, 0.8462, 0.0),
    "EP2": (0.9798, 0.6304, 0.372, 0.3333),
    "EP3": (0.95, 0.8, 0.8, 0.6),
    "EP4": (0.9363, 0.3631, 0.4072, 0.5662),
    "EP5": (0.9, 0.4, 0.9, 0.1),
    "EP6": (0.8507, 0.2982, 0.6305, 0.2),
}


class ThreeState(PacketLossChannel):
    """Burst loss with two kinds of gap: a chain of a good state, a loss state and a short gap between losses of one episode.

        good ──(1 - stay_good)──▶ loss ──(1 - lost_to_good - stay_lost)──▶ gap
             ◀──(lost_to_good)──       ◀───────(1 - stay_gap)────────────

    Every slot in the loss state is lost, no other. So runs of losses are geometric with mean 1 / (1 - stay_lost), and runs of
    arrivals are long or short: geometric with mean 1 / (1 - stay_good) after a loss that ends the episode, of probability
    lost_to_good / (1 - stay_lost), else with mean 1 / (1 - stay_gap). The chain starts in its stationary law.

    `pattern` names a published chain, whose four probabilities then take the place of the fields. lost_to_good + stay_lost is
    above 1 in EP2, EP3 and EP5 as published, which is no probability. What runs under these names is the chain that the
    published generator runs: it leaves the loss state for the good one with lost_to_good and stays in it otherwise.

    Source: B. Milner, A. James, "An analysis of packet loss models for distributed speech recognition", Interspeech 2004, for
    the chain; S. Wang et al., "ResiComp: loss-resilient image compression via dual-functional masked visual token modeling",
    arXiv 2502.10812, and the generator beside it, for EP1 to EP6.
    """

    source: ClassVar[str] = "B. Milner, A. James, Interspeech 2004, 1549-1552; ResiComp, arXiv 2502.10812 (EP1 to EP6)"
    pattern: Pattern | None = Field(None, description="a published chain by name; the four probabilities are then unused")
    stay_good: float = Field(0.9363, ge=0, lt=1, description="P(good → good)")
    lost_to_good: float = Field(0.3631, ge=0, le=1, description="P(loss → good)")
    stay_lost: float = Field(0.4072, ge=0, lt=1, description="P(loss → loss)")
    stay_gap: float = Field(0.5662, ge=0, lt=1, description="P(gap → gap)")

    @model_validator(mode="after")
    def _is_a_probability(self) -> Self:
        total = self.lost_to_good + self.stay_lost
        if self.pattern is None and total > 1 + 1e-12:
            raise ValueError(f"lost_to_good + stay_lost must be <= 1, got {self.lost_to_good:g} + {self.stay_lost:g} = {total:g}: "
                             "lower one of them")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        own = frozenset({"stay_good", "lost_to_good", "stay_lost", "stay_gap"})
        return own if self.pattern else frozenset({"pattern"})

    def assumed(self) -> tuple[str, ...]:
        if self.pattern is None or sum(_PUBLISHED[self.pattern][1:3]) <= 1 + 1e-12:
            return self.assumptions
        _, to_good, stay, _ = _PUBLISHED[self.pattern]
        loss, burst = published_statistics(self.pattern)
        law = self.loss_law()
        return (*self.assumptions,
                f"three_state {self.pattern}: P(loss → good) + P(loss → loss) is {to_good:g} + {stay:g} > 1 as published, which is "
                f"no probability. What runs is the chain of the published generator (loss rate {law.loss_rate:.4g}, mean burst "
                f"{law.mean_burst:.3g}), not the published {loss:.4g} and {burst:.3g}; gilbert_elliott has any loss rate and "
                "mean burst.")

    @property
    def transitions(self) -> np.ndarray:
        """float64 [3, 3], from and to good, loss, gap."""
        stay_good, to_good, stay_lost, stay_gap = _PUBLISHED[self.pattern] if self.pattern else (
            self.stay_good, self.lost_to_good, self.stay_lost, self.stay_gap)
        stay_lost = min(stay_lost, 1 - to_good)
        return np.array([[stay_good, 1 - stay_good, 0],
                         [to_good, stay_lost, max(0.0, 1 - to_good - stay_lost)],
                         [0, 1 - stay_gap, stay_gap]])

    @property
    def loss_rate(self) -> float:
        """Long-run fraction of slots lost."""
        return float(stationary(self.transitions)[_LOSS])

    @property
    def mean_burst_packets(self) -> float:
        """Mean run of lost slots."""
        return 1 / (1 - float(self.transitions[_LOSS, _LOSS]))

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return _states(key.uniform(num_packets), *_thresholds(self)) == _LOSS

    def loss_law(self) -> LossLaw:
        return chain_law(self.transitions, np.array([0.0, 1.0, 0.0]))


_LOSS = 1


@lru_cache(maxsize=64)
def _thresholds(channel: ThreeState) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative probabilities of the stationary law [3] and of the transitions [from, to]."""
    return np.cumsum(stationary(channel.transitions)), np.cumsum(channel.transitions, axis=1)


def published_statistics(pattern: Pattern) -> tuple[float, float]:
    """(loss rate, mean burst) that the published parameters have by the published formulas, though they may be no probability.

    With Q, p, q, Q' = stay_good, lost_to_good, stay_lost, stay_gap: (1 - Q')(1 - Q) over the same + p (1 - Q')
    + (1 - p - q)(1 - Q), the balance of the three states, and 1 / (1 - q).
    """
    stay_good, to_good, stay_lost, stay_gap = _PUBLISHED[pattern]
    lost = (1 - stay_gap) * (1 - stay_good)
    return lost / (lost + to_good * (1 - stay_gap) + (1 - to_good - stay_lost) * (1 - stay_good)), 1 / (1 - stay_lost)


@njit(cache=True)
def _states(uniform: np.ndarray, first: np.ndarray, cumulative: np.ndarray) -> np.ndarray:
    """int64 [num_slots]: the states of a chain, from thresholds [num_states] and [from, to]; one draw a slot."""
    states = np.empty(uniform.size, np.int64)
    thresholds = first
    for slot in range(uniform.size):
        state = 0
        while state < first.size - 1 and uniform[slot] >= thresholds[state]:
            state += 1
        states[slot] = state
        thresholds = cumulative[state]
    return states
