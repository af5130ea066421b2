"""Pictures mended in pixel space: what is missing is a smooth surface that goes through the pixels around it.

Neither knows anything of what was sent but the pixels that came: no model, no tokens. They work behind any tokenizer of pictures;
`interpolate` behind those of sounds too, where the surface is a line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Content
from decoders.sound_gaps import is_sound, straight_lines, with_gaps_filled

_NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Inpainter(Decoder, ABC):
    """Tokens by hard decision; then the missing pixels of each colour from those that are not missing, which stay as they are.

    A colour of which every pixel is missing keeps the tokenizer's constant. Values are rounded and cut off at 0 and 255.
    """

    states_posterior: ClassVar[bool] = False
    mends: ClassVar[str] = "pictures"

    def mend(self, content: Content, missing: np.ndarray, key: Key) -> Content:
        """uint8 [H, W, C] from it and `missing` bool [H, W] or [H, W, C]; RequestError for what is no picture."""
        if not isinstance(content, np.ndarray) or content.dtype != np.uint8 or content.ndim != 3:
            raise RequestError(f"decoder {type(self).__name__.lower()} mends {self.mends}; use a source and a tokenizer of "
                               f"{self.mends}")
        holes = np.broadcast_to(missing if missing.ndim == 3 else missing[..., None], content.shape)
        together = holes.shape[2] == 1 or bool(np.all(holes == holes[..., :1]))
        mended = content.copy()
        for colours in ([slice(None)] if together else [slice(k, k + 1) for k in range(content.shape[2])]):
            hole = holes[..., colours][..., 0].copy()  # scikit-image takes no read-only mask
            if hole.any() and not hole.all():
                filled = self._fill(content[..., colours].astype(np.float64), hole)
                mended[hole, colours] = np.clip(np.rint(filled), 0, 255)
        return mended

    @abstractmethod
    def _fill(self, pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """float64 [number of missing pixels, C], row by row, from `pixels` float64 [H, W, C] and `hole` bool [H, W]."""


class Interpolate(Inpainter):
    """Harmonic interpolation: every missing pixel is the mean of its neighbours above, below, left and right within the picture.

    The surface of least slope through the pixels around a hole: it has no extremum inside. In a sound, of one dimension, it is the
    straight line from the last sample before a gap to the first after it; at an end of the sound the one neighbour is held.

    Source: T. F. Chan, J. Shen, "Mathematical models for local nontexture inpaintings", SIAM J. Appl. Math. 62 (2002), section 4
    (harmonic inpainting).
    """

    mends: ClassVar[str] = "pictures or sounds"

    def mend(self, content: Content, missing: np.ndarray, key: Key) -> Content:
        """The same, and int16 or uint8 [n] from a sound and `missing` bool [n]."""
        return with_gaps_filled(content, missing, straight_lines) if is_sound(content) else super().mend(content, missing, key)

    def _fill(self, pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
        places = np.argwhere(hole)
        number = np.zeros(hole.shape, np.int64)
        number[hole] = np.arange(len(places))
        num_neighbours, known = np.zeros(len(places)), np.zeros((len(places), pixels.shape[2]))
        rows, columns = [], []
        for step in _NEIGHBOURS:
            beside = places + step
            inside = np.flatnonzero(np.all((beside >= 0) & (beside < hole.shape), axis=1))
            y, x = beside[inside].T
            num_neighbours[inside] += 1
            unknown = hole[y, x]
            known[inside[~unknown]] += pixels[y[~unknown], x[~unknown]]
            rows.append(inside[unknown])
            columns.append(number[y[unknown], x[unknown]])
        row, column = np.concatenate(rows), np.concatenate(columns)
        laplacian = sparse.diags(num_neighbours) - sparse.coo_matrix((np.ones(row.size), (row, column)), (len(places),) * 2)
        # symmetric and diagonally dominant: pivots on the diagonal and an ordering for it keep the factors small
        return splu(laplacian.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(known)


class Biharmonic(Inpainter):
    """Biharmonic inpainting: the surface of least bending through the pixels around a hole, as scikit-image solves it.

    Source: S. B. Damelin, N. S. Hoang, "On surface completion and image inpainting by biharmonic functions: numerical aspects",
    Int. J. Math. Math. Sci. 2018.
    """

    def _fill(self, pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
        from skimage.restoration import inpaint_biharmonic  # takes a while to load

        return inpaint_biharmonic(pixels, hole, channel_axis=-1)[hole]
