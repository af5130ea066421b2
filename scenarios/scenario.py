"""A scenario file: what is asked. Base tables, arms that override them, and a sweep over dotted keys; no code in it."""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from channel_sim.checks import RequestError
from channel_sim.metrics import CATALOGUE as METRICS
from channel_sim.metrics import OF_EVALUATORS
from channel_sim.stages import Component
from channel_sim.trial import Chain
from scenarios import catalogue
from scenarios.defaults import fill, fits
from scenarios.stopping import Stop
from scenarios.sweep import Labelled, labelled, selected

STAGES = {"source": "sources", "tokenizer": "tokenizers", "coder": "coders", "protection": "protections",
          "channel": "channels", "decoder": "decoders", "receiver": "receivers"}
_DEFAULTS = {"source": "text", "coder": "fixed_length", "protection": "none", "channel": "ideal", "decoder": "none",
             "receiver": "receiver"}
JUDGE = "evaluator"
"""The stage that a scenario may leave out, and no arm has of its own: all are judged alike."""
_KINDS = {**STAGES, JUDGE: "evaluators"}
_TOKENIZERS = {"text": "bytes", "bytes": "bytes", "image": "pixels", "sound": "pcm", "symbols": "symbols",
               "vector": "diffc"}
"""Modality of a source -> the tokenizer that it has where none is given."""
Tables = dict[str, dict[str, Any]]


class _File(BaseModel):
    """The top level of a scenario file."""

    model_config = ConfigDict(extra="forbid")
    question: str
    seed: int = Field(1, ge=0)
    items: int = Field(100, gt=0)
    replicates: int = Field(1, gt=0)
    source: dict[str, Any] = {}
    tokenizer: dict[str, Any] = {}
    coder: dict[str, Any] = {}
    protection: dict[str, Any] = {}
    channel: dict[str, Any] = {}
    decoder: dict[str, Any] = {}
    receiver: dict[str, Any] = {}
    evaluator: dict[str, Any] = {}
    arm: list[dict[str, Any]] = Field(min_length=1)
    sweep: dict[str, list[Any]] = {}
    stop: Stop | None = None
    show: list[str] = Field([], description="metrics to show first in the report")
    envelopes: dict[str, list[str]] = Field({}, description="name -> labels of arms, of which the best at each point is drawn")


@dataclass(frozen=True)
class Task:
    """One arm at one point of the sweep. `task_id` is the SHA-256 of all that changes a number and of nothing else."""

    arm_index: int
    point_index: int
    arm: str
    sweep: dict[str, Any]
    chain: Chain
    resolved: dict[str, Any]
    task_id: str


@dataclass(frozen=True)
class Scenario:
    """A loaded scenario: every task resolved and validated. `text` is the file as written, with its overrides noted.

    items: how many there are at most; fewer where `stop`, which changes no number of any trial, is met before
    envelopes: name -> arms of which figures show the best at every point
    """

    name: str
    text: str
    question: str
    seed: int
    items: int
    replicates: int
    sweep: dict[str, list[Any]]
    show: tuple[str, ...]
    envelopes: dict[str, list[str]]
    tasks: tuple[Task, ...]
    stop: Stop | None = None


def shipped() -> list[str]:
    """Names of the scenarios that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in files("scenarios").iterdir() if entry.name.endswith(".toml"))


def read_shipped(name: str) -> dict[str, Any]:
    """The tables of a shipped scenario, as written."""
    return tomllib.loads((files("scenarios") / f"{name}.toml").read_text(encoding="utf-8"))


def load(request: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Load a scenario: the name of a shipped one, a path, or the tables themselves.

    `overrides` maps dotted keys ("channel.loss_rate", "items") to values; they apply to every arm that has the key, and
    replace a sweep over it; of a sweep over whole tables ("source") the label of one. All that is wrong is a `RequestError`
    naming file, key, rule and cure.
    """
    name, text, tables, folder = _read(request)
    tables, fixed = _override(tables, dict(overrides or {}), name)
    try:
        file = _File(**tables)
    except ValidationError as error:
        raise RequestError(_file_error(error, name)) from error
    _check_show(file, name)
    labels = _labels(file, name)
    _check_baseline(file, labels, name)
    _check_envelopes(file, labels, name)
    tasks = tuple(_tasks(file, labels, fixed, folder, name))
    noted = "".join(f"# set on the command line: {key} = {value!r}\n" for key, value in (overrides or {}).items())
    sweep = {axis: list(values) for axis, values in _axes(file, name).items()}
    return Scenario(Path(name).stem, noted + text, file.question, file.seed, _num_items(file), file.replicates, sweep,
                    tuple(file.show), file.envelopes, tasks, file.stop)


