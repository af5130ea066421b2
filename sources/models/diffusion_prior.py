"""Noise of pictures by reverse water-filling, and the Gaussian prior that it follows from; all in numbers equal on any machine.

A picture of 32x32 pixels is taken as its coefficients x_i in an orthonormal cosine transform of places and colours, of pixels
from -1 to 1. Levels are eighths of an octave of the signal-to-noise ratio. At a level, y_i = S_i x_i + sqrt(S_i) u_i is known,
u unit noise and lambda_i the variance of x_i:

    snr(level) = 2^(level / 8 - 12)
    S_i(level) = snr - 1 / lambda_i   where   lambda_i snr >= 3,   else 0
    z_i = y_i / sqrt(S_i (1 + S_i)) = alpha_i x_i + sigma_i u_i,   alpha_i^2 + sigma_i^2 = 1,   alpha_i^2 / sigma_i^2 = S_i

With 1 for the 3 it is reverse water-filling: all that is told of is left with the variance 1 / snr, and nothing is told of what
varies less. With 3 a component is told log2(3) / 2 = .8 bits at once when its turn comes: the first hundredths of a bit, of many
components, are what coding of samples is worst at. Of a Gaussian, at equal error, dithered steps of one octave take 11 % fewer bits
so, steps of two 6 %, of three 4 %; 2 and 4 for the 3 are within 2 % of it (`python -m benchmarks.water_filling`).

Source: T. M. Cover, J. A. Thomas, "Elements of information theory", 2nd ed., 2006, sec. 10.3.3; L. Theis, T. Salimans, M. D.
Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889, sec. 3 (optimal noise); R. Zamir, M. Feder,
"On universal quantization by randomized uniform/lattice quantizers", IEEE Trans. Inf. Theory 38 (1992) (what small steps cost).
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import fsum
from typing import NamedTuple

import numpy as np

from sources.models.diffusion_network import COLOURS, SIDE

UNIT = 2.0**-12
"""Of pixels and coefficients as integers."""
LARGEST = 1 << 18
"""No coefficient of a picture is larger, in units of 2^-12; sums of both transforms stay below 2^53."""
NUM_LEVELS = 209
FIRST_TOLD = 3.0
"""lambda_i snr from which on component i is told of."""
_LOWEST_OCTAVE, _PER_OCTAVE = -12, 8
_COSINE_BITS = 14


def snr(levels: np.ndarray | int) -> np.ndarray:
    """float64, of levels 0 (nearly noise) to NUM_LEVELS - 1 (nearly the picture)."""
    levels = np.asarray(levels)
    assert np.all((0 <= levels) & (levels < NUM_LEVELS)), "no such level"
    return np.ldexp(_eighths()[levels % _PER_OCTAVE], levels // _PER_OCTAVE + _LOWEST_OCTAVE)


def quantised(states: np.ndarray) -> np.ndarray:
    """int32, unit 2^-12: the grid on which a denoiser is given z."""
    return np.clip(np.rint(states / UNIT), -LARGEST, LARGEST).astype(np.int32)


class Estimate(NamedTuple):
    """What the prior makes of z; float64 [n, 32, 32, 3], whole numbers, unit 2^-12.

    pixels: the posterior mean
    white:  what z tells beside the mean, every coefficient that is told of scaled to unit variance, as a picture
    """

    pixels: np.ndarray
    white: np.ndarray


class GaussianPrior:
    """Pictures as a Gaussian whose coefficients are independent in a cosine transform of places and colours.

    mean:      float64 [3], of each colour, whole numbers in units of 2^-12
    variances: float64 [32, 32, 3], of each coefficient
    cosines:   int16 [32, 32], the orthonormal cosine transform in units of 2^-14; stored, since cosines differ between machines
    """

    def __init__(self, mean: np.ndarray, variances: np.ndarray, cosines: np.ndarray) -> None:
        self.mean, self.variances = mean.astype(np.float64), variances.astype(np.float64)
        self.cosines, self._cosines = cosines, cosines.astype(np.float64)
        self._colours = np.rint(_COLOUR_AXES * 2.0**_COSINE_BITS)

    @cached_property
    def means(self) -> np.ndarray:
        """float64 [32, 32, 3]: coefficients of the mean picture, whole numbers in units of 2^-12."""
        return self.transformed(np.broadcast_to(self.mean, (1, SIDE, SIDE, COLOURS)))[0]

    def precisions(self, level: np.ndarray | int) -> np.ndarray:
        """S_i float64 [32, 32, 3] of a level, [n, 32, 32, 3] of levels [n]; no component's falls as the level rises."""
        ratio = snr(level)[..., None, None, None]
        return np.where(ratio * self.variances >= FIRST_TOLD, ratio - 1 / self.variances, 0.0)

    def remaining(self, level: np.ndarray | int) -> np.ndarray:
        """lambda_i / (1 + lambda_i S_i), shaped like S_i: the variance of x_i given z, in units of x^2."""
        return self.variances / (1 + self.variances * self.precisions(level))

    def estimate(self, noisy: np.ndarray, levels: np.ndarray) -> Estimate:
        """Of z int32 [n, 32, 32, 3], unit 2^-12, at `levels` [n]."""
        precisions = self.precisions(levels)
        certain = 1 + self.variances * precisions
        beside = np.where(precisions > 0, noisy - np.rint(np.sqrt(precisions / (1 + precisions)) * self.means), 0.0)
        gain = np.sqrt(precisions * (1 + precisions)) * self.variances / certain
        spectra = np.stack([beside * gain, beside * np.sqrt((1 + precisions) / certain)])
        pixels, white = self.restored(np.clip(np.rint(spectra), -LARGEST, LARGEST).reshape(-1, SIDE, SIDE, COLOURS)).reshape(
            spectra.shape)
        return Estimate(pixels + self.mean, white)

    @cached_property
    def rms(self) -> np.ndarray:
        """float64 [NUM_LEVELS]: root of the mean squared error that it expects of its estimate, of pixels from -1 to 1."""
        left = [self.remaining(level).ravel() for level in range(NUM_LEVELS)]
        return np.sqrt([fsum(one) / one.size for one in left])  # sums that are rounded once

    def transformed(self, pictures: np.ndarray) -> np.ndarray:
        """Coefficients of integers [n, 32, 32, 3], rounded to integers; float64."""
        planes = np.moveaxis(pictures @ self._colours, 3, 1)  # [n, 3, 32, 32]
        sums = self._cosines @ np.rint(planes * 2.0**-_COSINE_BITS) @ self._cosines.T
        return np.rint(np.moveaxis(sums, 1, 3) * 2.0 ** (-2 * _COSINE_BITS))

    def restored(self, coefficients: np.ndarray) -> np.ndarray:
        """Pictures of coefficients that are integers [n, 32, 32, 3] up to 2^18, rounded to integers; float64."""
        planes = self._cosines.T @ np.ascontiguousarray(np.moveaxis(coefficients, 3, 1)) @ self._cosines
        pictures = np.moveaxis(np.rint(planes * 2.0 ** (-2 * _COSINE_BITS)), 1, 3)
        return np.rint(np.ascontiguousarray(pictures) @ self._colours.T * 2.0**-_COSINE_BITS)


