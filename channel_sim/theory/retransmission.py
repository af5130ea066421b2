"""Repetition, retransmission on request, and what a CRC misses, exactly, whatever Markov chain the losses follow."""

from __future__ import annotations

import numpy as np

from channel_sim.checks import require
from channel_sim.theory.domains import require_at_least, require_probability
from channel_sim.theory.loss_chains import LossChain


def repetition_residual_loss(copies: int, losses: LossChain, spacing_packets: int = 1) -> float:
    """P(all copies of a packet are lost), sent `spacing_packets` slots apart; p^copies where losses are independent.

    Source: E. O. Elliott, "Estimates of error rates for codes on burst-noise channels", Bell Syst. Tech. J. 42 (1963): the
    product of the chain's matrices restricted to losses.
    """
    require_at_least("copies", 1, copies)
    return float(_all_fail(losses, losses.loss_probability, copies, spacing_packets)[-1])


def arq_transmissions_in_time(max_transmissions: int, deadline_packets: int | None, round_trip_packets: int) -> int:
    """Transmissions of a packet that start within `deadline_packets` of the first, one every `round_trip_packets` at the most.

    Both in packet times; the first transmission is at 0 and always made. No deadline: `max_transmissions`.
    """
    require_at_least("max_transmissions", 1, max_transmissions)
    require_at_least("round_trip_packets", 1, round_trip_packets)
    if deadline_packets is None:
        return max_transmissions
    require_at_least("deadline_packets", 0, deadline_packets)
    return min(max_transmissions, 1 + deadline_packets // round_trip_packets)


def arq_residual_loss(max_transmissions: int, losses: LossChain, round_trip_packets: int = 1) -> float:
    """P(no transmission of a packet arrives); independent losses leave p^max_transmissions.

    A transmission follows `round_trip_packets` slots after the one before it. A sender who hears nothing sends again, so a lost
    acknowledgement costs a transmission and never a packet.

    Source: D. Bertsekas, R. Gallager, "Data Networks" (1992), section 2.4, stop-and-wait; over a chain M. Zorzi, R. R. Rao,
    L. B. Milstein, "ARQ error control for fading mobile radio channels", IEEE Trans. Veh. Technol. 46 (1997).
    """
    return repetition_residual_loss(max_transmissions, losses, round_trip_packets)


def arq_mean_transmissions(max_transmissions: int | None, losses: LossChain, round_trip_packets: int = 1,
                           feedback_loss: float = 0.0) -> float:
    """Mean transmissions of a packet that is sent until it is acknowledged, `max_transmissions` times at most (None: no limit).

    An acknowledgement is lost with `feedback_loss`, independently. With independent losses p and u = 1 - (1 - p)(1 - feedback_loss)
    that is (1 - u^max) / (1 - u). Raises ValueError where, without a limit, the sender might never stop.

    Source: as `arq_residual_loss`.
    """
    require_probability("feedback_loss", feedback_loss)
    goes_on = 1 - (1 - losses.loss_probability) * (1 - feedback_loss)
    if max_transmissions is not None:
        require_at_least("max_transmissions", 1, max_transmissions)
        return 1 + float(_all_fail(losses, goes_on, max_transmissions, round_trip_packets)[:-1].sum())
    step = losses.spaced(round_trip_packets).transitions * goes_on
    require(np.abs(np.linalg.eigvals(step)).max() < 1 - 1e-12, "max_transmissions must be given: this chain may fail for ever")
    tail = np.linalg.solve(np.eye(goes_on.size) - step, np.ones(goes_on.size))
    return 1 + float(losses.stationary * goes_on @ tail)


def crc_undetected_fraction(crc_bits: int) -> float:
    """2^-L: the fraction of random-like wrong words that a CRC of L bits passes as right.

    An average over words, not a bound: short bursts and few errors are always detected. A CRC that has chosen among the words of
    a list decoder detects nothing more.

    Source: J. K. Wolf, A. M. Michelson, A. H. Levesque, "On the probability of undetected error for linear block codes", IEEE
    Trans. Commun. 30 (1982).
    """
    require_at_least("crc_bits", 0, crc_bits)
    return float(2.0**-crc_bits)


def _all_fail(losses: LossChain, fails: np.ndarray, attempts: int, spacing: int) -> np.ndarray:
    """float64 [attempts]: P(the first 1, 2, ... attempts all fail), where one in state s fails with `fails[s]`."""
    step = losses.spaced(spacing).transitions
    law, probability = losses.stationary * fails, np.empty(attempts)
    for attempt in range(attempts):
        probability[attempt] = law.sum()
        law = law @ step * fails
    return probability
