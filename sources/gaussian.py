"""Gaussian vectors, whose rate and distortion are known exactly; and the principal axes in which all is told about them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.linalg import toeplitz

from channel_sim.keys import Key
from channel_sim.stages import Component, Source
from channel_sim.types import Item
from sources.images import Images
from sources.models.fixed_point import one_blas_thread

_LONGEST_SIDE = 32
_PHOTOGRAPHS = Images(grey=True)


class PrincipalAxes(NamedTuple):
    """spectrum: float64 [n], variances along the axes, falling; basis: float64 [n, n], a column an axis; the mean is 0."""

    spectrum: np.ndarray
    basis: np.ndarray

    def vector(self, components: np.ndarray) -> np.ndarray:
        """float64 [n]: the vector with these components, each of unit variance."""
        # not a matrix product: its last bit would depend on the number of BLAS threads
        return np.einsum("ij,j->i", self.basis, np.sqrt(self.spectrum) * components)

    def components(self, vector: np.ndarray) -> np.ndarray:
        """float64 [n]: the components of a vector, each of unit variance."""
        return np.einsum("ij,i->j", self.basis, np.asarray(vector, np.float64)) / np.sqrt(self.spectrum)


class GaussianLaw(Component):
    """The law of a Gaussian vector of mean 0 and a mean variance of 1 a dimension.

    covariance: "identity": independent; "autoregressive": correlation^|i - j|; "patches": that of tiles of grey photographs (those
                inside the scikit-image wheel), side by side, of sqrt(num_dimensions) pixels a side, about their mean and scaled
    """

    covariance: Literal["identity", "autoregressive", "patches"] = Field("identity", description="how dimensions go together")
    num_dimensions: int = Field(256, ge=1, le=_LONGEST_SIDE**2, description="dimensions of a vector")
    correlation: float = Field(0.9, gt=-1, lt=1, description='of neighbours with covariance = "autoregressive"')

    @model_validator(mode="after")
    def _patches_are_square(self) -> Self:
        if self.covariance == "patches" and round(self.num_dimensions**0.5) ** 2 != self.num_dimensions:
            raise ValueError(f'num_dimensions must be a square with covariance = "patches", got {self.num_dimensions}; '
                             "take 64 or 256")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset() if self.covariance == "autoregressive" else frozenset({"correlation"})

    def digests(self) -> dict[str, str]:
        return _PHOTOGRAPHS.digests() if self.covariance == "patches" else {}

    @property
    def law(self) -> tuple[str, int, float | None]:
        """What fields that have a meaning say of it: equal laws, equal tuples."""
        return self.covariance, self.num_dimensions, self.correlation if self.covariance == "autoregressive" else None

    @property
    def axes(self) -> PrincipalAxes:
        return _axes(self.covariance, self.num_dimensions, self.correlation)


class GaussianVector(GaussianLaw, Source):
    """Items are float32 vectors [num_dimensions], independent draws of a Gaussian law whose R(D) is known."""

    modality: ClassVar[str] = "vector"

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        return [Item(self.axes.vector(key.child("components").normal(self.num_dimensions)).astype(np.float32), self.modality,
                     f"GaussianVector[{index}]") for index, key in zip(indices, keys, strict=True)]


@lru_cache(maxsize=8)
def _axes(covariance: str, num_dimensions: int, correlation: float) -> PrincipalAxes:
    if covariance == "identity":
        return _read_only(np.ones(num_dimensions), np.eye(num_dimensions))
    with one_blas_thread():  # or the last bits of the axes would depend on their number
        patches = covariance == "patches"
        matrix = _of_patches(num_dimensions) if patches else toeplitz(correlation ** np.arange(num_dimensions))
        spectrum, basis = np.linalg.eigh(matrix)
    spectrum, basis = spectrum[::-1], basis[:, ::-1]
    largest = np.argmax(np.abs(basis), axis=0)
    return _read_only(spectrum, basis * np.sign(basis[largest, np.arange(num_dimensions)]))


def _of_patches(num_dimensions: int) -> np.ndarray:
    """float64 [n, n]: covariance of all tiles, scaled to a mean variance of 1."""
    side = round(num_dimensions**0.5)
    pictures = _PHOTOGRAPHS.items(range(_PHOTOGRAPHS.num_items), [])
    tiles = np.concatenate([_tiles(np.asarray(picture.content)[..., 0], side) for picture in pictures])
    matrix = np.cov(tiles, rowvar=False).reshape(num_dimensions, num_dimensions)
    return matrix * (num_dimensions / np.trace(matrix))


def _tiles(pixels: np.ndarray, side: int) -> np.ndarray:
    """[tiles, side²]: the whole tiles of a picture [height, width], from the upper left."""
    rows, columns = np.array(pixels.shape) // side
    tiles = pixels[:rows * side, :columns * side].reshape(rows, side, columns, side).swapaxes(1, 2)
    return tiles.reshape(rows * columns, side**2)


def _read_only(*arrays: np.ndarray) -> PrincipalAxes:
    made = [np.ascontiguousarray(array) for array in arrays]
    for array in made:
        array.setflags(write=False)
    return PrincipalAxes(*made)
