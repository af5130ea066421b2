"""Content to tokens and back, one token a byte, a symbol, or a sample of a picture or a sound."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.fidelity import MID_GREY, silence
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.types import Item, Reconstruction, Tokens


class BytesTokenizer(Tokenizer):
    """One token a byte. A lost byte is decoded as 0x00 and marked missing."""

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, item: Item, key: Key) -> Tokens:
        if not isinstance(item.content, bytes):
            raise ValueError(f"tokenizer bytes takes sources of bytes, got {item.modality!r} ({item.name}); "
                             "use source text or bytes_file, or another tokenizer")
        return Tokens(np.frombuffer(item.content, np.uint8).astype(np.int32), self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[bytes, np.ndarray]:
        """(bytes, missing bool [number of bytes])."""
        values = np.where(reconstruction.lost, 0, reconstruction.values)
        return values.astype(np.uint8).tobytes(), reconstruction.lost


class Symbols(Tokenizer):
    """One token a symbol of a synthetic source. A lost symbol is decoded as 0 and marked missing."""

    alphabet_size: int = Field(2, ge=2, le=256, description="number of symbol values")

    @property
    def vocab_size(self) -> int:
        return self.alphabet_size

    def encode(self, item: Item, key: Key) -> Tokens:
        symbols = item.content
        if not isinstance(symbols, np.ndarray) or symbols.dtype != np.uint8 or symbols.ndim != 1:
            raise ValueError(f"tokenizer symbols takes sources of symbols, got {item.modality!r} ({item.name}); "
                             "use source markov, hidden_markov or bernoulli, or another tokenizer")
        if symbols.size and symbols.max() >= self.alphabet_size:
            raise ValueError(f"symbols of {item.name} must lie in [0, alphabet_size = {self.alphabet_size}), "
                             f"got {symbols.max()}; raise alphabet_size")
        return Tokens(symbols.astype(np.int32), self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 [n], missing bool [n])."""
        values = np.where(reconstruction.lost, 0, reconstruction.values)
        return values.astype(np.uint8), reconstruction.lost


class Pixels(Tokenizer):
    """One token a sample of a picture, [height, width, colour]. A lost sample is decoded as 128, mid-grey, and marked missing."""

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, item: Item, key: Key) -> Tokens:
        pixels = picture(item, "pixels")
        return Tokens(pixels.reshape(-1), self.vocab_size, grid=pixels.shape)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 [H, W, C], missing bool [H, W, C])."""
        values = np.where(reconstruction.lost, MID_GREY, reconstruction.values).astype(np.uint8)
        return values.reshape(reconstruction.grid), reconstruction.lost.reshape(reconstruction.grid)


def picture(item: Item, tokenizer: str) -> np.ndarray:
    """The item's uint8 [H, W, C], C = 1 or 3; RequestError for another item, in the name of `tokenizer`."""
    content = item.content
    if not isinstance(content, np.ndarray) or content.dtype != np.uint8 or content.ndim != 3 or content.shape[2] not in (1, 3):
        raise RequestError(f"tokenizer {tokenizer} takes sources of pictures, got {item.modality!r} ({item.name}); "
                           "use source images, or another tokenizer")
    return content


class Pcm(Tokenizer):
    """The samples of a sound as they are: with 8 bits a token a sample, with 16 two, the lower byte first.

    A sample of which anything is lost is decoded as silence, 0 or with 8 bits 128, and marked missing.
    """

    sample_bits: Literal[8, 16] = Field(16, description="bits of a sample; left out, those of the source")

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, item: Item, key: Key) -> Tokens:
        samples = sound(item, "pcm", self.sample_bits)
        return Tokens(samples.astype(self._bytes_of_sample).view(np.uint8).astype(np.int32), self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(int16 or uint8 [n], missing bool [n])."""
        samples = reconstruction.values.astype(np.uint8).view(self._bytes_of_sample)
        missing = np.any(reconstruction.lost.reshape(-1, samples.itemsize), axis=1)
        return np.where(missing, silence(samples), samples).astype(samples.dtype.newbyteorder("=")), missing

    @property
    def _bytes_of_sample(self) -> np.dtype:
        return np.dtype("<i2" if self.sample_bits == 16 else np.uint8)


class MuLaw(Tokenizer):
    """Sounds of 16 bits by the mu-law of telephony: a token of 8 bits a sample, as its codec sends it, and lossy.

    The law is of 14 bits: the lowest two of the 16 are left out, of the magnitude. A lost sample is decoded as 0, silence, and
    marked missing.

    Source: ITU-T Recommendation G.711 (11/1988), table 2.
    """

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, item: Item, key: Key) -> Tokens:
        samples = sound(item, "mu_law", 16).astype(np.int32)
        step = np.searchsorted(_mu_law_levels()[0], np.abs(samples) >> 2, side="right") - 1
        return Tokens(np.where(samples < 0, 127, 255) - step, self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(int16 [n], missing bool [n])."""
        magnitude = 4 * _mu_law_levels()[1][127 - (reconstruction.values & 127)]
        samples = np.where(reconstruction.values < 128, -magnitude, magnitude)
        return np.where(reconstruction.lost, 0, samples).astype(np.int16), reconstruction.lost


@cache
def _mu_law_levels() -> tuple[np.ndarray, np.ndarray]:
    """(lowest, decoded) int32 [128]: magnitudes in 14 bits of the steps of the law, eight segments of sixteen."""
    segment, step = np.divmod(np.arange(128, dtype=np.int32), 16)
    return np.maximum(((2 * step + 32) << segment) - 33, 0), ((2 * step + 33) << segment) - 33


def sound(item: Item, tokenizer: str, sample_bits: int) -> np.ndarray:
    """The item's int16 or uint8 [n]; RequestError for another item, in the name of `tokenizer`."""
    content = item.content
    if item.modality != "sound" or not isinstance(content, np.ndarray):
        raise RequestError(f"tokenizer {tokenizer} takes sources of sounds, got {item.modality!r} ({item.name}); "
                           "use source audio or plucked_strings, or another tokenizer")
    if content.itemsize * 8 != sample_bits:
        raise RequestError(f"tokenizer {tokenizer} takes samples of {sample_bits} bits, got {content.itemsize * 8} ({item.name}); "
                           f"set source.sample_bits = {sample_bits}" + (", or the tokenizer's own" if tokenizer == "pcm" else ""))
    return content
