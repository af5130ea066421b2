"""DiffC of pictures: closed forms with a Gaussian for a denoiser, equal ends, any prefix, any damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.fft import dctn, idctn
from scipy.stats import kstest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction
from sources.diffusion.diffc_image import DiffcImage
from sources.diffusion.scales import Scales
from sources.models.diffusion import LearnedDenoiser
from sources.models.diffusion_prior import GaussianPrior, fitted_prior
from sources.models.fixed_point import Weights

KEY = Key(73)
RULES = ("ancestral", "flow", "mean")
COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
FREQUENCY = np.hypot(*np.mgrid[:32, :32])
SPREAD = np.where(FREQUENCY < 10, 1.5, 0.003)[..., None] / (1 + FREQUENCY[..., None]) ** 0.5 * np.array([1, 0.4, 0.3])
"""Standard deviations of coefficients of pictures made here, whose pixels are from -1 to 1 and about .1."""


class Gaussian:
    """The denoiser of a Gaussian whose coefficients are independent: all that follows has closed forms. By SciPy's transform."""

    def __init__(self) -> None:
        coloured = np.tile(KEY.child("fit").normal(2, 32, 32, 3), (2, 1, 1, 1))
        self.prior = GaussianPrior(np.round(4096 * np.array([0.1, 0.05, 0.0])), SPREAD**2, fitted_prior(coloured).cosines)
        self.mean = dctn(np.broadcast_to([0.1, 0.05, 0.0], (32, 32, 3)), axes=(0, 1), norm="ortho") @ COLOURS.T

    def means(self, noisy: np.ndarray, level: int) -> np.ndarray:
        told = precisions(level)
        sums = noisy / 4096 * np.sqrt(told * (1 + told))
        found = np.where(told > 0, (self.mean / SPREAD**2 + sums) / (1 / SPREAD**2 + told), self.mean)
        return np.clip(np.rint(4096 * idctn(found @ COLOURS, axes=(1, 2), norm="ortho")), -4096, 4096).astype(np.int32)

    def residual_variances(self, level: int) -> np.ndarray:
        return SPREAD**2 / (1 + SPREAD**2 * precisions(level))


class StandIn(LearnedDenoiser):
    """The Gaussian as the component that a tokenizer takes."""

    name: str = "a"

    def denoiser(self) -> Any:
        return gaussian()

    def digests(self) -> dict[str, str]:
        return {"path": self.name}

    @staticmethod
    def assemble(weights: Weights) -> Any:
        raise NotImplementedError


@cache
def gaussian() -> Gaussian:
    return Gaussian()


def precisions(level: int) -> np.ndarray:
    snr = 2.0 ** (level / 8 - 12)
    return np.where(SPREAD**2 * snr >= 3, snr - 1 / SPREAD**2, 0)


def tokenizer(**fields: Any) -> DiffcImage:
    return DiffcImage(**{"denoiser": StandIn(), "level": 144} | fields)


def drawn(tiles: int, label: str = "drawn") -> np.ndarray:
    """uint8 [32, 32 tiles, 3]: a row of pictures of the Gaussian's law."""
    spectrum = gaussian().mean + SPREAD * KEY.child(label).normal(tiles, 32, 32, 3)
    pixels = idctn(spectrum @ COLOURS, axes=(1, 2), norm="ortho")
    return np.clip(np.rint((np.concatenate(list(pixels), axis=1) + 1) * 127.5), 0, 255).astype(np.uint8)


