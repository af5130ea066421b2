"""Sounds of a sample: each is a player below its waveform and spectrogram, with a mark on the time axis where samples were lost."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from PIL import Image

from reports.marks import timeline
from reports.pictures import Pane, Pictured, caption, content_of, line_drawing, saved

WINDOW_SAMPLES = 256
RANGE_DB = 80
"""From black, the loudest of the original, to white."""
_MOST_COLUMNS = 400
_FEWEST_STEPS = 8
_GREY_LEVELS = 16
_WAVE_ROWS, _AXIS_ROWS, _SPECTRUM_ROWS = 41, 7, WINDOW_SAMPLES // 2
_HEIGHT = _WAVE_ROWS + _AXIS_ROWS + _SPECTRUM_ROWS


def sounded(sample: Mapping[str, Any], label: str) -> Pictured:
    """A sample of kind "sound", ready to be shown."""
    original, restored = read(sample["original"]), read(sample["restored"])
    about = (label, caption(sample), _width(original.size), _HEIGHT, timeline(sample))
    if np.array_equal(original, restored):
        return Pictured(*about, (), "")
    names = {"arrived": "As it arrived", "restored": "Restored"} if "arrived" in sample else {"restored": "As it arrived"}
    panes = tuple(_pane(kind, name, sample[kind], loudest(original)) for kind, name in names.items())
    return Pictured(*about, panes, _lost(sample["missing"]) if len(sample["missing"]) > 1 else "")


def original_sound(sample: Mapping[str, Any]) -> Pane:
    return _pane("original", "Original", sample["original"], loudest(read(sample["original"])))


def about_original(sample: Mapping[str, Any]) -> str:
    """'PluckedStrings[0]: 2 s of 16 bits at 8 kHz'; with what part of it is there to be heard."""
    rate, kept = sample["sample_rate"], read(sample["original"])
    bits = 8 if content_of(sample["original"])[34] == 8 else 16
    cut = f", the first {kept.size / rate:.3g} s of which" if kept.size < sample["num_samples"] else ""
    return f"{sample['item']}: {sample['num_samples'] / rate:.3g} s{cut}, {bits} bits, {rate / 1000:g} kHz"


def read(uri: str) -> np.ndarray:
    """float64 [n] of a WAV file as a data URI, full scale ±1."""
    with wave.open(io.BytesIO(content_of(uri))) as file:
        raw = file.readframes(file.getnframes())
        if file.getsampwidth() == 1:
            return (np.frombuffer(raw, np.uint8) - 128.0) / 128
    return np.frombuffer(raw, "<i2") / 32768


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """float64 [128, columns]: power in Hann windows of 256 samples about the middle of each column, the highest frequency first.

    A sine of amplitude a has a²/4 where its frequency is; half the sampling rate is left out. There is silence around the sound.
    """
    step, window = _step(samples.size), np.hanning(WINDOW_SAMPLES + 1)[:-1]
    around = np.pad(samples, (WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2 + step))
    starts = np.arange(_width(samples.size)) * step + step // 2
    frames = around[starts[:, None] + np.arange(WINDOW_SAMPLES)] * window  # [columns, 256]
    return np.abs(np.fft.rfft(frames / window.sum())[:, -2::-1].T) ** 2


def loudest(samples: np.ndarray) -> float:
    """The highest power in a spectrogram; of silence, that of the smallest step of 16 bits."""
    return max(float(spectrogram(samples).max()), 2.0**-30)


def waveform(samples: np.ndarray) -> np.ndarray:
    """bool [rows, columns]: from the lowest to the highest sample of each step, full scale over the height."""
    edges = np.arange(_width(samples.size)) * _step(samples.size)
    middle = (_WAVE_ROWS - 1) / 2
    low, high = (np.rint(middle * (1 - np.clip(extreme.reduceat(samples, edges), -1, 1))) for extreme in (np.minimum, np.maximum))
    rows = np.arange(_WAVE_ROWS)[:, None]
    return (rows >= high) & (rows <= low)


def _pane(kind: str, name: str, uri: str, peak: float) -> Pane:
    samples = read(uri)
    decibels = 10 * np.log10(np.maximum(spectrogram(samples) / peak, 10 ** (-RANGE_DB / 10)))
    greys = np.full((_HEIGHT, decibels.shape[1]), _GREY_LEVELS - 1, np.uint8)
    greys[:_WAVE_ROWS][waveform(samples)] = 0
    greys[-_SPECTRUM_ROWS:] = np.rint((_GREY_LEVELS - 1) * np.minimum(-decibels / RANGE_DB, 1))
    image = Image.fromarray(greys, "P")
    image.putpalette([level * 255 // (_GREY_LEVELS - 1) for level in range(_GREY_LEVELS) for _ in range(3)])
    return Pane(kind, name, saved(image, bits=4), uri)


def _lost(missing: Sequence[int]) -> str:
    """Between waveform and spectrogram a bar wherever samples were lost, however few."""
    ends = list(accumulate(missing))
    step, bars = _step(ends[-1]), np.zeros((_HEIGHT, _width(ends[-1])), bool)
    for start, stop in zip(ends[::2], ends[1::2], strict=False):
        bars[_WAVE_ROWS + 1:_WAVE_ROWS + _AXIS_ROWS - 1, start // step:-(-stop // step)] = True
    return line_drawing(bars)


def _step(num_samples: int) -> int:
    """Samples a column stands for."""
    return max(_FEWEST_STEPS, -(-num_samples // _MOST_COLUMNS))


def _width(num_samples: int) -> int:
    return max(1, -(-num_samples // _step(num_samples)))
