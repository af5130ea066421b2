"""Classical codecs: real files within their budget, and of damaged ones neither more nor less than the format shows."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from channel_sim.checks import RequestError
from channel_sim.fidelity import MID_GREY, psnr_db, squared_error
from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction, Tokens
from sources.codecs import Avif, FileCodec, Jpeg, Jpeg2000, LossyCodec, Png, Webp, library_versions
from sources.codecs.jpeg2000_damage import whole_packets
from sources.images import Images
from sources.tokenizers import Pixels

KEY = Key(5)
LOSSY: list[type[LossyCodec]] = [Jpeg, Webp, Avif, Jpeg2000]
ALL: list[FileCodec] = [Png()] + [kind(headerless=bare) for kind in LOSSY for bare in (False, True)]


def photograph(height: int = 40, width: int = 56, *, grey: bool = False) -> Item:
    """A piece of scikit-image's cat; sides that are no multiple of any block."""
    (item,) = Images(size=(height, width), crop="tile", grey=grey).items([60], [KEY])
    return item


def received(tokens: Tokens, lost: np.ndarray | None = None, values: np.ndarray | None = None) -> Reconstruction:
    lost = np.zeros(tokens.values.size, bool) if lost is None else lost
    values = tokens.values if values is None else values
    return Reconstruction(np.where(lost, 0, values), np.where(lost, Origin.LOST, Origin.RECEIVED).astype(np.uint8),
                          1.0 - lost, 256, tokens.grid, content_shape=tokens.content_shape)


def hole(tokens: Tokens, *spans: tuple[int, int]) -> np.ndarray:
    lost = np.zeros(tokens.values.size, bool)
    for first, last in spans:
        lost[first:last] = True
    return lost


def by_pillow(file: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        pixels = np.array(image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], -1)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("codec", ALL, ids=repr)
def test_what_arrives_whole_is_the_picture_that_the_file_holds(codec: FileCodec, grey: bool):
    """Catches a file that is not one (Pillow reads it by itself), a shape turned round, and pixels missing where nothing is."""
    item = photograph(grey=grey)
    tokens = codec.encode(item, KEY)
    pixels, missing = codec.decode(received(tokens), KEY)
    assert pixels.shape == item.content.shape == tokens.content_shape and pixels.dtype == np.uint8
    assert missing.shape == pixels.shape[:2] and not missing.any()
    assert psnr_db(squared_error(item.content, pixels) / pixels.size) > (59 if isinstance(codec, Png) else 28)
    if not getattr(codec, "headerless", False):
        assert np.array_equal(pixels, by_pillow(tokens.values.astype(np.uint8).tobytes(), "L" if grey else "RGB"))


@pytest.mark.parametrize("kind", LOSSY)
def test_without_its_head_a_file_shows_the_same_and_is_shorter_by_what_both_ends_know(kind: type[LossyCodec]):
    """Catches a head that the receiver guesses wrong: JPEG's standard tables, lengths inside the boxes of AVIF and RIFF."""
    for item in (photograph(), photograph(17, 33, grey=True), photograph(200, 136)):
        for quality in (20, 60):
            with_head, bare = (kind(quality=quality, headerless=bare) for bare in (False, True))
            sent = [codec.encode(item, KEY) for codec in (with_head, bare)]
            shown = [codec.decode(received(tokens), KEY)[0] for codec, tokens in zip((with_head, bare), sent, strict=True)]
            assert np.array_equal(*shown)
            if kind is not Jpeg:  # whose file has tables of its own instead
                assert sent[0].values.size - sent[1].values.size >= 20


@pytest.mark.parametrize("headerless", [False, True])
@pytest.mark.parametrize("kind", LOSSY)
def test_the_budget_holds_and_the_next_quality_would_not_fit(kind: type[LossyCodec], headerless: bool):
    """Catches bytes over budget, a budget left unused, and a quality found by an estimate instead of the file."""
    item = photograph(32, 32)
    told = 1 if kind is Jpeg and headerless else 0
    sizes = [kind(quality=q, headerless=headerless).encode(item, KEY).values.size + told for q in range(1, 101)]
    for budget in (450, 900):
        codec = kind(target_bytes=budget, headerless=headerless)
        tokens = codec.encode(item, KEY)
        assert tokens.values.size <= budget
        pixels, missing = codec.decode(received(tokens), KEY)
        assert not missing.any()
        if kind is not Jpeg2000:
            assert tokens.values.size == max(size for size in sizes if size <= budget)
        else:
            assert tokens.values.size > 0.9 * budget


