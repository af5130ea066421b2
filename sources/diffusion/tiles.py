"""Tiles of pictures in water-filled noise: what both ends of DiffC hold of them and expect, and what a receiver makes of it.

    x_i  a coefficient of a tile of 32 x 32 pixels (`models.diffusion_prior`), told of where it stands above the water at a level
    y_i  the sum of all that was told of it, weighted by precision: N(S_i x_i, S_i)

    y at a level ─▶ denoiser ─▶ m_i, expected ─▶ next step: x_i + noise of variance 1 / ΔS_i is told ─▶ y at the next level ─▶ …
     └─▶ picture: the mean, a sample of p(x | y), or the end of the probability flow from y

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889 (2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np

from channel_sim.keys import Key
from channel_sim.theory.gaussian import Reconstruction as Rule
from sources.diffusion import reverse_channel
from sources.diffusion.parts import Coding, Held, Part
from sources.diffusion.scales import SCALES, Scales, bands
from sources.models.diffusion import Denoiser
from sources.models.diffusion_network import COLOURS, SIDE
from sources.models.diffusion_prior import NUM_LEVELS, UNIT, quantised

NUM_COMPONENTS = SIDE * SIDE * COLOURS
_TOGETHER, _SEARCHED = 4096, 128
"""So many components at most are a part: with their cells this is what memory holds; or what is looked at for one search."""
_LEAST_PRECISION, _MOST_SHARE = 1e-6, 1 - 1e-6
_LEVELS_A_MOVE = 8  # of the flow and of ancestral sampling: 4 change their distortion by less than .2 dB


class Stage(NamedTuple):
    """What is known at a level; float64 [NUM_COMPONENTS]. precisions: S_i; left: variance of x_i - m_i.

    level: None where nothing is known
    """

    level: int | None
    precisions: np.ndarray
    left: np.ndarray


class Course(NamedTuple):
    """The stages that a stream goes through, from nothing, and what they follow from.

    mean, variances: of each component, float64 [NUM_COMPONENTS]
    order: components as they come in a step, those that vary most first
    bands: of each component
    """

    denoiser: Denoiser
    stages: list[Stage]
    mean: np.ndarray
    variances: np.ndarray
    order: np.ndarray
    bands: np.ndarray


@lru_cache(maxsize=8)
def course(denoiser: Denoiser, levels_a_step: int, last: int) -> Course:
    """Stages at every `levels_a_step` from the first at which anything is told of, and at `last`."""
    prior = denoiser.prior
    variances = prior.variances.ravel()
    deepest = max(level for level in range(NUM_LEVELS) if not prior.precisions(level).any())
    levels = [*range(deepest + levels_a_step, last, levels_a_step), last]
    stages = [Stage(None, np.zeros(NUM_COMPONENTS), variances), *(stage(denoiser, level) for level in levels)]
    return Course(denoiser, stages, prior.means.ravel() * UNIT, variances, np.argsort(-variances, kind="stable"),
                  bands(variances, COLOURS))


@lru_cache(maxsize=NUM_LEVELS)
def stage(denoiser: Denoiser, level: int) -> Stage:
    return Stage(level, denoiser.prior.precisions(level).ravel(), denoiser.residual_variances(level).ravel())


class HeldTiles(Held):
    """y and S of the components of all tiles, [tiles * NUM_COMPONENTS]; `known` is S.

    seed: what a receiver must share beside y; a checksum is of both
    """

    def __init__(self, way: Course, num_tiles: int, shared: Key, seed: bytes, coding: Coding, search_bits: float) -> None:
        super().__init__(np.zeros(num_tiles * NUM_COMPONENTS), np.zeros(num_tiles * NUM_COMPONENTS))
        self._way, self._shared, self._seed, self._coding, self._search_bits = way, shared, seed, coding, search_bits
        self._tiles = np.arange(num_tiles)
        self._step, self._expected = 0, self._repeated(way.mean)
        self._scales = Scales(int(way.bands.max()) + 1, num_tiles)

    @property
    def nothing(self) -> bool:
        return not self.known.any()

    def content(self) -> bytes:
        return self._seed + super().content()

    def parts(self, step: int) -> Iterator[Part]:
        way = self._way
        before, after = way.stages[step:step + 2]
        self._step, self._expected = step, self._repeated(way.mean) if step == 0 else self._means(self.sums, before)
        told = way.order[after.precisions[way.order] > before.precisions[way.order]]
        number = 0
        for band in np.unique(way.bands[told]):
            # component by component, each of all tiles: the beginning of a step tells all tiles alike
            everywhere = (told[way.bands[told] == band][:, None] + NUM_COMPONENTS * self._tiles).ravel()
            while everywhere.size:
                most = _SEARCHED if self._coding == "poisson" else _TOGETHER
                part = self._part(self._shared.child("diffc_image", step, number), everywhere[:most], before, after)
                if self._coding == "poisson":
                    part = part.first(reverse_channel.searchable(part.ratio, self._search_bits))
                yield part
                everywhere, number = everywhere[part.ratio.size:], number + 1

    def take(self, part: Part, sent: np.ndarray) -> None:
        super().take(part, sent)
        tiles, band = part.components[:sent.size] // NUM_COMPONENTS, int(self._way.bands[part.components[0] % NUM_COMPONENTS])
        part = part.first(sent.size)
        self._scales.learn(band, tiles, part.law, part.ratio, sent)

    def copy(self) -> Self:
        other = super().copy()
        other._scales = self._scales.copy()
        return other

    def _part(self, key: Key, which: np.ndarray, before: Stage, after: Stage) -> Part:
        """What is expected of some components of one band."""
        tile, component = np.divmod(which, NUM_COMPONENTS)
        held, precision = before.precisions[component], (after.precisions - before.precisions)[component]
        weights = self._scales.weights(int(self._way.bands[component[0]]))[tile]
        alone = np.maximum(1 / before.left[component] - held, _LEAST_PRECISION)  # what is known of x beside what was told of it
        variances = 1 / (alone[:, None] / SCALES + held[:, None])  # of x, at each of the scales
        spread = np.sqrt(np.sum(weights * variances, axis=1) + 1 / precision)
        law = reverse_channel.Mixture(weights, np.sqrt(variances) / spread[:, None])
        return Part(key, which, self._expected[which], spread, 1 / (precision * spread**2), law, precision,
                    after.precisions[component])

    def pictures(self, rule: Rule) -> np.ndarray:
        """uint8 [tiles, 32, 32, 3]: what `rule` makes of it; noise that it needs is drawn from the shared key."""
        way = self._way
        before, after = way.stages[self._step:self._step + 2]
        if not np.any(self.known > self._repeated(before.precisions)):
            after = before  # of the step in hand nothing came
        if after.level is None:
            return _as_pixels(np.broadcast_to(way.denoiser.prior.mean, (self._tiles.size, SIDE, SIDE, COLOURS)))
        if rule == "mean":
            return _as_pixels(self._denoised(self._completed(after), after))
        scales = self._scales.drawn()[way.bands].T.ravel()
        ends = self._flow(before, after, scales) if rule == "flow" else self._ancestral(before, after, scales)
        return _as_pixels(way.denoiser.prior.restored(np.rint(ends / UNIT).reshape(-1, SIDE, SIDE, COLOURS)))

    def _completed(self, after: Stage) -> np.ndarray:
        """y as if what the step in hand has not told were what is expected."""
        return self.sums + (self._repeated(after.precisions) - self.known) * self._expected

    def _ancestral(self, before: Stage, after: Stage, scales: np.ndarray) -> np.ndarray:
        """Components of a sample of p(x | y): what the stream would tell if it went on, drawn from what is expected of it."""
        sums = self._further(self.sums, self._repeated(after.precisions) - self.known, self._expected, before, scales, None)
        for here, there in self._moves(after):
            gained = self._repeated(there.precisions - here.precisions)
            sums = self._further(sums, gained, self._means(sums, here), here, scales, there.level)
            after = there
        means, left = self._rescaled(sums, self._means(sums, after), after, scales)
        return means + np.sqrt(left) * self._noise("ancestral", NUM_LEVELS)

    def _further(self, sums: np.ndarray, gained: np.ndarray, means: np.ndarray, here: Stage, scales: np.ndarray,
                 level: int | None) -> np.ndarray:
        """y once `gained` has been added to its precisions at `here`, drawn from what is expected."""
        means, left = self._rescaled(sums, means, here, scales)
        return sums + gained * means + np.sqrt(gained + gained**2 * left) * self._noise("ancestral", level)

    def _rescaled(self, sums: np.ndarray, means: np.ndarray, here: Stage, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) of x given y, from m and v, if beside what is told of it x has `scales` times the variance.

        m is the mean of y / S and of what is expected beside it, weighted by precision: with the other weights it lies elsewhere.
        """
        held, left = self._repeated(here.precisions), self._repeated(here.left)
        alone = scales * left / (1 - np.minimum(left * held, _MOST_SHARE))
        own = alone / (1 + alone * held)
        place = sums / np.where(held > 0, held, 1)
        return place + own / (scales * left) * (means - place), own

    def _flow(self, before: Stage, after: Stage, scales: np.ndarray) -> np.ndarray:
        """Components at the end of the probability flow that starts at y.

        What moves is x + noise, y / S; of a component that nothing is told of, the noise alone, in units of its spread.
        """
        place = np.where(self.known > 0, self.sums / np.where(self.known > 0, self.known, 1), self._noise("flow"))
        late = self.known < self._repeated(after.precisions)
        place = np.where(late, self._moved(place, self._expected, before, after, scales), place)
        for here, there in self._moves(after):
            place = self._moved(place, self._means(self._repeated(here.precisions) * place, here), here, there, scales)
            after = there
        end = after._replace(precisions=np.full(NUM_COMPONENTS, np.inf))
        return self._moved(place, self._means(self._repeated(after.precisions) * place, after), after, end, scales)

    def _moved(self, place: np.ndarray, means: np.ndarray, here: Stage, there: Stage, scales: np.ndarray) -> np.ndarray:
        """Where the flow takes `place` if x is Gaussian beside what is told of it, of the mean that leaves m and `scales` times the
        variance that leaves v.

        Of N(centre, alone), x + noise of variance t keeps its distance from the centre in units of sqrt(alone + t).
        """
        told, telling = here.precisions > 0, there.precisions > 0
        share = np.minimum(here.left * here.precisions, _MOST_SHARE)  # of what is known of x, what was told of it
        alone = scales * self._repeated(here.left / (1 - share))
        noise, less = (self._repeated(1 / np.where(known, one.precisions, 1)) for known, one in ((told, here), (telling, there)))
        way = (1 - np.sqrt((alone + less) / (alone + noise))) / self._repeated(1 - share)  # part of the distance from m
        moved = place + way * (means - place)
        entered = means + np.sqrt(alone + less) * place
        return np.where(self._repeated(told), moved, np.where(self._repeated(telling), entered, place))

    def _moves(self, start: Stage) -> Iterator[tuple[Stage, Stage]]:
        assert start.level is not None
        for level in range(start.level, NUM_LEVELS - 1, _LEVELS_A_MOVE):
            there = stage(self._way.denoiser, min(level + _LEVELS_A_MOVE, NUM_LEVELS - 1))
            yield start, there
            start = there

    def _denoised(self, sums: np.ndarray, here: Stage) -> np.ndarray:
        """int32 [tiles, 32, 32, 3]: pixels that the denoiser makes of y at a stage."""
        assert here.level is not None
        safe = np.where(here.precisions > 0, here.precisions, 1.0)
        states = np.where(here.precisions > 0, sums.reshape(-1, NUM_COMPONENTS) / np.sqrt(safe * (1 + safe)), 0.0)
        return self._way.denoiser.means(quantised(states).reshape(-1, SIDE, SIDE, COLOURS), here.level)

    def _means(self, sums: np.ndarray, here: Stage) -> np.ndarray:
        """m float64 [tiles * NUM_COMPONENTS] of y at a stage."""
        return self._way.denoiser.prior.transformed(self._denoised(sums, here)).ravel() * UNIT

    def _noise(self, name: str, level: int | None = None) -> np.ndarray:
        return self._shared.child("diffc_image", name, 0 if level is None else level).normal(self.sums.size)

    def _repeated(self, of_components: np.ndarray) -> np.ndarray:
        return np.tile(of_components, self._tiles.size)


def coefficients(denoiser: Denoiser, tiles: np.ndarray) -> np.ndarray:
    """x float64 [tiles * NUM_COMPONENTS] of pixels uint8 [tiles, 32, 32, 3]."""
    return denoiser.prior.transformed(np.rint((tiles / 127.5 - 1) / UNIT)).ravel() * UNIT


def _as_pixels(means: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((means * UNIT + 1) * 127.5), 0, 255).astype(np.uint8)
