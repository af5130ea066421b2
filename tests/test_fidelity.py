"""Pictures and sounds: PSNR, SSIM, MS-SSIM and SI-SDR against other implementations, closed forms and cases worked by hand."""

from typing import Any

import numpy as np
import pytest
from scipy.signal import convolve2d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from channel_sim.fidelity import ms_ssim, psnr_db, si_sdr_db, squared_error, ssim
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.metrics import CATALOGUE, Measurement, Truth, measure
from channel_sim.types import Content, Evidence, Item, Packets, Reconstruction, Tokens

IMAGE_METRICS = ("psnr_db", "psnr_of_mean_mse_db", "ssim", "ms_ssim", "bits_per_pixel", "channel_uses_per_pixel")
LEDGER = Ledger(source_symbols=12, coded_bits=40, preamble_bits=16, header_bits=32, channel_uses=216)


def picture(key: Key, height: int, width: int, colours: int = 1) -> np.ndarray:
    """uint8 [height, width, colours]: smooth enough to have a structure, with noise on top."""
    wave = np.sin(np.arange(height) / 5)[:, None, None] * np.cos(np.arange(width) / 7)[None, :, None] * np.ones(colours)
    return np.clip(128 + 80 * wave + 15 * key.normal(height, width, colours), 0, 255).astype(np.uint8)


def damaged(image: np.ndarray, key: Key, scale: float) -> np.ndarray:
    return np.clip(image + scale * key.normal(*image.shape), 0, 255).astype(np.uint8)


CASES = [((11, 11, 1), 3.0), ((32, 32, 3), 20.0), ((40, 23, 1), 60.0), ((64, 64, 3), 150.0)]


@pytest.mark.parametrize(("shape", "scale"), CASES)
def test_psnr_and_ssim_are_those_of_scikit_image(shape: tuple[int, int, int], scale: float):
    """Catches a window of another size or sigma, sample variances, borders counted, and colours pooled before the ratio."""
    sent = picture(Key(1).child(*shape), *shape)
    restored = damaged(sent, Key(2).child(*shape), scale)
    theirs = structural_similarity(sent, restored, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255,
                                   channel_axis=2)
    assert ssim(sent, restored) == pytest.approx(theirs, abs=1e-9)
    own = psnr_db(squared_error(sent, restored) / sent.size)
    assert own == pytest.approx(peak_signal_noise_ratio(sent, restored, data_range=255), abs=1e-9)


def test_negative_control_a_uniform_window_differs():
    """The comparison must tell the windows apart: scikit-image's default is 7 x 7, uniform, with sample covariance."""
    sent = picture(Key(1), 32, 32)
    restored = damaged(sent, Key(2), 20.0)
    assert abs(ssim(sent, restored) - structural_similarity(sent, restored, data_range=255, channel_axis=2)) > 1e-3


def window_means(image: np.ndarray) -> np.ndarray:
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None]**2 + offsets[None, :]**2) / (2 * 1.5**2))
    return convolve2d(image, window / window.sum(), mode="valid")


