"""Parts of one scenario, run in different places, united in one results file.

A sweep is split by giving every machine some of its values: --set 'sweep={"channel.loss_rate" = [0.1, 0.2]}'.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from channel_sim.checks import RequestError
from channel_sim.store import Curve, Point, Store, StoreConflict, Trial

_LARGEST = ("items", "replicates")
_ALL = ("assumptions", "sources", "show", "markers")


def merge(stores: Sequence[Path], into: Path) -> int:
    """Unite results (files, or the folders of runs) in `into`, all or nothing; returns the number of trials that came in.

    `into` may be there already and is then the first of the parts. Equal trials are one; a `StoreConflict` names the two
    files that differ. All parts must be of one scenario and seed: a report has one question, and arms are told apart by
    their labels. A trial's address is a digest of all that changes its number, so that parts may overlap in any way.
    """
    target = _results_file(into)
    parts = [path for path in dict.fromkeys(map(_results_file, stores)) if path.resolve() != target.resolve()]
    if not parts:
        raise RequestError(f"{into}: nothing to merge; name the results that shall come in")
    with ExitStack() as stack:
        others = [stack.enter_context(closing(Store(path))) for path in parts]
        is_new = not target.exists()
        present = [] if is_new else [stack.enter_context(closing(Store(target, writable=True)))]
        meta, plan = _description([*present, *others]), _plan([*present, *others])
        store = present[0] if present else stack.enter_context(closing(Store.create(target, meta)))
        try:
            with store.transaction():
                return _unite(store, others, meta, plan)
        except BaseException:
            if is_new:
                store.close()
                target.unlink()
            raise


def _unite(store: Store, others: list[Store], meta: dict[str, Any], plan: tuple[list[Point], list[Curve]]) -> int:
    before = store.num_trials()
    parts = [store, *others]
    stops = {task: reason for part in reversed(parts) for task, reason in part.stops().items()}
    resolved = {task: one for part in others for task, one in part.tasks().items()}
    for key, value in meta.items():
        store.set_meta(key, value)
    store.set_plan(plan[0], resolved, plan[1])
    store.set_laws({task: law for part in others for task, law in part.laws().items()})
    for part in others:
        tasks = part.tasks()
        try:
            store.add(_trials(part, tasks), ((task, item, one) for task in tasks for item, one in part.samples(task)))
        except StoreConflict as conflict:
            raise _between(parts, part, conflict) from conflict
        for failure in part.failures():
            store.add_failure(failure.task_id, failure.item, failure.replicate, failure.error)
    for task, reason in stops.items():
        store.set_stop(task, reason)
    return store.num_trials() - before


def _trials(store: Store, tasks: Iterable[str]) -> Iterator[Trial]:
    for task in tasks:
        yield from store.trials(task)


def _between(parts: list[Store], second: Store, conflict: StoreConflict) -> StoreConflict:
    """The conflict in the words of a merge: the first of two files is the one that brought the value on file."""
    task, item, replicate = conflict.address
    # in order of parts but for the united file itself, which by now holds what all before it brought
    candidates = [*parts[1:parts.index(second)], parts[0]]
    first = next(one for one in candidates if any((t.item, t.replicate) == (item, replicate) for t in one.trials(task)))
    return StoreConflict(f"{first.path} and {second.path}: task {task[:12]}, item {item}, replicate {replicate} has "
                         f"{conflict.values[0]} in the first and {conflict.values[1]} in the second; two versions of code or "
                         "machine met: merge only one of them", conflict.address, conflict.values)


def _description(parts: list[Store]) -> dict[str, Any]:
    """What describes the whole; words about measured numbers (`notes`) stay only where all parts have them."""
    first, *others = metas = [part.meta() for part in parts]
    for meta, part in zip(others, parts[1:], strict=True):
        for key in ("name", "seed"):
            if meta.get(key) != first.get(key):
                raise RequestError(f"{parts[0].path} and {part.path}: {key} {first.get(key)!r} and {meta.get(key)!r}; "
                                   "only parts of one scenario can be united")
    whole = dict(first)
    for key in _LARGEST:
        whole[key] = max(meta.get(key, 1) for meta in metas)
    for key in _ALL:
        whole[key] = distinct(one for meta in metas for one in meta.get(key, []))
    whole["arms"] = _arms(parts, metas)
    whole["sweep"] = _axes(parts, first.get("sweep", {}))
    whole["notes"] = first.get("notes", []) if all(meta.get("notes", []) == first.get("notes", []) for meta in others) else []
    whole["interrupted"] = None  # what is missing of the whole is seen from its addresses
    whole["merged"] = distinct(one for meta in metas for one in meta.get("merged", [meta.get("provenance", {})]))
    return whole


def _arms(parts: list[Store], metas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arms in the order in which they are met; an arm is described as it is at the first sweep point, wherever that was run."""
    sweeps = [[point.sweep for point in part.points() if point.point_index == 0] for part in parts]
    order = [_text(sweep) for sweep in _in_order([sweep for of_part in sweeps for sweep in of_part])]
    first_places = [order.index(_text(of_part[0])) if of_part else len(order) for of_part in sweeps]
    by_place = [metas[index] for index in sorted(range(len(metas)), key=first_places.__getitem__)]
    described = {arm["label"]: arm for meta in reversed(by_place) for arm in meta.get("arms", [])}
    return [described[label] for label in distinct(arm["label"] for meta in metas for arm in meta.get("arms", []))]