def components(picture: np.ndarray) -> np.ndarray:
    """float64 [tiles, 32, 32, 3] of a row of tiles."""
    pixels = np.stack(np.split(picture / 127.5 - 1, picture.shape[1] // 32, axis=1))
    return dctn(pixels, axes=(1, 2), norm="ortho") @ COLOURS.T


def sent(coded: DiffcImage, picture: np.ndarray, key: Key = KEY) -> np.ndarray:
    return coded.encode(Item(picture, "image", "it"), key).values


def received(octets: np.ndarray, shape: tuple[int, ...], lost: ArrayLike = ()) -> Reconstruction:
    origin = np.zeros(octets.size, np.uint8)
    origin[np.asarray(lost, int)] = Origin.LOST
    return Reconstruction(octets.astype(np.int32), origin, np.ones(octets.size, np.float32), 256, content_shape=shape)


def decoded(coded: DiffcImage, octets: np.ndarray, shape: tuple[int, ...], key: Key = KEY) -> np.ndarray:
    return coded.decode(received(octets, shape), key)[0]


def expected_error(rule: str, told: np.ndarray) -> float:
    """Mean squared error of a pixel from 0 to 255 with a Gaussian denoiser, by the law of each component, S being `told`.

    Of a band, an octave of variances of light or of colours, of which nothing is told components are drawn with 2^-.75 of theirs.
    """
    variances = SPREAD**2
    left = variances / (1 + variances * told)
    known = np.sqrt(variances * told / (1 + variances * told))
    octave = np.floor(np.log2(variances.max() / variances))
    band = 2 * octave + (np.arange(3) > 0)
    scale = np.where(np.isin(band, band[np.any(told.reshape(-1, 32, 32, 3) > 0, axis=0)]), 1, 2**-0.75)
    of_component = {"mean": left, "ancestral": (1 + scale) * left, "flow": (1 + scale) * variances * (1 - known)}[rule]
    return float(of_component.mean() * 127.5**2)


@pytest.mark.parametrize("coding", ["dithered", "poisson"])
@pytest.mark.parametrize("rule", RULES)
def test_distortion_lies_on_the_closed_forms(rule: str, coding: str):
    """Catches each reconstruction off its law: wrong weights of steps or components, noise of the wrong spread, a drifting flow."""
    level, tiles = (144, 40) if coding == "dithered" else (128, 20)
    coded, picture = tokenizer(level=level, reconstruction=rule, coding=coding, check_bits=0), drawn(40)[:, :32 * tiles]
    found = decoded(coded, sent(coded, picture), picture.shape)
    errors = np.square(components(found) - components(picture)).mean(axis=(1, 2, 3)) * 127.5**2
    spread = errors.std() / np.sqrt(tiles)
    # pixels are whole numbers at both ends: at most 2/12 more, and less where nothing is told
    assert errors.mean() == pytest.approx(expected_error(rule, precisions(level)), abs=4.5 * spread + 0.17)
    assert spread < 0.12 * errors.mean(), "too few to tell"


@pytest.mark.parametrize("rule", RULES)
def test_a_step_that_is_told_in_part_lies_on_the_closed_forms(rule: str):
    """Catches components that a cut step has not told taken for told ones: their law is that of the step before."""
    coded, picture = tokenizer(level=136, reconstruction=rule, octaves_per_step=3), drawn(40)
    octets = sent(coded, picture)
    octets = octets[:octets.size * 4 // 5]
    known = coded.heard(octets, picture.shape, KEY).known.reshape(40, 32, 32, 3)
    last, in_part = precisions(136), known.mean(axis=0)
    assert 0.1 < np.mean(in_part[last > 0] == last[last > 0]) < 0.95, "a step that is cut in the middle"
    errors = np.square(components(decoded(coded, octets, picture.shape)) - components(picture)).mean(axis=(1, 2, 3)) * 127.5**2
    assert errors.mean() == pytest.approx(expected_error(rule, known), abs=4.5 * errors.std() / np.sqrt(40) + 0.17)
    whole = expected_error(rule, last)
    assert abs(errors.mean() - whole) > 4.5 * errors.std() / np.sqrt(40) + 0.17, "the control"


def test_flow_is_ahead_of_a_sample_where_much_is_told():
    """Catches a flow that is a mean or a sample: 2.2 dB by the closed forms at this level, of the same stream."""
    picture, level = drawn(20), 168
    octets = sent(tokenizer(level=level), picture)
    found = {rule: decoded(tokenizer(level=level, reconstruction=rule), octets, picture.shape) for rule in ("flow", "ancestral")}
    errors = {rule: np.mean(np.square(content - picture.astype(float))) for rule, content in found.items()}
    ahead = 10 * np.log10(expected_error("ancestral", precisions(level)) / expected_error("flow", precisions(level)))
    assert ahead > 1.5 and 10 * np.log10(errors["ancestral"] / errors["flow"]) == pytest.approx(ahead, abs=0.3)


@pytest.mark.parametrize("coding", ["dithered", "poisson"])
def test_what_is_heard_is_x_in_noise_of_its_precision(coding: str):
    """Catches y that is no sample of the channel, in any component: (y - S x) / sqrt(S) has variance 1, S is the level's."""
    tiles, level = (30, 144) if coding == "dithered" else (12, 128)
    coded, picture = tokenizer(level=level, coding=coding, octaves_per_step=1), drawn(30)[:, :32 * tiles]
    held = coded.heard(sent(coded, picture), picture.shape, KEY)
    told = precisions(level).ravel() > 0
    known, sums = held.known.reshape(tiles, -1)[:, told], held.sums.reshape(tiles, -1)[:, told]
    np.testing.assert_allclose(known, np.broadcast_to(precisions(level).ravel()[told], known.shape), rtol=1e-9)
    assert not held.known.reshape(tiles, -1)[:, ~told].any()
    noise = (sums - known * components(picture).reshape(tiles, -1)[:, told]) / np.sqrt(known)
    assert np.mean(noise) == pytest.approx(0, abs=5 / np.sqrt(noise.size))
    assert np.mean(noise**2) == pytest.approx(1, abs=5 * np.sqrt(2 / noise.size))
    if coding == "poisson":
        assert kstest(noise.ravel(), "norm").pvalue > 1e-4
        assert kstest(noise.ravel() * 1.3, "norm").pvalue < 1e-3, "the control: noise of a little more must be told apart"


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 1, 3), (40, 70, 3), (33, 18, 1)])
@pytest.mark.parametrize("fields", [{}, {"target_bits": 240}, {"coding": "poisson", "level": 128}])
def test_any_size_comes_back_in_its_own_shape(shape: tuple[int, ...], fields: dict[str, Any]):
    """Catches tiles in the wrong order, edges that are not cut, and ends that hold other bits: nearer than the mean colour is."""
    picture = np.tile(drawn(3), (2, 1, 1))[:shape[0], :shape[1], :shape[2]]
    coded = tokenizer(**fields, reconstruction="mean")
    octets = sent(coded, picture)
    content, missing = coded.decode(received(octets, shape), KEY)
    assert content.shape == shape and content.dtype == np.uint8 and missing.shape == shape[:2] and not missing.any()
    assert octets.size <= fields.get("target_bits", 10**6) // 8
    error, spread = (np.mean(np.square(content - picture.astype(float))), np.mean(np.square(picture - picture.mean(axis=(0, 1)))))
    assert error < spread or shape[0] == 1


