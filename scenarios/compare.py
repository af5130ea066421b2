"""Several runs in one report: a results file that holds the arms of all, where their items are the same.

Arms of different runs met the same items but, unless their channels are the same, other losses; each keeps its own numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from channel_sim.checks import RequestError
from channel_sim.store import Curve, Point, Store
from scenarios.merge import distinct

_ALL = ("show", "markers", "assumptions", "sources", "notes")


@dataclass(frozen=True)
class Run:
    """One of the runs: `name` tells it from the others."""

    name: str
    store: Store
    meta: dict[str, Any]
    points: list[Point]


def compare(folders: Sequence[Path], out: Path, command: str) -> Path:
    """Write out/results.sqlite with all arms of the runs in `folders`; returns `out`.

    Refused unless seed, sweep, source and the items on file agree at every point. An arm that is the same task in several runs
    is one arm; where labels collide otherwise, the run is named beside them.
    """
    target = out / "results.sqlite"
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(Store(folder / "results.sqlite"))) for folder in folders]
        runs = [Run(name, store, store.meta(), store.points()) for name, store in zip(_names(folders), stores, strict=True)]
        for other in runs[1:]:
            _refuse_others(runs[0], other)
        labels = _labels(runs)
        _make_room(target, folders)
        store = stack.enter_context(closing(Store.create(target, _meta(runs, labels, command))))
        try:
            _write(store, runs, labels)
        except BaseException:
            store.close()
            target.unlink()
            raise
    return out


def _write(store: Store, runs: Sequence[Run], labels: dict[tuple[str, str], str]) -> None:
    arms = list(dict.fromkeys(labels.values()))
    points: dict[tuple[int, int], Point] = {}
    for run in runs:
        for one in run.points:
            label = labels[run.name, one.arm]
            index = arms.index(label)
            points[index, one.point_index] = replace(one, arm_index=index, arm=label)
    curves: dict[tuple[int, str, str], Curve] = {}
    for run in runs:
        for curve in run.store.curves():
            curves.setdefault((curve.point_index, curve.label, curve.metric), curve)
    with store.transaction():
        store.set_plan(points.values(), {task: one for run in runs for task, one in run.store.tasks().items()}, curves.values())
        store.set_laws({task: law for run in runs for task, law in run.store.laws().items()})
        for run in runs:
            for task in dict.fromkeys(point.task_id for point in run.points):
                store.add(run.store.trials(task), ((task, item, one) for item, one in run.store.samples(task)))
            for task, reason in run.store.stops().items():
                store.set_stop(task, reason)


def _refuse_others(first: Run, other: Run) -> None:
    """Raise where the items of two runs are not the same, with what differs."""
    for key, cure in (("seed", "run both with one seed"), ("sweep", "run both over the same values"), ("replicates", "")):
        if first.meta.get(key) != other.meta.get(key):
            raise RequestError(_differ(first, other, key, _text(first.meta.get(key)), _text(other.meta.get(key)), cure))
    sources = [_sources(run) for run in (first, other)]
    for index in sources[0]:
        one, another = sources[0][index], sources[1].get(index)
        if one != another:
            raise RequestError(_differ(first, other, "source", one, another or "none", "items of another source cannot be paired"))
    items = _items(first)
    for (index, arm), found in _items(other).items():
        own, theirs = next((label, one) for (place, label), one in items.items() if place == index)
        if found != theirs:
            raise RequestError(_differ(first, other, f"the items of {own!r} and {arm!r} at sweep point {index}",
                                       f"{len(theirs)} trials", f"{len(found)} with {len(theirs & found)} in common",
                                       "finish both runs with the same --items"))


def _differ(first: Run, other: Run, key: str, one: str, another: str, cure: str) -> str:
    return (f"{first.name} and {other.name}: {key}: must agree, got {one} and {another}; "
            f"{cure or 'only runs over the same items can be drawn together'}")


def _sources(run: Run) -> dict[int, str]:
    """Sweep point -> the source of its arms."""
    resolved = run.store.tasks()
    return {point.point_index: _text(resolved[point.task_id].get("source")) for point in run.points}


def _items(run: Run) -> dict[tuple[int, str], set[tuple[int, int]]]:
    """(sweep point, arm) -> (item, replicate) on file."""
    of_task: dict[str, set[tuple[int, int]]] = {}
    for task, item, replicate in run.store.done():
        of_task.setdefault(task, set()).add((item, replicate))
    return {(point.point_index, point.arm): of_task.get(point.task_id, set()) for point in run.points}


def _labels(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """(run, arm) -> label: the arm's own, with its run where another run means something else by it."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for point in run.points:
            tasks.setdefault((run.name, point.arm), []).append(point.task_id)
    distinct = {arm: {tuple(found) for (_, label), found in tasks.items() if label == arm} for _, arm in tasks}
    return {(run, arm): arm if len(distinct[arm]) == 1 else f"{arm} ({run})" for run, arm in tasks}


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their paths where these would not tell them apart."""
    short = Counter(folder.resolve().name for folder in folders)
    names = [folder.resolve().name if short[folder.resolve().name] == 1 else str(folder) for folder in folders]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RequestError(f"{twice[0]}: named twice; name every run once")
    return names


def _make_room(target: Path, folders: Sequence[Path]) -> None:
    """A comparison may be made anew; results of a run are not written over."""
    if not target.exists():
        return
    with closing(Store(target)) as on_file:
        is_comparison = "compared" in on_file.meta()
    if not is_comparison or target.resolve() in [(folder / "results.sqlite").resolve() for folder in folders]:
        raise RequestError(f"--out {target.parent}: holds the results of a run; choose another folder for the comparison")
    target.unlink()


def _meta(runs: Sequence[Run], labels: dict[tuple[str, str], str], command: str) -> dict[str, Any]:
    """What describes all runs: lists united, words one after the other, arms with the labels that they have here."""
    metas = [run.meta for run in runs]
    arms = {labels[run.name, arm["label"]]: {**arm, "label": labels[run.name, arm["label"]]}
            for run in runs for arm in run.meta.get("arms", []) if (run.name, arm["label"]) in labels}
    return {
        **metas[0], **{key: distinct(one for meta in metas for one in meta.get(key, [])) for key in _ALL},
        "name": " and ".join(run.name for run in runs), "question": " ".join(distinct(meta.get("question", "") for meta in metas)),
        "arms": [arms[label] for label in dict.fromkeys(labels.values()) if label in arms],
        "scenario_toml": "\n".join(f"# {run.name}\n{run.meta.get('scenario_toml', '')}" for run in runs),
        "provenance": _provenance([meta.get("provenance", {}) for meta in metas], command), "compared": [run.name for run in runs],
    }


def _provenance(parts: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """Commands in the order in which they make this report; values that differ beside each other."""
    whole: dict[str, Any] = {key: " / ".join(distinct(one[key] for one in parts if one.get(key))) for key in ("device", "commit")}
    for key in ("versions", "digests"):
        names = distinct(name for one in parts for name in one.get(key, {}))
        whole[key] = {name: " / ".join(distinct(one[key][name] for one in parts if name in one.get(key, {}))) for name in names}
    return {**whole, "command": "; ".join([*distinct(one["command"] for one in parts if one.get("command")), command])}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
