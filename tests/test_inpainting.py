"""Holes mended from the pixels around them: exact where the law of the surface says so, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.restoration import inpaint_biharmonic

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.trial import run, send
from decoders.inpainting import Biharmonic, Inpainter, Interpolate
from sources.images import Images
from tests.chains import ROOT, chain_of, tables_with

KEY = Key(8)
BOTH = pytest.mark.parametrize("decoder", [Interpolate(), Biharmonic()], ids=repr)


def holes(height: int, width: int, rate: float = 0.3) -> np.ndarray:
    """Cells of 4 x 4 pixels, each missing by itself."""
    cells = KEY.child("holes").uniform(-(-height // 4), -(-width // 4)) < rate
    return cells.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def cat() -> np.ndarray:
    (item,) = Images(size=64, crop="tile").items([1200], [KEY])
    assert isinstance(item.content, np.ndarray)
    return item.content


def with_grey(picture: np.ndarray, missing: np.ndarray) -> np.ndarray:
    return np.where(missing if missing.ndim == 3 else missing[..., None], np.uint8(128), picture)


@BOTH
def test_only_what_is_missing_changes(decoder: Inpainter):
    """Catches received pixels that are smoothed, rounded or scaled on the way, and arrays written to in place."""
    picture, missing = cat(), holes(64, 64)
    damaged = with_grey(picture, missing)
    damaged.flags.writeable = missing.flags.writeable = False
    mended = decoder.mend(damaged, missing, KEY)
    assert mended.dtype == np.uint8 and np.array_equal(mended[~missing], picture[~missing])
    error, of_grey = (np.mean((one[missing].astype(int) - picture[missing]) ** 2) for one in (mended, damaged))
    assert error < 0.1 * of_grey
    assert np.array_equal(decoder.mend(picture, np.zeros((64, 64), bool), KEY), picture)


@BOTH
def test_a_plane_goes_through_a_hole_unbent(decoder: Inpainter):
    """Catches wrong weights of neighbours: a plane is harmonic and biharmonic, so a hole inside it is mended without error."""
    rows, columns = np.mgrid[:24, :30]
    plane = np.stack([4 * rows + 2 * columns, 3 * columns + 5, 200 - 5 * rows], axis=2).astype(np.uint8)
    missing = np.zeros((24, 30), bool)
    missing[6:15, 8:21] = missing[19, 3] = True
    assert np.array_equal(decoder.mend(with_grey(plane, missing), missing, KEY), plane)


def test_interpolated_pixels_are_the_mean_of_their_neighbours():
    """Catches a system of equations set up wrong at the border of the picture, solved here by brute force."""
    picture, missing = cat()[:12, :9, :1], holes(12, 9, 0.5)
    found = picture[..., 0].astype(np.float64)
    found[missing] = 128
    for _ in range(4000):  # Jacobi's iteration
        padded = np.pad(found, 1)
        inside = np.pad(np.ones_like(found), 1)
        middle, before, after = slice(1, -1), slice(0, -2), slice(2, None)
        shifts = [(before, middle), (after, middle), (middle, before), (middle, after)]
        means = sum(padded[at] for at in shifts) / sum(inside[at] for at in shifts)
        found = np.where(missing, means, found)
    mended = Interpolate().mend(with_grey(picture, missing), missing, KEY)[..., 0]
    assert missing[0].any() and missing[:, 0].any() and np.abs(mended - found).max() < 0.51
    lowest, highest = picture[~missing].min(), picture[~missing].max()
    assert lowest <= mended.min() and mended.max() <= highest, "no extremum inside a hole"


def test_biharmonic_is_that_of_scikit_image():
    """Catches colours mixed, or another scale of values: the library's own call on floats from 0 to 1 is the reference."""
    picture, missing = cat(), holes(64, 64)
    reference = inpaint_biharmonic(with_grey(picture, missing) / 255, missing, channel_axis=-1) * 255
    mended = Biharmonic().mend(with_grey(picture, missing), missing, KEY)
    assert np.abs(mended[missing] - np.clip(reference[missing], 0, 255)).max() < 0.501


@BOTH
@pytest.mark.parametrize("colours", [1, 3])
def test_colours_may_have_holes_of_their_own(decoder: Inpainter, colours: int):
    """Catches a hole of one colour cut into all, and equal holes given pixel by pixel or colour by colour that differ."""
    picture, missing = cat()[..., :colours], holes(64, 64)
    by_colour = np.repeat(missing[..., None], colours, axis=2)
    together = decoder.mend(with_grey(picture, missing), missing, KEY)
    assert np.array_equal(decoder.mend(with_grey(picture, by_colour), by_colour, KEY), together)
    by_colour[..., -1] = missing.T
    apart = decoder.mend(with_grey(picture, by_colour), by_colour, KEY)
    assert np.array_equal(apart[~by_colour], picture[~by_colour])
    alone = decoder.mend(with_grey(picture[..., -1:], missing.T), missing.T, KEY)
    assert np.array_equal(apart[..., -1:], alone)


@BOTH
def test_where_all_is_missing_the_constant_stays(decoder: Inpainter):
    """Catches a singular system, and colours borrowed from others."""
    grey = np.full((7, 9, 3), 128, np.uint8)
    assert np.array_equal(decoder.mend(grey, np.ones((7, 9), bool), KEY), grey)
    one_colour = np.zeros((7, 9, 3), bool)
    one_colour[..., 1] = True
    assert np.array_equal(decoder.mend(grey, one_colour, KEY), grey)
    for shape in ((1, 1), (1, 5), (2, 2), (3, 1)):
        missing = np.zeros(shape, bool)
        missing.flat[1:] = True
        flat = np.full((*shape, 3), 77, np.uint8)
        assert np.array_equal(decoder.mend(with_grey(flat, missing), missing, KEY), flat), "one pixel is all that is known"


@BOTH
def test_text_is_refused(decoder: Decoder):
    """Catches a crash far inside SciPy where the source and the decoder do not fit."""
    with pytest.raises(RequestError, match="mends pictures"):
        decoder.mend(b"text", np.zeros(4, bool), KEY)


@pytest.mark.parametrize("tokenizer", [{"name": "pixels"}, {"name": "jpeg", "restart_interval": 1, "headerless": True},
                                       {"name": "png"}, {"name": "jpeg2000"}])
@pytest.mark.parametrize("name", ["interpolate", "biharmonic"])
def test_they_stand_behind_any_tokenizer_of_pictures(name: str, tokenizer: dict[str, object]):
    """Catches a mask of another shape, and mending that makes a picture worse than its grey holes."""
    tables = tables_with("decoders", name)
    tables["source"] = {"name": "images", "size": 32, "crop": "tile"}
    tables["channel"] = {"name": "packet_loss", "loss_rate": 0.1}
    tables["coder"] = {"name": "fixed_length", "packet_bits": 128}
    with_holes, mending = (chain_of(tables | {"tokenizer": tokenizer, "decoder": {"name": one}}) for one in ("none", name))
    outcomes = [run(chain, send(chain, range(1200, 1208), ROOT), 0, ROOT) for chain in (with_holes, mending)]
    errors = [sum(one.measurement.values["psnr_of_mean_mse_db"][0] for one in of_arm) for of_arm in outcomes]
    if tokenizer["name"] == "jpeg2000":
        assert errors[1] == errors[0], "all is missing or nothing: there is nothing to mend from"
    else:
        assert errors[1] < 0.9 * errors[0]
