"""How far above the water a component should stand before it is told of: `python -m benchmarks.water_filling`.

In bits a pixel, of the shipped Gaussian prior of 32x32 RGB pictures itself, without a network: what dithered quantisation takes, by
the entropy of cells given the dither, where level by level every component is told what its precision grows by. Columns are the
lambda snr from which on a component is told of (1: reverse water-filling); rows the octaves from one level to the next, at the mean
squared errors at which steps of an octave and 1 take .25, .5 and 1 bits a pixel. "information" is what an ideal code of samples
would take at 1.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from sources.models.diffusion import DiffusionSmall
from sources.models.diffusion_network import SIDE
from sources.models.diffusion_prior import NUM_LEVELS, snr

WIDTH = np.sqrt(12)  # of a cell whose dither has unit variance
FIRST = (1, 2, 3, 4, 6, 8)
LOWEST, DITHERS = 40, 64
OCTAVES = np.arange(-20, 14, 0.25)  # of variances, between which entropies are interpolated


def cell_bits(ratios: np.ndarray) -> np.ndarray:
    """Entropy of the cell given the dither, of Gaussians whose variance is `ratios` that of the dither."""
    found = np.interp(np.log2(np.maximum(ratios, 2.0**OCTAVES[0])), OCTAVES, _entropies())
    return np.where(ratios > 0, found, 0)


@lru_cache(maxsize=1)
def _entropies() -> list[float]:
    return [_entropy(2.0 ** (one / 2)) for one in OCTAVES]


def _entropy(deviation: float) -> float:
    reach = int(np.ceil(7 * deviation / WIDTH)) + 2
    edges = (np.arange(-reach, reach + 1) + (np.arange(DITHERS)[:, None] + 0.5) / DITHERS) * WIDTH
    shares = np.maximum(np.diff(ndtr(edges / deviation)), 1e-300)
    return float(-(shares * np.log2(shares)).sum(axis=1).mean())


def rates(variances: np.ndarray, first: float, step: int) -> np.ndarray:
    """Columns: bits a pixel, mean squared error of a colour, information in bits a pixel; a row for each last level."""
    rows = []
    for last in range(LOWEST, NUM_LEVELS, 2):
        precisions, bits = np.zeros_like(variances), 0.0
        for level in range(last % step, last + 1, step):
            after = np.where(variances * snr(level) >= first, snr(level) - 1 / variances, 0)
            bits += cell_bits(variances / (1 + variances * precisions) * (after - precisions)).sum()
            precisions = after
        held = 1 + variances * precisions
        rows.append((bits / SIDE**2, (variances / held).mean(), np.log2(held).sum() / 2 / SIDE**2))
    return np.array([row for row in rows if row[0] > 0.01])


def main() -> None:
    variances = DiffusionSmall().denoiser().prior.variances.ravel()
    plain = rates(variances, 1, 8)
    print("octaves  information" + "".join(f"{first:>9}" for first in FIRST))
    for bits in (0.25, 0.5, 1.0):
        error = np.exp(np.interp(np.log(bits), *np.log(plain[:, :2]).T))
        for step in (8, 16, 24):
            table = [rates(variances, first, step) for first in FIRST]
            found = [np.exp(np.interp(-np.log(error), -np.log(one[:, 1]), np.log(one[:, 0]))) for one in table]
            told = np.interp(-np.log(error), -np.log(plain[:, 1]), plain[:, 2])
            print(f"{step / 8:>7g}{told:>13.3f}" + "".join(f"{one:>9.3f}" for one in found), flush=True)


if __name__ == "__main__":
    main()
