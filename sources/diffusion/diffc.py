"""DiffC of Gaussian vectors: a noisy version of the vector is sent by reverse channel coding, and denoised at the receiver.

    x ─▶ principal components ─▶ step by step, chunk by chunk: x + noise, less noise each step ─▶ numbers ─▶ bytes
                                                                                                            │ any prefix
    x̂ ◀─ basis ◀─ sample of p(x | z), flow from z, or mean of x given z ◀─ z ◀─ candidates of those numbers ◀─┘

No transform is learned, and none but the principal axes is made: what arrives is a sample of a known channel, whatever the rate.

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889 (2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.theory.gaussian import Noise
from channel_sim.theory.gaussian import Reconstruction as Rule
from channel_sim.theory.gaussian import remaining_variances
from channel_sim.types import Item, Reconstruction, Tokens
from sources.diffusion import reverse_channel
from sources.diffusion.parts import Coding, Held, Line, Part, prefix
from sources.gaussian import GaussianLaw

_MOST_COMPONENT_BITS = 10.0  # of a component in one step: what a single search, or a table of cells, can be asked for
_LEAST_BITS = 1e-9


class Chunk(NamedTuple):
    """Components that are told together. All but `number` are arrays [components] or follow from them.

    number: which chunk of the stream; before, after: their remaining variance σ²
    """

    number: int
    components: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """Variance of what is sent given x, of that given only what went before."""
        return self.after / self.before

    @property
    def information_bits(self) -> float:
        """What it tells on average."""
        return reverse_channel.information_bits(self.ratio)


Steps = list[list[Chunk]]


class Heard(Held):
    """Of each component the sum of what was sent, weighted by its precision, and σ², `known`.

    z = sum σ² / sqrt(1 - σ²) is the sample that DiffC speaks of, and sum σ² the mean of x.
    """

    def __init__(self, steps: Steps, num_components: int, shared: Key) -> None:
        super().__init__(np.zeros(num_components), np.ones(num_components))
        self._steps, self._shared = steps, shared

    @property
    def variances(self) -> np.ndarray:
        """σ² of each component."""
        return self.known

    def parts(self, step: int) -> Iterator[Part]:
        for chunk in self._steps[step]:
            # the precision of what is sent and of x before it: 1 / precision + before = before² / (before - after)
            spread = chunk.before / np.sqrt(chunk.before - chunk.after)
            mean = self.sums[chunk.components] * chunk.before
            yield Part(self._shared.child("diffc", chunk.number), chunk.components, mean, spread, chunk.ratio,
                       reverse_channel.normal(chunk.ratio), 1 / chunk.after - 1 / chunk.before, chunk.after)

    def reconstruction(self, rule: Rule) -> np.ndarray:
        """float64 [components]: x as `rule` has it; noise that it needs is drawn from the shared key."""
        mean = self.sums * self.variances
        if rule == "mean":
            return mean
        noise = self._shared.child("diffc", rule).normal(mean.size)
        if rule == "ancestral":
            return mean + np.sqrt(self.variances) * noise
        known = np.sqrt(1 - self.variances)
        return np.where(known > 0, mean / np.where(known > 0, known, 1), noise)  # the flow of N(0, 1) leaves z where it is


class Diffc(GaussianLaw, Tokenizer):
    """Tokens are the bytes of the progressive stream; the receiver decodes the longest prefix that came.

    The law (covariance and what goes with it) is that of the source, where it is left out. `noise` = "optimal" is what suits
    `reconstruction` best. Everything that says which chunk tells what follows from these fields: nothing of it is sent. In a step
    all components get less noise, those that matter most first; a chunk is as many of them as a search of 2^search_bits candidates
    can tell, and costs about log2(I + 1) + 2 bits beside the I bits that it tells: larger chunks cost fewer bits and more time.
    coding = "dithered" tells each component by itself, with uniform noise instead of Gaussian: cheap to search, and another law.

    After each step `check_bits` tell a receiver that holds something else than the sender that it does: it goes back to the step
    before. Of the last step no more than its beginning may come, which is taken as it is. Both ends must compute alike to the last
    bit. With nothing received the vector is 0 and marked missing.
    """

    revision: ClassVar[int] = 2
    assumptions: ClassVar[tuple[str, ...]] = (
        "Both ends of DiffC hold the law of the source, draw the same candidates (item/i/shared) and compute on one machine.",
    )

    information_bits: float = Field(1.0, gt=0, le=16, description="information of all steps, a dimension: the noise level")
    target_bits: int | None = Field(None, ge=8, description="bits the stream may have: its beginning")
    noise: Literal["isotropic", "pink", "optimal"] = Field("isotropic", description="how noise is spread over the components")
    reconstruction: Rule = Field("flow", description="a sample of p(x | z), the probability flow, or the mean")
    num_steps: int = Field(1, ge=1, le=64, description="noise levels that the stream goes through, of equal information, at least")
    coding: Coding = Field("poisson", description="search for a sample of q, or quantise with dither")
    search_bits: float = Field(14.0, ge=4, le=18, description="log2 of the candidates that a chunk is searched in, about")
    check_bits: int = Field(8, ge=0, le=32, description="checksum after each step")

    @property
    def vocab_size(self) -> int:
        return 256

    @property
    def ignored_fields(self) -> frozenset[str]:
        return super().ignored_fields | (frozenset({"search_bits"}) if self.coding == "dithered" else frozenset())

    def assumed(self) -> tuple[str, ...]:
        exact = (f"A chunk's sample is off its law by at most {reverse_channel.TOTAL_VARIATION:g} in total variation.",)
        uniform = ("Dithered quantisation sends x plus uniform noise of the variance that the theory's Gaussian noise has.",)
        return self.assumptions + (exact if self.coding == "poisson" else uniform)

    def encode(self, item: Item, key: Key) -> Tokens:
        vector = item.content
        if item.modality != "vector" or not isinstance(vector, np.ndarray) or vector.shape != (self.num_dimensions,):
            raise RequestError(f"tokenizer diffc takes vectors of num_dimensions = {self.num_dimensions}, got {item.modality!r} "
                               f"({item.name}); use source gaussian_vector of as many")
        return Tokens(self._line.told(self._nothing(key), self.axes.components(vector)), self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(float32 [num_dimensions], missing bool [num_dimensions]): all or nothing is missing."""
        heard = self.heard(prefix(reconstruction), key)
        nothing = bool(np.all(heard.variances == 1))
        vector = self.axes.vector(heard.reconstruction(self.reconstruction))
        return np.where(nothing, 0, vector).astype(np.float32), np.full(self.num_dimensions, nothing)

    def heard_by_sender(self, vector: np.ndarray, key: Key) -> tuple[Heard, np.ndarray]:
        """(what a receiver of all of the stream holds, uint8: the stream)."""
        octets = self._line.told(self._nothing(key), self.axes.components(vector))
        return self.heard(octets, key), octets

    def heard(self, octets: np.ndarray, key: Key) -> Heard:
        """What a receiver of the first bytes of a stream holds: whole chunks, up to the last step that is known to agree."""
        return self._line.heard(self._nothing(key), octets)

    @property
    def short_name(self) -> str:
        """As the paper has it: of the reconstruction, with a star at the noise that suits it best."""
        name = {"ancestral": "DiffC-A", "flow": "DiffC-F", "mean": "Denoised mean"}[self.reconstruction]
        return name + {"isotropic": "", "pink": ", pink noise", "optimal": "*"}[self.noise]

    def remaining_variances(self, bits_per_dimension: float) -> np.ndarray:
        """float64 [num_dimensions], σ² of each component after so much information."""
        noise: Noise = "ancestral_optimum" if self.noise == "optimal" else self.noise
        if self.noise == "optimal" and self.reconstruction == "flow":
            noise = "flow_optimum"
        return remaining_variances(self.axes.spectrum, bits_per_dimension, noise)

    @property
    def steps(self) -> Steps:
        """The chunks of each step, in the order of the stream."""
        return _steps(self)

    @property
    def _line(self) -> Line:
        most_bytes = None if self.target_bits is None else self.target_bits // 8
        return Line(self.coding, len(self.steps), self.check_bits, most_bytes)

    def _nothing(self, key: Key) -> Heard:
        return Heard(self.steps, self.num_dimensions, key)


