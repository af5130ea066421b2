"""One SNR for a code block that met several: the AWGN in which its bits would hold as much information in the mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from channel_sim.checks import require

_KNOTS_DB = np.arange(-40.0, 50.01, 0.25)
_STEP_DB = 0.01
_FINE_DB = np.arange(-40.0, 50.001, _STEP_DB)
_SATURATED = 1e-9
"""Information a bit that is missing where the inverse ends: beyond it, doubles and the quadrature tell no two SNRs apart."""


@dataclass(frozen=True, eq=False)
class InformationCurve:
    """Mean information a coded bit, between 0 and 1, over Es/N0 in dB; strictly increasing, so that it can be read both ways."""

    esno_db: np.ndarray
    bits: np.ndarray

    def information(self, esno_db: np.ndarray) -> np.ndarray:
        """float64, bits a coded bit."""
        # the knots are equally far apart, so that no search is needed
        place = np.clip((np.asarray(esno_db) - self.esno_db[0]) / _STEP_DB, 0, self.bits.size - 1)
        below = np.minimum(place.astype(np.intp), self.bits.size - 2)
        return self.bits[below] + (place - below) * (self.bits[below + 1] - self.bits[below])

    def inverse(self, bits: np.ndarray) -> np.ndarray:
        """float64, Es/N0 in dB; the end of the curve where there is no more to tell."""
        return np.interp(bits, self.bits, self.esno_db)


@lru_cache(maxsize=None)
def information_curve(bits_per_symbol: int) -> InformationCurve:
    """Information of bit-interleaved coded modulation: the mean over a symbol's bits of I(bit; y), Gray labels, AWGN.

    Source: G. Caire, G. Taricco, E. Biglieri, "Bit-interleaved coded modulation", IEEE Trans. Inf. Theory 44 (1998), eq. 15.
    """
    require(bits_per_symbol in (1, 2, 4, 6, 8), f"bits_per_symbol must be 1, 2, 4, 6 or 8, got {bits_per_symbol}")
    from scipy.interpolate import PchipInterpolator  # here, for naming a channel needs no spline

    knots = np.array([_information(bits_per_symbol, esno_db) for esno_db in _KNOTS_DB])
    fine = PchipInterpolator(_KNOTS_DB, knots)(_FINE_DB)
    known = (fine < 1 - _SATURATED) & (np.diff(fine, append=2.0) > 0)
    end = int(np.argmin(known)) if not known.all() else known.size
    return InformationCurve(_FINE_DB[:end], fine[:end])


@dataclass(frozen=True)
class Mapping:
    """How a code's information goes by the SNR of a symbol: read at (slope * SNR in dB - beta_db). Slope 1 and β = 0 dB: as it is.

    β is the usual parameter of effective SNRs, fitted to a code. A slope above 1 stretches the SNRs apart.
    """

    slope: float = 1.0
    beta_db: float = 0.0


def effective_snr_db(snr_db: np.ndarray, *, symbols_a_fade: int, symbols_a_block: int, num_blocks: int, bits_per_symbol: int,
                     mapping: Mapping = Mapping()) -> np.ndarray:
    """float64 [num_blocks]: of each code block of a stretch of symbols, the Es/N0 in dB that counts for it.

    `snr_db` float64 [num_fades] is the SNR of each `symbols_a_fade` symbols in turn. The effective SNR γ is that of
    I(γ) = mean over the block's symbols of I(SNR of the symbol), I the information of bit-interleaved coded modulation, read as
    `mapping` says: mutual information effective SNR mapping (MIESM). A block within one fade has the SNR of the fade.

    Source: K. Brueninghaus et al., "Link performance models for system level simulations of broadband radio access systems",
    PIMRC 2005; L. Wan, S. Tsai, M. Almgren, "A fading-insensitive performance metric for a unified link quality model", WCNC 2006.
    """
    curve = information_curve(bits_per_symbol)
    information = curve.information(mapping.slope * snr_db - mapping.beta_db)
    before = np.concatenate([[0.0], np.cumsum(information * symbols_a_fade)])  # [num_fades + 1]
    edges = np.arange(num_blocks + 1) * symbols_a_block
    fade, inside = np.divmod(edges, symbols_a_fade)
    reached = before[fade] + inside * np.append(information, 0.0)[fade]
    return (curve.inverse(np.diff(reached) / symbols_a_block) + mapping.beta_db) / mapping.slope


def _information(bits_per_symbol: int, esno_db: float) -> float:
    """Bits a coded bit, by equal steps over the noise, which integrate a Gaussian to machine precision."""
    levels, labels, share = _rail(bits_per_symbol)
    unit = np.linspace(-8.5, 8.5, 137)
    weight = np.exp(-unit**2 / 2)
    weight /= weight.sum() * levels.size
    scale = np.sqrt(2 * share * 10 ** (esno_db / 10))  # of the levels, where the noise on a rail has variance 1
    distance = scale * (levels[:, None] - levels)[:, None, :] + unit[:, None]  # [sent, noise, level]
    likelihood = -distance**2 / 2
    total = np.logaddexp.reduce(likelihood, axis=2)  # [sent, noise]
    missing = 0.0
    for bit in range(labels.shape[1]):
        other = np.where(labels[:, bit][:, None, None] == labels[:, bit], likelihood, -np.inf)
        missing += float((weight * (total - np.logaddexp.reduce(other, axis=2))).sum())
    return 1 - missing / np.log(2) / labels.shape[1]


def _rail(bits_per_symbol: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Levels of one rail at energy 1, the Gray label of each uint8 [levels, bits], and the share of Es that the rail has."""
    bits = 1 if bits_per_symbol == 1 else bits_per_symbol // 2
    count = 1 << bits
    levels = 2.0 * np.arange(count) - (count - 1)
    gray = np.arange(count) ^ (np.arange(count) >> 1)
    labels = ((gray[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
    return levels / np.sqrt(np.mean(levels**2)), labels, 1.0 if bits_per_symbol == 1 else 0.5
