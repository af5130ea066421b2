"""The report and the transmission page: one HTML file each, with a little script of its own and nothing to load.

The same results give the same bytes: no date of writing, no random names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from channel_sim.store import Store
from reports import bjontegaard
from reports.axes import categories_of, marked, panels_of
from reports.burst_figures import save_bursts
from reports.card_page import card_table
from reports.categories import is_wide
from reports.chain import diagram
from reports.comparability import unequal_packets, unequal_totals, unequal_uses
from reports.figures import save_figures
from reports.files import writing
from reports.findings import findings, in_words, interval_text, multiplicity
from reports.headline import headline
from reports.ledgers import ledger_table
from reports.links import link_rows
from reports.marks import MAX_TOKENS, Marked, legend
from reports.paired_figures import save_differences
from reports.pictures import DARKEST, MAX_SIDE
from reports.reliability import save_reliability
from reports.sounds import RANGE_DB, WINDOW_SAMPLES
from reports.statistics import FEW_ITEMS
from reports.strip import strips
from reports.summary import Summary, describe, point_text, significant, summarise, with_minus, words
from reports.tradeoff import save_tradeoffs
from reports.viewer import Example, example, viewer

_NUM_HIGHLIGHTS = 4
_OF_CONFIDENCE = ("expected_calibration_error", "overconfidence", "confident_error_rate", "brier", "risk_coverage_area",
                  "posterior_brier", "concealment_nll_bits")
_LONG_TABLE = 80
"""Rows of a table that is folded away until it is asked for."""
_UNSAID: dict[str, Any] = {"name": "", "question": "", "samples_note": "", "scenario_toml": "", "assumptions": [], "sources": [],
                           "replicates": 1, "seed": "", "provenance": {}}
_SHOWN_TOKENS = 4 * max(MAX_TOKENS.values())


@dataclass
class Footnotes:
    """Numbered remarks under a table; the same remark has one number."""

    texts: list[str]

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


@dataclass
class Table:
    """Estimates by sweep point; `anchor` begins the names of its footnotes."""

    anchor: str
    metrics: tuple[str, ...]
    groups: list[dict[str, Any]]
    footnotes: Footnotes

    @property
    def is_long(self) -> bool:
        return sum(len(group["rows"]) for group in self.groups) > _LONG_TABLE


def write_report(store: Store, folder: Path, baseline: str | None = None) -> Path:
    """Write folder/report.html and folder/figures/ from the results on file; returns the page's path.

    baseline: the label of the arm that all others are drawn against
    """
    summary, figures = summarise(store), folder / "figures"
    save_figures(summary, figures)
    captions = save_differences(summary, baseline, figures) if baseline is not None else {}
    metrics = summary.highlights[:_NUM_HIGHLIGHTS]
    with_curves = [metric for metric in dict.fromkeys(curve.metric for curve in summary.curves) if metric in summary.metrics]
    main = metrics[0] if metrics else ""
    found, shown = findings(summary, main), viewer(store, summary)
    pictures = strips(shown)
    page = _environment().get_template("report.html").render(
        meta=_UNSAID | summary.meta, summary=summary, main=main, uses=unequal_uses(summary),
        answer=[*filter(None, [headline(summary, main)]), *in_words(found, summary, main)], packets=unequal_packets(summary),
        differences=[(_svg(figures / f"{metric}-difference.svg"), text) for metric, text in captions.items()],
        findings=found, diagram=diagram(summary.meta, _chains(store)), viewer=shown, strips=pictures,
        strip_uris={uri for one in pictures for uri in one.uris},
        figures=[_figure(summary, metric, figures) for metric in dict.fromkeys([*metrics, *with_curves])],
        tradeoffs=_drawn(save_tradeoffs(summary, figures)), bursts=_drawn(save_bursts(store, figures)),
        bjontegaard=bjontegaard.compare(summary, baseline), reliability=_drawn(save_reliability(store, figures)),
        results=_table(summary, metrics, "note"), calibration=_calibration(summary), ledger=ledger_table(summary),
        theory=_theory(summary), cards=card_table(store), links=link_rows(store), remarks=_remarks(summary),
        too_few=0 < summary.num_items < FEW_ITEMS, darkest=DARKEST, max_side=MAX_SIDE, window=WINDOW_SAMPLES,
        range_db=RANGE_DB,
    )
    return _write(folder / "report.html", page)


def write_transmission(path: Path, title: str, arms: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> Path:
    """Write the page of one user's file; each arm has `label`, `facts` {metric: value or None}, `samples` in the file's order."""
    num_items = max((len(arm["samples"]) for arm in arms), default=0)
    examples: list[Example] = []
    shown = 0
    for item in range(num_items):
        samples = [(arm["label"], arm["samples"][item]) for arm in arms if item < len(arm["samples"])]
        if shown < _SHOWN_TOKENS:
            examples.append(example(samples))
        shown += sum(length for _, length in samples[0][1]["origin"])
    metrics = list(dict.fromkeys(name for arm in arms for name in arm.get("facts", {})))
    page = _environment().get_template("transmission.html").render(
        title=title, facts=facts, kinds={one.kind for one in examples}, arms=arms, metrics=metrics, examples=examples,
        num_items=num_items, uses=unequal_totals({arm["label"]: arm.get("facts", {}).get("channel_uses") or 0.0 for arm in arms}),
        legend=legend([restored for one in examples for restored in one.restored if isinstance(restored, Marked)]),
    )
    return _write(path, page)


def _chains(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Arm -> its components by stage, at every point of the sweep."""
    tasks = store.tasks()
    chains: dict[str, list[dict[str, Any]]] = {}
    for point in store.points():
        chains.setdefault(point.arm, []).append(tasks.get(point.task_id, {}))
    return chains


