"""Outage of block fading: the fade is known to the receiver alone and too deep for the rate, whatever the code."""

from __future__ import annotations

import numpy as np
import scipy  # its submodules are loaded on first use: statistics take a while, and only Rician fading needs them
from scipy.fft import dct
from scipy.special import gammainc

from channel_sim.checks import require
from channel_sim.theory.domains import linear, positive_ratio, require_at_least
from channel_sim.theory.quadrature import legendre

_NODES = 128


def outage_probability(rate: float, snr_db: float, num_blocks: int = 1) -> float:
    """P(mean over the blocks of log2(1 + |h_b|² snr) < rate), Rayleigh; `rate` in bits per complex use, snr = mean Es/N0.

    One code word spans `num_blocks` independently faded blocks of equal length. One block is the closed form
    1 - exp(-(2^rate - 1) / snr); more are a convolution of the law of log2(1 + |h|² snr) with itself, integrated to a relative
    error below 1e-6.

    Source: L. Ozarow, S. Shamai, A. Wyner, "Information theoretic considerations for cellular mobile radio", IEEE Trans. Veh.
    Technol. 43 (1994); several blocks: R. Knopp, P. A. Humblet, "On coding for block fading channels", IEEE Trans. Inf. Theory
    46 (2000).
    """
    _require_rate(rate)
    require_at_least("num_blocks", 1, num_blocks)
    if num_blocks == 1:
        return float(-np.expm1(-_needed(rate, snr_db)))
    return _accumulated(rate * num_blocks * np.log(2), positive_ratio("snr_db", snr_db), num_blocks)


def rician_outage_probability(rate: float, snr_db: float, rician_k_db: float) -> float:
    """P(log2(1 + |h|² snr) < rate) over one block of Rician fading, |h|² of mean 1: 1 - Q1(sqrt(2K), sqrt(2 (1 + K) x)).

    `rician_k_db`: power of the line of sight over that of what is scattered, in dB; -inf is Rayleigh.

    Source: M. K. Simon, M.-S. Alouini, "Digital Communication over Fading Channels" (2005), sections 2.2.1.3 and 4.2.
    """
    _require_rate(rate)
    ratio = linear(rician_k_db)
    require(ratio < 1e8, f"rician_k_db must be < 80, got {rician_k_db}")
    return float(scipy.stats.ncx2.cdf(2 * (1 + ratio) * _needed(rate, snr_db), 2, 2 * ratio))


def marcum_q(order: int, a: float, b: float) -> float:
    """Generalised Marcum Q_m(a, b): P(a non-central chi-square of 2m degrees and non-centrality a² exceeds b²).

    Source: J. I. Marcum, "A statistical theory of target detection by pulsed radar", IRE Trans. Inf. Theory 6 (1960); the
    chi-square form: M. K. Simon, M.-S. Alouini, "Digital Communication over Fading Channels" (2005), section 4.2.
    """
    require_at_least("order", 1, order)
    require_at_least("a", 0, a)
    require_at_least("b", 0, b)
    return float(scipy.stats.ncx2.sf(b**2, 2 * order, a**2))


def harq_chase_outage(rate: float, snr_db: float, num_transmissions: int, same_fade: bool = False) -> float:
    """P(decoding still fails after so many transmissions of one code word, combined at maximum ratio), Rayleigh block fading.

    `rate` in bits per complex use of one transmission, snr = mean Es/N0 of one. Powers add up: with independent fades their sum
    is Gamma-distributed, P(num_transmissions, x), x = (2^rate - 1) / snr; with the same fade it is 1 - exp(-x / num_transmissions).

    Source: G. Caire, D. Tuninetti, "The throughput of hybrid-ARQ protocols for the Gaussian collision channel", IEEE Trans.
    Inf. Theory 47 (2001), section III; D. Chase, "Code combining", IEEE Trans. Commun. 33 (1985).
    """
    _require_rate(rate)
    require_at_least("num_transmissions", 1, num_transmissions)
    needed = _needed(rate, snr_db)
    if same_fade:
        return float(-np.expm1(-needed / num_transmissions))
    return float(gammainc(num_transmissions, needed))


def harq_incremental_outage(rate: float, snr_db: float, num_transmissions: int) -> float:
    """P(decoding still fails after so many transmissions, each of new parity): Σ log2(1 + |h_t|² snr) < rate, independent fades.

    `rate` is that of the first transmission, in bits per complex use.

    Source: G. Caire, D. Tuninetti, IEEE Trans. Inf. Theory 47 (2001), section III.
    """
    require_at_least("num_transmissions", 1, num_transmissions)
    return outage_probability(rate / num_transmissions, snr_db, num_transmissions)


def harq_chase_mean_transmissions(rate: float, snr_db: float, max_transmissions: int, same_fade: bool = False) -> float:
    """Mean transmissions of a code word: 1 + Σ over t < max_transmissions of the outage after t.

    Source: G. Caire, D. Tuninetti, IEEE Trans. Inf. Theory 47 (2001), section III.
    """
    require_at_least("max_transmissions", 1, max_transmissions)
    return 1 + sum(harq_chase_outage(rate, snr_db, sent, same_fade) for sent in range(1, max_transmissions))


def _require_rate(rate: float) -> None:
    require(rate >= 0, f"rate must be >= 0 bits per complex use, got {rate}")


def _needed(rate: float, snr_db: float) -> float:
    """The least power of the fade that carries the rate."""
    return float(np.expm1(rate * np.log(2)) / positive_ratio("snr_db", snr_db))


def _accumulated(needed_nats: float, snr: float, num_blocks: int) -> float:
    """P(Σ ln(1 + g_b snr) < needed_nats) for independent exponential g_b of mean 1."""
    most = float(np.log1p(50 * snr))  # beyond, a block's density is below e^-50
    if needed_nats == 0 or needed_nats >= num_blocks * most:
        return float(needed_nats > 0)
    share, weight = legendre(_NODES)
    places = np.polynomial.chebyshev.chebpts1(_NODES)[::-1]
    nats = (places + 1) / 2 * needed_nats
    reach = np.minimum(nats, most)[:, None]
    step = reach * share  # [nodes, steps]: nats of one block
    density = np.exp(step - np.expm1(step) / snr) * weight * reach  # times snr
    rest = nats[:, None] - step
    # ln(outage (snr / nats)^blocks) is smooth and of few digits, however small the outage: interpolate that
    scaled = -np.expm1(-np.expm1(nats) / snr) * snr / nats
    for blocks in range(1, num_blocks):
        earlier = np.exp(_chebyshev(2 * rest / needed_nats - 1, np.log(scaled)))
        scaled = np.sum(density * earlier * (rest / nats[:, None]) ** blocks, axis=1) / nats
    last = _chebyshev(np.ones(1), np.log(scaled)) + num_blocks * np.log(needed_nats / snr)
    return float(min(1.0, np.exp(last[0])))


def _chebyshev(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The polynomial through `values` at Chebyshev's points of [-1, 1], from the right, evaluated at `at`."""
    series = dct(values) / values.size
    series[0] /= 2
    return np.asarray(np.polynomial.chebyshev.chebval(at, series))
