"""The learned denoiser of 32x32 pictures, run in integers: the same means on any machine, in any company.

    z (unit 2^-12) ─cosine transform, gains─▶ Gaussian estimate w ─┬─▶ network (int8 x int8) ─▶ F ─▶ E[x | z] = w + rms · F
                                                                   └─▶ what it takes for noise, (z - alpha w) / sigma ─▶ network

Levels are eighths of an octave of the signal-to-noise ratio. With x = pixel / 127.5 - 1 and unit noise u,

    z = alpha x + sigma u,     alpha^2 + sigma^2 = 1,     alpha^2 / sigma^2 = 2^(level / 8 - 12)

Transforms and sums are of integers, exact in float64 (the transform) or float32 (the network); what stands between them is one
operation of IEEE arithmetic at a time and one rounding. So batch size, threads, SIMD width and BLAS have no say in the result.

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889, sec. 2;
D. Kingma et al., "Variational diffusion models", NeurIPS 2021, sec. 3; in integers as J. Ballé, N. Johnston, D. Minnen, "Integer
networks for data compression with latent-variable models", ICLR 2019.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import fsum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import njit
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from channel_sim.checks import RequestError
from channel_sim.stages import Component
from sources.models import fixed_point, weights_file
from sources.models.diffusion_network import COLOURS, NUM_FEATURES, SIDE, Architecture, folded, unfolded
from sources.models.fixed_point import ACTIVATION_BITS, PRODUCT_BITS

FORMAT = "channel-sim diffusion 1"
UNIT = 2.0**-12
"""Of noisy pictures and of means."""
LARGEST_NOISY = (1 << 15) - 1
"""Of a noisy picture's integers: 8, or 7 standard deviations."""
NUM_LEVELS = 209
_LOWEST_OCTAVE, _PER_OCTAVE = -12, 8
_COSINE_BITS, _LARGEST_FACTOR = 14, 127
_LARGEST_COEFFICIENT = 1 << 18  # none of a picture's is larger; sums of both transforms stay below 2^53
_NOISE_RANGE, _PICTURE_RANGE = 4, 1  # the largest 8-bit integers stand for that
_PICTURES_AT_ONCE = 8


class Amplitudes(NamedTuple):
    """float64, of whatever shape the levels have."""

    alpha: np.ndarray
    sigma: np.ndarray


def amplitudes(levels: np.ndarray | int) -> Amplitudes:
    """Of levels 0 (nearly noise) to NUM_LEVELS - 1 (nearly the picture)."""
    levels = np.asarray(levels)
    assert np.all((0 <= levels) & (levels < NUM_LEVELS)), "no such level"
    snr = np.ldexp(_eighths()[levels % _PER_OCTAVE], levels // _PER_OCTAVE + _LOWEST_OCTAVE)
    return Amplitudes(np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr)))


def quantised(noisy: np.ndarray) -> np.ndarray:
    """int32, unit 2^-12: the grid on which a denoiser is given z."""
    return np.clip(np.rint(noisy / UNIT), -LARGEST_NOISY, LARGEST_NOISY).astype(np.int32)


def features(levels: np.ndarray) -> np.ndarray:
    """float32 [n, NUM_FEATURES], whole numbers, unit 2^-7: Chebyshev polynomials of where each level is between first and last."""
    place = np.asarray(levels) / ((NUM_LEVELS - 1) / 2) - 1
    columns = [np.ones_like(place), place]
    while len(columns) < NUM_FEATURES:
        columns.append(2 * place * columns[-1] - columns[-2])
    return np.rint(_LARGEST_FACTOR * np.stack(columns, axis=-1)).astype(np.float32)


