"""Closed forms and bounds to hold measurements against. Probabilities are plain floats; dB in, dB named; information in bits."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.special import bdtr, entr, ndtr, ndtri

from channel_sim.checks import require

# ---------------------------------------------------------------- links


def q_function(x: float) -> float:
    """P(N(0, 1) > x)."""
    return float(ndtr(-x))


def qam_bit_error_probability(order: int, ebno_db: float, fading: Literal["awgn", "rayleigh"] = "awgn") -> float:
    """Bit error probability of Gray-labelled BPSK (order 2) or square QAM (4, 16, 64, 256), hard decisions, coherent detection.

    Rayleigh is flat fading of mean power 1 that the receiver knows; `ebno_db` is then the mean.

    Source: K. Cho, D. Yoon, "On the general BER expression of one- and two-dimensional amplitude modulations", IEEE Trans.
    Commun. 50 (2002), eqs. 14 and 16; fading averages as in J. Proakis, "Digital Communications" (2001), section 14.3.
    """
    require(order in (2, 4, 16, 64, 256), f"order must be 2, 4, 16, 64 or 256, got {order}")
    require(fading in ("awgn", "rayleigh"), f'fading must be "awgn" or "rayleigh", got {fading!r}')
    levels = 2 if order == 2 else round(order**0.5)
    bits = levels.bit_length() - 1
    # an amplitude's distance to a threshold is an odd multiple of the least, whose squared ratio to the noise this is
    least = _linear(ebno_db) * (1.0 if order == 2 else 3 * np.log2(order) / (2 * (order - 1)))
    total = 0.0
    for bit in range(1, bits + 1):
        for step in range(round((1 - 2.0**-bit) * levels)):
            folds = step * 2 ** (bit - 1) / levels
            weight = (-1) ** int(folds) * (2 ** (bit - 1) - int(folds + 0.5))
            total += weight * 2 / levels * _tail((2 * step + 1) ** 2 * least, fading)
    return float(total / bits)


def _tail(snr: float, fading: str) -> float:
    """Q(sqrt(2 snr)), or its mean over an exponential snr."""
    if fading == "awgn":
        return q_function(np.sqrt(2 * snr))
    # ½ (1 - sqrt(s / (1 + s))) without cancellation
    root = np.sqrt(snr / (1 + snr))
    return float(0.5 / ((1 + snr) * (1 + root)))


def outage_probability(rate: float, snr_db: float) -> float:
    """P(log2(1 + |h|² snr) < rate), Rayleigh block fading; `rate` in bits per complex use, snr = Es/N0.

    Source: L. Ozarow, S. Shamai, A. Wyner, "Information theoretic considerations for cellular mobile radio", IEEE Trans. Veh.
    Technol. 43 (1994).
    """
    return float(-np.expm1(-(2.0**rate - 1) / _linear(snr_db)))


# ---------------------------------------------------------------- capacity and finite blocklength


def binary_entropy(probability: float) -> float:
    """h(p) in bits."""
    _probability("probability", probability)
    return float((entr(probability) + entr(1 - probability)) / np.log(2))


def bsc_capacity(flip_probability: float) -> float:
    """1 - h(q) bits a use."""
    return 1 - binary_entropy(flip_probability)


def bec_capacity(erasure_probability: float) -> float:
    """1 - e bits a use."""
    _probability("erasure_probability", erasure_probability)
    return 1 - erasure_probability


def bi_awgn_capacity(esno_db: float) -> float:
    """Bits a use of antipodal signalling in real Gaussian noise of variance N0/2. A QPSK symbol is two uses of half its Es."""
    return _bi_awgn(esno_db)[0]


def bsc_dispersion(flip_probability: float) -> float:
    """q (1 - q) log2²((1 - q) / q), in bits² a use."""
    q = flip_probability
    _probability("flip_probability", q)
    return float(q * (1 - q) * np.log2((1 - q) / q) ** 2) if 0 < q < 1 else 0.0


def bec_dispersion(erasure_probability: float) -> float:
    """e (1 - e), in bits² a use."""
    _probability("erasure_probability", erasure_probability)
    return erasure_probability * (1 - erasure_probability)


def bi_awgn_dispersion(esno_db: float) -> float:
    """Variance of the information density of antipodal signalling in Gaussian noise, in bits² a use."""
    return _bi_awgn(esno_db)[1]


@lru_cache(maxsize=1024)
def _bi_awgn(esno_db: float) -> tuple[float, float]:
    # the density of information is 1 - log2(1 + exp(-L)) with an LLR L ~ N(m, 2m), m = 4 Es/N0, of the bit that was sent;
    # equal steps integrate a Gaussian to machine precision
    mean = 4 * _linear(esno_db)
    unit = np.linspace(-10, 10, 4001)
    weight = np.exp(-unit**2 / 2)
    weight /= weight.sum()
    density = 1 - np.logaddexp(0, -(mean + np.sqrt(2 * mean) * unit)) / np.log(2)
    capacity = float(weight @ density)
    return capacity, float(weight @ (density - capacity) ** 2)


def normal_approximation(num_uses: int, num_bits: float, capacity: float, dispersion: float, log_term: bool = True) -> float:
    """Block error probability of the best code of `num_bits` in `num_uses`: Q((nC - k + ½ log2 n) / sqrt(nV)).

    An approximation, not a bound. The term ½ log2 n belongs to the BSC and the binary-input AWGN channel; the BEC has none.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength regime", IEEE Trans. Inf. Theory
    56 (2010), section IV.
    """
    surplus = num_uses * capacity - num_bits + (np.log2(num_uses) / 2 if log_term else 0)
    if dispersion == 0:
        return float(surplus < 0)
    return q_function(surplus / np.sqrt(num_uses * dispersion))


def normal_approximation_rate(num_uses: int, block_error: float, capacity: float, dispersion: float,
                              log_term: bool = True) -> float:
    """Bits a use that `normal_approximation` grants at block error probability `block_error`."""
    penalty = np.sqrt(dispersion / num_uses) * -ndtri(block_error)
    return float(capacity - penalty + (np.log2(num_uses) / (2 * num_uses) if log_term else 0))


# ---------------------------------------------------------------- losses and packet codes


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
    """(loss rate, mean burst, autocorrelation at lag 1) of Gilbert's chain; at lag m the last to the power m."""
    return to_bad / (to_bad + to_good), 1 / to_good, 1 - to_bad - to_good


