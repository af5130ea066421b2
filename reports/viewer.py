"""Which samples a page holds: a few items at the points of the sweep, thinned out evenly until a page can carry them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from channel_sim.store import Store
from reports.axes import categories_of
from reports.marks import Marked, legend, mark, original_text
from reports.pictures import Pane, Pictured, original_picture, pictured
from reports.sounds import about_original, original_sound, sounded
from reports.summary import Summary, point_text, value_text, with_minus, words

_SHOWN = {"image": pictured, "sound": sounded}
NUM_ITEMS = 2
MAX_BYTES = 3_000_000
"""What the samples of a page may take, about: a panel, one item at one point from one arm, has a share of it."""
TEXT_BYTES = 15_000
"""The share of a panel of text, at most; that of a panel of pictures is measured."""


@dataclass(frozen=True)
class Example:
    """One item beside what every arm made of it, of kind "text", "image" or "sound".

    num_slots: the longest time on the air; 1 where nothing was sent
    """

    kind: str
    item: str
    original: str | Pane
    restored: tuple[Marked, ...] | tuple[Pictured, ...]

    @property
    def num_slots(self) -> int:
        return max([1, *(one.timeline.num_shown for one in self.restored if one.timeline)])

    @property
    def uris(self) -> list[str]:
        """The files of its pictures and sounds."""
        own = self.original.uris if isinstance(self.original, Pane) else []
        return [*own, *(uri for one in self.restored if isinstance(one, Pictured) for uri in one.uris)]

    @property
    def is_telling(self) -> bool:
        return not all(one.is_whole for one in self.restored)


@dataclass(frozen=True)
class View:
    """An example at one place of the sliders: `key` names item and position on every axis."""

    key: str
    where: str
    example: Example


@dataclass(frozen=True)
class Axis:
    """One slider: its values as text, and where it stands first."""

    name: str
    values: tuple[str, ...]
    start: int


@dataclass(frozen=True)
class Viewer:
    """The page begins with `shown`; `others` wait for the sliders. is_thinned: the sweep has more points than are shown.

    pictures: data URI of every picture and sound -> its number; the page holds each of them once
    """

    axes: tuple[Axis, ...]
    num_items: int
    shown: View
    others: tuple[View, ...]
    is_thinned: bool
    legend: list[tuple[str, str]]
    pictures: dict[str, int]

    @property
    def kinds(self) -> set[str]:
        return {view.example.kind for view in (self.shown, *self.others)}


def viewer(store: Store, summary: Summary) -> Viewer | None:
    """None where no sample is on file.

    It begins in the middle of the sweep, or at the next point after it where something was lost: an intact text shows nothing.
    """
    axes = _axes(summary)
    most = MAX_BYTES // _panel_bytes(store, summary)
    num_items, kept = _affordable([len(values) for values in axes.values()], len(summary.arms), most)
    places = {tuple(value_text(sweep[key]) for key in axes): index for index, sweep in summary.points.items()}
    views: dict[tuple[int, ...], View] = {}
    for at in itertools.product(*map(range, map(len, kept))):
        position = tuple(values[which[step]] for values, which, step in zip(axes.values(), kept, at, strict=True))
        if position in places:
            where = point_text(summary.points[places[position]])
            for number, one in enumerate(_examples(store, summary, places[position], num_items)):
                views[number, *at] = View("-".join(map(str, (number, *at))), where, one)
    if not views:
        return None
    first = _first([key for key in views if key[0] == 0], views)
    sliders = [Axis(words(key), tuple(with_minus(values[step]) for step in which), start)
               for (key, values), which, start in zip(axes.items(), kept, first[1:], strict=True)]
    everything = [one for view in views.values() for one in view.example.restored if isinstance(one, Marked)]
    uris = dict.fromkeys(uri for view in (views[first], *views.values()) for uri in view.example.uris)
    return Viewer(tuple(sliders), max(key[0] for key in views) + 1, views[first],
                  tuple(view for key, view in views.items() if key != first),
                  any(len(which) < len(values) for which, values in zip(kept, axes.values(), strict=True)), legend(everything),
                  {uri: number for number, uri in enumerate(uris)})


def example(samples: Sequence[tuple[str, Mapping[str, Any]]]) -> Example:
    """(arm, sample) of one item."""
    first = samples[0][1]
    if first["kind"] == "image":
        return Example("image", first["item"], original_picture(first), tuple(pictured(one, label) for label, one in samples))
    if first["kind"] == "sound":
        return Example("sound", about_original(first), original_sound(first), tuple(sounded(one, label) for label, one in samples))
    return Example("text", first["item"], original_text(first), tuple(mark(sample, label) for label, sample in samples))


def _axes(summary: Summary) -> dict[str, list[str]]:
    """Swept key -> its values as text, in the order of the points; a key that stays the same is no axis."""
    found = {key: list(dict.fromkeys(value_text(sweep[key]) for sweep in summary.points.values() if key in sweep))
             for key in summary.sweep_keys}
    return {key: values for key, values in found.items() if len(values) > 1}


def _panel_bytes(store: Store, summary: Summary) -> int:
    """What a panel takes, going by an item in the middle of every arm's sweep, or in each category, which may be of a kind."""
    points = {arm: [row.point.task_id for row in summary.of(arm)] for arm in summary.arms}
    looked_at = {arm: tasks if categories_of(summary) else tasks[len(tasks) // 2:][:1] for arm, tasks in points.items()}
    samples = [sample for tasks in looked_at.values() for task in tasks for _, sample in store.samples(task)[:1]]
    files = [sum(map(len, show(sample, "").uris)) for sample in samples if (show := _SHOWN.get(sample["kind"]))]
    return max([TEXT_BYTES, *files])


def _affordable(lengths: Sequence[int], num_arms: int, max_panels: int) -> tuple[int, list[list[int]]]:
    """(items, places kept of each axis): fewer items first, then fewer places of the longest axis, its ends kept."""
    num_items, left = NUM_ITEMS, list(lengths)
    while num_arms * num_items * math.prod(left) > max_panels and (num_items > 1 or max(left, default=1) > 2):
        if num_items > 1:
            num_items -= 1
        else:
            left[left.index(max(left))] -= 1
    return num_items, [sorted({int(place) for place in np.linspace(0, length - 1, count).round()})
                       for length, count in zip(lengths, left, strict=True)]


def _examples(store: Store, summary: Summary, point_index: int, num_items: int) -> list[Example]:
    """The first items of one sweep point that have samples, each with every arm that has one of it."""
    by_arm = {row.point.arm: dict(store.samples(row.point.task_id)) for row in summary.at(point_index)}
    items = sorted({item for samples in by_arm.values() for item in samples})[:num_items]
    return [example([(arm, samples[item]) for arm, samples in by_arm.items() if item in samples]) for item in items]


def _first(keys: Sequence[tuple[int, ...]], views: Mapping[tuple[int, ...], View]) -> tuple[int, ...]:
    order = [*keys[len(keys) // 2:], *keys[:len(keys) // 2]]
    return next((key for key in order if views[key].example.is_telling), order[0])
