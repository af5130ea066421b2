"""One file of a sound as plain samples: WAV, FLAC, OGG and whatever else libsndfile reads, one channel, 8 or 16 bits a sample."""

from __future__ import annotations

import io
import wave
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from channel_sim.checks import RequestError

SUFFIXES = (".wav", ".flac", ".ogg")
"""Ends of the names of files below a folder that are meant as sounds."""


class Head(NamedTuple):
    """What a file says of itself: samples of a channel, and how many there are in a second."""

    num_samples: int
    sample_rate: int


def has_sound_name(path: Path) -> bool:
    """Whether a file below a folder is meant as a sound: not hidden, and its name ends as those of a format that is read."""
    return not any(part.startswith(".") for part in path.parts) and path.suffix.lower() in SUFFIXES


def head_of_file(path: Path) -> Head:
    """RequestError names a file that is broken or has no sample."""
    info = _call("info", path)
    if not info.frames:
        raise RequestError(f"source.path: {str(path)!r} holds no sample of sound; take it away")
    return Head(info.frames, info.samplerate)


def read_sound(path: Path) -> np.ndarray:
    """float64 [n], full scale ±1: the mean of the file's channels, at its own rate. RequestError names a file that is broken.

    Whole numbers of any width are divided by their full scale, 2^(bits - 1), exactly.
    """
    channels, _ = _call("read", path, always_2d=True)  # [n, channels]
    expected = head_of_file(path).num_samples
    if len(channels) != expected:
        raise RequestError(f"source.path: {str(path)!r} ends after {len(channels):,} of the {expected:,} samples that its head "
                           "tells of; repair it or take it away")
    if not np.all(np.isfinite(channels)):
        raise RequestError(f"source.path: {str(path)!r} has samples that are no finite numbers; repair it or take it away")
    return channels.mean(axis=1)


def resampled_length(num_samples: int, rate: int, new_rate: int) -> int:
    """Samples that `resampled` makes of `num_samples`."""
    return -(-num_samples * new_rate // rate)


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """float64: a sound at another rate, through SciPy's polyphase filter (Kaiser window, beta = 5), zeros around it."""
    if rate == new_rate:
        return samples
    from scipy.signal import resample_poly  # takes a while to load

    common = gcd(rate, new_rate)
    return resample_poly(samples, new_rate // common, rate // common)


def quantised(samples: np.ndarray, sample_bits: int) -> np.ndarray:
    """int16 [n], or uint8 [n] for 8 bits, of float64 with full scale ±1; what is louder is cut off, and there is no dither.

    16 bits are 32768 times the sample, rounded to the nearest, of two as near the even one. 8 bits are the upper byte of those 16,
    rounded down, plus 128, as in a WAV file of 8 bits.
    """
    deep = np.clip(np.rint(32768 * samples), -32768, 32767).astype(np.int16)
    return deep if sample_bits == 16 else ((deep >> 8) + 128).astype(np.uint8)


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """A WAV file of int16 or uint8 [n]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype(samples.dtype.newbyteorder("<")).tobytes())
    return buffer.getvalue()


def _call(function: str, path: Path, **options: Any) -> Any:
    """A function of the package soundfile, called on a file."""
    try:
        import soundfile  # loaded only where a sound is read
    except (ImportError, OSError) as error:
        raise RequestError(f"source.path: {str(path)!r} needs the package soundfile ({error}); pip install soundfile") from error
    try:
        return getattr(soundfile, function)(str(path), **options)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise RequestError(f"source.path: {str(path)!r} cannot be read as a sound ({reason}); repair it or take it away") from error
