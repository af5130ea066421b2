"""What every radio link was: Es/N0, Eb/N0, SNR and rate of each arm and sweep point, on the page and as a table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from channel_sim.link_law import LinkLaw
from channel_sim.store import Point, Store
from reports.files import writing
from reports.summary import point_text, value_text


@dataclass(frozen=True)
class LinkRow:
    """Arms over the same link at one sweep point; `where` is empty where the sweep leaves it as it is."""

    arms: str
    where: str
    cells: tuple[str, ...]


def link_rows(store: Store) -> tuple[LinkRow, ...]:
    """The links of a results file, ordered by sweep point, then arm; empty where none was met."""
    laws, points = _laws(store), sorted(store.points(), key=lambda one: (one.point_index, one.arm_index))
    arms = list(dict.fromkeys(point.arm for point in points))
    of_arm = {arm: {laws.get(point.task_id) for point in points if point.arm == arm} for arm in arms}
    found: dict[tuple[str, LinkLaw], list[str]] = {}
    for point in points:
        law = laws.get(point.task_id)
        if law is not None:
            where = point_text(point.sweep) if len(of_arm[point.arm]) > 1 else ""
            known = found.setdefault((where, law), [])
            known += [point.arm] * (point.arm not in known)
    return tuple(LinkRow("all arms" if len(met) == len(arms) > 1 else "; ".join(met), where, _cells(law))
                 for (where, law), met in found.items())


def write_link_csv(store: Store, path: Path) -> None:
    """One line an arm and sweep point with a radio link: Es/N0, Eb/N0 and SNR in dB, realised code rate, bits a channel use."""
    laws, points = _laws(store), store.points()
    keys = list(dict.fromkeys(key for point in points for key in point.sweep))
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", *keys, "esno_db", "ebno_db", "snr_db", "code_rate", "bits_per_use", "task_id"])
        writer.writerows([point.arm, *_where(point, keys), *map(repr, _numbers(laws[point.task_id])), point.task_id]
                         for point in points if point.task_id in laws)


def _laws(store: Store) -> dict[str, LinkLaw]:
    """task_id -> its link."""
    return {task_id: LinkLaw.from_dict(table["link"]) for task_id, table in store.laws().items() if "link" in table}


def _numbers(law: LinkLaw) -> tuple[float, ...]:
    return law.esno_db, law.ebno_db, law.snr_db, law.code_rate, law.bits_per_use


def _cells(law: LinkLaw) -> tuple[str, ...]:
    *decibels, rate, bits = _numbers(law)
    return (*(f"{round(value, 2) + 0.0:.2f}" for value in decibels), f"{rate:.4g}", f"{bits:.4g}")


def _where(point: Point, keys: list[str]) -> list[str]:
    return [value_text(point.sweep[key]) if key in point.sweep else "" for key in keys]