@lru_cache(maxsize=32)
def _steps(diffc: Diffc) -> Steps:
    steps, number = Steps(), 0
    levels = _levels(diffc)
    for before, after in zip(levels[:-1], levels[1:], strict=True):
        told = np.log2(before / after) / 2 > _LEAST_BITS
        ratio = after / before
        chunks = [Chunk(number + place, part, before[part], after[part])
                  for place, part in enumerate(_parts(diffc, np.flatnonzero(told), ratio))]
        number += len(chunks)
        steps.append(chunks)
    return steps


def _levels(diffc: Diffc) -> list[np.ndarray]:
    """σ² of every component, from 1 on, step by step; more steps where a component would get too much in one."""
    num_steps = diffc.num_steps
    while True:
        shares = np.linspace(0, diffc.information_bits, num_steps + 1)
        levels = [diffc.remaining_variances(float(share)) for share in shares]
        if np.max(np.log2(np.array(levels[:-1]) / np.array(levels[1:]))) / 2 <= _MOST_COMPONENT_BITS:
            return levels
        num_steps += 1


def _parts(diffc: Diffc, components: np.ndarray, ratio: np.ndarray) -> list[np.ndarray]:
    """Components of each chunk: as many as one search can tell; with dither each by itself."""
    parts = list[np.ndarray]()
    while components.size:
        count = 1 if diffc.coding == "dithered" else reverse_channel.searchable(ratio[components], diffc.search_bits)
        parts.append(components[:count])
        components = components[count:]
    return parts
