"""Packet codes over lossy channels: MDS and random linear, exactly, whatever Markov chain the losses follow."""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr

from channel_sim.checks import require
from channel_sim.theory.domains import require_at_least, require_code, require_probability
from channel_sim.theory.loss_chains import LossChain


def mds_failure_probability(n: int, k: int, loss_rate: float, mean_burst_packets: float | None = None) -> float:
    """P(more than n - k of n packets are lost): the block cannot be restored whole.

    Independent losses, or exactly those of Gilbert's chain in its stationary law where `mean_burst_packets` is given.

    Source: F. J. MacWilliams, N. J. A. Sloane, "The Theory of Error-Correcting Codes" (1977), chapter 11, theorem 1: any k
    symbols of an MDS code are an information set; the sum over the binomial law follows.
    """
    require_code(n, k)
    if mean_burst_packets is None:
        require_probability("loss_rate", loss_rate)
        return float(bdtr(k - 1, n, 1 - loss_rate))  # fewer than k arrive
    return mds_failure_over_chain(n, k, LossChain.gilbert_elliott(loss_rate, mean_burst_packets))


def mds_residual_loss(n: int, k: int, loss_rate: float, mean_burst_packets: float | None = None) -> float:
    """Fraction of the k source packets, sent first, that a systematic code leaves missing: what arrived is kept.

    Independent losses, or exactly those of Gilbert's chain in its stationary law where `mean_burst_packets` is given.

    Source: as `mds_failure_probability`; independent losses leave p P(more than n - k - 1 of the other n - 1 are lost).
    """
    require_code(n, k)
    if mean_burst_packets is None:
        require_probability("loss_rate", loss_rate)
        return loss_rate * (float(bdtr(k - 1, n - 1, 1 - loss_rate)) if n > k else 1.0)
    return mds_residual_over_chain(n, k, LossChain.gilbert_elliott(loss_rate, mean_burst_packets))


def mds_failure_over_chain(n: int, k: int, losses: LossChain, interleaving_depth: int = 1) -> float:
    """P(more than n - k of the n packets of a block are lost) under any chain of losses, in its stationary law.

    With `interleaving_depth` d the packets of a block are d slots apart.

    Source: the recursion over (state, losses so far) of E. O. Elliott, "Estimates of error rates for codes on burst-noise
    channels", Bell Syst. Tech. J. 42 (1963), section III.
    """
    require_code(n, k)
    probability, _ = _loss_counts(n, k, losses.spaced(interleaving_depth))
    return float(probability[n - k + 1:].sum())


def mds_residual_over_chain(n: int, k: int, losses: LossChain, interleaving_depth: int = 1) -> float:
    """Fraction of the k source packets, sent first, that stays missing under any chain of losses, in its stationary law.

    With `interleaving_depth` d the packets of a block are d slots apart. Source: as `mds_failure_over_chain`.
    """
    require_code(n, k)
    _, source_losses = _loss_counts(n, k, losses.spaced(interleaving_depth))
    return float(source_losses[n - k + 1:].sum() / k)


def random_linear_failure_probability(k: int, extra: int, field_size: int = 2) -> float:
    """P(k + extra uniformly random vectors over GF(field_size) do not span k dimensions): received packets that decode nothing.

    1 - Π (1 - q^(i - k - extra)) over i = 0..k-1. Vectors are drawn with replacement, zero among them.

    Source: G. Landsberg, "Über eine Anzahlbestimmung und eine damit zusammenhängende Reihe", J. Reine Angew. Math. 111 (1893); as
    a packet code O. Trullols-Crespo, J. M. Barcelo-Ordinas, M. Fiore, "Exact decoding probability under random linear network
    coding", IEEE Commun. Lett. 15 (2011).
    """
    require_at_least("k", 0, k)
    require(_is_prime_power(field_size), f"field_size must be a power of a prime, got {field_size}")
    if extra < 0:
        return float(k > 0)
    deficits = np.log1p(-float(field_size) ** -np.arange(1.0 + extra, 1.0 + extra + k))
    return float(-np.expm1(deficits.sum()))


def random_linear_failure_over_chain(n: int, k: int, losses: LossChain, field_size: int = 2, *, systematic: bool = False,
                                     interleaving_depth: int = 1) -> float:
    """P(the k source packets of a random linear code of n packets cannot all be restored) under any chain of losses.

    `systematic`: the k source packets go first as they are, and n - k random combinations follow; with e of the source and r of
    the combinations there to solve for them, that fails as r random vectors fail to span e dimensions. Otherwise all n are random.

    Source: as `random_linear_failure_probability`, averaged over the law of losses; for the systematic code A. L. Jones,
    I. Chatzigeorgiou, A. Tassi, "Binary systematic network coding for progressive packet decoding", Proc. IEEE ICC (2015).
    """
    require_code(n, k)
    chain = losses.spaced(interleaving_depth)
    if not systematic:
        lost, _ = _loss_counts(n, k, chain)
        return float(sum(weight * random_linear_failure_probability(k, n - int(gone) - k, field_size)
                         for gone, weight in enumerate(lost)))
    joint = _split_loss_counts(n, k, chain)
    fails = [[random_linear_failure_probability(of_source, n - k - of_parity - of_source, field_size)
              for of_parity in range(n - k + 1)] for of_source in range(k + 1)]
    return float((joint * np.array(fails)).sum())


def _loss_counts(n: int, k: int, losses: LossChain) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n + 1] each, by the number j of losses among n: P(j), and E[losses among the first k; j]."""
    lost = losses.loss_probability[:, None]
    backward = losses.transitions.T
    probability, source = np.zeros((2, lost.size, n + 1))  # [state of the last packet, losses so far]
    probability[:, 0] = losses.stationary  # a step of the stationary law is the stationary law
    for packet in range(n):
        probability, source = backward @ probability, backward @ source
        hit = probability * lost
        probability, source = _one_more(probability, lost), _one_more(source, lost)
        if packet < k:
            source[:, 1:] += hit[:, :-1]
    return probability.sum(axis=0), source.sum(axis=0)


def _one_more(counted: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """A packet on: what was counted with j losses is counted with j + 1 where it is lost; [..., losses so far]."""
    after = counted * (1 - lost)
    after[..., 1:] += (counted * lost)[..., :-1]
    return np.asarray(after)


def _split_loss_counts(n: int, k: int, losses: LossChain) -> np.ndarray:
    """float64 [k + 1, n - k + 1]: P(so many of the first k packets are lost, and so many of the others)."""
    lost = losses.loss_probability[:, None]
    joint = np.zeros((lost.size, n - k + 1, k + 1))
    joint[:, 0, 0] = losses.stationary
    for packet in range(n):
        joint = np.tensordot(losses.transitions.T, joint, axes=1)
        if packet == k:
            joint = joint.swapaxes(1, 2)  # what is counted is last
        joint = _one_more(joint, lost[..., None])
    return np.asarray(joint.sum(axis=0) if n > k else joint.sum(axis=0).T)


def _is_prime_power(number: int) -> bool:
    if number < 2:
        return False
    prime = next(factor for factor in range(2, number + 1) if number % factor == 0)
    while number % prime == 0:
        number //= prime
    return number == 1