def test_tiles_keep_their_places():
    """Catches rows of tiles taken for columns: each tile of a picture of four is nearest to its own."""
    picture = np.concatenate(np.split(drawn(4), 2, axis=1), axis=0)
    coded = tokenizer(reconstruction="mean")
    found = decoded(coded, sent(coded, picture), picture.shape).astype(float)
    parts = [(slice(top, top + 32), slice(left, left + 32)) for top in (0, 32) for left in (0, 32)]
    for part in parts:
        errors = [np.mean(np.square(found[part] - picture[other])) for other in parts]
        assert int(np.argmin(errors)) == parts.index(part)


def test_every_prefix_decodes_and_more_is_better():
    """Catches a part that is not taken in the middle, and one that is taken though its bytes are not whole."""
    coded, picture = tokenizer(reconstruction="mean"), drawn(12)
    octets = sent(coded, picture)
    lengths = np.unique(np.linspace(0, octets.size, 40).astype(int))
    known = [coded.heard(octets[:length], picture.shape, KEY).known for length in lengths]
    assert all(np.all(more >= less) for less, more in zip(known[:-1], known[1:], strict=True)) and not known[0].any()
    errors = [np.mean(np.square(decoded(coded, octets[:length], picture.shape) - picture.astype(float))) for length in lengths[::5]]
    assert np.all(np.diff(errors) < 0)


def test_what_comes_after_a_lost_packet_changes_nothing():
    """Catches a decoder that reads past a gap, whether it is left open or filled by a prior."""
    coded, picture = tokenizer(), drawn(1)
    octets = sent(coded, picture)
    other = octets.copy()
    other[20:] = 255 - other[20:]
    first = decoded(coded, octets[:19], picture.shape)
    for damaged in (octets, other):
        assert np.array_equal(first, coded.decode(received(damaged, picture.shape, [19]), KEY)[0])
    concealed = received(octets, picture.shape)
    made_up = np.where(np.arange(octets.size) == 19, Origin.CONCEALED, concealed.origin).astype(np.uint8)
    assert np.array_equal(first, coded.decode(replace(concealed, origin=made_up), KEY)[0])


