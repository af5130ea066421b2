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


def diagram(meta: Mapping[str, Any]) -> Diagram:
    """The chain of every arm, as the run has written it into `meta`."""
    arms, sweep = meta.get("arms", []), meta.get("sweep", {})
    stages = list(dict.fromkeys(part["stage"] for arm in arms for part in arm["chain"]))
    by_arm = [{part["stage"]: (part["name"], _parameters(part, sweep)) for part in arm["chain"]} for arm in arms]
    columns = [[parts.get(stage, (None, ())) for parts in by_arm] for stage in stages]
    boxes = [_repeats(column) for column in columns]
    pairs = [list(zip(left, right, strict=True)) for left, right in zip(columns, columns[1:], strict=False)]
    wires = [*map(_repeats, pairs), *([0] * len(arms) for _ in columns[-1:])]  # runs of a user's own function have no columns
    rows = [(arm["label"], tuple((Box(*column[row], num_arms) if (num_arms := counts[row]) else None, wire[row] or None)
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


def _parameters(part: Mapping[str, Any], sweep: Mapping[str, Any]) -> Pairs:
    """(key, value) as written; a swept key with all its values."""
    parameters = {key: value for key, value in part["parameters"].items() if key != "digests"}
    pairs = {key: _parameter(value) for key, value in parameters.items() if value not in (None, {}, [])}
    swept = {key.partition(".")[2]: values for key, values in sweep.items() if key.partition(".")[0] == part["stage"]}
    pairs |= {key: "swept: " + ", ".join(map(value_text, values)) for key, values in swept.items() if key in pairs}
    return tuple(pairs.items())


def _parameter(value: Any) -> str:
    """A value as written; a nested component as name(key=value)."""
    if isinstance(value, dict) and "name" in value:
        shown = {key: one for key, one in value.items() if key not in ("name", "revision", "digests") and one is not None}
        inside = ", ".join(f"{key}={value_text(one)}" for key, one in shown.items())
        return f"{value['name']}({inside})" if inside else str(value["name"])
    return value_text(value)