def textbook_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The definition scale by scale for one component, float64 [H, W], with one two-dimensional window."""
    score = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        mean_a, mean_b = window_means(a), window_means(b)
        var_a, var_b = window_means(a * a) - mean_a**2, window_means(b * b) - mean_b**2
        cov = window_means(a * b) - mean_a * mean_b
        luminance = (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2)
        contrast_structure = (2 * cov + 7.65**2) / (var_a + var_b + 7.65**2)
        score *= np.mean(luminance * contrast_structure if scale == 4 else contrast_structure) ** weight
        a, b = (np.array([[block.mean() for block in np.array_split(row, -(-row.shape[1] // 2), axis=1)]
                          for row in np.array_split(whole, whole.shape[0] // 2)]) for whole in (even(a), even(b)))
    return score


def even(image: np.ndarray) -> np.ndarray:
    """With its last row and column once more where their number is odd."""
    image = np.vstack([image, image[-1:]]) if image.shape[0] % 2 else image
    return np.hstack([image, image[:, -1:]]) if image.shape[1] % 2 else image


@pytest.mark.parametrize(("shape", "scale"), [((161, 161, 1), 10.0), ((176, 163, 2), 60.0)])
def test_ms_ssim_is_that_of_the_definition(shape: tuple[int, int, int], scale: float):
    """Catches weights in the wrong order, luminance at every scale, powers of maps rather than means, and odd sides cut."""
    sent = picture(Key(3).child(*shape), *shape)
    restored = damaged(sent, Key(4).child(*shape), scale)
    expected = np.mean([textbook_ms_ssim(sent[..., c].astype(float), restored[..., c].astype(float)) for c in range(shape[2])])
    assert ms_ssim(sent, restored) == pytest.approx(expected, abs=1e-9)
    assert ms_ssim(sent, restored) > ssim(sent, restored)  # fine noise fades at coarse scales


@pytest.mark.sionna
def test_ms_ssim_is_that_of_tensorflow():
    """Catches a definition that only we have; TensorFlow computes in float32."""
    import tensorflow as tf

    sent = picture(Key(5), 181, 192, 3)
    restored = damaged(sent, Key(6), 40.0)
    theirs = float(tf.image.ssim_multiscale(tf.constant(sent), tf.constant(restored), 255))
    assert ms_ssim(sent, restored) == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(("a", "b"), [(0, 255), (100, 110), (128, 128)])
def test_flat_pictures_have_closed_forms(a: int, b: int):
    """Catches wrong constants: without variance SSIM is (2ab + C1) / (a² + b² + C1), and only the coarsest scale sees it."""
    one, other = (np.full((170, 170, 1), value, np.uint8) for value in (a, b))
    luminance = (2 * a * b + 6.5025) / (a * a + b * b + 6.5025)
    assert ssim(one, other) == pytest.approx(luminance, abs=1e-9)
    assert ms_ssim(one, other) == pytest.approx(luminance**0.1333, abs=1e-9)


def test_equal_pictures_score_1_and_inverted_ones_below_0():
    """Catches a score that is not 1 at equality, SSIM cut at 0, and a fractional power of a negative mean (NaN)."""
    sent = picture(Key(7), 161, 170)
    assert ssim(sent, sent) == ms_ssim(sent, sent) == 1
    assert ssim(sent, 255 - sent) < 0 and ms_ssim(sent, 255 - sent) == 0


def test_small_pictures_have_no_window_and_say_so():
    """Catches a score over padding: 11 pixels for a window, 161 for five scales."""
    for side, one, many in ((10, False, False), (11, True, False), (160, True, False), (161, True, True)):
        image = picture(Key(8), side, 200)
        assert (ssim(image, image) is not None, ms_ssim(image, image) is not None) == (one, many)


@pytest.mark.parametrize(("error", "expected"), [(255**2, 0.0), (255**2 / 100, 20.0), (1e-9, 60.0), (0.0, 60.0)])
def test_psnr_by_hand(error: float, expected: float):
    """Catches another peak, ten for twenty, and infinity for a picture without error."""
    assert psnr_db(error) == pytest.approx(expected, abs=1e-9)


def test_si_sdr_by_hand():
    """Catches a ratio to the restored sound's energy, a mean taken off, and a level that counts as distortion."""
    sent, noise = np.array([300, 400, 0], np.int16), np.array([0, 0, 50], np.int16)
    assert si_sdr_db(sent, sent + noise) == pytest.approx(20, abs=1e-9)  # |s| = 500, |n| = 50, at right angles
    assert si_sdr_db(sent, 4 * (sent + noise)) == pytest.approx(20, abs=1e-9)
    assert si_sdr_db(sent, -2 * sent) == 60 and si_sdr_db(sent, noise) == -60
    assert si_sdr_db(sent, 0 * sent) == -60 and si_sdr_db(0 * sent, sent) is None
    assert si_sdr_db(sent + np.int16(1000), 0 * sent + np.int16(1000)) < 20  # a constant is no silence


def test_si_sdr_is_the_angle_between_both():
    """Catches a projection on the wrong sound: the angle between both alone decides, SI-SDR = cot²."""
    sent = (1000 * Key(9).normal(400)).astype(np.int16)
    restored = (0.3 * sent + 500 * Key(10).normal(400)).astype(np.int16)
    s, r = sent.astype(float), restored.astype(float)
    cosine = s @ r / np.sqrt((s @ s) * (r @ r))
    assert si_sdr_db(sent, restored) == pytest.approx(10 * np.log10(cosine**2 / (1 - cosine**2)), abs=1e-9)


def measured(sent: Content, restored: Content, modality: str, missing: Any = None) -> Measurement:
    """Everything about content; one token stands for the whole item."""
    tokens = Tokens(np.zeros(1, int), 2)
    packets = Packets(np.zeros((1, 0), np.uint8), np.zeros(1, int), np.zeros(1, int), np.array([0, 1]), np.array([[0, 0, 1]]))
    evidence = Evidence(np.ones(1, bool), np.zeros(1, int), 2)
    one = Reconstruction(np.zeros(1, int), np.zeros(1, np.uint8), np.ones(1), 2)
    return measure(Truth(Item(sent, modality, "x"), tokens, packets), evidence, one, restored, LEDGER, {}, missing=missing)


def test_a_picture_worked_by_hand():
    """Catches sums over pixels in place of colour components, and a mean of PSNRs booked for the PSNR of the mean."""
    sent = np.full((2, 2, 3), 100, np.uint8)
    restored = sent.copy()
    restored[0, 0] = (103, 96, 100)  # squared errors 9 + 16 over 12 samples
    book = measured(sent, restored, "image", missing=np.zeros((2, 2), bool))
    assert book.values["psnr_of_mean_mse_db"] == (25, 12)
    expected = 10 * np.log10(255**2 * 12 / 25)
    assert book.values["psnr_db"] == (pytest.approx(expected), 1) and book["psnr_of_mean_mse_db"] == pytest.approx(expected)
    assert book.values["exact_item_rate"] == (0, 1) and book.values["undecodable_rate"] == (0, 1)
    assert book.values["bits_per_pixel"] == (88, 4) and book.values["channel_uses_per_pixel"] == (216, 4)
    assert book.values["channel_uses_per_sample"] == (216, 12)
    assert book["ssim"] is None and "below 11" in book.reasons["ssim"] and "below 161" in book.reasons["ms_ssim"]
    assert book["si_sdr_db"] is None and "not a sound" in book.reasons["si_sdr_db"]


