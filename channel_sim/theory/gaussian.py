"""Gaussian sources sent as noisy samples: how much noise each principal component gets, what that tells, how far off it leaves.

A component of variance λ is known as a sample Z = sqrt(1 - σ²) X / sqrt(λ) + σ U tells it: σ² is what is left of its variance,
from 1, nothing sent, to 0. Such a sample holds -log2 σ bits of it. All is per dimension, means over the components.

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889 (2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from channel_sim.checks import require

Noise = Literal["isotropic", "pink", "ancestral_optimum", "flow_optimum"]
"""isotropic: of one variance in every direction; pink: in proportion to sqrt(λ), as 1/f is to the 1/f² of pictures; *_optimum: with
the least distortion of that reconstruction."""
Reconstruction = Literal["ancestral", "flow", "mean"]
"""A sample of the source given Z; what the probability flow makes of Z; the mean of the source given Z."""
_HALVINGS = 60


def remaining_variances(spectrum: np.ndarray, bits_per_dimension: float, noise: Noise) -> np.ndarray:
    """float64 [n], σ² of each component of the variances `spectrum`, with `bits_per_dimension` of information in all on average.

    With more bits no σ² grows: a sample of few bits is a noisier version of one of more. "ancestral_optimum" is reverse
    water-filling, λ σ² = min(λ, θ), and the optimum of the mean as well; "flow_optimum" has λ σ² / sqrt(1 - σ²) = θ everywhere:
    where the slopes of λ (2 - 2 sqrt(1 - σ²)) over -½ log2 σ² are equal.

    Source: as of this module; A. N. Kolmogorov, "On the Shannon theory of information transmission in the case of continuous
    signals", IRE Trans. Inf. Theory 2 (1956), for reverse water-filling.
    """
    spectrum = np.asarray(spectrum, np.float64)
    require(bool(spectrum.size) and bool(np.all(spectrum > 0)), "spectrum must hold variances > 0, at least one")
    require(bits_per_dimension >= 0, f"bits_per_dimension must be >= 0, got {bits_per_dimension}")
    require(noise in get_args(Noise), f"noise must be one of {', '.join(get_args(Noise))}, got {noise!r}")
    if bits_per_dimension == 0:
        return np.ones(spectrum.size)
    at = _LEVELS[noise]
    low, high = -1.0, 1.0  # ln of the level
    while information(at(spectrum, np.exp(low))) < bits_per_dimension:
        low -= 4
    while information(at(spectrum, np.exp(high))) > bits_per_dimension:
        high += 4
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if information(at(spectrum, np.exp(middle))) > bits_per_dimension else (low, middle)
    return at(spectrum, np.exp(high))


def information(variances: np.ndarray) -> float:
    """-½ log2 σ², the mean over components: bits a dimension."""
    return float(-0.5 * np.mean(np.log2(variances)))


def diffusion_distortion(spectrum: np.ndarray, variances: np.ndarray, reconstruction: Reconstruction) -> float:
    """Mean squared error a dimension: 2 λ σ² of a sample, λ (2 - 2 sqrt(1 - σ²)) of the flow, λ σ² of the mean.

    Source: as of this module.
    """
    return float(np.mean(np.asarray(spectrum) * _OFF[reconstruction](np.asarray(variances, np.float64))))


def gaussian_distortion(spectrum: np.ndarray, bits_per_dimension: float) -> float:
    """D(R) of Shannon: the least mean squared error a dimension that any code of so many bits a dimension leaves.

    Source: T. Berger, "Rate distortion theory", Prentice-Hall (1971), section 4.5.
    """
    variances = remaining_variances(spectrum, bits_per_dimension, "ancestral_optimum")
    return diffusion_distortion(spectrum, variances, "mean")


def _water_filling(spectrum: np.ndarray, level: float) -> np.ndarray:
    return np.minimum(1, level / spectrum)


def _flow_optimum(spectrum: np.ndarray, level: float) -> np.ndarray:
    ratio = level / spectrum  # σ² / sqrt(1 - σ²), so that σ² = 2 ratio / (ratio + sqrt(ratio² + 4))
    return 2 * ratio / (ratio + np.sqrt(ratio**2 + 4))


_LEVELS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "isotropic": lambda spectrum, level: level / (spectrum + level),
    "pink": lambda spectrum, level: level / (np.sqrt(spectrum) + level),
    "ancestral_optimum": _water_filling,
    "flow_optimum": _flow_optimum,
}
_OFF: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ancestral": lambda variances: 2 * variances,
    "flow": lambda variances: 2 * variances / (1 + np.sqrt(1 - variances)),  # 2 - 2 sqrt(1 - σ²) without cancellation
    "mean": lambda variances: variances,
}
