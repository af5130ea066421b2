"""Losses that follow a finite-state Markov chain, and what such a chain says of bursts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from channel_sim.checks import array, require
from channel_sim.loss_law import stationary
from channel_sim.theory.domains import require_at_least, require_probability

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class LossChain:
    """A stationary process of losses: a Markov chain steps once a slot, and a slot in state s is lost with `loss_probability[s]`.

    transitions:      float64 [states, states], row = from; every row sums to 1
    loss_probability: float64 [states]
    law:              float64 [states] or None; the stationary law the chain starts in, which need not be the only one if given

    Independent losses, Gilbert's and Elliott's chains have constructors; any other chain, say of three states, is given by its
    matrix. Raises ValueError where rows are no probabilities, more than one stationary law exists and none is given, or the one
    given is none.

    Source: E. N. Gilbert, "Capacity of a burst-noise channel", Bell Syst. Tech. J. 39 (1960); E. O. Elliott, "Estimates of
    error rates for codes on burst-noise channels", ibid. 42 (1963).
    """

    transitions: np.ndarray
    loss_probability: np.ndarray
    law: np.ndarray | None = None

    def __post_init__(self) -> None:
        array(self, "loss_probability", np.float64, ndim=1)
        states = self.loss_probability.size
        array(self, "transitions", np.float64, shape=(states, states))
        for name in ("transitions", "loss_probability"):
            value = getattr(self, name)
            require(bool(np.all((value >= 0) & (value <= 1))), f"{name} must lie in [0, 1], got {value.tolist()}")
        sums = self.transitions.sum(axis=1)
        require(np.allclose(sums, 1, rtol=0, atol=_ROUNDING), f"every row of transitions must sum to 1, got {sums.tolist()}")
        if self.law is None:
            require(np.linalg.matrix_rank(self.transitions - np.eye(states), tol=1e-13) == states - 1,
                    "transitions must have one stationary law: some states never lead to one another")
        else:
            array(self, "law", np.float64, shape=(states,))
            law = self.law
            is_law = bool(np.all(law >= 0)) and abs(law.sum() - 1) <= _ROUNDING
            require(is_law and np.allclose(law @ self.transitions, law, rtol=0, atol=_ROUNDING),
                    f"law must be a stationary law of transitions, got {law.tolist()}")

    @classmethod
    def independent(cls, loss_rate: float) -> Self:
        """Every slot is lost with `loss_rate`, whatever befell the others."""
        require_probability("loss_rate", loss_rate)
        return cls(np.ones((1, 1)), np.array([loss_rate]))

    @classmethod
    def two_state(cls, to_bad: float, to_good: float, loss_in_good: float = 0.0, loss_in_bad: float = 1.0) -> Self:
        """Elliott's chain (Gilbert's with the defaults) from P(good → bad), P(bad → good) and the loss probability in either."""
        for name, value in (("to_bad", to_bad), ("to_good", to_good)):
            require_probability(name, value)
        return cls(np.array([[1 - to_bad, to_bad], [to_good, 1 - to_good]]), np.array([loss_in_good, loss_in_bad]))

    @classmethod
    def gilbert_elliott(cls, loss_rate: float, mean_burst_packets: float, loss_in_good: float = 0.0,
                        loss_in_bad: float = 1.0) -> Self:
        """Elliott's chain of a given fraction of lost slots L and mean run of lost slots B.

        The bad state has probability (L - g) / (b - g); P(lost, then lost) = L² + λ (L - g)(b - L) is L (1 - 1/B), which gives
        λ = 1 - P(good → bad) - P(bad → good). B = 1/(1 - L) is independent loss, less is anti-bursty.
        """
        g, b, lost = loss_in_good, loss_in_bad, loss_rate
        for name, value in (("loss_in_good", g), ("loss_in_bad", b)):
            require_probability(name, value)
        if (g, b) == (0, 1):
            return cls.two_state(*gilbert_transitions(loss_rate, mean_burst_packets))
        require(g < lost < b, f"loss_rate must lie between loss_in_good={g:g} and loss_in_bad={b:g}, got {lost:g}")
        require_at_least("mean_burst_packets", 1, mean_burst_packets)
        bad = (lost - g) / (b - g)
        memory = lost * (1 - lost - 1 / mean_burst_packets) / ((lost - g) * (b - lost))
        least = 1 - 1 / max(bad, 1 - bad)
        require(least - _ROUNDING <= memory < 1,
                f"mean_burst_packets must leave transitions that are probabilities, λ in [{least:g}, 1) at loss_rate={lost:g}, "
                f"loss_in_good={g:g}, loss_in_bad={b:g}; {mean_burst_packets:g} asks for {memory:g}")
        return cls.two_state(min(1.0, bad * (1 - memory)), min(1.0, (1 - bad) * (1 - memory)), g, b)

    @cached_property
    def stationary(self) -> np.ndarray:
        """float64 [states]: the law of the state in every slot."""
        return stationary(self.transitions) if self.law is None else self.law

    @property
    def loss_rate(self) -> float:
        """Long-run fraction of lost slots."""
        return float(self.stationary @ self.loss_probability)

    def loss_after_loss(self, lag: int = 1) -> float:
        """P(a slot is lost | the slot `lag` before it was)."""
        require_at_least("lag", 0, lag)
        if lag == 0:
            return 1.0
        after = self._after_loss() @ np.linalg.matrix_power(self.transitions, lag)
        return float(after @ self.loss_probability)

    def autocorrelation(self, lag: int) -> float:
        """Correlation coefficient of the losses of two slots `lag` apart."""
        rate = self.loss_rate
        require(0 < rate < 1, f"loss_rate must lie between 0 and 1 for losses to be correlated, got {rate:g}")
        return (self.loss_after_loss(lag) - rate) / (1 - rate)

    @property
    def mean_burst_packets(self) -> float:
        """Mean run of lost slots: 1 / P(a slot arrives | the one before it was lost); the sojourn in a state is another matter."""
        ends = 1 - self.loss_after_loss()
        require(ends > 0, "a burst must end: once lost, this chain loses for ever")
        return 1 / ends

    def burst_law(self, longest: int) -> np.ndarray:
        """float64 [longest]: P(a run of lost slots has 1, 2, ... slots)."""
        require_at_least("longest", 1, longest)
        begins = (self.stationary * (1 - self.loss_probability)) @ self.transitions * self.loss_probability
        require(begins.sum() > 0, "a burst must begin: this chain never loses a slot after one that arrived")
        law, lasting = np.empty(longest), begins / begins.sum()
        ends = self.transitions @ (1 - self.loss_probability)
        for length in range(longest):
            law[length] = lasting @ ends
            lasting = lasting @ self.transitions * self.loss_probability
        return law

    def spaced(self, every: int) -> LossChain:
        """The losses of slots `every` apart: what a block interleaver of that depth shows to a code.

        The law of the state stays as it is, also where a period of the chain leaves states that no longer lead to one another.
        """
        require_at_least("every", 1, every)
        return LossChain(np.linalg.matrix_power(self.transitions, every), self.loss_probability, self.stationary)

    def _after_loss(self) -> np.ndarray:
        """float64 [states]: the law of the state of a slot that was lost."""
        lost = self.stationary * self.loss_probability
        require(lost.sum() > 0, "loss_rate must be > 0 for anything to follow a loss, got 0")
        return np.asarray(lost / lost.sum())


def gilbert_transitions(loss_rate: float, mean_burst_packets: float) -> tuple[float, float]:
    """(P(good → bad), P(bad → good)) of Gilbert's chain, where the bad state loses all and the good state nothing.

    Source: E. N. Gilbert, "Capacity of a burst-noise channel", Bell Syst. Tech. J. 39 (1960).
    """
    require(0 <= loss_rate < 1, f"loss_rate must lie in [0, 1), got {loss_rate}")
    shortest = max(1.0, loss_rate / (1 - loss_rate))
    require(mean_burst_packets >= shortest * (1 - 1e-12),
            f"mean_burst_packets must be >= {shortest:g} at loss_rate={loss_rate:g}, got {mean_burst_packets:g}")
    return min(1.0, loss_rate / (1 - loss_rate) / mean_burst_packets), 1 / mean_burst_packets


def gilbert_statistics(to_bad: float, to_good: float) -> tuple[float, float, float]:
    """(loss rate, mean burst, autocorrelation at lag 1) of Gilbert's chain; at lag m the last to the power m.

    P / (P + r), 1 / r and 1 - P - r. Source: E. N. Gilbert, Bell Syst. Tech. J. 39 (1960).
    """
    require_probability("to_bad", to_bad)
    require(0 < to_good <= 1, f"to_good must lie in (0, 1], got {to_good}")
    return to_bad / (to_bad + to_good), 1 / to_good, 1 - to_bad - to_good


def gilbert_burst_probability(mean_burst_packets: float, length: int) -> float:
    """P(a burst of Gilbert's chain lasts `length` packets): geometric, (1 - r)^(length - 1) r with r = 1 / mean.

    Source: E. N. Gilbert, Bell Syst. Tech. J. 39 (1960).
    """
    require_at_least("mean_burst_packets", 1, mean_burst_packets)
    require_at_least("length", 1, length)
    return float((1 - 1 / mean_burst_packets) ** (length - 1) / mean_burst_packets)


def gilbert_autocorrelation(loss_rate: float, mean_burst_packets: float, lag: int) -> float:
    """Correlation of the losses of two packets `lag` apart in Gilbert's chain: (1 - P - r)^lag.

    Source: E. N. Gilbert, Bell Syst. Tech. J. 39 (1960).
    """
    require_at_least("lag", 0, lag)
    return float((1 - sum(gilbert_transitions(loss_rate, mean_burst_packets))) ** lag)
