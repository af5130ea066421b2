"""The learned denoiser of 32x32 pictures, run in integers: the same means on any machine, in any company.

    z (coefficients, unit 2^-12) ─gains─▶ w, what a Gaussian makes of it ─┬─▶ network (int8 x int8) ─▶ F ─▶ E[x | z] = w + rms · F
                                 └─whitened─▶ what it tells, as a picture ─┘

What z is, and how much noise is in it at a level, stands in `diffusion_prior`. Transforms and sums are of integers, exact in
float64 (the transform) or float32 (the network); what stands between them is one operation of IEEE arithmetic at a time and one
rounding. So batch size, threads, SIMD width and BLAS have no say in the result.

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889, sec. 2;
in integers as J. Ballé, N. Johnston, D. Minnen, "Integer networks for data compression with latent-variable models", ICLR 2019.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numba import njit

from channel_sim.checks import RequestError
from sources.models import fixed_point
from sources.models.diffusion_network import COLOURS, NUM_FEATURES, SIDE, Architecture, folded, unfolded
from sources.models.diffusion_prior import FIRST_TOLD, NUM_LEVELS, UNIT, GaussianPrior, snr
from sources.models.fixed_point import ACTIVATION_BITS, PRODUCT_BITS
from sources.models.stored import Stored

FORMAT = "channel-sim diffusion 2"
LEVELS_A_KNOT = 8
"""Levels from one at which what a denoiser leaves was measured to the next."""
_LARGEST_FACTOR = 127
_WHITE_RANGE, _PICTURE_RANGE = 4, 1  # the largest 8-bit integers stand for that
_PICTURES_AT_ONCE = 8
_OCTAVES = np.ldexp(FIRST_TOLD, np.arange(-2, 11))  # of lambda_i snr
NUM_GROUPS = 2 * (len(_OCTAVES) + 1)
NUM_KNOTS = (NUM_LEVELS - 1) // LEVELS_A_KNOT + 1


def features(levels: np.ndarray) -> np.ndarray:
    """float32 [n, NUM_FEATURES], whole numbers, unit 2^-7: Chebyshev polynomials of where each level is between first and last."""
    place = np.asarray(levels) / ((NUM_LEVELS - 1) / 2) - 1
    columns = [np.ones_like(place), place]
    while len(columns) < NUM_FEATURES:
        columns.append(2 * place * columns[-1] - columns[-2])
    return np.rint(_LARGEST_FACTOR * np.stack(columns, axis=-1)).astype(np.float32)


class Given(NamedTuple):
    """What the network is told of noisy pictures, and what its answer is added to.

    factors:  float32 [n, 32, 32, 6], whole numbers, unit 2^-7: what z tells, whitened, over 4, and the Gaussian prior's estimate
    estimate: float64 [n, 32, 32, 3], whole numbers, unit 2^-12
    """

    factors: np.ndarray
    estimate: np.ndarray


def given(prior: GaussianPrior, noisy: np.ndarray, levels: np.ndarray) -> Given:
    """Of z int32 [n, 32, 32, 3], unit 2^-12, at `levels` [n]."""
    pixels, white = prior.estimate(noisy, levels)
    both = np.concatenate([white * (UNIT / _WHITE_RANGE), pixels * (UNIT / _PICTURE_RANGE)], axis=3)
    return Given(np.clip(np.rint(both * 2.0**PRODUCT_BITS), -_LARGEST_FACTOR, _LARGEST_FACTOR).astype(np.float32), pixels)


def groups(prior: GaussianPrior, level: int) -> np.ndarray:
    """int [32, 32, 3] below NUM_GROUPS: coefficients that stand alike above or below the water, of light or of colour."""
    octave = np.searchsorted(_OCTAVES, snr(level) * prior.variances, side="right")
    return 2 * octave + (np.arange(COLOURS) > 0)


class Denoiser:
    """E[x | z, level] as a network has learned it, ready to run; from what `stored` makes."""

    def __init__(self, weights: fixed_point.Weights) -> None:
        self.prior = GaussianPrior(weights["mean"], weights["variances"], weights["cosines"])
        self._left = weights["left"].astype(np.float64)
        names = [name.removesuffix("_scale") for name in weights if name.endswith("_scale")]
        self._layers = {name: fixed_point.dense(weights, name) for name in names}
        stages = {stage: sum(name.startswith(stage) and name.endswith("_inner") for name in names)
                  for stage in ("early", "coarse", "late")}
        self.architecture = Architecture(fine=weights["near"].shape[1], wide=weights["down"].shape[1],
                                         **{f"{stage}_blocks": count for stage, count in stages.items()})

    def trained(self) -> dict[str, np.ndarray]:
        """float32 weights of `Architecture.shapes`: what was rounded to the integers that run, as near as they are."""
        found = {}
        for name, (matrix, scale, bias) in self._layers.items():
            found[name] = (matrix * np.ldexp(scale, PRODUCT_BITS - ACTIVATION_BITS - 24)).astype(np.float32)
            found[f"{name}_bias"] = np.ldexp(bias, -ACTIVATION_BITS).astype(np.float32)
        return found

    def residual_variances(self, level: int) -> np.ndarray:
        """float64 [32, 32, 3]: what is left of each coefficient, E (x_i - mean_i)^2 of pixels from -1 to 1.

        The variance that the prior expects, times what was measured for its group on pictures set aside in training; between
        levels that were measured in proportion.
        """
        knot, beyond = divmod(level, LEVELS_A_KNOT)
        share = beyond / LEVELS_A_KNOT
        factors = self._left[knot] * (1 - share) + self._left[min(knot + 1, NUM_KNOTS - 1)] * share
        return self.prior.remaining(level) * factors[groups(self.prior, level)]

    def means(self, noisy: np.ndarray, level: int | np.ndarray) -> np.ndarray:
        """Pixels int32 [n, 32, 32, 3], unit 2^-12, from -4096 to 4096, of z int32 [n, 32, 32, 3], unit 2^-12.

        `noisy` are coefficients; what stands where S_i is 0 has no say. `level` is one for all, or an array [n]. A picture's mean
        is the same integers whatever its company. RequestError where z has another shape.
        """
        if noisy.ndim != 4 or noisy.shape[1:] != (SIDE, SIDE, COLOURS):
            raise RequestError(f"the denoiser takes pictures of {SIDE}x{SIDE} pixels in RGB alone, got an array of shape "
                               f"{list(noisy.shape)}; cut larger pictures into tiles")
        levels = np.broadcast_to(level, len(noisy))
        scales = (self.prior.rms * (2.0**-ACTIVATION_BITS / UNIT))[levels, None, None, None]
        result = np.empty(noisy.shape, np.int32)
        with fixed_point.one_blas_thread():
            for first in range(0, len(noisy), _PICTURES_AT_ONCE):
                some = slice(first, first + _PICTURES_AT_ONCE)
                told = given(self.prior, noisy[some], levels[some])
                corrected = told.estimate + np.rint(self._run(told.factors, levels[some]) * scales[some])
                result[some] = np.clip(corrected, -1 / UNIT, 1 / UNIT)
        return result

    def _run(self, factors: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """F int32 [n, 32, 32, 3], unit 2^-10."""
        told = fixed_point.logits(self._layers["level"], features(levels))
        place, first = self._convolved("near", folded(factors)), 0
        skipped = place
        for name, channels in self.architecture.blocks.items():
            if name == "coarse_0":
                skipped, place = place, self._mixed("down", folded(_cut(place)))
            if name == "late_0":
                place = skipped + unfolded(self._mixed("up", _cut(place)))
            inner = _active(self._convolved(f"{name}_inner", _cut(place)), told[:, first:first + channels])
            place, first = place + self._mixed(f"{name}_outer", inner), first + channels
        return unfolded(self._convolved("pixels", _cut(place)))

    def _convolved(self, name: str, factors: np.ndarray) -> np.ndarray:
        """int32 [n, h, w, outputs], unit 2^-10, of factors [n, h, w, inputs], unit 2^-7."""
        return fixed_point.logits(self._layers[name], _squares(factors)).reshape(*factors.shape[:3], -1)

    def _mixed(self, name: str, factors: np.ndarray) -> np.ndarray:
        return fixed_point.logits(self._layers[name], factors.reshape(-1, factors.shape[3])).reshape(*factors.shape[:3], -1)


class LearnedDenoiser(Stored):
    """A denoiser of 32x32 RGB pictures that `channel-sim train diffusion` made.

    Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889.
    """

    form, kind, key, maker = FORMAT, "denoiser", "denoiser", "channel-sim train diffusion"
    source: ClassVar[str] = ("L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, Lossy compression with Gaussian diffusion, arXiv "
                             "2206.08889")

    @staticmethod
    def assemble(weights: fixed_point.Weights) -> Denoiser:
        return Denoiser(weights)

    def denoiser(self) -> Denoiser:
        """Ready to run; RequestError where its file is of another kind, or broken."""
        found: Denoiser = self.loaded().network
        return found


class DiffusionSmall(LearnedDenoiser):
    """The shipped denoiser of 32x32 RGB pictures, trained on CIFAR-10 and BSDS500."""

    shipped = "diffusion-small"


def stored(weights: dict[str, np.ndarray], prior: GaussianPrior, left: np.ndarray | None = None) -> fixed_point.Weights:
    """What is written to a file: float weights of `Architecture.shapes` as integers, the Gaussian prior, and what is left.

    `left` [NUM_KNOTS, NUM_GROUPS]: what the denoiser leaves of what the prior expects to be left; 1 where it was not measured.
    """
    left = np.ones((NUM_KNOTS, NUM_GROUPS)) if left is None else left
    return {**fixed_point.quantise(weights), "mean": prior.mean.astype(np.int32), "variances": prior.variances.astype(np.float32),
            "cosines": prior.cosines, "left": left.astype(np.float32)}


@njit(cache=True, nogil=True)
def _cut(place: np.ndarray) -> np.ndarray:
    """float32 of int32 [n, h, w, channels], unit 2^-10: cut to [-127/128, 127/128], as factors of the next product, unit 2^-7."""
    factors = np.empty(place.shape, np.float32)
    flat, after = place.reshape(-1), factors.reshape(-1)
    shift = ACTIVATION_BITS - PRODUCT_BITS
    for number in range(flat.size):
        after[number] = max(-_LARGEST_FACTOR, min(_LARGEST_FACTOR, (flat[number] + (1 << shift - 1)) >> shift))
    return factors


@njit(cache=True, nogil=True)
def _active(sums: np.ndarray, level: np.ndarray) -> np.ndarray:
    """float32 of int32 [n, h, w, channels] + level [n, channels], unit 2^-10: cut to [0, 127/128], unit 2^-7."""
    factors = np.empty(sums.shape, np.float32)
    count, channels = level.shape
    flat, after = sums.reshape(count, -1, channels), factors.reshape(count, -1, channels)
    shift = ACTIVATION_BITS - PRODUCT_BITS
    for number in range(count):
        for row in range(flat.shape[1]):
            for channel in range(channels):
                total = flat[number, row, channel] + level[number, channel]
                after[number, row, channel] = max(0, min(_LARGEST_FACTOR, (total + (1 << shift - 1)) >> shift))
    return factors


@njit(cache=True, nogil=True)
def _squares(factors: np.ndarray) -> np.ndarray:
    """float32 [n * h * w, 9 channels]: the 3 x 3 places around each, 0 outside."""
    count, height, width, channels = factors.shape
    found = np.zeros((count, height, width, 9 * channels), np.float32)
    for number in range(count):
        for top in range(height):
            for left in range(width):
                row = found[number, top, left]
                for near in range(9):
                    down, right = top + near // 3 - 1, left + near % 3 - 1
                    if 0 <= down < height and 0 <= right < width:
                        row[near * channels:(near + 1) * channels] = factors[number, down, right]
    return found.reshape(-1, 9 * channels)
