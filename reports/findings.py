"""The answer in words: which arm is best at which sweep points, by differences over the same items; ties are said as ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from channel_sim.store import Trial
from reports.statistics import Difference, Estimate, paired_difference
from reports.summary import Row, Summary, describe, point_text, value_text, words

USES_TOLERANCE = 0.02
_MAX_SENTENCES = 5


@dataclass(frozen=True)
class Finding:
    """One sweep point. `best` holds the arm with the best mean first, then those that its paired interval cannot tell from it.

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
    found = [_finding(summary, metric, point) for point in summary.points]
    return [one for one in found if one is not None]


def answer(summary: Summary, metric: str) -> list[str]:
    """Sentences that a reader can quote: runs of sweep points with one outcome; a count of points where there are many runs."""
    found = findings(summary, metric)
    if not found:
        return [f"No arm has measured the {words(metric)} yet."]
    if len(summary.arms) == 1:
        return [_alone(found, metric)]
    runs = [list(run) for _, run in groupby(found, key=lambda one: frozenset(one.best))]
    if len(runs) > _MAX_SENTENCES or len(summary.sweep_keys) > 1:
        return _counted(found, metric)
    return [_sentence(run, metric, summary) for run in runs]


def unequal_uses(summary: Summary) -> list[str]:
    """One line an arm whose channel uses an item are more than 2 % off those of the first arm at some sweep point."""
    lines = []
    for arm in summary.arms[1:]:
        ratios = [ratio for row in summary.of(arm) if (ratio := _uses_ratio(summary, row)) is not None]
        off = [ratio - 1 for ratio in ratios if abs(ratio - 1) > USES_TOLERANCE]
        if off:
            low, high = f"{100 * min(off):+.0f}".replace("-", "−"), f"{100 * max(off):+.0f}".replace("-", "−")
            lines.append(f"{arm}: {low} %" if low == high else f"{arm}: {low} to {high} %")
    return lines


def _uses_ratio(summary: Summary, row: Row) -> float | None:
    reference = summary.at(row.point.point_index)[0].ledger.get("channel_uses", 0)
    return row.ledger["channel_uses"] / reference if reference and row.ledger else None


def _finding(summary: Summary, metric: str, point_index: int) -> Finding | None:
    sign = 1 if describe(metric).better == "higher" else -1
    measured = [(sign * one.mean, row, one) for row in summary.at(point_index) if (one := row.estimate(metric))]
    if not measured:
        return None
    (_, best, mean), *others = sorted(measured, key=lambda entry: -entry[0])  # stable: equal means stay in the order of the arms
    leads = [(row.point.arm, _lead(best.trials, row.trials, metric, sign)) for _, row, _ in others]
    ties = [(arm, lead) for arm, lead in leads if lead is None or lead.low is None or lead.low <= 0]
    rival, lead = (ties or leads)[0] if leads else (None, None)
    where = point_text(summary.points[point_index])
    return Finding(point_index, where, (best.point.arm, *(arm for arm, _ in ties)), mean, rival, lead)


def _lead(a: Sequence[Trial], b: Sequence[Trial], metric: str, sign: int) -> Difference | None:
    """How far a is ahead of b, positive = better; None where they hold different items or one has not measured it."""
    better, worse = (a, b) if sign > 0 else (b, a)
    try:
        return paired_difference(better, worse, metric)
    except ValueError:
        return None


def _sentence(run: list[Finding], metric: str, summary: Summary) -> str:
    where = _where(run, summary)
    where = f"{where[:1].upper()}{where[1:]}, " if where else ""
    best = "highest" if describe(metric).better == "higher" else "lowest"
    last = run[-1]
    at = f"at {last.where} " if len(run) > 1 else ""
    unseen = _unseen(run, summary)
    if len(last.best) > 1:
        arms = _listed([_quoted(arm) for arm in last.best])
        gap = f" ({at}{_gap(last.lead)})" if last.lead is not None else ""
        return f"{where}{arms} cannot be told apart: one of them has the {best} {words(metric)}{gap}.{unseen}"
    ahead = f"; {at}it is ahead of {_quoted(last.rival)} by {interval_text(last.lead)}" if last.rival and last.lead else ""
    return f"{where}{_quoted(last.best[0])} has the {best} {words(metric)}{ahead}.{unseen}"


def _gap(lead: Difference) -> str:
    if lead.method == "bootstrap":
        return f"the first two differ by {interval_text(lead)}"
    return f"in none of {lead.num_items} items do the first two differ"


def _unseen(run: list[Finding], summary: Summary) -> str:
    """A lead of an arm without any event rests on what did not happen, which no resampling can weigh: say what it may hide."""
    limits = [one for one in run if one.mean.method == "upper limit"]
    if not limits:
        return ""
    n, where = limits[0].mean.num_items, f" {_where(limits, summary)}" if 1 < len(run) else ""
    return f" It shows no event in {n} items{where}: rare failures could hide there, in up to {100 * min(1, 3 / n):.2g} % of items."


def _where(run: list[Finding], summary: Summary) -> str:
    """'at loss rate 0.01 and 0.02'; '' where nothing is swept."""
    if not run[0].where:
        return ""
    key = summary.sweep_keys[0]
    values = [summary.points[one.point_index][key] for one in run]
    name, _, unit = words(key).removesuffix(")").partition(" (")
    ordered = len(values) > 2 and all(isinstance(value, int | float) for value in values)
    text = f"{value_text(values[0])} to {value_text(values[-1])}" if ordered else _listed([value_text(value) for value in values])
    return f"at {name} {text} {unit}".rstrip()


def _counted(found: list[Finding], metric: str) -> list[str]:
    best = "highest" if describe(metric).better == "higher" else "lowest"
    alone = [one.best[0] for one in found if len(one.best) == 1]
    parts = [f"{_quoted(arm)} at {alone.count(arm)}" for arm in sorted(set(alone), key=lambda arm: (-alone.count(arm), arm))]
    ties = len(found) - len(alone)
    tied = f"{'; at ' if parts else 'At '}{ties} two or more arms cannot be told apart" if ties else ""
    head = f"Of {len(found)} sweep points, the {best} {words(metric)} is that of {_listed(parts)}" if parts else ""
    hidden = [one for one in found if one.mean.method == "upper limit"]
    caution = f" At {len(hidden)} of them the best arm shows no event, where rare failures could hide." if hidden else ""
    return [f"{head}{tied}.{caution}"]


def _alone(found: list[Finding], metric: str) -> str:
    first, last = found[0], found[-1]
    if len(found) == 1:
        return f"The {words(metric)} is {interval_text(first.mean)}."
    return f"The {words(metric)} is {interval_text(first.mean)} at {first.where} and {interval_text(last.mean)} at {last.where}."


def _quoted(arm: str) -> str:
    return f"“{arm}”"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def number_text(one: Estimate) -> str:
    """The mean with the digits that its interval supports; a limit as a limit."""
    if one.method == "upper limit" and not isinstance(one, Difference):
        return f"0 (below {one.high:.2g})"
    if one.method == "lower limit":
        return f"1 (above {one.low:.4g})"
    return rounded(one.mean, one)


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
    if width <= 0:
        return f"{value:,.4g}".replace("-", "−") if abs(value) < 1e4 else f"{value:,.0f}"
    places = 1
    while width * 10**places < 9.5 and places < 9:
        places += 1
    if width >= 95:
        places = 0
    text = f"{value:,.{places}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else f"{0:.{places}f}"