@pytest.mark.parametrize("kind", LOSSY)
def test_a_budget_by_the_pixel_is_one_in_bytes(kind: type[LossyCodec]):
    """Catches bits for bytes, a width for an area, and a receiver that takes the told quality for picture data."""
    item = photograph(64, 32)
    by_pixel, in_bytes = kind(target_bits_per_pixel=3.0, headerless=True), kind(target_bytes=768, headerless=True)
    tokens = by_pixel.encode(item, KEY)
    assert tokens.values.size and np.array_equal(tokens.values, in_bytes.encode(item, KEY).values)
    assert np.array_equal(by_pixel.decode(received(tokens), KEY)[0], in_bytes.decode(received(tokens), KEY)[0])
    with pytest.raises(ValueError, match="exclude each other"):
        kind(target_bits_per_pixel=3.0, target_bytes=768)


def test_more_bytes_are_more_decibels():
    """Catches a search that runs the wrong way, and layers or rates of JPEG 2000 in the wrong order."""
    item = photograph(64, 64)
    for kind in LOSSY:
        ladder = [kind(target_bytes=budget, headerless=True) for budget in (300, 600, 1200, 2400)]
        errors = [squared_error(item.content, codec.decode(received(codec.encode(item, KEY)), KEY)[0]) for codec in ladder]
        assert errors == sorted(errors, reverse=True) and errors[0] > 2 * errors[-1]


@pytest.mark.parametrize("kind", LOSSY)
def test_a_budget_that_no_file_fits_is_refused_with_the_size_or_dropped(kind: type[LossyCodec]):
    """Catches a file over budget sent all the same, and a sweep that dies where grey was asked for."""
    item = photograph(64, 64)
    complaint = r"target_bytes = 20: the smallest .* file of astronaut.* has \d+ bytes, of 20 that .*; raise it, or take headerless"
    with pytest.raises(RequestError, match=complaint):
        kind(target_bytes=20).encode(item, KEY)
    codec = kind(target_bytes=20, over_budget="drop")
    tokens = codec.encode(item, KEY)
    pixels, missing = codec.decode(received(tokens), KEY)
    assert tokens.values.size == 0 and missing.all() and np.all(pixels == MID_GREY) and pixels.shape == (64, 64, 3)


@pytest.mark.parametrize("rate, allowed", [(0.01, 5), (0.001, 0)])
def test_a_budget_by_the_pixel_is_refused_under_its_own_name(rate: float, allowed: int):
    """Catches an error about a key that was not given, and advice to set what is set already."""
    with pytest.raises(RequestError, match=rf"tokenizer.target_bits_per_pixel = {rate}: .* bytes, of {allowed} that") as refused:
        Jpeg(target_bits_per_pixel=rate, headerless=True).encode(photograph(64, 64), KEY)
    assert "headerless" not in str(refused.value) and "target_bytes" not in str(refused.value)


def test_two_targets_exclude_each_other_and_none_means_a_quality():
    """Catches a target that is silently not the one in force."""
    for kind in LOSSY:
        with pytest.raises(ValueError, match="exclude each other"):
            kind(quality=50, target_bytes=100)
        item = photograph()
        usual = kind(quality=35 if kind is Jpeg2000 else 75)
        assert np.array_equal(kind().encode(item, KEY).values, usual.encode(item, KEY).values)


@pytest.mark.parametrize("codec", [Pixels(), *ALL], ids=repr)
def test_a_tokenizer_of_pictures_refuses_text(codec: FileCodec):
    """Catches a crash far inside Pillow where the source and the tokenizer do not fit."""
    with pytest.raises(RequestError, match="takes sources of pictures, got 'text'"):
        codec.encode(Item(b"text", "text", "a.txt"), KEY)