def describe(component: Component, *, identity: bool = False) -> dict[str, Any]:
    """Name, revision, fields and digests of files; with `identity`, what a file holds stands in for where it lies."""
    digests = component.digests()
    described: dict[str, Any] = {"name": catalogue.name_of(component), "revision": component.revision}
    for field in (field for field in type(component).model_fields if field not in component.ignored_fields):
        value = getattr(component, field)
        described[field] = describe(value, identity=identity) if isinstance(value, Component) else value
    return described | (digests if identity else {})


def components(chain: Chain) -> dict[str, Component]:
    """Stage -> component; no evaluator where the chain has none."""
    return {stage: part for stage in (*STAGES, JUDGE) if (part := getattr(chain, stage)) is not None}


def _read(request: str | Path | Mapping[str, Any]) -> tuple[str, str, dict[str, Any], Path]:
    if isinstance(request, Mapping):
        return "scenario", json.dumps(request, indent=1, default=str), dict(request), Path()
    path = Path(request)
    if not path.is_file() and str(request).removesuffix(".toml") in shipped():
        path = Path(str(files("scenarios"))) / f"{str(request).removesuffix('.toml')}.toml"
    try:
        text = path.read_text(encoding="utf-8")
        return path.name, text, tomllib.loads(text), path.parent
    except FileNotFoundError:
        raise RequestError(f"{request}: no such scenario file{catalogue.nearest(request, shipped())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{request}: cannot be read ({error}); give a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{request}: not valid TOML: {error}") from error