class GaussianPrior:
    """Pictures as a Gaussian whose coefficients are independent in a cosine transform of places and colours: a gain for each.

    mean:      float64 [3], of each colour, whole numbers in units of 2^-12
    variances: float64 [32, 32, 3], of each coefficient
    cosines:   int16 [32, 32], the orthonormal cosine transform in units of 2^-14; stored, since cosines differ between machines
    """

    def __init__(self, mean: np.ndarray, variances: np.ndarray, cosines: np.ndarray) -> None:
        self.mean, self.variances = mean.astype(np.float64), variances.astype(np.float64)
        self.cosines, self._cosines = cosines, cosines.astype(np.float64)
        self._colours = np.rint(_COLOUR_AXES * 2.0**_COSINE_BITS)

    def estimate(self, noisy: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Posterior means float64 [n, 32, 32, 3] of `noisy` at `levels` [n]: whole numbers like it, unit 2^-12."""
        alpha, sigma = amplitudes(levels[:, None, None, None])
        gain = alpha * self.variances / (alpha * alpha * self.variances + sigma * sigma)
        spectrum = np.rint(self.transformed(noisy - np.rint(alpha * self.mean)) * gain)
        return self._restored(np.clip(spectrum, -_LARGEST_COEFFICIENT, _LARGEST_COEFFICIENT)) + self.mean

    @cached_property
    def rms(self) -> np.ndarray:
        """float64 [NUM_LEVELS]: root of the mean squared error that it expects of its estimate, of pixels from -1 to 1."""
        alpha, sigma = amplitudes(np.arange(NUM_LEVELS)[:, None])
        power = self.variances.ravel()
        left = power * (sigma * sigma) / (alpha * alpha * power + sigma * sigma)
        return np.sqrt([fsum(row) / row.size for row in left])  # sums that are rounded once

    def transformed(self, pictures: np.ndarray) -> np.ndarray:
        """Coefficients of integers [n, 32, 32, 3], rounded to integers."""
        planes = np.moveaxis(pictures @ self._colours, 3, 1)  # [n, 3, 32, 32]
        sums = self._cosines @ np.rint(planes * 2.0**-_COSINE_BITS) @ self._cosines.T
        return np.rint(np.moveaxis(sums, 1, 3) * 2.0 ** (-2 * _COSINE_BITS))

    def _restored(self, spectrum: np.ndarray) -> np.ndarray:
        planes = self._cosines.T @ np.ascontiguousarray(np.moveaxis(spectrum, 3, 1)) @ self._cosines
        pictures = np.moveaxis(np.rint(planes * 2.0 ** (-2 * _COSINE_BITS)), 1, 3)
        return np.rint(np.ascontiguousarray(pictures) @ self._colours.T * 2.0**-_COSINE_BITS)


class Given(NamedTuple):
    """What the network is told of noisy pictures, and what its answer is added to.

    factors:  float32 [n, 32, 32, 6], whole numbers, unit 2^-7: what the Gaussian prior takes for noise, over 4, and its estimate
    estimate: float64 [n, 32, 32, 3], whole numbers, unit 2^-12
    """

    factors: np.ndarray
    estimate: np.ndarray


def given(prior: GaussianPrior, noisy: np.ndarray, levels: np.ndarray) -> Given:
    """Of int32 [n, 32, 32, 3], unit 2^-12, at `levels` [n]."""
    alpha, sigma = amplitudes(levels[:, None, None, None])
    estimate = prior.estimate(noisy, levels)
    noise = (noisy - alpha * estimate) * (UNIT / _NOISE_RANGE) / sigma
    both = np.concatenate([noise, estimate * (UNIT / _PICTURE_RANGE)], axis=3)
    return Given(np.clip(np.rint(both * 2.0**PRODUCT_BITS), -_LARGEST_FACTOR, _LARGEST_FACTOR).astype(np.float32), estimate)


class Denoiser:
    """E[x | z, level] as a network has learned it, ready to run; from what `stored` makes."""

    def __init__(self, weights: fixed_point.Weights) -> None:
        self.prior = GaussianPrior(weights["mean"], weights["variances"], weights["cosines"])
        names = [name.removesuffix("_scale") for name in weights if name.endswith("_scale")]
        self._layers = {name: fixed_point.dense(weights, name) for name in names}
        stages = {stage: sum(name.startswith(stage) and name.endswith("_inner") for name in names)
                  for stage in ("early", "coarse", "late")}
        self.architecture = Architecture(fine=weights["near"].shape[1], wide=weights["down"].shape[1],
                                         **{f"{stage}_blocks": count for stage, count in stages.items()})

    def means(self, noisy: np.ndarray, level: int | np.ndarray) -> np.ndarray:
        """int32 [n, 32, 32, 3], unit 2^-12, from -4096 to 4096, of noisy pictures int32 [n, 32, 32, 3], unit 2^-12.

        `level` is one for all, or an array [n]. A picture's mean is the same integers whatever its company. RequestError where
        pictures have another shape.
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


class DiffusionSmall(Component):
    """The shipped denoiser of 32x32 RGB pictures, or one that `channel-sim train diffusion` made.

    Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889.
    """

    source: ClassVar[str] = ("L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, Lossy compression with Gaussian diffusion, arXiv "
                             "2206.08889")

    path: str | None = Field(None, description="weights of channel-sim train diffusion; default: the shipped ones")

    def denoiser(self) -> Denoiser:
        """Ready to run; RequestError where its file is of another kind, or broken."""
        return _load(*self._stamp())[1]

    def digests(self) -> dict[str, str]:
        return {"path": _load(*self._stamp())[0]}

    @property
    def shared_bytes(self) -> int:
        return Path(self._stamp()[0]).stat().st_size

    def _stamp(self) -> tuple[str, int]:
        """Where the weights are, and when they were written: other ones may lie there by now."""
        file = Path(self.path) if self.path else weights_file.FOLDER / "diffusion-small.safetensors"
        try:
            return str(file), file.stat().st_mtime_ns
        except OSError as error:
            raise _unreadable(file, error) from error


@lru_cache(maxsize=2)
def _load(path: str, modified_ns: int) -> tuple[str, Denoiser]:
    try:
        data, digest, _ = weights_file.read(Path(path), FORMAT)
        return digest, Denoiser(load(data))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _unreadable(Path(path), error) from error


def _unreadable(file: Path, error: Exception) -> RequestError:
    return RequestError(f"model.path must be weights of a denoiser with their .json beside them, got {str(file)!r} ({error}); make "
                        "them with channel-sim train diffusion")


def fitted_prior(pictures: np.ndarray) -> GaussianPrior:
    """The Gaussian of pictures float [n, 32, 32, 3] from -1 to 1, by their mean colour and the power of each coefficient."""
    mean = np.rint(pictures.mean(axis=(0, 1, 2), dtype=np.float64) / UNIT)
    place = np.arange(SIDE)
    rows = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * SIDE)) * np.sqrt(np.where(place == 0, 1, 2) / SIDE)[:, None]
    cosines = np.rint(rows * 2.0**_COSINE_BITS).astype(np.int16)
    prior = GaussianPrior(mean, np.ones((SIDE, SIDE, COLOURS)), cosines)
    power = np.square(prior.transformed(np.rint(pictures / UNIT) - mean) * UNIT).mean(axis=0)
    return GaussianPrior(mean, power.astype(np.float32), cosines)


def stored(weights: dict[str, np.ndarray], prior: GaussianPrior) -> fixed_point.Weights:
    """What is written to a file: float weights of `Architecture.shapes` as integers, and the Gaussian prior."""
    return {**fixed_point.quantise(weights), "mean": prior.mean.astype(np.int32), "variances": prior.variances.astype(np.float32),
            "cosines": prior.cosines}


def save_weights(file: Path, weights: fixed_point.Weights, config: dict[str, Any]) -> None:
    """Write the weights and, beside them, what made them."""
    weights_file.write(file, save({name: np.ascontiguousarray(one) for name, one in weights.items()}), FORMAT, config)


_COLOUR_AXES = np.array([[1, 1, 1], [1, 0, -2], [1, -1, 1]]) / np.sqrt([3, 2, 6])


@lru_cache(maxsize=1)
def _eighths() -> np.ndarray:
    """float64 [8]: 2^(i / 8), by square roots and products, which every machine rounds alike."""
    eighth = np.sqrt(np.sqrt(np.sqrt(2.0)))
    return np.multiply.accumulate(np.array([1.0] + 7 * [eighth]))


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
