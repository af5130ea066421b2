"""Pictures as they are read: every pixel has its place, whatever the file says of orientation, palette, depth or transparency."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item
from scenarios.describe import facts
from scenarios.scenario import load
from scenarios.transmit import transmit
from sources.images import PHOTOGRAPHS, Images


def items(source: Images, *indices: int) -> list[Item]:
    return source.items(indices, [Key(1).child(index) for index in indices])


def pixels(source: Images, index: int = 0) -> np.ndarray:
    content = items(source, index)[0].content
    assert isinstance(content, np.ndarray) and content.dtype == np.uint8 and content.ndim == 3
    return content


def noise(*shape: int) -> np.ndarray:
    return Key(2).child("noise").integers(256, *shape).astype(np.uint8)


def saved(file: Path, picture: np.ndarray | Image.Image, **options: Any) -> str:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, **options)
    return str(file)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "gif"])
def test_every_format_gives_the_pixels_that_were_saved(tmp_path: Path, suffix: str):
    """Catches channels or sides swapped, and formats that are read by another way; all of these are lossless."""
    picture = noise(5, 7, 3)
    picture = picture // 128 * 255 if suffix == "gif" else picture  # a palette of eight colours
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    assert np.array_equal(pixels(Images(path=saved(tmp_path / f"a.{suffix}", picture, **options))), picture)


@pytest.mark.parametrize("orientation, upright", [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
    (5, lambda a: a.transpose(1, 0, 2)), (6, lambda a: np.rot90(a, -1)), (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
    (8, lambda a: np.rot90(a)),
])
def test_a_picture_stands_upright(tmp_path: Path, orientation: int, upright: Any):
    """Catches photographs that lie on their side, and tiles counted along the wrong side (TIFF 6.0, tag 274)."""
    picture, exif = noise(4, 6, 3), Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", picture, exif=exif)
    assert np.array_equal(pixels(Images(path=path)), upright(picture))
    assert Images(path=path, size=(upright(picture).shape[0], 1), crop="tile").num_items == upright(picture).shape[1]


def test_what_is_not_plain_rgb_becomes_it(tmp_path: Path):
    """Catches colours under transparency shown as if they were opaque, palettes read as grey, and 16 bits cut in the middle."""
    red = np.zeros((2, 2, 4), np.uint8)
    red[..., 0], red[..., 3] = 200, [[255, 0], [51, 255]]
    on_white = pixels(Images(path=saved(tmp_path / "alpha.png", red)))
    assert on_white[0, 0].tolist() == [200, 0, 0] and on_white[0, 1].tolist() == [255, 255, 255]
    assert on_white[1, 0].tolist() == [244, 204, 204]  # a fifth of it over white
    palette = Image.new("P", (2, 2))
    palette.putdata([0, 1, 2, 1])
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert pixels(Images(path=saved(tmp_path / "palette.png", palette)))[:, 0].tolist() == [[10, 20, 30], [70, 80, 90]]
    deep = np.array([[0, 128, 129, 257, 65535, 65406]], np.uint16)
    assert pixels(Images(path=saved(tmp_path / "deep.png", deep), grey=True))[0, :, 0].tolist() == [0, 0, 1, 1, 255, 254]
    assert not pixels(Images(path=saved(tmp_path / "ink.tif", Image.new("CMYK", (2, 2), (0, 0, 0, 255))))).any()
    assert pixels(Images(path=saved(tmp_path / "bits.png", Image.new("1", (3, 3), 1)))).min() == 255


def test_grey_is_luma_and_rgb_of_a_grey_picture_is_three_times_it(tmp_path: Path):
    """Catches a mean of the three colours in place of luma; the weights are those of ITU-R BT.601."""
    picture = noise(9, 8, 3)
    luma = picture @ np.array([0.299, 0.587, 0.114])
    found = pixels(Images(path=saved(tmp_path / "a.png", picture), grey=True))
    assert found.shape == (9, 8, 1) and np.abs(found[..., 0] - luma).max() <= 0.51
    grey = saved(tmp_path / "g.png", picture[..., 0])
    assert np.array_equal(pixels(Images(path=grey)), np.repeat(picture[..., :1], 3, axis=2))


def test_the_report_says_that_tiles_are_not_independent():
    """Catches intervals over tiles that pass for those over pictures, and a warning where every item is another picture."""
    tiles = {"name": "images", "crop": "tile", "size": 32}
    for source, warned in ((tiles, True), (tiles | {"crop": "centre"}, False), ({"name": "images"}, False)):
        asked = {"question": "?", "source": source, "tokenizer": {"name": "pixels"}, "arm": [{"label": "a"}]}
        assert any("Tiles of one picture are not independent" in one for one in facts(load(asked), "test")["assumptions"]) == warned


def test_tiles_lie_side_by_side_row_by_row_picture_by_picture(tmp_path: Path):
    """Catches tiles that overlap, are counted column by column, or run on into the next row."""
    first, second = noise(11, 7, 3), noise(4, 9, 3)[::-1]
    saved(tmp_path / "b.png", second)
    saved(tmp_path / "a.png", first)
    tiles = Images(path=str(tmp_path), size=(4, 3), crop="tile")
    cut = [picture[top:top + 4, left:left + 3] for picture in (first, second)
           for top in range(0, len(picture) - 3, 4) for left in range(0, picture.shape[1] - 2, 3)]
    assert tiles.num_items == len(cut) == 7
    found = items(tiles, *range(7))
    assert all(np.array_equal(one.content, tile) for one, tile in zip(found, cut, strict=True))
    assert [found[k].name for k in (0, 3, 4)] == ["a.png[0:4, 0:3]", "a.png[4:8, 3:6]", "b.png[0:4, 0:3]"]
    assert np.array_equal(pixels(tiles, 5), cut[5]), "an item is the same whatever is asked for beside it"


def test_the_centre_is_the_middle_of_the_picture_made_just_small_enough(tmp_path: Path):
    """Catches a crop at a corner, a picture squeezed out of shape, and one made smaller than need be."""
    ramp = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None] * 2, (120, 80, 3))
    path = saved(tmp_path / "a.png", np.ascontiguousarray(ramp))
    assert np.array_equal(pixels(Images(path=path, size=(20, 40), crop="centre", scale=1.0)), ramp[50:70, 20:60])
    covered = pixels(Images(path=path, size=40, crop="centre"))  # halved to 60 x 40, of which the middle 40 rows stay
    assert covered.shape == (40, 40, 3) and np.abs(covered[:, 0, 0].astype(int) - (4 * np.arange(10, 50) + 1)).max() <= 1
    with pytest.raises(RequestError, match="a.png .* has only 120 x 80 pixels; lower size"):
        pixels(Images(path=path, size=81, crop="centre"))


def test_scaling_leaves_no_alias(tmp_path: Path):
    """Catches pixels that are dropped: of stripes finer than the new grid nothing but their mean may stay."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    halved = pixels(Images(path=saved(tmp_path / "a.png", stripes), scale=0.5))
    assert halved.shape == (32, 32, 3) and np.abs(halved[:, 4:-4].astype(int) - 100).max() <= 2
    assert stripes[::2, ::2].max() == 200 and np.ptp(stripes[::2, ::2]) == 0, "negative control: dropping gives one stripe"
    assert pixels(Images(path=saved(tmp_path / "b.png", noise(5, 9, 3)), scale=0.01)).shape == (1, 1, 3)


