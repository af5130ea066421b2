"""Gaps in a sound, filled from the samples around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import numpy as np

from channel_sim.fidelity import silence
from channel_sim.types import Content


def is_sound(content: Content) -> TypeGuard[np.ndarray]:
    """int16 or uint8 [n]."""
    return isinstance(content, np.ndarray) and content.ndim == 1 and content.dtype in (np.int16, np.uint8)


def with_gaps_filled(content: np.ndarray, missing: np.ndarray, fill: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """The sound int16 or uint8 [n] with `missing` bool [n] samples filled in, rounded and cut off at full scale; others stay.

    fill: (float64 [n] about 0, missing) -> float64 [number of missing samples]. It is not asked where all or nothing is missing.
    """
    if not missing.any() or missing.all():
        return content
    limits, constant, whole = np.iinfo(content.dtype), silence(content), content.copy()
    filled = fill(content.astype(np.float64) - constant, missing)
    whole[missing] = np.clip(np.rint(filled) + constant, limits.min, limits.max)
    return whole


def straight_lines(samples: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """float64 [number of missing samples]: on the line between the samples at both ends of a gap; one end alone is held."""
    return np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), samples[~missing])
