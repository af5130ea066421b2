"""Content to tokens and back, one token a byte, a symbol or a sample of a picture."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.fidelity import MID_GREY
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