def test_stacks_give_their_pictures_and_classes(tmp_path: Path):
    """Catches labels shifted against pictures, grey stacks refused, and arrays taken in the order of the alphabet."""
    stack, labels = noise(3, 4, 5, 3), np.array([7, 0, 9], np.uint8)
    np.savez(tmp_path / "a.npz", images=stack, labels=labels, ahead=np.zeros((2, 2)))
    found = items(Images(path=str(tmp_path / "a.npz")), 0, 1, 2)
    assert [one.label for one in found] == [7, 0, 9] and all(isinstance(one.label, int) for one in found)
    assert np.array_equal([one.content for one in found], stack) and found[2].name == "a.npz[2]"
    np.savez_compressed(tmp_path / "one.npz", whatever=stack[..., 0])
    np.save(tmp_path / "b.npy", stack[..., :1])
    for name in ("one.npz", "b.npy"):
        source = Images(path=str(tmp_path / name), grey=True)
        assert items(source, 0)[0].label is None and np.array_equal(pixels(source, 2), stack[2, ..., :1])
    tiles = Images(path=str(tmp_path / "a.npz"), size=2, crop="tile")
    assert tiles.num_items == 12 and items(tiles, 11)[0].label == 9


@pytest.mark.parametrize("arrays, rule", [
    ({"images": np.zeros((2, 3, 3, 3), np.float32)}, "must be uint8"),
    ({"images": np.zeros((2, 3, 3, 2), np.uint8)}, "C = 1 or 3"),
    ({"images": np.zeros((0, 3, 3, 3), np.uint8)}, "must be uint8"),
    ({"images": np.zeros((2, 3, 3), np.uint8), "labels": np.zeros(3, int)}, "one a picture"),
    ({"a": np.zeros((2, 3, 3), np.uint8), "b": np.zeros(3, int)}, "none of them `images`"),
])
def test_stacks_of_anything_else_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], rule: str):
    """Catches floats read as pixels, and a guess where several arrays might be meant."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(RequestError, match=rule):
        pixels(Images(path=str(tmp_path / "a.npz")))


def test_a_folder_holds_what_ends_like_a_picture_in_the_order_of_its_names(tmp_path: Path):
    """Catches the order of the file system, and a README or a hidden file taken for a picture."""
    (tmp_path / "sub").mkdir()
    for name in ("sub/a.png", "c.JPG", "b.png", ".hidden.png"):
        saved(tmp_path / name, noise(3, 3, 3), format="PNG")
    (tmp_path / "README.txt").write_text("not a picture")
    source = Images(path=str(tmp_path))
    assert [one.name for one in items(source, *range(source.num_items))] == ["b.png", "c.JPG", "sub/a.png"]


def test_digests_follow_data_and_order(tmp_path: Path):
    """Catches results taken for those of other pictures."""
    paths = [saved(tmp_path / name, noise(3, 3, 3)) for name in ("a.png", "b.png")]
    one, both = (Images(path=path).digests()["path"] for path in (paths[0], str(tmp_path)))
    assert len({one, both, Images(path=paths[1]).digests()["path"]}) == 3 and len(one) == 64
    saved(tmp_path / "b.png", noise(3, 4, 3))
    assert Images(path=str(tmp_path)).digests()["path"] != both


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it is large."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name, data, rule", [
    ("text.png", b"no picture at all", "cannot be read"), ("empty.png", b"", "cannot be read"),
    ("cut.png", bomb(10, 10)[:-30], "cannot be read"), ("large.png", bomb(10_000, 10_000), "more than 89,478,485 pixels"),
    ("huge.png", bomb(60_000, 60_000), "more than 89,478,485 pixels"), ("cut.npy", b"\x93NUMPY", "no stack"),
    ("cut.npz", b"PK", "no stack"),
])
def test_broken_files_and_bombs_are_refused_by_name(tmp_path: Path, name: str, data: bytes, rule: str):
    """Catches a traceback, memory filled by a picture of a hundred bytes, and a folder in which nobody finds the broken file."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RequestError, match=f"(?s){name}.*{rule}"):
        pixels(Images(path=str(tmp_path / name)))
    if name.endswith(".png"):
        saved(tmp_path / "zz.png", noise(3, 3, 3))
        with pytest.raises(RequestError, match=f"(?s){name}.*{rule}"):
            _ = pixels(Images(path=str(tmp_path)), 1)


