"""The strip of pictures over bit rates: what each arm makes of an item, side by side, in the order of the bits that it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.pictures import Pane, Pictured
from reports.summary import with_minus
from reports.viewer import Example, View, Viewer

_SHOWN_SIDE = 96
"""Pixels of a screen that small pictures are enlarged to, about."""
_LEAST_RISE = 1.1
"""From the fewest to the most bits of an arm: less is no other rate."""


@dataclass(frozen=True)
class Tile:
    """One picture of the strip. bits, psnr: as text; where: the point of the sweep; rate: bits a pixel."""

    uri: str
    where: str
    rate: float
    bits: str
    psnr: str


@dataclass(frozen=True)
class Strip:
    """One item: the original, then a row an arm. width, height: of a picture on a screen."""

    item: str
    original: Pane
    width: int
    height: int
    rows: tuple[tuple[str, tuple[Tile, ...]], ...]

    @property
    def uris(self) -> set[str]:
        return {self.original.uri, *(tile.uri for _, tiles in self.rows for tile in tiles)}


def strips(viewer: Viewer | None) -> tuple[Strip, ...]:
    """A strip an item of what the viewer shows; none unless one key is swept, and changes an arm's bits and picture."""
    if viewer is None or len(viewer.axes) != 1:
        return ()
    by_item: dict[str, list[View]] = {}
    for view in (viewer.shown, *viewer.others):
        if view.example.kind == "image":
            by_item.setdefault(view.key.partition("-")[0], []).append(view)
    made = [_strip(views) for _, views in sorted(by_item.items(), key=lambda one: int(one[0]))]
    return tuple(strip for strip in made if any(map(_is_a_sweep_of_rates, strip.rows)))


def _strip(views: Sequence[View]) -> Strip:
    first = views[0].example
    assert isinstance(first.original, Pane)
    labels = dict.fromkeys(one.label for view in views for one in view.example.restored)
    rows = [(label, _tiles(label, views)) for label in labels]
    width, height = (first.restored[0].width, first.restored[0].height) if isinstance(first.restored[0], Pictured) else (0, 0)
    zoom = max(1, _SHOWN_SIDE // max(width, height, 1))
    return Strip(first.item, first.original, zoom * width, zoom * height, tuple(row for row in rows if row[1]))


def _tiles(label: str, views: Sequence[View]) -> tuple[Tile, ...]:
    """Of one arm, by rising rate; the same picture at the same rate once."""
    found: dict[tuple[str, str], Tile] = {}
    for view in views:
        for one in view.example.restored:
            if isinstance(one, Pictured) and one.label == label and "bits_per_pixel" in one.measured:
                tile = _tile(one, view.example, view.where)
                found.setdefault((tile.uri, tile.bits), tile)
    return tuple(sorted(found.values(), key=lambda tile: tile.rate))


def _tile(one: Pictured, example: Example, where: str) -> Tile:
    assert isinstance(example.original, Pane)
    rate, psnr = one.measured["bits_per_pixel"], one.measured.get("psnr_db")
    uri = next((pane.uri for pane in one.panes if pane.kind == "restored"), example.original.uri)
    quality = "as sent" if one.is_whole else "–" if psnr is None else with_minus(f"{psnr:.1f} dB")
    return Tile(uri, where, rate, f"{rate:.2f} bpp", quality)


def _is_a_sweep_of_rates(row: tuple[str, tuple[Tile, ...]]) -> bool:
    tiles = row[1]
    return bool(tiles) and tiles[-1].rate >= _LEAST_RISE * tiles[0].rate and tiles[-1].uri != tiles[0].uri
