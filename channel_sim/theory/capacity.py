"""Capacities in bits a channel use, and the Eb/N0 below which no code of a rate can work."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy  # its submodules are loaded on first use: most reports need no solver
from scipy.special import entr, expn

from channel_sim.checks import require
from channel_sim.theory.domains import amplitude_levels, linear, positive_ratio, require_probability
from channel_sim.theory.quadrature import gaussian

_LOWEST_DB, _HIGHEST_DB = -60.0, 100.0


def binary_entropy(probability: float) -> float:
    """h(p) in bits.

    Source: C. E. Shannon, "A mathematical theory of communication", Bell Syst. Tech. J. 27 (1948), section 6.
    """
    require_probability("probability", probability)
    return float((entr(probability) + entr(1 - probability)) / np.log(2))


def bsc_capacity(flip_probability: float) -> float:
    """1 - h(q) bits a use.

    Source: C. E. Shannon, "A mathematical theory of communication", Bell Syst. Tech. J. 27 (1948), section 16.
    """
    require_probability("flip_probability", flip_probability)
    return 1 - binary_entropy(flip_probability)


def bec_capacity(erasure_probability: float) -> float:
    """1 - e bits a use.

    Source: P. Elias, "Coding for two noisy channels", 3rd London Symp. Information Theory (1955).
    """
    require_probability("erasure_probability", erasure_probability)
    return 1 - erasure_probability


def awgn_capacity(snr_db: float) -> float:
    """log2(1 + snr) bits a complex use; snr = Es/N0.

    Source: C. E. Shannon, "Communication in the presence of noise", Proc. IRE 37 (1949), section VII.
    """
    return float(np.log1p(linear(snr_db)) / np.log(2))


def rayleigh_ergodic_capacity(snr_db: float) -> float:
    """E[log2(1 + |h|² snr)] = exp(1/snr) E1(1/snr) / ln 2 bits a complex use; the receiver knows h, the sender does not.

    `snr_db` is the mean Es/N0. A code word sees all fades; over few of them it is `outage_probability` that counts.

    Source: W. C. Y. Lee, "Estimate of channel capacity in Rayleigh fading environment", IEEE Trans. Veh. Technol. 39 (1990);
    M.-S. Alouini, A. J. Goldsmith, "Capacity of Rayleigh fading channels under different adaptive transmission and
    diversity-combining techniques", IEEE Trans. Veh. Technol. 48 (1999), section III.
    """
    inverse = 1 / positive_ratio("snr_db", snr_db)
    if inverse < 100:
        return float(np.exp(inverse) * expn(1, inverse) / np.log(2))
    order = np.arange(20)  # asymptotic, where exp would overflow: Σ (-1)^k k! / x^(k+1)
    terms = np.cumprod(np.concatenate([[1 / inverse], -order[1:] / inverse]))
    return float(terms.sum() / np.log(2))


def bi_awgn_capacity(esno_db: float) -> float:
    """Bits a use of antipodal signalling in real Gaussian noise of variance N0/2. A QPSK symbol is two uses of half its Es.

    Source: T. Richardson, R. Urbanke, "Modern Coding Theory" (2008), chapter 4; the integral by equal steps.
    """
    return bi_awgn_moments(esno_db)[0]


@lru_cache(maxsize=1024)
def bi_awgn_moments(esno_db: float) -> tuple[float, float]:
    """(mean, variance) in bits and bits² of the information density of antipodal signalling in Gaussian noise."""
    # the density of information is 1 - log2(1 + exp(-L)) with an LLR L ~ N(m, 2m), m = 4 Es/N0, of the bit that was sent;
    # equal steps integrate a Gaussian to machine precision
    mean = 4 * linear(esno_db)
    unit, weight = gaussian(4001)
    density = 1 - np.logaddexp(0, -(mean + np.sqrt(2 * mean) * unit)) / np.log(2)
    capacity = float(weight @ density)
    return capacity, float(weight @ (density - capacity) ** 2)


def constrained_capacity(order: int, esno_db: float, constellation: Literal["qam", "pam"] = "qam") -> float:
    """Bits a complex use of equally likely symbols over AWGN: the most that any code on this constellation can carry.

    `qam`: BPSK (order 2) or square QAM; `pam`: `order` equally spaced amplitudes on the real axis of the same complex symbol.

    Source: G. Ungerboeck, "Channel coding with multilevel/phase signals", IEEE Trans. Inf. Theory 28 (1982), eq. 5.
    """
    amplitudes, ratio, dimensions = _amplitudes(order, esno_db, constellation)
    return dimensions * _amplitude_information(amplitudes, ratio, None)


def bicm_capacity(order: int, esno_db: float, constellation: Literal["qam", "pam"] = "qam") -> float:
    """Bits a complex use of Gray-labelled symbols over AWGN whose bits are decoded as if sent one by one (no iteration with
    the demapper): Σ I(bit; y). At most `constrained_capacity`; the same for BPSK and QPSK.

    Source: G. Caire, G. Taricco, E. Biglieri, "Bit-interleaved coded modulation", IEEE Trans. Inf. Theory 44 (1998).
    """
    amplitudes, ratio, dimensions = _amplitudes(order, esno_db, constellation)
    require(order & (order - 1) == 0, f"order must be a power of 2 to carry bits, got {order}")
    level = np.arange(amplitudes.size)
    label = level ^ (level >> 1)
    bits = label[:, None] >> np.arange(amplitudes.size.bit_length() - 1) & 1  # [levels, bits]
    return dimensions * sum(_amplitude_information(amplitudes, ratio, bit) for bit in bits.T)


def shannon_limit_ebno_db(bits_per_use: float, order: int | None = None) -> float:
    """Least Eb/N0 in dB at which `bits_per_use` information bits a complex use can be sent over AWGN without error.

    order None: Gaussian symbols, (2^η - 1) / η; else BPSK (2) or square QAM, from `constrained_capacity`. BPSK uses the real
    axis of a complex use: code rate 1/2 is .5 bits with order 2, and .187 dB.

    Source: C. E. Shannon, "Communication in the presence of noise", Proc. IRE 37 (1949); T. Richardson, R. Urbanke, "Modern
    Coding Theory" (2008), chapter 4.
    """
    if order is None:
        require(bits_per_use > 0, f"bits_per_use must be > 0, got {bits_per_use}")
        return float(10 * np.log10(np.expm1(bits_per_use * np.log(2)) / bits_per_use))
    most = float(np.log2(order)) if order > 0 else 0.0
    amplitude_levels(order)
    require(1e-4 <= bits_per_use <= most - 1e-4,
            f"bits_per_use must lie in [1e-4, {most:g} - 1e-4] for order {order}, got {bits_per_use}")
    return crossing_db(lambda esno_db: constrained_capacity(order, esno_db) - bits_per_use) - float(10 * np.log10(bits_per_use))


def crossing_db(surplus: Callable[[float], float]) -> float:
    """The dB at which a rising function is 0, to 1e-10."""
    return float(scipy.optimize.brentq(surplus, _LOWEST_DB, _HIGHEST_DB, xtol=1e-10))


def _amplitudes(order: int, esno_db: float, constellation: str) -> tuple[np.ndarray, float, int]:
    """(amplitudes of mean square 1, signal-to-noise ratio of one dimension, dimensions that carry an amplitude)."""
    require(constellation in ("qam", "pam"), f'constellation must be "qam" or "pam", got {constellation!r}')
    require(constellation == "qam" or order >= 2, f"order must be >= 2, got {order}")
    levels = order if constellation == "pam" else amplitude_levels(order)
    amplitudes = 2.0 * np.arange(levels) - levels + 1
    # noise N0/2 a dimension: half the energy each in QAM, all of it on one axis otherwise
    dimensions = 1 if levels == order else 2
    return amplitudes / np.sqrt(np.mean(amplitudes**2)), 2 * linear(esno_db) / dimensions, dimensions


def _amplitude_information(amplitudes: np.ndarray, ratio: float, bit: np.ndarray | None) -> float:
    """I(amplitude; y) in bits, or I(bit; y) where `bit` [levels] says the bit of each amplitude; y = sqrt(ratio) a + N(0, 1)."""
    unit, weight = gaussian(2001)
    doubt = 0.0
    for sent, amplitude in enumerate(amplitudes):
        apart = np.sqrt(ratio) * (amplitude - amplitudes[:, None]) + unit  # [levels, points]
        log_likelihood = -apart**2 / 2
        same = log_likelihood[sent] if bit is None else np.logaddexp.reduce(log_likelihood[bit == bit[sent]])
        doubt += float(weight @ (np.logaddexp.reduce(log_likelihood) - same)) / len(amplitudes)
    return float(np.log2(len(amplitudes) if bit is None else 2) - doubt / np.log(2))
