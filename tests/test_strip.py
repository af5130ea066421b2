"""The strip of pictures over bit rates: every rate of an arm once, in order, beside the original; and only where rates move."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial
from reports.html import write_report
from reports.strip import Strip, strips
from reports.summary import summarise
from reports.viewer import viewer
from tests.synthetic_results import meta, picture_sample, picture_store

QUALITIES = [90, 20, 50]
ARMS = ["a codec", "tokens of one rate", "without any error"]


def rate_store(path: Path, *, second_key: bool = False) -> Store:
    """The first arm spends what the sweep says, and errs less the more it spends; the second does not know the sweep."""
    sweep = {"tokenizer.quality": QUALITIES} | ({"coder.packet_bits": [8]} if second_key else {})
    store = Store.create(path, meta(sweep) | {"name": "rates", "arms": [], "show": ["psnr_db"], "question": "Which rate?"})
    extra = [{"coder.packet_bits": 8}, {"coder.packet_bits": 16}] if second_key else [{}]
    places = [{"tokenizer.quality": quality} | more for quality in QUALITIES for more in extra]
    points = [Point(a, p, arm, place, f"{a}-{p}") for a, arm in enumerate(ARMS) for p, place in enumerate(places)]
    store.set_plan(points, {point.task_id: {} for point in points}, [])
    for point in points:
        quality = point.sweep["tokenizer.quality"] if point.arm_index == 0 else 50
        samples = []
        for item in range(2):
            one = picture_sample(point.arm_index, 1 - quality / 100, item, 32)
            one["measured"] |= {"bits_per_pixel": quality / 40 * (1 + item)}
            samples.append((point.task_id, item, one))
        store.add([Trial(point.task_id, item, 0, {"psnr_db": (20.0 + quality / 10, 1.0)}, {}, Ledger(channel_uses=9).to_dict())
                   for item in range(4)], samples)
    return store


def shown(store: Store) -> tuple[Strip, ...]:
    return strips(viewer(store, summarise(store)))


def test_each_arm_has_every_rate_once_from_the_fewest_bits_on(tmp_path: Path) -> None:
    """Catches the order of the sweep for that of the rates, repeated pictures, and an item's numbers under another's picture."""
    with closing(rate_store(tmp_path / "r.sqlite")) as store:
        first, second = shown(store)
        kept = [dict(store.samples(f"0-{QUALITIES.index(quality)}"))[1] for quality in (20, 50, 90)]
    rows = dict(second.rows)
    assert [tile.bits for tile in rows["a codec"]] == ["1.00 bpp", "2.50 bpp", "4.50 bpp"]
    assert [tile.uri for tile in rows["a codec"]] == [sample["restored"] for sample in kept]
    assert [tile.psnr for tile in rows["a codec"]] == [f"{sample['measured']['psnr_db']:.1f} dB" for sample in kept]
    assert [tile.where for tile in rows["a codec"]] == ["quality 20", "quality 50", "quality 90"]
    assert [len(tiles) for _, tiles in second.rows] == [3, 1, 1] and rows["without any error"][0].psnr == "as sent"
    assert rows["without any error"][0].uri == second.original.uri != first.original.uri
    assert (first.width, first.height) == (96, 96) and first.item == "waves, number 0"


def test_no_strip_where_the_rate_stands_still_or_two_keys_move(tmp_path: Path) -> None:
    """Catches a strip over losses, which says nothing of rates, and one that mixes two sweeps."""
    with closing(picture_store(tmp_path / "losses.sqlite")) as store:
        assert not shown(store) and "Over bit rates" not in write_report(store, tmp_path).read_text(encoding="utf-8")
    with closing(rate_store(tmp_path / "two.sqlite", second_key=True)) as store:
        assert not shown(store)
    assert strips(None) == ()


def test_the_page_shows_the_strip_without_its_script_and_holds_pictures_once(tmp_path: Path) -> None:
    """Catches pictures that wait for a script, megabytes twice, and a picture without words for those who cannot see it."""
    with closing(rate_store(tmp_path / "r.sqlite")) as store:
        all_of_it = viewer(store, summarise(store))
        page = write_report(store, tmp_path).read_text(encoding="utf-8")
    assert all_of_it is not None
    drawn = page[page.index("<h3>Over bit rates"):page.index('<div class="viewer">')]
    tiles = re.findall(r'<img width="96" height="96" alt="([^"]+)" data-picture="(\d+)" src="([^"]+)">', drawn)
    assert len(tiles) == 2 * (1 + 3 + 1 + 1) and all(all_of_it.pictures[uri] == int(number) for _, number, uri in tiles)
    assert "a codec, quality 20" in {alt for alt, _, _ in tiles}
    waiting = page[page.index('<template class="pictures">'):]
    assert not any(uri in waiting for _, _, uri in tiles)
    uris = re.findall(r'src="(data:image/png[^"]*)"', page)
    assert set(uris) == set(all_of_it.pictures), "nothing that a slider needs is missing"


@pytest.mark.parametrize("quality", QUALITIES)
def test_bits_under_a_picture_are_those_of_its_own_sample(tmp_path: Path, quality: int) -> None:
    """Catches a mean over items in place of the picture's own bits: the first item has half of the second's."""
    with closing(rate_store(tmp_path / "r.sqlite")) as store:
        found = [next(tile.rate for tile in dict(strip.rows)["a codec"] if tile.where.endswith(str(quality)))
                 for strip in shown(store)]
    assert found == [quality / 40, quality / 20]
