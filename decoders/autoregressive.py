"""Sounds mended as an autoregressive process: the classical way to conceal lost packets of speech and music."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.linalg import solveh_banded

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Content
from decoders.sound_gaps import is_sound, with_gaps_filled

_ROUNDING_NOISE = 1 / 12
"""Mean square of what whole numbers are off: a prediction error below it is nothing to learn from."""


class Autoregressive(Decoder):
    """Tokens by hard decision; then each missing sample of a sound is its mean given the received ones around it.

    The samples around a gap are taken as a Gaussian autoregressive process, whose coefficients come from what was received there,
    by Burg's method over runs without gaps. The missing samples are then those of least squared prediction error, which is their
    conditional mean; the ends of a sound are treated exactly. Gaps fewer than `order` samples apart are filled together.

        gaps ─▶ window of context_samples on both sides ─▶ coefficients (Burg) ─▶ missing samples (least squares)

    A long gap fades to silence in its middle. Where everything is missing the tokenizer's silence stays.

    Source: A. J. E. M. Janssen, R. N. J. Veldhuis, L. B. Vries, "Adaptive interpolation of discrete-time signals that can be
    modeled as autoregressive processes", IEEE Trans. Acoust., Speech, Signal Process. 34 (1986), section II; S. de Waele,
    P. M. T. Broersen, "The Burg algorithm for segments", IEEE Trans. Signal Process. 48 (2000).
    """

    states_posterior: ClassVar[bool] = False

    # up to 64 LAPACK solves band systems without blocks, so that no bit depends on the number of threads
    order: int = Field(32, ge=1, le=64, description="samples that predict the next one")
    context_samples: int = Field(256, ge=1, description="samples on both sides of a gap that the coefficients come from")

    def mend(self, content: Content, missing: np.ndarray, key: Key) -> Content:
        """int16 or uint8 [n] from it and `missing` bool [n]; RequestError for what is no sound."""
        if not is_sound(content):
            raise RequestError("decoder autoregressive mends sounds; use source audio or plucked_strings and a tokenizer of sounds")
        return with_gaps_filled(content, missing, self._fill)

    def _fill(self, samples: np.ndarray, missing: np.ndarray) -> np.ndarray:
        places = np.flatnonzero(missing)
        filled = np.zeros(samples.size)
        for gaps in np.split(places, np.flatnonzero(np.diff(places) > self.order) + 1):
            window = slice(max(0, gaps[0] - self.context_samples), gaps[-1] + 1 + self.context_samples)
            coefficients = burg(samples[window], ~missing[window], min(self.order, samples[window].size // 2))
            of_window = np.zeros(samples[window].size)
            of_window[missing[window]] = conditional_mean(samples[window], missing[window], coefficients)
            filled[gaps] = of_window[gaps - window.start]  # what other gaps are within reach has its own window
        return filled[missing]


def burg(samples: np.ndarray, received: np.ndarray, order: int) -> np.ndarray:
    """float64 [at most order + 1], the first 1: the prediction error filter fitted to the received samples. It is stable.

    Errors that reach over a missing sample are left out; the order stops where none is left, or no more than rounding noise.
    """
    coefficients, forward, backward, whole = np.ones(1), samples, samples, received
    for _ in range(order):
        forward, backward, whole = forward[1:], backward[:-1], whole[1:] & whole[:-1]
        ahead, behind = forward[whole], backward[whole]
        energy = float(np.sum(ahead**2 + behind**2))
        if energy <= 2 * _ROUNDING_NOISE * ahead.size:
            break
        reflection = -2 * float(np.sum(ahead * behind)) / (energy + _ROUNDING_NOISE)  # within ±1
        coefficients = np.append(coefficients, 0.0)
        coefficients = coefficients + reflection * coefficients[::-1]
        forward, backward = forward + reflection * backward, backward + reflection * forward
    return coefficients


def conditional_mean(samples: np.ndarray, missing: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """float64 [number of missing samples]: their mean given the others, of a stationary Gaussian process with this error filter.

    samples: float64 [n], n >= 2 * order; what stands at missing places is not read.
    """
    precision, order, places = _precision(coefficients, samples.size), coefficients.size - 1, np.flatnonzero(missing)
    known = np.where(missing, 0, samples)
    pull = precision[0] * known
    for lag in range(1, order + 1):
        row = precision[lag, :-lag]
        pull[:-lag] += row * known[lag:]
        pull[lag:] += row * known[:-lag]
    bands = np.zeros((min(order, places.size - 1) + 1, places.size))  # of the missing samples' own system, lower half
    for below in range(len(bands)):
        lags = places[below:] - places[:places.size - below]
        bands[below, :lags.size] = np.where(lags <= order, precision[np.minimum(lags, order), places[:lags.size]], 0)
    return solveh_banded(bands, -pull[places], lower=True)


def _precision(coefficients: np.ndarray, num_samples: int) -> np.ndarray:
    """float64 [order + 1, num_samples]: entry (i, i + lag) of the inverse covariance of as many samples, unit innovations.

    It is Σ_k a_k a_{k + lag} over k = 0 … min(i, order - lag, num_samples - 1 - i - lag).

    Source: M. M. Siddiqui, "On the inversion of the sample covariance matrix in a stationary autoregressive process", Ann. Math.
    Stat. 29 (1958).
    """
    order, places = coefficients.size - 1, np.arange(num_samples)
    bands = np.zeros((order + 1, num_samples))
    for lag in range(order + 1):
        sums = np.cumsum(coefficients[:order + 1 - lag] * coefficients[lag:])
        inside = places[:num_samples - lag]
        bands[lag, :inside.size] = sums[np.minimum(np.minimum(inside, order - lag), inside[::-1])]
    return bands