def test_a_lost_sample_is_mid_grey_and_marked_by_itself():
    """Catches samples of other colours marked with it, and a grid that is not the picture's."""
    item = photograph()
    tokens = Pixels().encode(item, KEY)
    pixels, missing = Pixels().decode(received(tokens, hole(tokens, (5, 7))), KEY)
    assert tokens.grid == item.content.shape and tokens.content_shape == ()
    assert np.argwhere(missing).tolist() == [[0, 1, 2], [0, 2, 0]] and np.all(pixels[missing] == MID_GREY)
    assert np.array_equal(pixels[~missing], item.content[~missing])


def block_mask(shape: tuple[int, ...], first: int, last: int, side: int) -> np.ndarray:
    """bool [H, W]: the squares `first` to `last` in reading order."""
    rows, columns = -(-shape[0] // side), -(-shape[1] // side)
    inside = (np.arange(rows * columns) >= first) & (np.arange(rows * columns) < last)
    return inside.reshape(rows, columns).repeat(side, 0).repeat(side, 1)[:shape[0], :shape[1]]


def restarts(tokens: Tokens) -> list[int]:
    """Places of the restart markers in a file, found by brute force."""
    data = tokens.values
    return [k for k in range(data.size - 1) if data[k] == 0xFF and 0xD0 <= data[k + 1] <= 0xD7]


@pytest.mark.parametrize("grey, side", [(False, 16), (True, 8)])
def test_a_jpeg_goes_on_after_a_hole_at_the_next_restart_marker(grey: bool, side: int):
    """Catches all that follows a hole thrown away, or put one place too far, and MCUs shown that only partly came."""
    item = photograph(48, 64, grey=grey)
    codec = Jpeg(quality=90, restart_interval=2)
    tokens = codec.encode(item, KEY)
    whole, _ = codec.decode(received(tokens), KEY)
    markers = restarts(tokens)
    assert len(markers) == (48 * 64) // side**2 // 2 - 1
    # all of interval 2, both markers around it kept
    pixels, missing = codec.decode(received(tokens, hole(tokens, (markers[1] + 2, markers[2]))), KEY)
    assert np.array_equal(missing, block_mask(missing.shape, 4, 6, side)) and np.all(pixels[missing] == MID_GREY)
    if grey:
        assert np.array_equal(pixels[~missing], whole[~missing])
    else:  # colours are smoothed across the border of a missing MCU
        inner = ~np.pad(missing, 1, mode="edge")
        inner = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:] & inner[1:-1, 1:-1]
        inner &= ~np.roll(missing, (1, 1), (0, 1)) & ~np.roll(missing, (-1, -1), (0, 1))
        inner &= ~np.roll(missing, (-1, 1), (0, 1)) & ~np.roll(missing, (1, -1), (0, 1))
        assert np.array_equal(pixels[inner], whole[inner]) and inner.sum() > 0.7 * inner.size
    # a hole over several markers: what their numbers say must be believed
    _, missing = codec.decode(received(tokens, hole(tokens, (markers[1] + 2, markers[4] + 1))), KEY)
    assert np.array_equal(missing, block_mask(missing.shape, 4, 12, side)), "the cut marker no longer starts its interval"


def test_a_hole_that_swallows_more_than_eight_intervals_is_placed_by_its_length():
    """Catches numbers modulo 8 taken at their face: intervals of nearly equal length make it certain where a picture goes on."""
    cells = np.tile(photograph(8, 8, grey=True).content, (8, 16, 1))
    codec = Jpeg(quality=80, restart_interval=1)
    tokens = codec.encode(Item(cells, "image", "tiled"), KEY)
    markers = restarts(tokens)
    for swallowed in (7, 8, 9, 20, 63):
        lost = hole(tokens, (markers[3] + 2, markers[3 + swallowed] + 1))
        _, missing = codec.decode(received(tokens, lost), KEY)
        assert np.array_equal(missing, block_mask(missing.shape, 4, 4 + swallowed + 1, 8)), swallowed