def test_an_exact_picture_is_counted_and_stands_at_the_cap():
    """Catches infinity in a mean, and an exact item that nobody counts."""
    sent = picture(Key(11), 12, 12, 3)
    book = measured(sent, sent.copy(), "image")
    assert (book["psnr_db"], book["psnr_of_mean_mse_db"], book["exact_item_rate"], book["ssim"]) == (60, 60, 1, 1)


@pytest.mark.parametrize("restored", [np.zeros((4, 4, 3), np.uint8), np.zeros(0, np.uint8), b"", np.zeros((12, 12, 3))])
def test_what_could_not_be_decoded_is_booked_as_grey_and_counted(restored: Content):
    """Catches undecodable pictures left out of the mean, which flatters the codec that fails, and broadcasting of shapes."""
    sent = picture(Key(12), 12, 12, 3)
    book, grey = measured(sent, restored, "image"), measured(sent, np.full_like(sent, 128), "image")
    assert book.values["undecodable_rate"] == (1, 1) and book.values["exact_item_rate"] == (0, 1)
    assert all(book.values[name] == grey.values[name] for name in ("psnr_db", "psnr_of_mean_mse_db", "ssim"))
    assert grey.values["undecodable_rate"] == (0, 1)  # grey by itself proves nothing


@pytest.mark.parametrize(("missing", "undecodable"), [
    (np.ones((12, 12), bool), 1), (np.ones((12, 12, 3), bool), 1), (np.arange(144).reshape(12, 12) > 0, 0), (np.zeros(0, bool), 0)])
def test_a_picture_is_undecodable_where_all_of_it_is_missing(missing: np.ndarray, undecodable: int):
    """Catches a half-decoded picture booked as undecodable, and one that was mended booked as decoded."""
    sent = picture(Key(13), 12, 12, 3)
    assert measured(sent, sent, "image", missing).values["undecodable_rate"] == (undecodable, 1)


def test_sounds_have_si_sdr_and_no_psnr():
    """Catches picture metrics of a sound, silence measured as perfect, and a sound of another length left out."""
    sent = np.array([300, 400, 0], np.int16)
    book = measured(sent, np.array([300, 400, 50], np.int16), "sound")
    assert book["si_sdr_db"] == pytest.approx(20) and book.values["exact_item_rate"] == (0, 1)
    assert all(book[name] is None and "not a picture" in book.reasons[name] for name in IMAGE_METRICS)
    short = measured(sent, sent[:2], "sound")
    assert short["si_sdr_db"] == -60 and short.values["undecodable_rate"] == (1, 1)
    silence = measured(0 * sent, sent, "sound")
    assert silence["si_sdr_db"] is None and "silence" in silence.reasons["si_sdr_db"]


def test_sounds_of_8_bits_are_measured_about_128():
    """Catches offset binary measured as it stands, in which silence has the most power, and bytes that wrap round."""
    sent = np.array([131, 132, 128], np.uint8)  # 3, 4, 0
    assert measured(sent, sent, "sound").values["exact_item_rate"] == (1, 1)
    book = measured(sent, np.array([124, 131, 128], np.uint8), "sound")  # -4, 3, 0: at right angles
    assert book["si_sdr_db"] == -60 and book.values["undecodable_rate"] == (0, 1)
    assert measured(sent, sent.astype(np.int16), "sound").values["undecodable_rate"] == (1, 1), "other samples"
    assert measured(np.full(3, 128, np.uint8), sent, "sound")["si_sdr_db"] is None, "silence was sent"
    assert measured(sent, np.full(3, 128, np.uint8), "sound")["si_sdr_db"] == -60


@pytest.mark.parametrize(("sent", "modality"), [(b"text", "text"), (np.zeros(4, np.uint8), "symbols"),
                                                (np.zeros(4, np.float32), "vector"), (np.zeros((0, 3, 1), np.uint8), "image")])
def test_what_is_neither_picture_nor_sound_has_reasons(sent: Content, modality: str):
    """Catches a symbol sequence measured as a picture, and a division by no pixels."""
    book = measured(sent, sent, modality)
    for name in (*IMAGE_METRICS, "si_sdr_db", "exact_item_rate", "undecodable_rate"):
        assert book[name] is None and book.reasons[name]
    assert book.values.keys() | book.reasons.keys() == CATALOGUE.keys() and not book.values.keys() & book.reasons.keys()