def _plan(parts: list[Store]) -> tuple[list[Point], list[Curve]]:
    """Arms in the order in which they are met, sweep points in that of the axes, and the closed forms at them."""
    places: dict[tuple[str, str], tuple[Store, Point]] = {}
    for part in parts:
        for point in part.points():
            known, other = places.setdefault((point.arm, _text(point.sweep)), (part, point))
            if other.task_id != point.task_id:
                raise RequestError(_two_tasks(known, part, other, point))
    arms = distinct(arm for arm, _ in places)
    sweeps = _in_order(distinct(point.sweep for _, point in places.values()))
    order = {_text(sweep): index for index, sweep in enumerate(sweeps)}
    points = [Point(arms.index(arm), order[sweep], arm, point.sweep, point.task_id) for (arm, sweep), (_, point) in places.items()]
    curves: dict[tuple[int, str, str], Curve] = {}
    for part in parts:
        here = {point.point_index: order[_text(point.sweep)] for point in part.points()}
        for one in part.curves():
            place = here[one.point_index]
            curves.setdefault((place, one.label, one.metric), Curve(place, one.label, one.metric, one.value, one.source))
    return points, list(curves.values())


def _two_tasks(first: Store, second: Store, a: Point, b: Point) -> str:
    where = f"arm {a.arm!r}" + (f" at {', '.join(f'{key} = {value}' for key, value in a.sweep.items())}" if a.sweep else "")
    one, other = (_flat(store.resolved(point.task_id)) for store, point in ((first, a), (second, b)))
    differing = [f"{key} = {one.get(key)} and {other.get(key)}" for key in dict.fromkeys([*one, *other])
                 if one.get(key) != other.get(key)]
    return (f"{first.path} and {second.path}: {where} is not the same in both: {'; '.join(differing) or 'data or weights differ'}; "
            "give different arms different labels, and split a sweep by values of its table [sweep]")


def _flat(resolved: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in resolved.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _axes(parts: list[Store], axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Every axis with the values of all parts; axes of no point, which some store describes, stay as they are."""
    sweeps = _in_order(distinct(point.sweep for part in parts for point in part.points()))
    met = {key: distinct(sweep[key] for sweep in sweeps if key in sweep) for sweep in sweeps for key in sweep}
    return {**axes, **met}


def _in_order(sweeps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By value where all values are numbers, since parts do not tell how theirs go together; else as they were met."""
    if all(isinstance(value, int | float) for sweep in sweeps for value in sweep.values()):
        return sorted(sweeps, key=lambda sweep: list(sweep.values()))
    return sweeps


def distinct(values: Iterable[Any]) -> list[Any]:
    """JSON values without repetition, in the order in which they are first met."""
    return list({_text(value): value for value in reversed(list(values))}.values())[::-1]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _results_file(path: Path) -> Path:
    return path if path.suffix == ".sqlite" else path / "results.sqlite"
