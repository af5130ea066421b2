"""What a radio link says of itself: its ratios in dB, its rate, and the law of its fades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from channel_sim.card import HIGHEST_SNR_DB, LOWEST_SNR_DB, SNR_STEP_DB

SnrShares = tuple[int, tuple[float, ...]]
"""(first bin, shares): bin b holds SNRs in [2b, 2b + 2) dB, as on the channel card."""


@dataclass(frozen=True)
class LinkLaw:
    """A link in numbers; dB are means over fades.

    esno_db, ebno_db: of the code alone, after rounding the code word to whole symbols
    snr_db:           received power over noise power in a bandwidth of the symbol rate
    code_rate:        information bits, CRC and headers included, per coded bit, after rounding
    bits_per_use:     information bits per complex channel use, pilots and cyclic prefix counted as uses
    snr_shares:       of the fades, by bins of their SNR; None where the law has no closed form
    """

    esno_db: float
    ebno_db: float
    snr_db: float
    code_rate: float
    bits_per_use: float
    snr_shares: SnrShares | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values in ten digits, shares in six."""
        numbers = {name: float(f"{value:.10g}") for name, value in asdict(self).items() if name != "snr_shares"}
        if self.snr_shares is None:
            return numbers | {"snr_shares": None}
        first, shares = self.snr_shares
        return numbers | {"snr_shares": [first, [float(f"{share:.6g}") for share in shares]]}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> LinkLaw:
        shares = table["snr_shares"]
        return cls(**{**table, "snr_shares": None if shares is None else (shares[0], tuple(shares[1]))})


def flat_snr_shares(law: str, esno_db: float, rician_k_db: float) -> SnrShares:
    """How the fades of a flat law spread over bins of SNR at a mean of `esno_db`; bins of less than 1e-4 at both ends left out.

    The power |h|² is 1 for awgn, exponential for rayleigh and rayleigh_block, and a scaled noncentral chi-square of two
    degrees and noncentrality 2K for rician_block: 2 (K + 1) |h|² ~ χ'²(2, 2K).

    Source: J. Proakis, "Digital Communications" (2001), section 2.1.4.
    """
    bins = np.arange(LOWEST_SNR_DB // SNR_STEP_DB, HIGHEST_SNR_DB // SNR_STEP_DB + 1)
    if law == "awgn":
        return int(np.clip(np.floor(esno_db / SNR_STEP_DB + 1e-9), bins[0], bins[-1])), (1.0,)
    edges = 10 ** ((bins[1:] * SNR_STEP_DB - esno_db) / 10)  # the end bins hold what lies past them
    below = np.concatenate([[0.0], _power_cdf(law, edges, rician_k_db), [1.0]])
    shares = np.diff(below)
    seen = np.flatnonzero(shares >= 1e-4)
    return int(bins[seen[0]]), tuple(shares[seen[0]:seen[-1] + 1].tolist())


def _power_cdf(law: str, power: np.ndarray, rician_k_db: float) -> np.ndarray:
    """P(|h|² < power)."""
    if law != "rician_block":
        return -np.expm1(-power)
    from scipy.stats import ncx2  # slow to load, and only Rician fading needs it

    ratio = 10 ** (rician_k_db / 10)
    return np.asarray(ncx2.cdf(2 * (ratio + 1) * power, 2, 2 * ratio))
