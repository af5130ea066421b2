"""The chain as a diagram: arms from top to bottom, stages from left to right, and what neighbouring arms share drawn once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.summary import value_text

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Box:
    """One component of `num_arms` arms below one another; name None: these arms have no such stage."""

    name: str | None
    parameters: Pairs
    num_arms: int


@dataclass(frozen=True)
class Diagram:
    """A table with cells over several rows.

    stages: the columns
    rows:   (arm, cells): the cells that begin in its row, for column after column a `Box` and, but for the last, the number of
            arms that the wire to the next column stands for; None where what is there began in a row above
    """

    stages: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Box | None, int | None], ...]], ...]


def diagram(meta: Mapping[str, Any], met: Mapping[str, Sequence[Mapping[str, Any]]]) -> Diagram:
    """The chain of every arm, as the run has written it into `meta`.

    met: arm -> its components by stage at every point of the sweep, for those that follow what is swept
    """
    arms, sweep = meta.get("arms", []), meta.get("sweep", {})
    stages = list(dict.fromkeys(part["stage"] for arm in arms for part in arm["chain"]))
    by_arm = [{part["stage"]: _component(part, met.get(arm["label"], ()), sweep) for part in arm["chain"]} for arm in arms]
    columns: list[list[tuple[str | None, Pairs]]] = [[parts.get(stage, (None, ())) for parts in by_arm] for stage in stages]
    boxes = [_repeats(column) for column in columns]
    pairs = [list(zip(left, right, strict=True)) for left, right in zip(columns, columns[1:], strict=False)]
    wires = [*map(_repeats, pairs), *([0] * len(arms) for _ in columns[-1:])]  # runs of a user's own function have no columns
    rows = [(arm["label"], tuple((Box(*column[row], counts[row]) if counts[row] else None, wire[row] or None)
                                 for column, counts, wire in zip(columns, boxes, wires, strict=True)))
            for row, arm in enumerate(arms)]
    return Diagram(tuple(stages), tuple(rows))


def _repeats(values: Sequence[Any]) -> list[int]:
    """How often a value stands in a row, at the first place of it; 0 at the others."""
    counts = [0] * len(values)
    first = 0
    for place, value in enumerate(values):
        first = place if value != values[first] else first
        counts[first] += 1
    return counts


def _component(part: Mapping[str, Any], chains: Sequence[Mapping[str, Any]], sweep: Mapping[str, Any]) -> tuple[str, Pairs]:
    """Name and parameters; the names alone where there are several over the sweep, and the labels where these are others."""
    met = [chain[part["stage"]] for chain in chains if part["stage"] in chain]
    names = list(dict.fromkeys([part["name"], *(one["name"] for one in met)]))
    labels = sweep.get(part["stage"], names)
    if labels != names:
        return ", ".join(names), (("swept", ", ".join(labels)),)
    if len(names) > 1:
        return ", ".join(names), ()
    return part["name"], _parameters(part, met, sweep)


def _parameters(part: Mapping[str, Any], met: Sequence[Mapping[str, Any]], sweep: Mapping[str, Any]) -> Pairs:
    """(key, value) as written; a swept key with all its values, and one that follows the sweep with those that it takes."""
    swept = {key.partition(".")[2]: "swept: " + ", ".join(map(value_text, values)) for key, values in sweep.items()
             if key.partition(".")[0] == part["stage"]}
    pairs: dict[str, str] = {}
    for key, value in part["parameters"].items():
        if key == "digests" or value in (None, {}, []):
            continue
        inside = {one.removeprefix(f"{key}."): text for one, text in swept.items() if one.startswith(f"{key}.")}
        found = dict.fromkeys(_parameter(one, inside) for one in (value, *(other[key] for other in met if key in other)))
        pairs[key] = swept.get(key) or ", ".join(found)
    return tuple(pairs.items())


def _parameter(value: Any, swept: Mapping[str, str]) -> str:
    """A value as written; a nested component as name(key=value), with what is said of its keys that are swept."""
    if isinstance(value, dict) and "name" in value:
        shown = {key: one for key, one in value.items() if key not in ("name", "revision", "digests") and one is not None}
        inside = ", ".join(f"{key}={swept.get(key) or value_text(one)}" for key, one in shown.items())
        return f"{value['name']}({inside})" if inside else str(value["name"])
    return value_text(value)
