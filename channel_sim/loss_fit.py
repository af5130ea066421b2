"""Loss models fitted to a trace at equal loss rate: independent, Gilbert, Gilbert-Elliott and three-state losses."""

from __future__ import annotations

import numpy as np
from numba import njit

from channel_sim.checks import RequestError
from channel_sim.loss_law import trace_law
from channel_sim.losses import GilbertElliott, PacketLoss, PacketLossChannel, ThreeState

_MOST_STEPS, _TOLERANCE = 2000, 1e-10
_LEAST_SLOTS = 10


def fit_models(lost: np.ndarray) -> dict[str, PacketLossChannel]:
    """Name -> model of the losses bool [num_slots] of a trace that is read round, all with the trace's own loss rate.

    independent:     the loss rate
    gilbert:         loss rate and mean burst; of the trace read round these are the maximum-likelihood transitions as well
    gilbert_elliott: the loss probabilities of the two states by Baum and Welch, then the loss rate and the mean burst of the
                     trace; Gilbert's chain where the two cannot be had together
    three_state:     mean burst, and a mixture of two geometric laws for the gaps between bursts by expectation-maximisation,
                     which is the maximum-likelihood fit of this chain, since its bursts and its gaps are all independent

    A trace of fewer than 10 slots, or that loses nothing or everything, is a `RequestError`.

    Source: M. Yajnik et al., "Measurement and modelling of the temporal dependence in packet loss", INFOCOM 1999 (Gilbert);
    L. R. Rabiner, Proc. IEEE 77 (1989), eqs. 19-27 and 40 (Baum and Welch); A. P. Dempster, N. M. Laird, D. B. Rubin, J. R.
    Stat. Soc. B 39 (1977), section 4.3 (mixtures).
    """
    if lost.size < _LEAST_SLOTS or lost.all() or not lost.any():
        what = f"{lost.size} slots" if lost.size < _LEAST_SLOTS else "no loss" if not lost.any() else "no arrival"
        raise RequestError(f"a loss model is fitted to at least {_LEAST_SLOTS} slots with a loss and an arrival among them; this "
                           f"trace has {what}: choose another trace")
    rate, burst = float(lost.mean()), trace_law(lost).mean_burst
    assert burst is not None
    gilbert = GilbertElliott(loss_rate=rate, mean_burst_packets=burst)
    return {"independent": PacketLoss(loss_rate=rate), "gilbert": gilbert, "gilbert_elliott": _gilbert_elliott(lost, gilbert),
            "three_state": _three_state(lost, burst)}


def residual_loss(lost: np.ndarray, n: int, k: int) -> float:
    """Fraction of source packets that a systematic (n, k) code leaves missing, over all n-slot windows of bool [num_slots]."""
    before = np.concatenate([[0], np.cumsum(lost)])
    of_source, of_all = before[k:before.size - n + k] - before[:-n], before[n:] - before[:-n]
    return float(np.mean(of_source * (of_all > n - k)) / k)


def _three_state(lost: np.ndarray, burst: float) -> ThreeState:
    lengths, counts = np.unique(_gaps(lost), return_counts=True)
    share, long, short = _geometric_mixture(lengths.astype(np.float64), counts.astype(np.float64))
    return ThreeState(stay_good=1 - 1 / long, lost_to_good=share / burst, stay_lost=1 - 1 / burst, stay_gap=1 - 1 / short)


def _gaps(lost: np.ndarray) -> np.ndarray:
    """Lengths of the runs of arrivals, read round."""
    places = np.flatnonzero(lost)
    apart = np.diff(np.append(places, places[0] + lost.size)) - 1
    return apart[apart > 0]


def _geometric_mixture(lengths: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """(share of the longer, its mean, mean of the shorter) of two geometric laws on 1, 2, …; the mixture keeps the mean."""
    mean = counts @ lengths / counts.sum()
    share, long, short = 0.5, max(1.0, 1.5 * mean), max(1.0, 0.5 * mean)
    known = -np.inf
    for _ in range(_MOST_STEPS):
        parts = np.stack([share * (1 - 1 / long) ** (lengths - 1) / long, (1 - share) * (1 - 1 / short) ** (lengths - 1) / short])
        total = parts.sum(axis=0)
        weights = parts / np.maximum(total, 1e-300) * counts
        share = float(weights[0].sum() / counts.sum())
        long, short = (float(max(1.0, weight @ lengths / max(weight.sum(), 1e-12))) for weight in weights)
        likelihood = float(counts @ np.log(np.maximum(total, 1e-300)))
        if likelihood - known < _TOLERANCE * counts.sum():
            break
        known = likelihood
    return (share, long, short) if long >= short else (1 - share, short, long)


def _gilbert_elliott(lost: np.ndarray, gilbert: GilbertElliott) -> GilbertElliott:
    rate, burst = gilbert.loss_rate, gilbert.mean_burst_packets
    # from a slower chain than Gilbert's, or its own losses of 0 and 1 would stay what they are
    to_bad, to_good = gilbert.transitions
    chain, loss = _baum_welch(lost.astype(np.int64), np.array([[1 - to_bad / 3, to_bad / 3], [to_good / 3, 1 - to_good / 3]]),
                              np.array([rate / 4, min(0.95, 0.5 + rate / 2)]))
    good, bad = sorted(float(value) for value in loss)
    try:
        return GilbertElliott(loss_rate=rate, mean_burst_packets=burst, loss_in_good=good, loss_in_bad=bad)
    except ValueError:
        return gilbert


@njit(cache=True)
def _baum_welch(lost: np.ndarray, chain: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transitions [from, to] and loss probabilities [state] of two states that a trace makes likeliest, from a first guess."""
    size = lost.size
    forward, scale = np.empty((size, 2)), np.empty(size)
    known = -np.inf
    for _ in range(300):
        law = np.array([chain[1, 0], chain[0, 1]]) / (chain[1, 0] + chain[0, 1])
        likelihood = 0.0
        for slot in range(size):
            if slot:
                law = forward[slot - 1] @ chain
            for state in range(2):
                forward[slot, state] = law[state] * (loss[state] if lost[slot] else 1 - loss[state])
            scale[slot] = forward[slot, 0] + forward[slot, 1]
            forward[slot] /= scale[slot]
            likelihood += np.log(scale[slot])
        moves, visits, losses = np.zeros((2, 2)), np.zeros(2), np.zeros(2)
        backward = np.ones(2)
        for slot in range(size - 1, -1, -1):
            for state in range(2):
                here = forward[slot, state] * backward[state]
                visits[state] += here
                losses[state] += here * lost[slot]
            if slot:
                ahead = np.empty(2)
                for state in range(2):
                    ahead[state] = (loss[state] if lost[slot] else 1 - loss[state]) * backward[state] / scale[slot]
                for state in range(2):
                    for after in range(2):
                        moves[state, after] += forward[slot - 1, state] * chain[state, after] * ahead[after]
                backward = chain @ ahead
        for state in range(2):
            chain[state] = moves[state] / max(moves[state].sum(), 1e-300)
            loss[state] = min(max(losses[state] / max(visits[state], 1e-300), 0.0), 1.0)
        if likelihood - known < 1e-7 * size or chain[0, 1] + chain[1, 0] <= 0:
            break
        known = likelihood
    return chain, loss