def _override(tables: dict[str, Any], overrides: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(top-level tables with their own keys replaced and fixed axes taken out of the sweep, what is fixed in every arm).

    Fixed are values by dotted key, and tables by stage: those of a sweep over whole tables that were chosen by their label.
    """
    tables, fixed = dict(tables), {}
    for key, value in overrides.items():
        stage, _, field = key.partition(".")
        sweep = tables.get("sweep", {})
        values = sweep.get(key) if isinstance(sweep, dict) else None
        if field and stage in _KINDS:
            fixed[key] = value
        elif isinstance(values, list) and isinstance(value, str):
            fixed[key] = selected(key, value, labelled(key, values, _named(key, tables.get(key, {})), name), name)
        elif not field and key in _File.model_fields:
            tables[key] = value
        else:
            keys = [*(f"{stage}.…" for stage in _KINDS), "items", "seed", "replicates"]
            raise RequestError(f"{name}: --set {key}: no such key{catalogue.nearest(key, keys)}")
        if values is not None:
            tables["sweep"] = {axis: others for axis, others in sweep.items() if axis != key}
    return tables, fixed


def _file_error(error: ValidationError, name: str) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = Stop.model_fields if first["loc"][0] == "stop" else _File.model_fields
        return f"{name}: {key}: no such table or key{catalogue.nearest(first['loc'][-1], known)}"
    if key == "arm":
        return f"{name}: arm: a scenario needs at least one [[arm]]; add one with a label"
    return f"{name}: {key}: {first['msg'].removeprefix('Value error, ')}"


def _labels(file: _File, name: str) -> list[str]:
    labels = [arm.get("label") for arm in file.arm]
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label:
            raise RequestError(f"{name}: arm {index + 1}: label: missing; give every [[arm]] a label")
        if labels.index(label) < index:
            raise RequestError(f"{name}: arm {index + 1}: label: {label!r} is used twice; labels must differ")
    return [str(label) for label in labels]


def _num_items(file: _File) -> int:
    """The smaller of `items` and `stop.max_items`, of those that are given."""
    if file.stop is None or file.stop.max_items is None:
        return file.items
    return min(file.items, file.stop.max_items) if "items" in file.model_fields_set else file.stop.max_items


def _check_baseline(file: _File, labels: list[str], name: str) -> None:
    baseline = file.stop.baseline if file.stop else None
    if baseline is not None and baseline not in labels:
        raise RequestError(f"{name}: stop.baseline: no arm is called {baseline!r}{catalogue.nearest(baseline, labels)}")
    if baseline is not None and len(labels) == 1:
        raise RequestError(f"{name}: stop.baseline: there is no second arm to compare with; use half_width")


def _check_envelopes(file: _File, labels: list[str], name: str) -> None:
    for envelope, arms in file.envelopes.items():
        for arm in arms:
            if arm not in labels:
                raise RequestError(f"{name}: envelopes.{envelope!r}: no arm is called {arm!r}{catalogue.nearest(arm, labels)}")
        if len(arms) < 2:
            raise RequestError(f"{name}: envelopes.{envelope!r}: must name two arms or more, got {len(arms)}; name them, or leave "
                               "it out")


def _check_show(file: _File, name: str) -> None:
    for metric in file.show:
        if metric not in METRICS:
            raise RequestError(f"{name}: show: no metric is called {metric!r}{catalogue.nearest(metric, METRICS)}")
        _check_is_judged(metric, "show", file, name)
    if file.stop is not None:
        _check_is_judged(file.stop.metric, "stop.metric", file, name)


def _check_is_judged(metric: str, key: str, file: _File, name: str) -> None:
    if metric in OF_EVALUATORS and not file.evaluator:
        raise RequestError(f"{name}: {key}: {metric!r} is measured by an evaluator, and the scenario has none; add [evaluator]")


def _axes(file: _File, name: str) -> dict[str, list[Any] | Labelled]:
    """Key -> its values; stage -> its tables by label."""
    axes: dict[str, list[Any] | Labelled] = {}
    for key, values in file.sweep.items():
        if key.partition(".")[0] == JUDGE:
            raise RequestError(f"{name}: sweep: {key!r}: all points are judged alike; set it in [{JUDGE}]")
        if not values:
            raise RequestError(f"{name}: sweep.{key!r}: has no values; give at least one")
        axes[key] = labelled(key, values, _named(key, getattr(file, key)), name) if key in STAGES else values
    return axes


def _tasks(file: _File, labels: list[str], fixed: dict[str, Any], folder: Path, name: str) -> Iterator[Task]:
    axes = _axes(file, name)
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    swept = [{key: value for key, value in fixed.items() if key in STAGES}
             | {key: axes[key][label] for key, label in point.items() if key in STAGES} for point in points]
    where = [f"{name}: arm {label!r}" for label in labels]
    stages = [[_arm_tables(file, arm, whole, folder, at) for whole in swept] for arm, at in zip(file.arm, where, strict=True)]
    _check_keys([*file.sweep, *fixed], [tables for of_arm in stages for tables in of_arm], name)
    for arm_index, of_arm in enumerate(stages):
        for point_index, (point, tables) in enumerate(zip(points, of_arm, strict=True)):
            address = (arm_index, point_index, labels[arm_index], point)
            yield _task(file.seed, address, tables, {**fixed, **point}, where[arm_index])


def _arm_tables(file: _File, arm: dict[str, Any], swept: Tables, folder: Path, where: str) -> Tables:
    """The arm's tables: its own replace the base ones; one without a name is laid over the base one, and under a swept one."""
    for key in arm.keys() - STAGES.keys() - {"label"}:
        cure = "; all arms are judged alike: give one to the scenario" if key == JUDGE else catalogue.nearest(key, STAGES)
        raise RequestError(f"{where}: {key}: no such table{cure}")
    tables: Tables = {JUDGE: _anchored(dict(file.evaluator), folder)} if file.evaluator else {}
    for stage in STAGES:
        own = arm.get(stage, {})
        if not isinstance(own, dict):
            raise RequestError(f"{where}: {stage}: must be a table such as {{ name = \"…\" }}, got {own!r}")
        if stage in swept and "name" in own:
            raise RequestError(f"{where}: {stage}.name: must be left out where the sweep is over {stage!r} as a whole, got "
                               f"{own['name']!r}; give single keys, or sweep over keys of {stage!r}")
        table = own | swept[stage] if stage in swept else own if "name" in own else getattr(file, stage) | own
        tables[stage] = _anchored(_named(stage, table), folder)
    if not tables["tokenizer"]:
        cls = catalogue.find("sources", tables["source"]["name"], f"{where}: source")
        tables["tokenizer"] = {"name": _TOKENIZERS.get(getattr(cls, "modality", ""), "bytes")}
    return tables


def _named(stage: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the name that its stage has where none is given."""
    return {"name": _DEFAULTS[stage], **table} if stage in _DEFAULTS else dict(table)


def _anchored(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Relative paths in a scenario file are relative to that file, where such a file exists."""
    for key in ("path", "dictionary", "primed", *catalogue.MODEL_KEYS):
        value = table.get(key)
        if isinstance(value, str) and value and (folder / value).exists():
            table[key] = str(folder / value)
    return table


def _check_keys(keys: list[str], stages: list[Tables], name: str) -> None:
    """Every dotted key must be a key of some arm; arms without it stay as they are."""
    for key in keys:
        stage, _, field = key.partition(".")
        if stage not in _KINDS:
            raise RequestError(f"{name}: sweep: {key!r}: no such table{catalogue.nearest(stage, STAGES)}")
        if not field:
            continue  # a whole table
        if any(stage not in tables for tables in stages):
            raise RequestError(f"{name}: {key}: the scenario has no {stage}; add [{stage}]")
        classes = [catalogue.find(_KINDS[stage], tables[stage].get("name"), f"{name}: {stage}") for tables in stages]
        at = f"{name}: {stage}"
        if all(_with(tables[stage], _KINDS[stage], field, None, at) is tables[stage] for tables in stages):
            allowed = sorted({f"{stage}.{known}" for cls in classes for known in cls.model_fields})
            raise RequestError(f"{name}: {key}: no arm has such a key{catalogue.nearest(key, allowed)}")


def _task(seed: int, address: tuple[int, int, str, dict[str, Any]], tables: Tables, values: dict[str, Any], where: str) -> Task:
    """The task of an arm at a point; `values` by dotted key reach what has the key."""
    tables = {stage: dict(table) for stage, table in tables.items()}
    for key, value in values.items():
        stage, _, field = key.partition(".")
        if field:
            tables[stage] = _with(tables[stage], _KINDS[stage], field, value, where)
    chain = _chain(tables, where)
    parts = components(chain)
    identity = {"seed": seed, **{stage: describe(part, identity=True) for stage, part in parts.items()}}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    resolved = {stage: describe(part) for stage, part in parts.items()}
    return Task(*address, chain, resolved, hashlib.sha256(canonical.encode()).hexdigest())


def _with(table: dict[str, Any], kind: str, key: str, value: Any, where: str) -> dict[str, Any]:
    """The table with a key replaced, or one of the model in it (model.max_megabytes), if what it names has such a key."""
    field, _, inner = key.partition(".")
    cls = catalogue.find(kind, table["name"], where)
    if field not in cls.model_fields:
        return table
    if not inner:
        return {**table, field: value}
    model = dict(catalogue.model_table(table.get(field) or {}, where))
    changed = _with(model, catalogue.models_for(cls, field), inner, value, where) if "name" in model else model
    return table if changed is model else {**table, field: changed}


def _chain(tables: Tables, where: str) -> Chain:
    built: dict[str, Any] = {}
    for stage, kind in STAGES.items():
        table = fill(stage, tables[stage], built, f"{where}: {stage}")
        built[stage] = catalogue.build(kind, table, f"{where}: {stage}")
    if JUDGE in tables:
        built[JUDGE] = catalogue.build(_KINDS[JUDGE], tables[JUDGE], f"{where}: {JUDGE}")
    chain = Chain(**built)
    fits(chain, where)
    return chain