def gilbert_burst_probability(mean_burst_packets: float, length: int) -> float:
    """P(a burst lasts `length` packets): geometric."""
    return (1 - 1 / mean_burst_packets) ** (length - 1) / mean_burst_packets


def gilbert_autocorrelation(loss_rate: float, mean_burst_packets: float, lag: int) -> float:
    """Correlation of the losses of two packets `lag` apart."""
    return (1 - sum(gilbert_transitions(loss_rate, mean_burst_packets))) ** lag


def mds_failure_probability(n: int, k: int, loss_rate: float, mean_burst_packets: float | None = None) -> float:
    """P(more than n - k of n packets are lost): the block cannot be restored whole.

    Independent losses, or exactly those of Gilbert's chain in its stationary law where `mean_burst_packets` is given.
    """
    _code(n, k)
    if mean_burst_packets is None:
        return float(bdtr(k - 1, n, 1 - loss_rate))  # fewer than k arrive
    probability, _ = _loss_counts(n, k, loss_rate, mean_burst_packets)
    return float(probability[n - k + 1:].sum())


def mds_residual_loss(n: int, k: int, loss_rate: float, mean_burst_packets: float | None = None) -> float:
    """Fraction of the k source packets, sent first, that a systematic code leaves missing: what arrived is kept.

    Independent losses, or exactly those of Gilbert's chain in its stationary law where `mean_burst_packets` is given.
    """
    _code(n, k)
    if mean_burst_packets is None:
        mean_burst_packets = 1 / (1 - loss_rate)  # the chain without memory
    _, source_losses = _loss_counts(n, k, loss_rate, mean_burst_packets)
    return float(source_losses[n - k + 1:].sum() / k)