def test_a_jpeg_without_restart_markers_ends_at_the_first_hole():
    """Catches MCUs after the hole that are decoded from the middle of a code word, and any pixel before it given up."""
    item = photograph(64, 64, grey=True)
    codec = Jpeg(quality=70, headerless=True)
    tokens = codec.encode(item, KEY)
    whole, _ = codec.decode(received(tokens), KEY)
    counts = []
    for first in range(0, tokens.values.size, 50):
        pixels, missing = codec.decode(received(tokens, hole(tokens, (first, first + 3))), KEY)
        shown = 64 - int(missing.sum()) // 64
        assert np.array_equal(missing, block_mask(missing.shape, shown, 64, 8))
        assert np.array_equal(pixels[~missing], whole[~missing])
        counts.append(shown)
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] > 50


def test_an_mcu_is_shown_if_and_only_if_all_its_bits_came():
    """Catches a count of MCUs that is off by one: what is shown must not depend on bytes after the hole, the next MCU must."""
    item = photograph(32, 48, grey=True)  # colour would be smoothed across the border
    codec = Jpeg(quality=85, headerless=True)
    tokens = codec.encode(item, KEY)
    file_of = codec._frame(tokens.content_shape, 85)
    for first in range(40, tokens.values.size - 40, 37):
        _, missing = codec.decode(received(tokens, hole(tokens, (first, first + 1))), KEY)
        shown = int((~missing).sum()) // 64
        kept = tokens.values[:first].astype(np.uint8).tobytes().removesuffix(b"\xff")
        ends = [by_pillow(file_of.around(kept + bytes([fill]) * 40), "L")[..., 0] for fill in (0x00, 0x2A, 0x55, 0x92, 0xEE)]
        stable = np.all([end == ends[0] for end in ends], axis=0)
        assert stable[block_mask(missing.shape, 0, shown, 8)].all()
        assert not stable[block_mask(missing.shape, shown, shown + 1, 8)].all(), "another end of the file changes the next MCU"


def test_rows_of_a_png_before_the_hole_are_exact():
    """Catches rows shown that were only partly there, and all of a lossless file thrown away for its last byte."""
    item = photograph()
    tokens = Png().encode(item, KEY)
    rows = []
    for first in range(100, tokens.values.size, 400):
        pixels, missing = Png().decode(received(tokens, hole(tokens, (first, first + 1))), KEY)
        assert np.array_equal(missing, np.broadcast_to(missing[:, :1], missing.shape))
        assert np.all(np.diff(missing[:, 0].astype(int)) >= 0)
        assert np.array_equal(pixels[~missing], item.content[~missing]) and np.all(pixels[missing] == MID_GREY)
        rows.append(int((~missing[:, 0]).sum()))
    assert rows == sorted(rows) and rows[0] < 10 and rows[-1] > 30
    _, missing = Png().decode(received(tokens, hole(tokens, (tokens.values.size - 1, tokens.values.size))), KEY)
    assert not missing.any(), "the end mark holds no pixel"


@pytest.mark.parametrize("headerless", [False, True])
@pytest.mark.parametrize("num_layers", [1, 4])
def test_a_jpeg_2000_is_decoded_up_to_the_hole(headerless: bool, num_layers: int):
    """Catches a codestream that is not decoded unless whole, and bytes after a hole taken for the next packets."""
    item = photograph(64, 64)
    codec = Jpeg2000(quality=36, num_layers=num_layers, headerless=headerless)
    tokens = codec.encode(item, KEY)
    head = 0 if headerless else tokens.values.tobytes().index(np.array([0xFF, 0x93], np.int32).tobytes()) // 4 + 2
    errors = []
    for part in (0.05, 0.2, 0.5, 0.8, 0.98):
        first = head + int(part * (tokens.values.size - head))
        for last in (first + 1, tokens.values.size):
            pixels, missing = codec.decode(received(tokens, hole(tokens, (first, last))), KEY)
            assert not missing.any()
            errors.append(squared_error(item.content, pixels))
        assert errors[-1] == errors[-2], "what comes after the hole makes no difference"
    assert errors == sorted(errors, reverse=True) and errors[0] > 4 * errors[-1]
    _, missing = codec.decode(received(tokens, hole(tokens, (0, tokens.values.size))), KEY)
    assert missing.all()


