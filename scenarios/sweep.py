"""Axes of a sweep that are whole tables: each value takes the place of a stage's table, and is told apart by its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from channel_sim.checks import RequestError
from scenarios import catalogue

Labelled = dict[str, dict[str, Any]]


def labelled(stage: str, tables: Sequence[Any], base: Mapping[str, Any], name: str) -> Labelled:
    """Label -> table, in order; one without a name is laid over the `base` table of its stage. name: of the scenario, for errors.

    The label is the table's own key `label`, else the name of its component; where that is the name of several tables, the
    keys in which these differ stand behind it.

    >>> list(labelled("source", [{"name": "text", "item_bytes": 9}, {"name": "text"}, {"name": "dna", "label": "E. coli"}], {}, ""))
    ['text (item_bytes = 9)', 'text', 'E. coli']
    """
    whole = [_laid(stage, table, base, name) for table in tables]
    labels = [str(table.get("label") or _own_label(table, whole)) for table in whole]
    for label in labels:
        if labels.count(label) > 1:
            raise RequestError(f"{name}: sweep.{stage!r}: labels must differ, got {label!r} twice; give each table its own label")
    return {label: {key: value for key, value in table.items() if key != "label"}
            for label, table in zip(labels, whole, strict=True)}


def selected(stage: str, label: str, tables: Labelled, name: str) -> dict[str, Any]:
    """The table with a label."""
    if label not in tables:
        raise RequestError(f"{name}: --set {stage}: no table of the sweep is labelled {label!r}{catalogue.nearest(label, tables)}")
    return tables[label]


def _laid(stage: str, table: Any, base: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise RequestError(f"{name}: sweep.{stage!r}: must be tables such as {{ name = \"…\" }}, got {table!r}; to sweep over one "
                           f"key of a table, name it: \"{stage}.KEY\"")
    label = table.get("label", "-")
    if not isinstance(label, str) or not label:
        raise RequestError(f"{name}: sweep.{stage!r}: label: must be a text, got {label!r}; leave it out to use the name")
    return dict(table) if "name" in table else {**base, **table}


def _own_label(table: Mapping[str, Any], tables: Sequence[Mapping[str, Any]]) -> str:
    named, alike = str(table.get("name")), [other for other in tables if other.get("name") == table.get("name")]
    differing = [key for key in table if key not in ("name", "label") and any(other.get(key) != table[key] for other in alike)]
    return named + (f" ({', '.join(f'{key} = {table[key]}' for key in differing)})" if differing else "")