def test_what_cannot_be_is_refused_with_the_cure(tmp_path: Path):
    """Catches an empty folder that gives no item, and sizes without a meaning."""
    with pytest.raises(RequestError, match="at least one picture"):
        pixels(Images(path=str(tmp_path)))
    with pytest.raises(RequestError, match="can be read"):
        pixels(Images(path=str(tmp_path / "nowhere.png")))
    path = saved(tmp_path / "a.png", noise(6, 6, 3))
    with pytest.raises(RequestError, match="no picture .* holds a tile"):
        pixels(Images(path=path, size=7, crop="tile"))
    with pytest.raises(RequestError, match="there are 4 pictures, 0 to 3"):
        pixels(Images(path=path, size=3, crop="tile"), 4)
    floats = saved(tmp_path / "f.tif", np.ones((2, 2), np.float32))
    with pytest.raises(RequestError, match="f.tif.*32 bits"):
        pixels(Images(path=floats))
    for wrong in ({"size": 3}, {"crop": "tile"}, {"crop": "centre", "size": 0}, {"scale": 2.0}, {"crop": "middle"}):
        with pytest.raises(ValueError, match="size|scale|crop"):
            Images(path=path, **wrong)


def test_the_photographs_of_scikit_image_need_no_download():
    """Catches a wheel that lost a file, and pictures that some installations would have to fetch."""
    source = Images()
    assert source.num_items == len(PHOTOGRAPHS) and len(source.digests()["path"]) == 64
    assert items(source, 0)[0].name == "astronaut.png" and pixels(source).shape == (512, 512, 3)


def test_tiles_make_up_their_picture_again(tmp_path: Path):
    """Catches tiles put back column by column, or turned."""
    picture = noise(11, 7, 3)
    path = saved(tmp_path / "a.png", picture)
    tiles = Images(path=path, size=(4, 3), crop="tile")
    assert np.array_equal(tiles.assembled([pixels(tiles, index) for index in range(4)]), picture[:8, :6])
    assert np.array_equal(Images(path=path).assembled([picture]), picture)


def test_a_picture_is_sent_and_comes_back_as_a_picture(tmp_path: Path):
    """Catches a file of bytes where a PNG should lie, tiles out of place, and a scenario over pictures that refuses one."""
    picture = noise(3, 2, 3).repeat(8, axis=0).repeat(8, axis=1)
    scenario = tmp_path / "s.toml"
    scenario.write_text("""
        question = "?"
        items = 1
        [source]
        name = "images"
        size = 8
        crop = "tile"
        [tokenizer]
        name = "png"
        [[arm]]
        label = "clean"
        channel = { name = "ideal" }
        [[arm]]
        label = "mended"
        channel = { name = "packet_loss", loss_rate = 0.99 }
        tokenizer = { name = "pixels" }
        decoder = { name = "interpolate" }
    """)
    page = transmit(Path(saved(tmp_path / "mine.bmp", picture)), str(scenario), tmp_path / "out", {})
    assert "data:image/png" in page.read_text()
    with Image.open(tmp_path / "out" / "clean" / "restored.png") as arrived:
        assert np.array_equal(np.array(arrived), picture)
    with Image.open(tmp_path / "out" / "mended" / "arrived.png") as arrived:
        assert np.array(arrived).shape == picture.shape and np.mean(np.array(arrived) == 128) > 0.8
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(RequestError, match="note.txt.* cannot be read as a picture"):
        transmit(tmp_path / "note.txt", str(scenario), tmp_path / "out", {})
