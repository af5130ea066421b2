"""The report and the transmission page: one HTML file each, without a script or anything to load.

The same results give the same bytes: no date of writing, no random names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from channel_sim.store import Store
from reports.card_page import card_table
from reports.comparability import unequal_packets, unequal_uses
from reports.figures import save_figures
from reports.files import writing
from reports.findings import answer, findings, interval_text, multiplicity
from reports.headline import headline
from reports.ledgers import ledger_table
from reports.links import link_rows
from reports.marks import MAX_TOKENS, Marked, legend, mark, original_text
from reports.statistics import FEW_ITEMS
from reports.summary import Summary, describe, point_text, summarise, value_text, words

_NUM_HIGHLIGHTS, _NUM_ITEMS = 4, 2
_UNSAID: dict[str, Any] = {"name": "", "question": "", "samples_note": "", "scenario_toml": "", "assumptions": [], "sources": [],
                           "replicates": 1, "seed": "", "provenance": {}}
_SHOWN_TOKENS = 4 * MAX_TOKENS


@dataclass
class Footnotes:
    """Numbered remarks under a table; the same remark has one number."""

    texts: list[str]

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def write_report(store: Store, folder: Path) -> Path:
    """Write folder/report.html and folder/figures/ from the results on file; returns the page's path."""
    summary = summarise(store)
    save_figures(summary, folder / "figures")
    metrics = summary.highlights[:_NUM_HIGHLIGHTS]
    with_curves = [metric for metric in dict.fromkeys(curve.metric for curve in summary.curves) if metric in summary.metrics]
    main = metrics[0] if metrics else ""
    footnotes = Footnotes([])
    page = _environment().get_template("report.html").render(
        meta=_UNSAID | summary.meta, summary=summary, main=main, uses=unequal_uses(summary),
        answer=[*filter(None, [headline(summary, main)]), *answer(summary, main)], packets=unequal_packets(summary),
        findings=findings(summary, main), chain=chain(summary.meta), examples=_examples(store, summary),
        figures=[_figure(summary, metric, folder / "figures") for metric in dict.fromkeys([*metrics, *with_curves])],
        metrics=metrics, table=_table(summary, metrics, footnotes), footnotes=footnotes.texts, ledger=ledger_table(summary),
        cards=card_table(store), links=link_rows(store), remarks=_remarks(summary), too_few=0 < summary.num_items < FEW_ITEMS,
    )
    return _write(folder / "report.html", page)