def _figure(summary: Summary, metric: str, folder: Path) -> dict[str, Any]:
    return {"metric": metric, "svg": _svg(folder / f"{metric}.svg"),
            "missing": [arm for arm in summary.arms if not any(row.estimate(metric) for row in summary.of(arm))],
            "thinned": not categories_of(summary) and marked(max(map(len, panels_of(summary).values()))).step > 1,
            "wide": is_wide(summary), "description": describe(metric).description,
            "references": list(dict.fromkeys(f"“{one.label}”" for one in summary.curves if one.metric == metric))}


def _drawn(files: Sequence[Path]) -> list[Markup]:
    return [_svg(file) for file in files if file.suffix == ".svg"]


def _svg(file: Path) -> Markup:
    """An SVG file as an element of a page: no prolog, no metadata, names of its own, scaled by the page."""
    svg, prefix = file.read_text(encoding="utf-8"), file.stem
    label = " ".join(map(words, prefix.split("-")))  # 'token error rate over channel uses per sample'
    svg = re.sub(r"^.*?(?=<svg )", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', rf'\1role="img" aria-label="{label}"', svg, count=1)
    for pattern in (r'(\bid=")', r'(href="#)', r"(url\(#)"):
        svg = re.sub(pattern, rf"\g<1>{prefix}-", svg)
    return Markup(svg)  # our own drawing: Matplotlib has escaped the labels


def _table(summary: Summary, metrics: Sequence[str], anchor: str, arms: Collection[str] | None = None) -> Table:
    """One group a sweep point: `arms`, or all, with a cell a metric, then the closed forms that exist there."""
    table = Table(anchor, tuple(metrics), [], Footnotes([]))
    for index, sweep in summary.points.items():
        rows = [(row.point.arm, [_cell(row, metric, table.footnotes) for metric in metrics])
                for row in summary.at(index) if arms is None or row.point.arm in arms]
        curves: dict[str, dict[str, str]] = {}
        for one in summary.curves:
            if one.point_index == index and one.metric in metrics:
                curves.setdefault(one.label, {})[one.metric] = with_minus(significant(one.value, 4))
        table.groups.append({"where": point_text(sweep), "rows": rows, "curves": [
            (label, [values.get(metric, "") for metric in metrics]) for label, values in curves.items()]})
    return table


def _calibration(summary: Summary) -> Table | None:
    """What decoders say of their own restored tokens, held against what is right; None where no arm says anything."""
    metrics = [metric for metric in _OF_CONFIDENCE if metric in summary.metrics]
    arms = {row.point.arm for row in summary.rows if any(row.estimate(metric) for metric in metrics)}
    return _table(summary, metrics, "calibration-note", arms) if metrics else None


def _cell(row: Any, metric: str, footnotes: Footnotes) -> tuple[str, int]:
    """(text, number of its footnote or 0)."""
    one = row.estimate(metric)
    if one is None:
        return "not measured", footnotes.number(f"not measured: {row.reasons.get(metric, 'no trial is on file')}")
    said_above = one.num_items < FEW_ITEMS
    return interval_text(one), footnotes.number(one.note) if one.note and not said_above else 0


def _theory(summary: Summary) -> list[tuple[list[str], str]]:
    """Labels of closed forms and references, by what states them."""
    labels: dict[str, list[str]] = {}
    for one in summary.curves:
        if f"“{one.label}”" not in labels.setdefault(one.source, []):
            labels[one.source].append(f"“{one.label}”")
    return [(names, source) for source, names in labels.items()]


def _remarks(summary: Summary) -> list[str]:
    """What every report says of its numbers, after what the run itself has noted."""
    return [*summary.meta.get("notes", []),
            "Intervals are 95 %, over items with their replicates together (BCa bootstrap; Clopper–Pearson where every item is "
            "one trial), because bits and tokens of an item are dependent. No event in n items is written as 0 with the upper "
            "limit 3/n, times the largest item over the mean one where items count unequally.",
            *filter(None, [multiplicity(summary, summary.highlights[0])] if summary.highlights else []),
            "All arms meet the same items, losses and noise; differences between arms are therefore paired. The pairing gain is "
            "how many times as many items unpaired arms would need for an interval as short."]


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
