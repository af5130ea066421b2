"""A Laplace source of unit variance in Gaussian noise, the counterpart of a Gaussian one that is less smooth at its mode.

y = x + τ u, u ~ N(0, 1), τ² = σ² / (1 - σ²): the sample Z = sqrt(1 - σ²) y that diffusion speaks of, in units of x. What is known
of x then is a Gaussian about y, moved towards 0 and cut off there, from either side. Densities and quantiles are closed forms,
means over y are sums on a grid.

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889 (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri_exp

from channel_sim.checks import require
from channel_sim.theory.gaussian import Reconstruction

_SCALE = np.sqrt(0.5)  # of a Laplace law of unit variance: density exp(-|x| / scale) / (2 scale)
_FARTHEST, _GRID = 30.0, 60_001
_LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class LaplaceInNoise:
    """What y tells of x where `noise_variance`, σ², is left of a Gaussian component. All functions take and give float64 [...]."""

    noise_variance: float

    def __post_init__(self) -> None:
        require(0 < self.noise_variance < 1, f"noise_variance must lie between 0 and 1, got {self.noise_variance}")

    @property
    def deviation(self) -> float:
        """τ."""
        return float(np.sqrt(self.noise_variance / (1 - self.noise_variance)))

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """ln p(y)."""
        above, below = self._log_sides(y)
        return np.logaddexp(above, below) - np.log(2 * _SCALE) + self._noise_share

    def log_ratio(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """ln p(y | x) / p(y), largest where the mean of x given y is x."""
        return -0.5 * ((y - x) / self.deviation) ** 2 - _LOG_SQRT_2PI - np.log(self.deviation) - self.log_density(y)

    def mean(self, y: np.ndarray) -> np.ndarray:
        """E[x | y]."""
        above, below = self._log_sides(y)
        share = np.exp(above - np.logaddexp(above, below))
        return share * self._mean_above(y) - (1 - share) * self._mean_above(-y)

    def sample(self, y: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """The quantile of p(x | y) at `uniform`, between 0 and 1."""
        above, below = self._log_sides(y)
        positive = np.exp(above - np.logaddexp(above, below))
        is_positive = uniform > 1 - positive
        share = np.where(is_positive, (1 - uniform) / np.maximum(positive, 1e-300), uniform / np.maximum(1 - positive, 1e-300))
        centre = np.where(is_positive, y, -y) - self.deviation**2 / _SCALE
        tail = np.log(np.clip(share, 1e-300, 1)) + log_ndtr(centre / self.deviation)  # of |x|, beyond what is returned
        return np.where(is_positive, 1, -1) * np.maximum(centre - self.deviation * ndtri_exp(tail), 0)

    def flow(self, y: np.ndarray) -> np.ndarray:
        """What the probability flow makes of y: in one dimension it keeps the order, and so is the map of equal quantiles."""
        return -np.sign(y) * _SCALE * np.minimum(np.log(2 * self._below(-np.abs(y))), 0)

    def farthest_ratio(self, x: np.ndarray) -> np.ndarray:
        """The largest ln p(y | x) / p(y) over y: it is concave there, so that the place is found by halving."""
        reach = self.deviation**2 / _SCALE  # E[x | y] = y + τ² d ln p(y) / dy, and no slope of ln p is more than 1 / _SCALE
        low, high = x - reach, x + reach
        for _ in range(60):
            middle = (low + high) / 2
            under = self.mean(middle) < x
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return self.log_ratio(high, x)

    @property
    def information_bits(self) -> float:
        """Of x and y."""
        y, weights = self._grid()
        entropy = float(np.sum(-weights * self.log_density(y)))
        return (entropy - 0.5 - _LOG_SQRT_2PI - float(np.log(self.deviation))) / float(np.log(2))

    def distortion(self, reconstruction: Reconstruction) -> float:
        """Mean squared error of what is made of y."""
        y, weights = self._grid()
        mean = self.mean(y)
        if reconstruction == "flow":
            return float(2 - 2 * np.sum(weights * self.flow(y) * mean))  # both x and what is made of y have variance 1
        return float(1 - np.sum(weights * mean**2)) * (2 if reconstruction == "ancestral" else 1)

    @property
    def _noise_share(self) -> float:
        return self.deviation**2 / (2 * _SCALE**2)

    def _log_sides(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln of how likely x > 0 and x < 0 are, but for a factor."""
        tilt, cut = np.asarray(y) / _SCALE, np.asarray(y) / self.deviation
        return -tilt + log_ndtr(cut - self.deviation / _SCALE), tilt + log_ndtr(-cut - self.deviation / _SCALE)

    def _mean_above(self, y: np.ndarray) -> np.ndarray:
        """E[x | y, x > 0]."""
        centre = (y - self.deviation**2 / _SCALE) / self.deviation
        return self.deviation * (centre + np.exp(-0.5 * centre**2 - _LOG_SQRT_2PI - log_ndtr(centre)))

    def _below(self, y: np.ndarray) -> np.ndarray:
        """P(Y < y), for y <= 0."""
        above, below = self._log_sides(y)
        return ndtr(y / self.deviation) - 0.5 * (np.exp(above + self._noise_share) - np.exp(below + self._noise_share))

    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        """y and the probability of its neighbourhood."""
        y = np.linspace(-1, 1, _GRID) * (_FARTHEST + 12 * self.deviation)
        return y, np.exp(self.log_density(y)) * (y[1] - y[0])
