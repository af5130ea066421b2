"""Music that needs no recording: strings plucked at random, computed sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from channel_sim.keys import Key
from channel_sim.types import Item
from sources.audio import Sound
from sources.sound_file import quantised

_NUM_STRINGS = 3
_PLUCKS_PER_SECOND = 8
_LOWEST_HZ = 110.0
_SEMITONES = np.array([0, 3, 5, 7, 10])
"""A minor pentatonic scale: whatever sounds together goes together."""
_DEFAULT_SAMPLES = 2048


class PluckedStrings(Sound):
    """Three strings, an octave apart, plucked in turn eight times a second, each at a random step of a pentatonic scale.

    A pluck fills the string with noise; what comes round is the mean of two neighbouring samples, so the tone loses its overtones
    first. A string sounds until it is plucked again. Items are of 2,048 samples where neither `item_seconds` nor `item_samples`
    says otherwise; draws are prefix-stable: a longer item begins with the shorter one.

    Source: K. Karplus, A. Strong, "Digital synthesis of plucked-string and drum timbres", Computer Music J. 7(2) (1983).
    """

    sample_rate: Literal[8000, 16000] = Field(8000, description="samples a second")

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        return [Item(self._play(key), self.modality, f"PluckedStrings[{index}]") for index, key in zip(indices, keys, strict=True)]

    def rate_of(self, index: int) -> int:
        return self.sample_rate

    def _play(self, key: Key) -> np.ndarray:
        num_samples = self.length(self.sample_rate) or _DEFAULT_SAMPLES
        strings = [_string(key.child("string", string), string, num_samples, self.sample_rate) for string in range(_NUM_STRINGS)]
        return quantised(sum(strings, np.zeros(num_samples)) / _NUM_STRINGS, self.sample_bits)


def _string(key: Key, string: int, num_samples: int, sample_rate: int) -> np.ndarray:
    """float64 [num_samples] within ±1: what one string plays; it is silent up to its first turn."""
    turn = sample_rate // _PLUCKS_PER_SECOND
    starts = range(string * turn, num_samples, _NUM_STRINGS * turn)
    steps = _SEMITONES[key.child("steps").integers(_SEMITONES.size, len(starts))]
    sound = np.zeros(num_samples)
    for pluck, (start, step) in enumerate(zip(starts, steps, strict=True)):
        pitch_hz = _LOWEST_HZ * 2 ** (string + step / 12)
        noise = 2 * key.child("pluck", pluck).uniform(round(sample_rate / pitch_hz - 0.5)) - 1
        stop = min(start + _NUM_STRINGS * turn, num_samples)
        sound[start:stop] = plucked(noise, stop - start)
    return sound


def plucked(noise: np.ndarray, num_samples: int) -> np.ndarray:
    """float64 [num_samples]: a string of N samples filled with `noise`; y_n = (y_{n-N} + y_{n-N-1}) / 2 once it has come round.

    Its pitch is sample_rate / (N + 1/2); a partial of frequency f loses the factor cos(π f / sample_rate) each time round.
    """
    from scipy.signal import lfilter  # takes a while to load

    pulse = np.zeros(num_samples)
    pulse[:noise.size] = noise[:num_samples]
    feedback = np.zeros(noise.size + 2)
    feedback[0], feedback[-2:] = 1, -0.5
    return lfilter([1.0], feedback, pulse)
