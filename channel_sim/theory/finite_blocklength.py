"""What the best code of a length can do: the normal approximation, and bounds that hold exactly for the BSC and the BEC."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, ndtri

from channel_sim.checks import require
from channel_sim.theory.capacity import bi_awgn_moments, crossing_db
from channel_sim.theory.domains import require_at_least, require_code, require_probability
from channel_sim.theory.modulation import q_function


def bsc_dispersion(flip_probability: float) -> float:
    """q (1 - q) log2²((1 - q) / q), in bits² a use.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength regime", IEEE Trans. Inf. Theory
    56 (2010), theorem 52.
    """
    q = flip_probability
    require_probability("flip_probability", q)
    return float(q * (1 - q) * np.log2((1 - q) / q) ** 2) if 0 < q < 1 else 0.0


def bec_dispersion(erasure_probability: float) -> float:
    """e (1 - e), in bits² a use.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, IEEE Trans. Inf. Theory 56 (2010), theorem 53.
    """
    require_probability("erasure_probability", erasure_probability)
    return erasure_probability * (1 - erasure_probability)


def bi_awgn_dispersion(esno_db: float) -> float:
    """Variance of the information density of antipodal signalling in real Gaussian noise of variance N0/2, in bits² a use.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, IEEE Trans. Inf. Theory 56 (2010), section IV.
    """
    return bi_awgn_moments(esno_db)[1]


def normal_approximation(num_uses: int, num_bits: float, capacity: float, dispersion: float, log_term: bool = True) -> float:
    """Block error probability of the best code of `num_bits` in `num_uses`: Q((nC - k + ½ log2 n) / sqrt(nV)).

    An approximation, not a bound. The term ½ log2 n belongs to the BSC and the binary-input AWGN channel; the BEC has none.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength regime", IEEE Trans. Inf. Theory
    56 (2010), section IV.
    """
    require_at_least("num_uses", 1, num_uses)
    require_at_least("dispersion", 0, dispersion)
    surplus = num_uses * capacity - num_bits + (np.log2(num_uses) / 2 if log_term else 0)
    if dispersion == 0:
        return float(surplus < 0)
    return q_function(surplus / np.sqrt(num_uses * dispersion))


def normal_approximation_rate(num_uses: int, block_error: float, capacity: float, dispersion: float,
                              log_term: bool = True) -> float:
    """Bits a use that `normal_approximation` grants at block error probability `block_error`, in (0, 1)."""
    require_at_least("num_uses", 1, num_uses)
    require_at_least("dispersion", 0, dispersion)
    require(0 < block_error < 1, f"block_error must lie in (0, 1), got {block_error}")
    penalty = np.sqrt(dispersion / num_uses) * -ndtri(block_error)
    return float(capacity - penalty + (np.log2(num_uses) / (2 * num_uses) if log_term else 0))


def normal_approximation_ebno_db(num_uses: int, num_bits: float, block_error: float) -> float:
    """Eb/N0 in dB at which `normal_approximation` of the binary-input AWGN channel says `block_error`.

    A use is one antipodal symbol; `num_bits` < `num_uses` information bits in `num_uses` of them.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, IEEE Trans. Inf. Theory 56 (2010), section IV, solved for Eb/N0.
    """
    require(0 < num_bits < num_uses, f"num_bits must lie between 0 and num_uses={num_uses}, got {num_bits}")
    require(0 < block_error < 1, f"block_error must lie in (0, 1), got {block_error}")
    quantile = -ndtri(block_error)

    def surplus(esno_db: float) -> float:
        capacity, dispersion = bi_awgn_moments(esno_db)
        return float(num_uses * capacity - num_bits + np.log2(num_uses) / 2 - quantile * np.sqrt(num_uses * max(dispersion, 0.0)))

    return crossing_db(surplus) - float(10 * np.log10(num_bits / num_uses))


def bsc_random_coding_bound(num_uses: int, num_bits: int, flip_probability: float) -> float:
    """Random-coding union bound: some code of 2^num_bits words has at most this block error probability on the BSC.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength regime", IEEE Trans. Inf. Theory
    56 (2010), theorem 33.
    """
    log_flips, log_inside = _bsc_spheres(num_uses, num_bits, flip_probability)
    log_others = num_bits * np.log(2) + np.log1p(-(2.0 ** -num_bits))
    return float(min(1.0, np.exp(log_flips + np.minimum(0, log_others + log_inside)).sum()))


def bsc_converse_bound(num_uses: int, num_bits: int, flip_probability: float) -> float:
    """No code of 2^num_bits words has less than this block error probability on the BSC: sphere packing, met by perfect codes.

    Source: P. Elias, "Coding for two noisy channels", 3rd London Symp. Information Theory (1955); Y. Polyanskiy, H. V. Poor,
    S. Verdú, IEEE Trans. Inf. Theory 56 (2010), theorem 35.
    """
    log_flips, log_inside = _bsc_spheres(num_uses, num_bits, flip_probability)
    share = -num_bits * np.log(2)
    radius = int(np.searchsorted(log_inside, share))  # the first sphere that is no smaller than a word's share of the space
    flips = np.exp(log_flips)
    shell = log_inside[0] + _log_binomials(num_uses)[radius]
    inner = np.exp(log_inside[radius - 1] - shell) if radius else 0.0
    corrected = np.exp(share - shell) - inner  # part of the outermost shell
    return float(max(0.0, flips[radius] * (1 - corrected) + flips[radius + 1:].sum()))


def bec_dependence_testing_bound(num_uses: int, num_bits: int, erasure_probability: float) -> float:
    """Some code of 2^num_bits words has at most this block error probability on the BEC.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength regime", IEEE Trans. Inf. Theory
    56 (2010), theorem 37.
    """
    erasures, probability = _bec_erasures(num_uses, num_bits, erasure_probability)
    log_half_others = num_bits - 1 + np.log1p(-(2.0 ** -num_bits)) / np.log(2)
    return float(probability @ 2.0 ** -np.maximum(0, num_uses - erasures - log_half_others))


def bec_converse_bound(num_uses: int, num_bits: int, erasure_probability: float) -> float:
    """No code of 2^num_bits words has less than this block error probability on the BEC; met by binary MDS codes.

    With l erasures at most 2^(n - l) of the words can be told apart.

    Source: Y. Polyanskiy, H. V. Poor, S. Verdú, IEEE Trans. Inf. Theory 56 (2010), theorem 38.
    """
    erasures, probability = _bec_erasures(num_uses, num_bits, erasure_probability)
    return float(probability @ -np.expm1(np.log(2) * np.minimum(0, num_uses - erasures - num_bits)))


def _bsc_spheres(num_uses: int, num_bits: int, flip_probability: float) -> tuple[np.ndarray, np.ndarray]:
    """By the number t = 0..n of flips, natural logarithms of P(t flips) and of the share of all words within t of one."""
    require_code(num_uses, num_bits)
    require(0 < flip_probability <= 0.5, f"flip_probability must lie in (0, 0.5], got {flip_probability}")
    ways, flips = _log_binomials(num_uses), np.arange(num_uses + 1)
    log_flips = ways + flips * np.log(flip_probability) + (num_uses - flips) * np.log1p(-flip_probability)
    return log_flips, np.logaddexp.accumulate(ways) - num_uses * np.log(2)


def _bec_erasures(num_uses: int, num_bits: int, erasure_probability: float) -> tuple[np.ndarray, np.ndarray]:
    """0..n, and the probability of so many erasures."""
    require_code(num_uses, num_bits)
    require(0 < erasure_probability < 1, f"erasure_probability must lie in (0, 1), got {erasure_probability}")
    erasures = np.arange(num_uses + 1)
    logs = erasures * np.log(erasure_probability) + (num_uses - erasures) * np.log1p(-erasure_probability)
    return erasures, np.exp(_log_binomials(num_uses) + logs)


def _log_binomials(n: int) -> np.ndarray:
    """ln C(n, 0..n)."""
    chosen = np.arange(n + 1)
    return np.asarray(gammaln(n + 1) - gammaln(chosen + 1) - gammaln(n - chosen + 1))
