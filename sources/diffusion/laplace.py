"""A Laplace source, and DiffC of it: less smooth than a Gaussian one, and every step of it known in closed form all the same.

    x ─▶ components, chunk by chunk: y = x + τ u among candidates of p(y) ─▶ numbers ─▶ bytes
                                                                                      │ any prefix
    x̂ ◀─ sample of p(x | y), the flow of y, or the mean of x given y ◀─ y ◀─ candidates of those numbers

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889 (2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Component, Source, Tokenizer
from channel_sim.theory.gaussian import Reconstruction as Rule
from channel_sim.theory.laplace import LaplaceInNoise
from channel_sim.types import Item, Reconstruction, Tokens
from sources.diffusion import reverse_channel
from sources.diffusion.parts import prefix
from sources.diffusion.stream import StreamReader, StreamWriter, symbols_of_number

_SPARE_BITS = 0.72  # of a component: by how much its largest density ratio is over what it tells, about; ½ log2 e of a Gaussian


class LaplaceLaw(Component):
    """Independent components of a Laplace law of mean 0 and variance 1."""

    num_dimensions: int = Field(256, ge=1, le=4096, description="dimensions of a vector")


class LaplaceVector(LaplaceLaw, Source):
    """Items are float32 vectors [num_dimensions]: half of all values lie within .49 of 0, and tails fall as exp(-1.41 |x|)."""

    modality: ClassVar[str] = "vector"

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        return [Item(_laplace(key.child("components").uniform(self.num_dimensions)).astype(np.float32), self.modality,
                     f"LaplaceVector[{index}]") for index, key in zip(indices, keys, strict=True)]


class DiffcLaplace(LaplaceLaw, Tokenizer):
    """Tokens are the bytes of the stream of a vector of Laplace components; the receiver decodes the longest prefix that came.

    All components get the same noise, in one step. Candidates are drawn of p(y) itself, and the ratio of densities has a bound that
    is reached: what is sent is an exact sample of y given x, unless a search ends after 2^20 candidates, with the best so far. A
    chunk is as many components as a search of about 2^search_bits candidates can tell; how much it tells on average both ends know.
    Both must compute alike to the last bit.
    """

    assumptions: ClassVar[tuple[str, ...]] = (
        "Both ends of DiffC hold the law of the source, draw the same candidates (item/i/shared) and compute on one machine.",
    )

    noise_variance: float = Field(0.1, gt=0, lt=1, description="σ² of what is sent, of which the rest is x: from 1, nothing, to 0")
    reconstruction: Rule = Field("flow", description="a sample of p(x | z), the probability flow, or the mean")
    search_bits: float = Field(10.0, ge=4, le=18, description="log2 of the candidates that a chunk is searched in, about")

    @property
    def vocab_size(self) -> int:
        return 256

    @property
    def law(self) -> LaplaceInNoise:
        return LaplaceInNoise(self.noise_variance)

    @property
    def short_name(self) -> str:
        """As the paper has it."""
        return {"ancestral": "DiffC-A", "flow": "DiffC-F", "mean": "Denoised mean"}[self.reconstruction]

    @property
    def component_bits(self) -> float:
        """What a component tells on average."""
        return _information_bits(self.noise_variance)

    @property
    def chunks(self) -> list[range]:
        """Components of each chunk, in the order of the stream."""
        size = max(1, int(self.search_bits / (self.component_bits + _SPARE_BITS)))
        return [range(first, min(first + size, self.num_dimensions)) for first in range(0, self.num_dimensions, size)]

    def encode(self, item: Item, key: Key) -> Tokens:
        vector = item.content
        if item.modality != "vector" or not isinstance(vector, np.ndarray) or vector.shape != (self.num_dimensions,):
            raise RequestError(f"tokenizer diffc_laplace takes vectors of num_dimensions = {self.num_dimensions}, got "
                               f"{item.modality!r} ({item.name}); use source laplace_vector of as many")
        return Tokens(self.heard_by_sender(vector, key)[1], self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(float32 [num_dimensions], missing bool [num_dimensions]): components that nothing was told about are 0, and missing."""
        y = self.heard(prefix(reconstruction), key)
        missing = np.arange(self.num_dimensions) >= y.size
        return np.pad(self.made_of(y, key), (0, int(missing.sum()))).astype(np.float32), missing

    def heard_by_sender(self, vector: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(y, float64 [num_dimensions], as a receiver of all of the stream has it; uint8: the stream)."""
        writer, heard = StreamWriter(), list[np.ndarray]()
        for number, chunk in enumerate(self.chunks):
            choice = _choice(self.law, vector[chunk.start:chunk.stop].astype(np.float64), key.child("diffc", number))
            writer.write(symbols_of_number(choice.number, self.component_bits * len(chunk)))
            heard.append(choice.values)
        return np.concatenate(heard), writer.stream()

    def heard(self, octets: np.ndarray, key: Key) -> np.ndarray:
        """float64 [components of the whole chunks that the first bytes of a stream tell]: y."""
        reader, heard = StreamReader(octets), [np.zeros(0)]
        for number, chunk in enumerate(self.chunks):
            found = reader.number(self.component_bits * len(chunk))
            if found is None:
                break
            block, place = divmod(found - 1, reverse_channel.BLOCK)
            heard.append(_candidates(key.child("diffc", number), block, len(chunk), self.law.deviation)[place])
        return np.concatenate(heard)

    def made_of(self, y: np.ndarray, key: Key) -> np.ndarray:
        """float64: x as `reconstruction` has it; what chance decides follows from the shared key."""
        if self.reconstruction == "mean":
            return self.law.mean(y)
        if self.reconstruction == "flow":
            return self.law.flow(y)
        return self.law.sample(y, key.child("diffc", "ancestral").uniform(y.size))


def _laplace(uniform: np.ndarray) -> np.ndarray:
    """Quantiles of the law; 0 is no quantile."""
    centred = uniform - 0.5
    return -np.sign(centred) * np.sqrt(0.5) * np.log1p(-2 * np.minimum(np.abs(centred), 0.5 - 2.0**-54))


def _choice(law: LaplaceInNoise, x: np.ndarray, key: Key) -> reverse_channel.Choice:
    """An exact sample of y given x [components]."""
    def draw(block: int) -> np.ndarray:
        return _candidates(key, block, x.size, law.deviation)

    def log_ratio(y: np.ndarray) -> np.ndarray:
        return law.log_ratio(y, x).sum(axis=1)

    return reverse_channel.search(key, draw, log_ratio, float(law.farthest_ratio(x).sum()))


def _candidates(key: Key, block: int, size: int, deviation: float) -> np.ndarray:
    """float64 [BLOCK, size] of p(y)."""
    drawn = key.child("candidates", block)
    x = _laplace(drawn.child("x").uniform(reverse_channel.BLOCK, size))
    return x + deviation * drawn.child("noise").normal(reverse_channel.BLOCK, size)


@lru_cache(maxsize=64)
def _information_bits(noise_variance: float) -> float:
    return LaplaceInNoise(noise_variance).information_bits
