"""The answer in words: which arm is best at which sweep points, by differences over the same items; ties are said as ties."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np

from reports.axes import categories_of
from reports.columns import Columns
from reports.statistics import Difference, Estimate, holm, paired_differences
from reports.summary import Row, Summary, describe, point_text, significant, value_text, words

T = TypeVar("T")
SIGNIFICANCE = 0.05
_MAX_SENTENCES = 5


@dataclass(frozen=True)
class Finding:
    """One sweep point. `best` holds the arm with the best mean first, then those that cannot be told from it: their paired
    interval holds 0, or Holm's procedure over all pairs of arms at all sweep points does not reject that they are equal.

    rival: the arm that comes next, the first of those tied if there are any
    lead:  how far best[0] is ahead of the rival, positive = better
    """

    point_index: int
    where: str
    best: tuple[str, ...]
    mean: Estimate
    rival: str | None
    lead: Difference | None


def findings(summary: Summary, metric: str) -> list[Finding]:
    """One finding a sweep point where `metric` is measured; empty for a metric of which neither way is better."""
    if describe(metric).better == "neither":
        return []
    ranked = _ranked(summary, metric)
    leads = [lead for one in ranked for _, lead in one.leads if lead is not None]
    adjusted = dict(zip(map(id, leads), holm([lead.p_value for lead in leads], comparisons(summary, metric)), strict=True))
    return [_finding(summary, one, adjusted) for one in ranked]


def comparisons(summary: Summary, metric: str) -> int:
    """How many pairs of arms there are to be told apart, over all sweep points."""
    numbers = [sum(row.estimate(metric) is not None for row in summary.at(point)) for point in summary.points]
    return sum(number * (number - 1) // 2 for number in numbers)


def multiplicity(summary: Summary, metric: str) -> str:
    """What a reader must know of many comparisons; "" where there is one at most."""
    number = comparisons(summary, metric)
    if number < 2:
        return ""
    return (f"{number:,} pairs of arms might be told apart in the {words(metric)}. Intervals are 95 % each, not widened for that; "
            "an arm is said to be ahead only where the interval of the difference excludes 0 and Holm's procedure over all of "
            "these pairs rejects equality at 5 %, so that the risk of any false lead is 5 % in all.")


def answer(summary: Summary, metric: str) -> list[str]:
    """Sentences that a reader can quote: runs of sweep points with one outcome; a count of points where there are many runs."""
    return in_words(findings(summary, metric), summary, metric)


def in_words(found: list[Finding], summary: Summary, metric: str) -> list[str]:
    """`answer` where the findings are at hand."""
    if not found:
        return [f"No arm has measured the {words(metric)} yet." if metric else "Nothing has been measured yet."]
    if len(summary.arms) == 1:
        return [_alone(found, metric)]
    runs = runs_of(found, lambda one: frozenset(one.best), summary)
    if len(runs) > _MAX_SENTENCES or len(summary.sweep_keys) > 1:
        return _counted(found, metric)
    return [_sentence(run, metric, summary) for run in runs]


def runs_of(found: Sequence[T], outcome: Callable[[T], Hashable], summary: Summary) -> list[list[T]]:
    """Neighbouring points of one outcome; where the points are categories, which have no order, all points of one outcome."""
    if categories_of(summary):
        order = list(dict.fromkeys(map(outcome, found)))
        found = sorted(found, key=lambda one: order.index(outcome(one)))
    return [list(run) for _, run in groupby(found, key=outcome)]


@dataclass(frozen=True)
class _Ranked:
    """One sweep point: the arm with the best mean, and the others, next best first, with how far it is ahead of each."""

    point_index: int
    best: Row
    mean: Estimate
    leads: list[tuple[str, Difference | None]]


def _ranked(summary: Summary, metric: str) -> list[_Ranked]:
    """The sweep points where some arm has measured the metric."""
    sign = 1 if describe(metric).better == "higher" else -1
    orders: dict[int, list[tuple[float, Row, Estimate]]] = {point: [] for point in summary.points}
    for row in summary.rows:
        if one := row.estimate(metric):
            orders[row.point.point_index].append((-sign * one.mean, row, one))
    # stable: equal means stay in the order of the arms
    ordered = {point: sorted(found, key=lambda entry: entry[0]) for point, found in orders.items() if found}
    leads = iter(leads_of([(found[0][1].trials, row.trials) for found in ordered.values() for _, row, _ in found[1:]], metric))
    return [_Ranked(point, found[0][1], found[0][2], [(row.point.arm, next(leads)) for _, row, _ in found[1:]])
            for point, found in ordered.items()]


def _finding(summary: Summary, ranked: _Ranked, adjusted: dict[int, float]) -> Finding:
    ties = [(arm, lead) for arm, lead in ranked.leads if lead is None or not is_told_apart(lead, adjusted[id(lead)])]
    rival, lead = (ties or ranked.leads)[0] if ranked.leads else (None, None)
    where = point_text(summary.points[ranked.point_index])
    best = (ranked.best.point.arm, *(arm for arm, _ in ties))
    return Finding(ranked.point_index, where, best, ranked.mean, rival, lead)


def is_told_apart(lead: Difference, adjusted_p: float) -> bool:
    """Whether the interval excludes 0 and equality is rejected, many comparisons allowed for."""
    return lead.low is not None and lead.high is not None and not lead.low <= 0 <= lead.high and adjusted_p <= SIGNIFICANCE


def leads_of(pairs: Sequence[tuple[Columns, Columns]], metric: str) -> list[Difference | None]:
    """How far the first of each pair is ahead, positive = better; None where their items differ or one has not measured it."""
    signed = pairs if describe(metric).better == "higher" else [(b, a) for a, b in pairs]
    alike = [place for place, (a, b) in enumerate(pairs) if np.array_equal(a.distinct_items, b.distinct_items)]
    found = dict(zip(alike, paired_differences([signed[place] for place in alike], metric), strict=True))
    return [found.get(place) for place in range(len(pairs))]


def _sentence(run: list[Finding], metric: str, summary: Summary) -> str:
    where = where_of([one.point_index for one in run], summary)
    where = f"{where[:1].upper()}{where[1:]}, " if where else ""
    best = "highest" if describe(metric).better == "higher" else "lowest"
    last = run[-1]
    at = f"at {last.where} " if len(run) > 1 else ""
    unseen = _unseen(run, summary)
    if len(last.best) > 1:
        arms = listed([quoted(arm) for arm in last.best])
        gap = f" ({at}{_gap(last.lead)})" if last.lead is not None else ""
        return f"{where}{arms} cannot be told apart: one of them has the {best} {words(metric)}{gap}.{unseen}"
    ahead = f"; {at}it is ahead of {quoted(last.rival)} by {interval_text(last.lead)}" if last.rival and last.lead else ""
    return f"{where}{quoted(last.best[0])} has the {best} {words(metric)}{ahead}.{unseen}"


def _gap(lead: Difference) -> str:
    if lead.method == "bootstrap":
        return f"the first two differ by {interval_text(lead)}"
    return f"in none of {lead.num_items} items do the first two differ"


def _unseen(run: list[Finding], summary: Summary) -> str:
    """A lead of an arm without any event rests on what did not happen, which no resampling can weigh: say what it may hide."""
    limits = [one for one in run if one.mean.method == "upper limit"]
    if not limits:
        return ""
    n, where = limits[0].mean.num_items, f" {where_of([one.point_index for one in limits], summary)}" if 1 < len(run) else ""
    return (f" It shows no event in {n} items{where}: rare failures could hide there, "
            f"in up to {significant(100 * min(1, 3 / n), 2)} % of items.")


def where_of(points: Sequence[int], summary: Summary) -> str:
    """'at loss rate 0.01 and 0.02'; '' where nothing is swept."""
    if not summary.sweep_keys or not summary.points[points[0]]:
        return ""
    key = summary.sweep_keys[0]
    values = [summary.points[point][key] for point in points]
    name, _, unit = words(key).removesuffix(")").partition(" (")
    ordered = len(values) > 2 and all(isinstance(value, int | float) for value in values)
    written = [value_text(value) for value in values]
    if any("," in one for one in written):
        written = [quoted(one) for one in written]
    text = f"{written[0]} to {written[-1]}" if ordered else listed(written)
    return f"at {name} {text} {unit}".rstrip()


def _counted(found: list[Finding], metric: str) -> list[str]:
    best = "highest" if describe(metric).better == "higher" else "lowest"
    alone = [one.best[0] for one in found if len(one.best) == 1]
    parts = [f"{quoted(arm)} at {alone.count(arm)}" for arm in sorted(set(alone), key=lambda arm: (-alone.count(arm), arm))]
    ties = len(found) - len(alone)
    tied = f"{'; at ' if parts else 'At '}{ties} two or more arms cannot be told apart" if ties else ""
    head = f"Of {len(found)} sweep points, the {best} {words(metric)} is that of {listed(parts)}" if parts else ""
    hidden = [one for one in found if one.mean.method == "upper limit"]
    caution = f" At {len(hidden)} of them the best arm shows no event, where rare failures could hide." if hidden else ""
    return [f"{head}{tied}.{caution}"]


def _alone(found: list[Finding], metric: str) -> str:
    first, last = found[0], found[-1]
    if len(found) == 1:
        return f"The {words(metric)} is {interval_text(first.mean)}."
    return f"The {words(metric)} is {interval_text(first.mean)} at {first.where} and {interval_text(last.mean)} at {last.where}."


def quoted(arm: str) -> str:
    return f"“{arm}”"


def listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def number_text(one: Estimate) -> str:
    """The mean with the digits that its interval supports; a limit as a limit."""
    if one.method == "upper limit" and not isinstance(one, Difference):
        return f"0 ({limit_text(one)})"
    if one.method == "lower limit":
        return f"1 ({limit_text(one)})"
    return rounded(one.mean, one)


def limit_text(one: Estimate) -> str:
    """'below 0.075', or 'above 0.925': two digits of how far the limit is from what was seen."""
    assert one.low is not None and one.high is not None
    if one.method == "upper limit":
        return f"below {significant(one.high, 2)}"
    return f"above {significant(1 - float(f'{1 - one.low:.2g}'), 12)}"


def interval_text(one: Estimate) -> str:
    """'0.124 [0.118, 0.131]'; a limit or a constant without brackets."""
    if isinstance(one, Difference) and one.method in ("upper limit", "constant"):
        return "0: no item differs"
    if one.method in ("constant", "none") or (one.method in ("upper limit", "lower limit") and not isinstance(one, Difference)):
        return number_text(one)
    return f"{rounded(one.mean, one)} [{rounded(one.low, one)}, {rounded(one.high, one)}]"


def rounded(value: float | None, one: Estimate) -> str:
    """To two digits of the interval's width, at most six significant ones; a minus sign is a minus sign."""
    if value is None:
        return "–"
    width = (one.high - one.low) if one.low is not None and one.high is not None else 0.0
    if width <= 1e-12 * abs(value):  # none but for rounding
        return significant(value, 4).replace("-", "−")
    places = 1
    while width * 10**places < 9.5 and places < 9:
        places += 1
    if width >= 95:
        places = 0
    text = f"{value:,.{places}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else f"{0:.{places}f}"