@pytest.mark.parametrize("shape, num_layers", [((64, 64, 3), 1), ((200, 300, 1), 5), ((33, 17, 3), 4), ((1, 90, 1), 3)])
def test_packets_of_a_jpeg_2000_end_where_they_end(shape: tuple[int, int, int], num_layers: int):
    """Catches a head of a packet read wrong: then the lengths do not add up to the codestream, for any picture but by chance."""
    item = photograph(*shape[:2], grey=shape[2] == 1)
    codec = Jpeg2000(quality=40, num_layers=num_layers, headerless=True)
    data = codec.encode(item, KEY).values.astype(np.uint8).tobytes()
    head = codec._frame(shape, 1).head
    levels = head[head.index(b"\xff\x52") + 9]
    stops = [*range(0, len(data), 1 + len(data) // 50), len(data)]
    ends = [whole_packets(data[:stop], *shape, layers=num_layers, levels=levels, block_side=64) for stop in stops]
    assert ends[-1] == len(data) and ends == sorted(ends)
    assert 3 < len(set(ends)) <= 1 + num_layers * (levels + 1) * shape[2], "no more ends than packets"
    assert all(end <= stop for stop, end in zip(stops, ends, strict=True))


@pytest.mark.parametrize("codec", [Webp(), Avif(), Webp(headerless=True), Avif(headerless=True)], ids=repr)
def test_webp_and_avif_show_nothing_of_a_file_with_a_hole(codec: FileCodec):
    """Catches a guess at lost bytes that happens to decode."""
    tokens = codec.encode(photograph(), KEY)
    for first in (0, 30, tokens.values.size - 1):
        pixels, missing = codec.decode(received(tokens, hole(tokens, (first, first + 1))), KEY)
        assert missing.all() and np.all(pixels == MID_GREY)


@pytest.mark.parametrize("codec", [*ALL, Jpeg(restart_interval=1, headerless=True, target_bytes=180)], ids=repr)
def test_every_damaged_byte_is_a_picture_of_the_right_shape_at_once(codec: FileCodec):
    """Catches crashes, endless loops, memory for a picture of 60,000 pixels a side, and results that differ from call to call."""
    tokens = codec.encode(photograph(24, 40), KEY)
    size = tokens.values.size
    started = time.process_time()
    for place in range(0, size, 1 + size // 400):
        damaged = tokens.values.copy()
        damaged[place] ^= 0xFF if place % 2 else 0x10
        pixels, missing = codec.decode(received(tokens, None, damaged), KEY)
        assert pixels.shape == (24, 40, 3) and missing.shape == (24, 40)
    for draw in range(40):
        key = KEY.child("damage", draw)
        noise = np.where(key.child("where").uniform(size) < (0.05 if draw % 2 else 1.0), key.integers(256, size), tokens.values)
        lost = key.child("lost").uniform(size) < (0.03 if draw % 4 > 1 else 0)
        (pixels, missing), (again, _) = (codec.decode(received(tokens, lost, noise.astype(np.int32)), KEY) for _ in range(2))
        assert np.array_equal(pixels, again) and np.all(pixels[missing] == MID_GREY)
    assert time.process_time() - started < 20  # milliseconds a picture; an endless loop or gigabytes would take longer


def test_a_head_that_says_another_size_is_not_decoded():
    """Catches an allocation that a damaged byte asks for: the receiver knows the size and holds the file to it."""
    for codec in (Png(), Jpeg(), Webp(), Avif(), Jpeg2000()):
        larger = codec.encode(photograph(80, 80), KEY)
        told = Reconstruction(larger.values, np.zeros(larger.values.size, np.uint8), np.ones(larger.values.size), 256,
                              content_shape=(24, 40, 3))
        pixels, missing = codec.decode(told, KEY)
        assert pixels.shape == (24, 40, 3) and missing.all()


def test_noise_at_the_highest_quality_is_written():
    """Catches Pillow's buffer, which a file larger than its pixels overflows."""
    noise = Item(KEY.integers(256, 96, 96, 3).astype(np.uint8), "image", "noise")
    for kind in LOSSY:
        codec = kind(quality=100)
        assert not codec.decode(received(codec.encode(noise, KEY)), KEY)[1].any()


def test_the_libraries_of_the_codecs_are_known():
    """Catches results whose codec nobody can tell afterwards."""
    assert all(version[:1].isdigit() for version in library_versions().values()) and len(library_versions()) == 5
