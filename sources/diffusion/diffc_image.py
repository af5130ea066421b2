"""DiffC of pictures: tiles in water-filled noise, told less and less roughly; a learned denoiser says what is expected.

    picture ─edges repeated to whole tiles─▶ coefficients ─▶ step by step what the denoiser does not expect ─▶ bytes
                                                                                                            │ any prefix
    picture ◀─cut to size─ mean, sample or flow ◀─ what was told, weighted by precision ◀───────────────────┘

Source: L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, "Lossy compression with Gaussian diffusion", arXiv 2206.08889 (2022).
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, SerializeAsAny, model_validator

from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.theory.gaussian import Reconstruction as Rule
from channel_sim.types import Item, Reconstruction, Tokens
from sources.diffusion import reverse_channel
from sources.diffusion.parts import Coding, Line, prefix
from sources.diffusion.tiles import Course, HeldTiles, coefficients, course
from sources.models.diffusion import DiffusionSmall, LearnedDenoiser
from sources.models.diffusion_network import COLOURS, SIDE
from sources.models.diffusion_prior import NUM_LEVELS
from sources.tokenizers import picture

_USUAL_LEVEL, _LEVELS_AN_OCTAVE = 144, 8
_STREAM_REVISION = 2  # the revision since which streams are what they are: only what is made of them has changed


class DiffcImage(Tokenizer):
    """Tokens are the bytes of the progressive stream; the receiver decodes the longest prefix that came.

    Any size, in tiles of 32 x 32 pixels; a grey picture is coded as three equal colours, whose mean is what is decoded. A step
    raises the signal-to-noise ratio of all that stands above the water, in all tiles, the components that vary most first. Which
    they are, and how far they are told, both ends know; how much a tile varies, more or less than pictures do, both learn from what
    has been told. The stream ends at `level`, or with the bits asked for.

    coding = "dithered" tells each component by itself, with uniform noise of the variance that the theory's Gaussian noise has;
    "poisson" tells samples of the Gaussian channel, components together that a search of 2^search_bits candidates can tell.

    After each step `check_bits` tell a receiver that holds something else that it does; it goes back to the step before. They
    are also of the weights, the shape and the fields of the stream, not of where it ends, so that whoever goes on to another level
    reads the steps that are the same: the first step of any other foreign stream shows it. Of the last step no more than its
    beginning may come, which is taken as it is. With nothing received the picture is the prior's mean colour and missing; once
    anything is told, no pixel counts as missing, since every component is of all pixels of a tile.
    """

    revision: ClassVar[int] = 3
    source: ClassVar[str] = ("L. Theis, T. Salimans, M. D. Hoffman, F. Mentzer, Lossy compression with Gaussian diffusion, arXiv "
                             "2206.08889")
    assumptions: ClassVar[tuple[str, ...]] = (
        "Both ends of DiffC hold the denoiser's weights, draw the same numbers (item/i/shared) and compute on one machine.",
    )

    denoiser: SerializeAsAny[LearnedDenoiser] = Field(DiffusionSmall(), description="what expects the rest; a name, path or table")
    reconstruction: Rule = Field("flow", description="a sample of p(x | y), the probability flow, or the mean")
    level: int | None = Field(None, ge=0, lt=NUM_LEVELS, description="where the stream ends, at a signal-to-noise ratio of "
                              f"2^(level / 8 - 12); {_USUAL_LEVEL}, or with a target of bits the last one")
    target_bits: int | None = Field(None, ge=8, description="bits the stream may have: its beginning")
    target_bits_per_pixel: float | None = Field(None, gt=0, description="the same, times the pixels of the picture")
    octaves_per_step: float = Field(2.0, ge=1 / _LEVELS_AN_OCTAVE, le=6, multiple_of=1 / _LEVELS_AN_OCTAVE,
                                    description="octaves of the signal-to-noise ratio that a step tells")
    coding: Coding = Field("dithered", description="quantise with dither, or search for a sample of q")
    search_bits: float = Field(11.0, ge=4, le=18, description="log2 of the candidates that components are searched in, about")
    check_bits: int = Field(4, ge=0, le=32, description="checksum after each step")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target_bits is not None and self.target_bits_per_pixel is not None:
            raise ValueError("target_bits and target_bits_per_pixel exclude each other, got "
                             f"{self.target_bits} and {self.target_bits_per_pixel:g}; leave out one")
        return self

    @property
    def vocab_size(self) -> int:
        return 256

    @property
    def ignored_fields(self) -> frozenset[str]:
        return frozenset({"search_bits"}) if self.coding == "dithered" else frozenset()

    def assumed(self) -> tuple[str, ...]:
        exact = (f"A part's sample is off its law by at most {reverse_channel.TOTAL_VARIATION:g} in total variation.",)
        uniform = ("Dithered quantisation sends x plus uniform noise of the variance that the theory's Gaussian noise has.",)
        return self.assumptions + (exact if self.coding == "poisson" else uniform)

    def encode(self, item: Item, key: Key) -> Tokens:
        pixels = picture(item, "diffc_image")
        tiles = _tiles(np.broadcast_to(pixels, (*pixels.shape[:2], COLOURS)))
        held = self._nothing(pixels.shape, key)
        octets = self._line(pixels.shape).told(held, coefficients(self._course.denoiser, tiles))
        return Tokens(octets, self.vocab_size, content_shape=pixels.shape)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 [H, W, C], missing bool [H, W]): all or nothing is missing."""
        shape = reconstruction.content_shape
        held = self.heard(prefix(reconstruction), shape, key)
        pixels = _whole(held.pictures(self.reconstruction), shape)
        if shape[2] == 1:
            pixels = np.rint(pixels.mean(axis=2, keepdims=True)).astype(np.uint8)
        return pixels, np.full(shape[:2], held.nothing)

    def heard(self, octets: np.ndarray, shape: tuple[int, ...], key: Key) -> HeldTiles:
        """What a receiver of the first bytes of the stream of a picture of this shape holds."""
        return self._line(shape).heard(self._nothing(shape, key), octets)

    @property
    def short_name(self) -> str:
        """As the paper has it: of the reconstruction, with a star for noise that suits the source."""
        return {"ancestral": "DiffC-A*", "flow": "DiffC-F*", "mean": "Denoised mean"}[self.reconstruction]

    @property
    def _course(self) -> Course:
        targeted = self.target_bits is not None or self.target_bits_per_pixel is not None
        last = self.level if self.level is not None else NUM_LEVELS - 1 if targeted else _USUAL_LEVEL
        return course(self.denoiser.denoiser(), round(self.octaves_per_step * _LEVELS_AN_OCTAVE), last)

    def _line(self, shape: tuple[int, ...]) -> Line:
        most_bits = self.target_bits
        if self.target_bits_per_pixel is not None:
            most_bits = int(self.target_bits_per_pixel * shape[0] * shape[1])
        return Line(self.coding, len(self._course.stages) - 1, self.check_bits, None if most_bits is None else most_bits // 8)

    def _nothing(self, shape: tuple[int, ...], key: Key) -> HeldTiles:
        """What is held before the stream; its seed is all that the stream's arithmetic follows from."""
        fields = self.octaves_per_step, self.coding, self.check_bits, self.search_bits if self.coding == "poisson" else None
        agreed = repr((type(self).__name__, _STREAM_REVISION, self.denoiser.digests(), fields, tuple(shape)))
        num_tiles = -(-shape[0] // SIDE) * -(-shape[1] // SIDE)
        return HeldTiles(self._course, num_tiles, key, hashlib.sha256(agreed.encode()).digest(), self.coding, self.search_bits)


def _tiles(pixels: np.ndarray) -> np.ndarray:
    """uint8 [tiles, 32, 32, 3] of a picture [H, W, 3], row by row; its edges are repeated to whole tiles."""
    beyond = [(0, -side % SIDE) for side in pixels.shape[:2]]
    whole = np.pad(pixels, (*beyond, (0, 0)), mode="edge")
    rows, columns = whole.shape[0] // SIDE, whole.shape[1] // SIDE
    return whole.reshape(rows, SIDE, columns, SIDE, COLOURS).swapaxes(1, 2).reshape(-1, SIDE, SIDE, COLOURS)


def _whole(tiles: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [H, W, 3] of its tiles."""
    rows, columns = (-(-side // SIDE) for side in shape[:2])
    whole = tiles.reshape(rows, columns, SIDE, SIDE, COLOURS).swapaxes(1, 2).reshape(rows * SIDE, columns * SIDE, COLOURS)
    return whole[:shape[0], :shape[1]]
