"""What a loss process says of itself: loss rate, bursts and memory, computed from the chain or counted in a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_LAGS = 8
LONGEST_BURST = 128
"""Burst lengths that a law states one by one."""


@dataclass(frozen=True)
class LossLaw:
    """The long-run law of a loss process, a step a slot.

    mean_burst:      mean run of lost slots; None where nothing is ever lost
    autocorrelation: of the losses at lags 1 to 8; empty where nothing or everything is lost
    bursts:          P(a run of losses lasts k slots), k = 1 to 128
    """

    loss_rate: float
    mean_burst: float | None = None
    autocorrelation: tuple[float, ...] = ()
    bursts: tuple[float, ...] = ()

    @property
    def loss_given_loss(self) -> float | None:
        """P(lost | the slot before was lost) = 1 - 1 / mean burst, as for every stationary process."""
        return None if self.mean_burst is None else 1 - 1 / self.mean_burst

    @property
    def is_anti_bursty(self) -> bool:
        """A loss makes the next one less likely: bursts are shorter than the 1 / (1 - loss rate) of independent losses."""
        return self.loss_given_loss is not None and self.loss_given_loss < self.loss_rate * (1 - 1e-5)  # stored in six digits

    def to_dict(self) -> dict[str, Any]:
        """JSON values, loss rate and mean burst in ten digits, the others in six."""
        short = {"autocorrelation": self.autocorrelation, "bursts": _without_tail(self.bursts)}
        return {"loss_rate": float(f"{self.loss_rate:.10g}"),
                "mean_burst": None if self.mean_burst is None else float(f"{self.mean_burst:.10g}"),
                **{name: [float(f"{value:.6g}") for value in values] for name, values in short.items()}}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> LossLaw:
        bursts = np.zeros(LONGEST_BURST)
        bursts[:len(table["bursts"])] = table["bursts"]
        return cls(table["loss_rate"], table["mean_burst"], tuple(table["autocorrelation"]), tuple(bursts.tolist()))


NEVER_LOST = LossLaw(0.0)


def stationary(transitions: np.ndarray) -> np.ndarray:
    """float64 [num_states]: the stationary law of a chain with one closed class, from [from, to] probabilities."""
    num_states = len(transitions)
    equations = np.vstack([transitions.T - np.eye(num_states), np.ones(num_states)])
    law = np.linalg.lstsq(equations, np.append(np.zeros(num_states), 1.0), rcond=None)[0]
    return np.maximum(law, 0) / np.maximum(law, 0).sum()


def chain_law(transitions: np.ndarray, loss: np.ndarray) -> LossLaw:
    """The law of a hidden Markov chain: `transitions` [from, to], `loss` the probability that a slot in each state is lost."""
    from channel_sim.theory.loss_chains import LossChain  # here: with it come all closed forms, and what they load

    chain = LossChain(transitions, loss)
    if chain.loss_rate <= 0:
        return NEVER_LOST
    return LossLaw(chain.loss_rate, chain.mean_burst_packets, tuple(chain.autocorrelation(lag) for lag in range(1, NUM_LAGS + 1)),
                   tuple(chain.burst_law(LONGEST_BURST).tolist()))


def trace_law(lost: np.ndarray) -> LossLaw:
    """The law of a trace of losses bool [n] that is read round and round."""
    rate, places = float(lost.mean()), np.flatnonzero(lost & ~np.roll(lost, 1))
    if not lost.any():
        return NEVER_LOST
    if not places.size:  # everything is lost: a run without an end
        return LossLaw(1.0)
    arrivals = np.flatnonzero(~lost)
    following = np.searchsorted(arrivals, places)
    ends = np.where(following < arrivals.size, arrivals[following % arrivals.size], arrivals[0] + lost.size)
    lengths = np.bincount(ends - places, minlength=LONGEST_BURST + 1)
    joint = [float(np.mean(lost & np.roll(lost, -lag))) for lag in range(1, NUM_LAGS + 1)]
    return LossLaw(rate, float(lost.sum() / places.size),
                   tuple((value - rate**2) / (rate * (1 - rate)) for value in joint),
                   tuple((lengths[1:LONGEST_BURST + 1] / places.size).tolist()))


def _without_tail(bursts: tuple[float, ...]) -> tuple[float, ...]:
    """Without the last lengths, which are next to impossible."""
    likely = np.flatnonzero(np.array(bursts) > 1e-12)
    return bursts[:int(likely[-1]) + 1] if likely.size else ()