@pytest.mark.parametrize("rule", RULES)
def test_with_nothing_received_the_mean_colour_is_missing(rule: str):
    """Catches noise that stands for a picture, and a picture of nothing that counts as decoded."""
    coded = tokenizer(reconstruction=rule)
    for octets in (np.zeros(0, np.uint8), sent(coded, drawn(1))[:0]):
        content, missing = coded.decode(received(octets, (20, 40, 3)), KEY)
        assert missing.all() and np.all(content == np.rint((np.array([0.1, 0.05, 0.0]) + 1) * 127.5))


def damages(octets: np.ndarray, key: Key) -> list[np.ndarray]:
    """What may be done to a stream: bits flipped, bytes in another order, cut, repeated, and bytes of no stream at all."""
    place = key.integers(8 * octets.size, 3)
    flipped = np.unpackbits(octets.astype(np.uint8))
    flipped[place[:1 + place[0] % 3]] ^= 1
    noise = key.child("noise").integers(256, 1 + octets.size).astype(np.uint8)
    return [np.packbits(flipped), np.roll(octets, 1 + place[1] % 7), octets[::-1], octets[:place[2] // 8], np.tile(octets, 2),
            noise, np.zeros(300, np.uint8), np.full(300, 255, np.uint8)]


@pytest.mark.parametrize("coding", ["dithered", "poisson"])
def test_damage_never_stops_the_decoder(coding: str):
    """Catches a hang, a crash and values that are no numbers, whatever comes."""
    coded, picture = tokenizer(coding=coding, level=128, reconstruction="mean"), drawn(1)
    octets = sent(coded, picture)
    for trial in range(4):
        for stream in damages(octets, KEY.child("damage", trial)):
            held = coded.heard(stream, picture.shape, KEY)
            assert np.all(np.isfinite(held.sums)) and held.pictures("mean").shape == (1, 32, 32, 3)


def test_damage_is_found_out_at_the_end_of_its_step():
    """Catches a checksum that is not looked at: what is kept is what the sender held after some step, or none of this stream."""
    coded, picture = tokenizer(check_bits=20, octaves_per_step=1), drawn(1)
    octets = sent(coded, picture)
    whole = [coded.heard(octets[:length], picture.shape, KEY).sums for length in range(octets.size + 1)]
    kept = []
    for trial in range(30):
        place = int(KEY.child("flip", trial).integers(4 * octets.size, 1)[0])
        bits = np.unpackbits(octets.astype(np.uint8))
        bits[place] ^= 1
        held = coded.heard(np.packbits(bits), picture.shape, KEY)
        kept.append(any(np.array_equal(held.sums, one) for one in whole))
    assert np.mean(kept) >= 0.9  # the last steps may end before their checksum
    unchecked = tokenizer(check_bits=0, octaves_per_step=1, reconstruction="mean")
    plain = sent(unchecked, picture)
    error = np.mean(np.square(decoded(unchecked, np.roll(plain, 3), picture.shape) - picture.astype(float)))
    assert error > 5 * np.mean(np.square(decoded(unchecked, plain, picture.shape) - picture.astype(float))), "the control"


FOREIGN: list[dict[str, Any]] = [{"denoiser": StandIn(name="b")}, {"octaves_per_step": 1}, {"coding": "poisson"},
                                 {"key": KEY.child("b")}, {"shape": (32, 64, 3)}]


@pytest.mark.parametrize("change", FOREIGN)
def test_a_foreign_stream_is_refused_at_its_first_checksum(change: dict[str, Any]):
    """Catches weights, fields, shapes and keys that are not those of the stream, and decode to a picture all the same."""
    picture = drawn(1)
    octets = sent(tokenizer(check_bits=24), picture)
    change = dict(change)
    key, shape = change.pop("key", KEY), change.pop("shape", picture.shape)
    assert tokenizer(check_bits=24).heard(octets, picture.shape, KEY).known.any()
    assert not tokenizer(**{"check_bits": 24} | change).heard(octets, shape, key).known.any()


@pytest.mark.parametrize("level", [160, 208])
def test_steps_that_two_levels_share_are_read_at_either(level: int):
    """Catches a receiver that refuses all of a stream since it would have gone on, or ended, at another level."""
    picture = drawn(1)
    octets = sent(tokenizer(check_bits=24, level=level), picture)
    own, other = (tokenizer(check_bits=24, level=one, reconstruction="mean") for one in (level, 368 - level))
    errors = [np.mean(np.square(decoded(one, stream, picture.shape) - picture.astype(float)))
              for one, stream in ((own, octets), (other, octets), (own, octets[:0]))]
    assert errors[1] < 0.4 * errors[2], errors


def test_a_stream_has_the_bits_asked_for():
    """Catches a target in bytes, of a tile instead of the picture, and a cut that wastes more than its last byte."""
    picture = drawn(4)
    whole = sent(tokenizer(level=208), picture).size
    for fields, most in (({"target_bits": 1000}, 125), ({"target_bits_per_pixel": 0.5}, 256)):
        octets = sent(tokenizer(**fields, level=208), picture)
        assert octets.size == most < whole
    longer, shorter = (tokenizer(target_bits=bits, level=208, reconstruction="mean") for bits in (2000, 1000))
    found = [decoded(one, sent(one, picture), picture.shape).astype(float) for one in (longer, shorter)]
    assert np.mean(np.square(found[0] - picture)) < np.mean(np.square(found[1] - picture))


def test_a_picture_out_of_the_law_costs_bits_and_comes_back():
    """Catches cells that end before the picture does, with nothing to tell the rest: one wave, 20 standard deviations high."""
    wave = 127 + 45 * np.cos(np.pi * (2 * np.arange(32) + 1) * 4 / 64)
    picture = np.broadcast_to(np.rint(wave)[:, None, None], (32, 32, 3)).astype(np.uint8)
    coded = tokenizer(reconstruction="mean")
    octets = sent(coded, picture)
    assert octets.size < 2 * sent(coded, drawn(1)).size
    error = np.mean(np.square(decoded(coded, octets, picture.shape) - picture.astype(float)))
    assert error < 1.5 * expected_error("mean", precisions(144))


def test_pictures_that_vary_less_than_expected_cost_less(monkeypatch: pytest.MonkeyPatch):
    """Catches scales that are not learned, or by one end alone, and odds that spoil pictures of the law."""
    smooth = np.clip(np.rint(127.5 + (drawn(4).astype(float) - 127.5) / 4), 0, 255).astype(np.uint8)
    sizes = [sent(tokenizer(), picture).size for picture in (smooth, drawn(4))]
    held = tokenizer(check_bits=16).heard(sent(tokenizer(check_bits=16), smooth), smooth.shape, KEY)
    assert np.count_nonzero(held.known) == 4 * np.count_nonzero(precisions(144))
    monkeypatch.setattr(Scales, "learn", lambda *_: None)
    without = [sent(tokenizer(), picture).size for picture in (smooth, drawn(4))]
    assert sizes[0] < 0.9 * without[0] and sizes[1] < 1.01 * without[1]


@pytest.mark.parametrize("rule", ["ancestral", "flow"])
def test_what_is_drawn_for_a_tile_varies_as_the_tile_does(rule: str, monkeypatch: pytest.MonkeyPatch):
    """Catches the average picture's noise on smooth tiles, and too little on rough ones, of what is told nothing at all."""
    level, plain, ratios = 116, drawn(6).astype(float), dict[bool, float]()
    untold = (precisions(level) == 0) & (FREQUENCY < 10)[..., None]
    for own in (True, False):
        power = []
        for factor in (0.3, 3.0):
            picture = np.clip(np.rint(127.5 + (plain - 127.5) * factor), 0, 255).astype(np.uint8)
            coded = tokenizer(level=level, reconstruction=rule)
            found = components(decoded(coded, sent(coded, picture), picture.shape)) - gaussian().mean
            power.append(np.mean(np.square(found[:, untold])))
        ratios[own] = power[1] / power[0]
        monkeypatch.setattr(Scales, "drawn", lambda scales: np.ones(scales._heard.shape[:2]))
    assert ratios[True] > 2.5 and ratios[False] < 1.1, "the second is the control"


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: sent(tokenizer(), np.zeros((8, 8), np.uint8)), "diffc_image"),
    (lambda: sent(tokenizer(), b"12345678"), "diffc_image"),  # type: ignore[arg-type]
    (lambda: tokenizer(target_bits=80, target_bits_per_pixel=0.5), "leave out one"),
    (lambda: tokenizer(octaves_per_step=0.3), "multiple"),
    (lambda: tokenizer(level=209), "less than 209"),
]


@pytest.mark.parametrize("ask, complaint", REFUSED)
def test_what_does_not_fit_is_refused(ask: Callable[[], Any], complaint: str):
    """Catches a broadcast instead of an error."""
    with pytest.raises((RequestError, ValueError), match=complaint):
        ask()
