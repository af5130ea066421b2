"""Error probabilities of uncoded modulation, exact: BPSK and Gray-labelled square QAM over AWGN, Rayleigh and Rician fading."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import ndtr

from channel_sim.checks import require
from channel_sim.theory.domains import amplitude_levels, linear
from channel_sim.theory.quadrature import legendre

Fading = Literal["awgn", "rayleigh", "rician"]
_ANGLES = 4096


def q_function(x: float) -> float:
    """P(N(0, 1) > x)."""
    return float(ndtr(-x))


def qam_bit_error_probability(order: int, ebno_db: float, fading: Fading = "awgn", rician_k_db: float | None = None) -> float:
    """Bit error probability of Gray-labelled BPSK (order 2) or square QAM (4, 16, 64, ...), hard decisions, coherent detection.

    Fading is flat, of mean power 1, and known to the receiver; `ebno_db` is then the mean, and how fast it changes does not
    matter. Rician fading has a line of sight `rician_k_db` dB above the power of what is scattered (-inf: Rayleigh).

    Raises ValueError for another order or fading, or where `rician_k_db` is missing or given without "rician".

    Source: K. Cho, D. Yoon, "On the general BER expression of one- and two-dimensional amplitude modulations", IEEE Trans.
    Commun. 50 (2002), eqs. 14 and 16; fading averages: M. K. Simon, M.-S. Alouini, "Digital Communication over Fading
    Channels" (2005), section 5.1; for Rayleigh in closed form J. Proakis, "Digital Communications" (2001), section 14.3.
    """
    levels = amplitude_levels(order)
    ratio = _line_of_sight(fading, rician_k_db)
    bits = levels.bit_length() - 1
    least = _least_distance(order, linear(ebno_db) * np.log2(order))
    total = 0.0
    for bit in range(1, bits + 1):
        for step in range(round((1 - 2.0**-bit) * levels)):
            folds = step * 2 ** (bit - 1) / levels
            weight = (-1) ** int(folds) * (2 ** (bit - 1) - int(folds + 0.5))
            total += weight * 2 / levels * _mean_tail((2 * step + 1) ** 2 * least, fading, ratio)
    return float(total / bits)


def qam_symbol_error_probability(order: int, esno_db: float, fading: Fading = "awgn", rician_k_db: float | None = None) -> float:
    """Symbol error probability of BPSK (order 2) or square QAM, whatever the labels; `esno_db` is Es/N0, the mean over fades.

    An amplitude of sqrt(order) levels is wrong with P = 2 (1 - 1/levels) Q(sqrt(2 least)); both are right with (1 - P)², so
    that the fading average takes the means of Q and of Q².

    Source: J. Proakis, "Digital Communications" (2001), eqs. 5.2-78 and 5.2-79; M. K. Simon, M.-S. Alouini, "Digital
    Communication over Fading Channels" (2005), sections 4.2 and 8.1.
    """
    levels = amplitude_levels(order)
    ratio = _line_of_sight(fading, rician_k_db)
    least = _least_distance(order, linear(esno_db))
    neighbours = 2 * (1 - 1 / levels)
    one = neighbours * _mean_tail(least, fading, ratio)
    if order == 2:
        return one
    return 2 * one - neighbours**2 * _mean_tail_squared(least, fading, ratio)


def _line_of_sight(fading: str, rician_k_db: float | None) -> float:
    """K as a ratio."""
    require(fading in ("awgn", "rayleigh", "rician"), f'fading must be "awgn", "rayleigh" or "rician", got {fading!r}')
    require((fading == "rician") == (rician_k_db is not None),
            f'rician_k_db must be given for fading "rician" and for no other, got {rician_k_db} for {fading!r}')
    require(rician_k_db is None or rician_k_db <= 100, f"rician_k_db must be <= 100: use awgn, got {rician_k_db}")
    return 0.0 if rician_k_db is None else linear(rician_k_db)


def _least_distance(order: int, esno: float) -> float:
    """d²/N0 for the distance d of an amplitude to the nearest threshold; to the others it is an odd multiple of d."""
    return float(esno * (1.0 if order == 2 else 3 / (2 * (order - 1))))


def _mean_tail(snr: float, fading: str, ratio: float) -> float:
    """E[Q(sqrt(2 g snr))] over the power g of the fade."""
    if fading == "awgn":
        return q_function(np.sqrt(2 * snr))
    if fading == "rayleigh":
        # ½ (1 - sqrt(s / (1 + s))) without cancellation
        root = np.sqrt(snr / (1 + snr))
        return float(0.5 / ((1 + snr) * (1 + root)))
    # Craig's form: smooth and periodic in the angle, so equal steps converge geometrically
    angle = (np.arange(_ANGLES) + 0.5) * np.pi / _ANGLES
    return float(np.mean(_rician_transform(snr / np.sin(angle) ** 2, ratio)) / 2)


def _mean_tail_squared(snr: float, fading: str, ratio: float) -> float:
    """E[Q²(sqrt(2 g snr))] over the power g of the fade."""
    if fading == "awgn":
        return q_function(np.sqrt(2 * snr)) ** 2
    share, weight = legendre(128)
    return float(weight @ _rician_transform(snr / np.sin(share * np.pi / 4) ** 2, ratio) / 4)


def _rician_transform(at: np.ndarray, ratio: float) -> np.ndarray:
    """E[exp(-g at)] for the power g of a Rician fade of mean 1: Simon and Alouini, section 2.2.1.3."""
    spread = 1 + ratio + at
    return np.asarray((1 + ratio) / spread * np.exp(-ratio * at / spread))
