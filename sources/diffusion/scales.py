"""How much components of a tile vary, more or less than is expected of them: both ends learn it from what has been told.

    what is expected is a mean over pictures; a smooth tile varies less, a rough one more, and tails are long

Components come in bands, which vary alike over all pictures; of each band of each tile there are odds of a few scales. Under them
a component that is told is a mixture of Gaussians, and what was told of it changes the odds.
"""

from __future__ import annotations

import numpy as np

from sources.diffusion.reverse_channel import Mixture

SCALES = 4.0 ** np.arange(-3, 3)
"""Of the variance that a component has beside what is told of it."""
_PRIOR = -0.5 * (np.log2(SCALES) / 2.5) ** 2
_TRUST = 0.7  # of what components say together: they are not independent
_INHERITED = 0.5  # of what the band below has said
_WEIGHT_BITS = 12
_TEMPERED, _FINER = 0.5, -0.75
"""Of what is drawn: the part of a scale's octaves that is taken, and octaves beside it where nothing was told of a band. Powers of
fine bands have long tails: the mean over pictures is more than most of them have. Chosen by KID, on training pictures."""


def bands(variances: np.ndarray, num_colours: int) -> np.ndarray:
    """int [components]: octaves of variance, each of light and of colours, those that vary most first."""
    octave = np.floor(np.log2(variances.max()) - np.log2(variances)).astype(int)
    return 2 * octave + (np.arange(variances.size) % num_colours > 0)


class Scales:
    """Logarithms of odds, float64 [bands, tiles, scales], and what follows from them."""

    def __init__(self, num_bands: int, num_tiles: int) -> None:
        self._heard = np.zeros((num_bands, num_tiles, SCALES.size))

    def weights(self, band: int) -> np.ndarray:
        """float64 [tiles, scales] of sum 1, about: whole numbers of 2^-12, so that a last bit of a logarithm has hardly a say."""
        below = self._heard[band - 2] if band >= 2 else 0.0
        odds = _PRIOR + self._heard[band] + _INHERITED * below
        likely = np.exp(odds - odds.max(axis=1, keepdims=True))
        return np.ldexp(np.rint(np.ldexp(likely / likely.sum(axis=1, keepdims=True), _WEIGHT_BITS)), -_WEIGHT_BITS)

    def drawn(self) -> np.ndarray:
        """float64 [bands, tiles]: the scales at which what was not told is drawn; a band not told of follows the last that was."""
        last, octaves = np.zeros((2, self._heard.shape[1])), list[np.ndarray]()
        for band, heard in enumerate(self._heard):
            told = heard.any(axis=1)
            last[band % 2] = np.where(told, self.weights(band) @ np.log2(SCALES), last[band % 2])
            octaves.append(_TEMPERED * last[band % 2] + np.where(told, 0, _FINER))
        return np.exp2(octaves)

    def learn(self, band: int, tiles: np.ndarray, law: Mixture, ratio: np.ndarray, sent: np.ndarray) -> None:
        """Take in what was sent [n] of components of `tiles` [n], in units of a part: x of `law`, noise of variance `ratio`."""
        variances = np.square(law.scales) + ratio[:, None]
        said = -0.5 * (np.log(variances) + np.square(sent)[:, None] / variances)
        np.add.at(self._heard[band], tiles, _TRUST * said)

    def copy(self) -> Scales:
        other = Scales(0, 0)
        other._heard = self._heard.copy()
        return other