def _loss_counts(n: int, k: int, loss_rate: float, mean_burst_packets: float) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n + 1] each, by the number j of losses among n: P(j), and E[losses among the first k; j]."""
    to_bad, to_good = gilbert_transitions(loss_rate, mean_burst_packets)
    chain = np.array([[1 - to_bad, to_bad], [to_good, 1 - to_good]])
    probability, source = np.zeros((2, n + 1)), np.zeros((2, n + 1))  # [state of the last packet, losses so far]
    probability[:, 0] = 1 - loss_rate, loss_rate  # a step of the stationary law is the stationary law
    for packet in range(n):
        probability, source = chain.T @ probability, chain.T @ source
        for counted in (probability, source):
            counted[1, 1:] = counted[1, :-1].copy()
            counted[1, 0] = 0
        if packet < k:
            source[1] += probability[1]
    return probability.sum(axis=0), source.sum(axis=0)


# ---------------------------------------------------------------- concealment of Markov sources


def markov_map_error(flip_probability: float, erasure_probability: float, sides: Literal[0, 1, 2] = 2) -> float:
    """Error of the symbol-wise MAP estimate of an erased symbol; symmetric binary Markov source, independent erasures.

    sides: 2, both neighbours known as they arrived: p / (1 - λ e²); 1, the past alone: p / (1 - λ e); 0, no model: ½;
    with λ = 1 - 2p, and 1 - p for p above ½. At distance j the state has flipped with f_j = (1 - λ^j) / 2; between known
    symbols at distances j and k the MAP errs with min(f_j, f_k), and the nearest is at distance > j with e^j, e^2j.
    """
    require(sides in (0, 1, 2), f"sides must be 0, 1 or 2, got {sides}")
    _markov(flip_probability, erasure_probability)
    if sides == 0:
        return 0.5
    flip = min(flip_probability, 1 - flip_probability)
    return flip / (1 - (1 - 2 * flip) * erasure_probability**sides)


def markov_burst_map_error(flip_probability: float, length: int) -> float:
    """Mean error of the symbol-wise MAP estimate inside a gap of `length` erased symbols whose two ends are known."""
    _probability("flip_probability", flip_probability)
    flip = min(flip_probability, 1 - flip_probability)
    distance = np.arange(1, length + 1)
    nearest = np.minimum(distance, length + 1 - distance)
    return float(np.mean((1 - (1 - 2 * flip) ** nearest) / 2))


def markov_missing_information(flip_probability: float, erasure_probability: float) -> float:
    """H(X | Y) / n in bits a symbol: what is still missing of a symmetric binary Markov source after independent erasures.

    A gap of k symbols between known ones misses (k + 1) h(p) - h(f_{k+1}): h(p) - (1 - e)² Σ_k e^k h(f_{k+1}).
    """
    _markov(flip_probability, erasure_probability)
    if erasure_probability == 0:
        return 0.0
    num_terms = int(np.ceil(np.log(1e-18) / np.log(erasure_probability))) + 1
    gap = np.arange(num_terms)
    flipped = (1 - (1 - 2 * flip_probability) ** (gap + 1)) / 2
    ends = erasure_probability**gap @ (entr(flipped) + entr(1 - flipped)) / np.log(2)
    return float(binary_entropy(flip_probability) - (1 - erasure_probability) ** 2 * ends)


def markov_break_even(flip_probability: float) -> float:
    """Erasure probability 1 - h(p) below which an entropy code and ideal parity, at one use a symbol, leave no error."""
    return 1 - binary_entropy(flip_probability)


# ---------------------------------------------------------------- doors


def _linear(decibel: float) -> float:
    return float(10 ** (decibel / 10))


def _probability(name: str, value: float) -> None:
    require(0 <= value <= 1, f"{name} must lie in [0, 1], got {value}")


def _markov(flip_probability: float, erasure_probability: float) -> None:
    _probability("flip_probability", flip_probability)
    require(0 <= erasure_probability < 1, f"erasure_probability must lie in [0, 1), got {erasure_probability}")


def _code(n: int, k: int) -> None:
    require(1 <= k <= n, f"k must lie in 1 to n={n}, got {k}")