def fitted_prior(pictures: np.ndarray) -> GaussianPrior:
    """The Gaussian of pictures float [n, 32, 32, 3] from -1 to 1, by their mean colour and the power of each coefficient."""
    mean = np.rint(pictures.mean(axis=(0, 1, 2), dtype=np.float64) / UNIT)
    place = np.arange(SIDE)
    rows = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * SIDE)) * np.sqrt(np.where(place == 0, 1, 2) / SIDE)[:, None]
    cosines = np.rint(rows * 2.0**_COSINE_BITS).astype(np.int16)
    prior = GaussianPrior(mean, np.ones((SIDE, SIDE, COLOURS)), cosines)
    power = np.square(prior.transformed(np.rint(pictures / UNIT) - mean) * UNIT).mean(axis=0)
    return GaussianPrior(mean, np.maximum(power, UNIT * UNIT).astype(np.float32), cosines)


_COLOUR_AXES = np.array([[1, 1, 1], [1, 0, -2], [1, -1, 1]]) / np.sqrt([3, 2, 6])


@lru_cache(maxsize=1)
def _eighths() -> np.ndarray:
    """float64 [8]: 2^(i / 8), by square roots and products, which every machine rounds alike."""
    eighth = np.sqrt(np.sqrt(np.sqrt(2.0)))
    return np.multiply.accumulate(np.array([1.0] + 7 * [eighth]))