def write_transmission(path: Path, title: str, arms: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> Path:
    """Write the page of one user's file; each arm has `label`, `facts` {metric: value or None}, `samples` in the file's order."""
    num_items = max((len(arm["samples"]) for arm in arms), default=0)
    examples, shown = [], 0
    for item in range(num_items):
        samples = [(arm["label"], arm["samples"][item]) for arm in arms if item < len(arm["samples"])]
        if shown < _SHOWN_TOKENS:
            examples.append(_example(samples))
        shown += sum(length for _, length in samples[0][1]["origin"])
    metrics = list(dict.fromkeys(name for arm in arms for name in arm.get("facts", {})))
    page = _environment().get_template("transmission.html").render(
        title=title, facts=facts, arms=arms, metrics=metrics, examples=examples, num_items=num_items,
        legend=legend([one for example in examples for one in example["restored"]]),
    )
    return _write(path, page)


def chain(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The chain as a diagram needs it: stages in order, what all arms share, and each arm's own components.

    A part is (name, ((key, value), …)). stages: [(stage, the part of all arms, or None)]; own: the stages that differ;
    arms: [(label, [its part of each of these, or None])].
    """
    arms, sweep = meta.get("arms", []), meta.get("sweep", {})
    order = list(dict.fromkeys(part["stage"] for arm in arms for part in arm["chain"]))
    by_arm = [{part["stage"]: (part["name"], _parameters(part, sweep)) for part in arm["chain"]} for arm in arms]
    shared = {stage: by_arm[0].get(stage) for stage in order if all(one.get(stage) == by_arm[0].get(stage) for one in by_arm)}
    own = [stage for stage in order if stage not in shared]
    return {"stages": [(stage, shared.get(stage)) for stage in order], "own": own,
            "arms": [(arm["label"], [parts.get(stage) for stage in own]) for arm, parts in zip(arms, by_arm, strict=True)]}


def _parameters(part: Mapping[str, Any], sweep: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
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


def _figure(summary: Summary, metric: str, folder: Path) -> dict[str, Any]:
    labels: dict[str, list[str]] = {}
    for one in summary.curves:
        if one.metric == metric and f"“{one.label}”" not in labels.setdefault(one.source, []):
            labels[one.source].append(f"“{one.label}”")
    return {"metric": metric, "svg": _inline((folder / f"{metric}.svg").read_text(encoding="utf-8"), metric),
            "missing": [arm for arm in summary.arms if not any(row.estimate(metric) for row in summary.of(arm))],
            "wide": len(summary.sweep_keys) > 1, "description": describe(metric).description,
            "sources": [f"{', '.join(names)}: {source}" for source, names in labels.items()]}


def _inline(svg: str, prefix: str) -> Markup:
    """An SVG file as an element of a page: no prolog, no metadata, names of its own, scaled by the page."""
    svg = re.sub(r"^.*?(?=<svg )", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', rf'\1role="img" aria-label="{words(prefix)}"', svg, count=1)
    for pattern in (r'(\bid=")', r'(href="#)', r"(url\(#)"):
        svg = re.sub(pattern, rf"\g<1>{prefix}-", svg)
    return Markup(svg)  # our own drawing: Matplotlib has escaped the labels


def _table(summary: Summary, metrics: Sequence[str], footnotes: Footnotes) -> list[dict[str, Any]]:
    """One group a sweep point: arms with a cell a metric, then the closed forms that exist there."""
    groups = []
    for index, sweep in summary.points.items():
        rows = [(row.point.arm, [_cell(row, metric, footnotes) for metric in metrics]) for row in summary.at(index)]
        curves: dict[str, dict[str, str]] = {}
        for one in summary.curves:
            if one.point_index == index and one.metric in metrics:
                curves.setdefault(one.label, {})[one.metric] = f"{one.value:.4g}"
        groups.append({"where": point_text(sweep), "rows": rows,
                       "curves": [(label, [values.get(metric, "") for metric in metrics]) for label, values in curves.items()]})
    return groups


def _cell(row: Any, metric: str, footnotes: Footnotes) -> tuple[str, int]:
    """(text, number of its footnote or 0)."""
    one = row.estimate(metric)
    if one is None:
        return "not measured", footnotes.number(f"{words(metric)} not measured: {row.reasons.get(metric, 'no trial is on file')}")
    said_above = one.num_items < FEW_ITEMS
    return interval_text(one), footnotes.number(one.note) if one.note and not said_above else 0


def _examples(store: Store, summary: Summary) -> list[dict[str, Any]]:
    """Samples at one point of the sweep, and of the first item at its ends: [{where, open, items: [example]}].

    The point is the middle of the sweep, or the next one after it where something was lost: an intact text shows nothing.
    """
    by_point = {index: _examples_at(store, summary, index) for index in summary.points}
    indices = [index for index, examples in by_point.items() if examples]
    if not indices:
        return []
    order = indices[len(indices) // 2:] + indices[:len(indices) // 2]
    telling = [index for index in order if any(not one.is_whole for example in by_point[index] for one in example["restored"])]
    shown = (telling or order)[0]
    return [{"where": point_text(summary.points[index]), "open": index == shown,
             "items": by_point[index][:_NUM_ITEMS if index == shown else 1],
             "legend": legend([one for example in by_point[index] for one in example["restored"]])}
            for index in dict.fromkeys([shown, indices[0], indices[-1]])]


def _examples_at(store: Store, summary: Summary, point_index: int) -> list[dict[str, Any]]:
    """The first items of one sweep point that have samples, each with every arm that has one of it."""
    by_arm = {row.point.arm: dict(store.samples(row.point.task_id)) for row in summary.at(point_index)}
    items = sorted({item for samples in by_arm.values() for item in samples})[:_NUM_ITEMS]
    return [_example([(arm, samples[item]) for arm, samples in by_arm.items() if item in samples]) for item in items]


def _example(samples: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """One item beside what every arm made of it."""
    restored: list[Marked] = [mark(sample, label) for label, sample in samples]
    return {"item": samples[0][1]["item"], "original": original_text(samples[0][1]), "restored": restored}


def _remarks(summary: Summary) -> list[str]:
    """What every report says of its numbers, after what the run itself has noted."""
    return [*summary.meta.get("notes", []),
            "Intervals are 95 %, over items with their replicates together (BCa bootstrap; Clopper–Pearson where every item is "
            "one trial), because bits and tokens of an item are dependent. No event in n items is written as 0 with the upper "
            "limit 3/n, times the largest item over the mean one where items count unequally.",
            *filter(None, [multiplicity(summary, summary.highlights[0])] if summary.highlights else []),
            "All arms meet the same items, losses and noise; differences between arms are therefore paired. The pairing gain is how "
            "many times as many items unpaired arms would need for an interval as short."]


def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"words": words, "interval": interval_text, "capital": lambda text: text[:1].upper() + text[1:],
                            "keep": lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")}
    environment.globals |= {"unit": lambda metric: describe(metric).unit, "better": lambda metric: describe(metric).better}
    return environment


def _write(path: Path, page: str) -> Path:
    with writing(path):
        path.write_text(page, encoding="utf-8", newline="\n")
    return path
