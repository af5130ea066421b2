"""The headline: the two arms that matter at equal channel uses, who is ahead where, by how much, and where the lead changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from reports.axes import categories_of
from reports.comparability import equal_cost_arms
from reports.findings import comparisons, is_told_apart, leads_of, listed, quoted, rounded, runs_of, where_of
from reports.statistics import Difference, Estimate, holm
from reports.summary import Summary, describe, point_text, significant, value_text, words

_MAX_RUNS = 5
_PROTECTIONS = {"reed_solomon", "priority", "repeat", "arq"}


@dataclass(frozen=True)
class Duel:
    """Two arms at one sweep point. lead: how far the first is ahead, positive = better; ahead: 1, -1, or 0 for not told apart."""

    point_index: int
    lead: Difference
    ahead: int
    better: Estimate


def headline(summary: Summary, metric: str) -> str:
    """One sentence a reader can quote; "" where no two arms with equal channel uses have measured the metric.

    Of the arms of equal cost it takes the best that leaves redundancy to the prior and the best that compresses; where all are
    of one kind, the best without parity and the best with it, or else the two that have the best mean most often or come next.
    They are chosen from these very results, so their p-values are adjusted for all pairs of arms at all points.
    """
    arms = equal_cost_arms(summary)
    pair = _contenders(summary, metric, arms) if describe(metric).better != "neither" else None
    duels = _duels(summary, metric, pair) if pair else []
    if not pair or not duels:
        return ""
    start = "At equal channel uses" if any(row.ledger.get("channel_uses") for row in summary.rows) else "Over the same items"
    runs = runs_of(duels, lambda one: one.ahead, summary)
    if not any(duel.ahead for duel in duels):
        where = "" if len(duels) == 1 else f" at any of {len(duels)} sweep points"
        return f"{start} {_both(pair)} cannot be told apart in the {_name(metric)}{where}{_widest(duels, metric)}."
    if len(summary.sweep_keys) > 1 or len(runs) > _MAX_RUNS:
        return f"{start} {_counted(summary, metric, pair, duels)}."
    parts = [_part(summary, metric, pair, run, is_first=run is runs[0]) for run in runs]
    return f"{start} {'; '.join(parts)}{_crossing(summary, runs)}."


def _both(pair: tuple[str, str]) -> str:
    return f"{quoted(pair[0])} and {quoted(pair[1])}"


def _contenders(summary: Summary, metric: str, arms: list[str]) -> tuple[str, str] | None:
    """(the best that does not compress, the best that does); (the best without parity, the best with it); or the best two.

    Two reconstructions of one stream are no rivals: of the best two, the second is of another chain if there is one.
    """
    for others in (_with(summary, "coder", {"entropy"}), _with(summary, "protection", _PROTECTIONS)):
        best = [_by_rank(summary, metric, [arm for arm in arms if (arm in others) is kind])[:1] for kind in (False, True)]
        if all(best):
            return best[0][0], best[1][0]
    ranked = _by_rank(summary, metric, arms)
    chains = {arm["label"]: _sent(arm["chain"]) for arm in summary.meta.get("arms", [])}
    rivals = [arm for arm in ranked[1:] if chains.get(arm) != chains.get(ranked[0])] or ranked[1:]
    return (ranked[0], rivals[0]) if rivals else None


def _sent(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chain but for what a tokenizer makes of the same stream."""
    return [part | {"parameters": {key: value for key, value in part["parameters"].items() if key != "reconstruction"}}
            for part in chain]


def _with(summary: Summary, stage: str, names: set[str]) -> set[str]:
    """The arms whose chain has one of the named components at a stage, and not as `_is_bare` has it."""
    return {arm["label"] for arm in summary.meta.get("arms", [])
            if any(part["stage"] == stage and part["name"] in names and not _is_bare(part) for part in arm["chain"])}


def _is_bare(part: dict[str, Any]) -> bool:
    """Whether it is `priority` with rows of data alone: all packets are needed for the first of its layers."""
    return part["name"] == "priority" and part["parameters"]["needed"][0] == part["parameters"]["n"]


def _by_rank(summary: Summary, metric: str, arms: list[str]) -> list[str]:
    """The arms that have measured the metric; first who has the best mean at most points, then who comes next most often."""
    sign = -1 if describe(metric).better == "higher" else 1
    places: Counter[tuple[str, int]] = Counter()
    for point in summary.points:
        found = [(sign * one.mean, row.point.arm) for row in summary.at(point)
                 if row.point.arm in arms and (one := row.estimate(metric))]
        places.update((arm, place) for place, (_, arm) in enumerate(sorted(found, key=lambda entry: entry[0])))
    measured = [arm for arm in arms if any(places[arm, place] for place in range(len(arms)))]
    return sorted(measured, key=lambda arm: [-places[arm, place] for place in range(len(arms))])


def _duels(summary: Summary, metric: str, pair: tuple[str, str]) -> list[Duel]:
    first, second = ({row.point.point_index: row for row in summary.of(arm)} for arm in pair)
    both = [point for point in summary.points if point in first and point in second]
    found = leads_of([(first[point].trials, second[point].trials) for point in both], metric)
    leads = {point: lead for point, lead in zip(both, found, strict=True) if lead}
    adjusted = holm([lead.p_value for lead in leads.values()], max(len(leads), comparisons(summary, metric)))
    duels = []
    for (point, lead), p_value in zip(leads.items(), adjusted, strict=True):
        ahead = (1 if lead.mean > 0 else -1) if is_told_apart(lead, p_value) else 0
        better = (first if lead.mean > 0 else second)[point].estimates[metric]
        duels.append(Duel(point, lead, ahead, better))
    return duels


def _part(summary: Summary, metric: str, pair: tuple[str, str], run: list[Duel], *, is_first: bool) -> str:
    """'“A” beats “B” in the token error rate at loss rate 0.01 to 0.1 (at 0.1 by 4.1 points, 95 % interval 3.2 to 5.0)'."""
    where = where_of([duel.point_index for duel in run], summary)
    what = f" in the {_name(metric)}" if is_first else ""
    if run[0].ahead == 0:
        return f"{_both(pair)} cannot be told apart{what} {where}" if is_first else f"{where} they cannot be told apart"
    winner, loser = pair if run[0].ahead > 0 else pair[::-1]
    most = max(run, key=lambda duel: abs(duel.lead.mean))
    at = "" if len(run) == 1 else f"{_value(summary, most)} "
    return f"{quoted(winner)} beats {quoted(loser)}{what}{' ' * bool(where)}{where} ({at}{gap_text(most, metric)})"


def _value(summary: Summary, duel: Duel) -> str:
    return f"at {value_text(summary.points[duel.point_index][summary.sweep_keys[0]])}"


def gap_text(duel: Duel, metric: str) -> str:
    """'by 4.1 points, 95 % interval 3.2 to 5.0': of a rate in points, which are hundredths; else in the unit of the metric."""
    scale, unit = _scale(metric)
    ends = [scale * abs(value) for value in (duel.lead.low or 0.0, duel.lead.high or 0.0)]
    one = replace(duel.lead, mean=scale * abs(duel.lead.mean), low=min(ends), high=max(ends))
    unseen = f", the better one without an event in {duel.better.num_items} items" if duel.better.method == "upper limit" else ""
    return f"by {rounded(one.mean, one)}{unit}, 95 % interval {rounded(one.low, one)} to {rounded(one.high, one)}{unseen}"


def _name(metric: str) -> str:
    """In words, without a unit: that stands beside the number."""
    return words(metric).partition(" (")[0]


def _scale(metric: str) -> tuple[float, str]:
    unit = describe(metric).unit
    if unit == "1" and describe(metric).counts != "none":
        return 100.0, " points"
    return 1.0, "" if unit == "1" else f" {unit}"


def _widest(duels: list[Duel], metric: str) -> str:
    """What a tie may hide: the difference that the least certain of the intervals still allows."""
    ends = [abs(end) for duel in duels for end in (duel.lead.low, duel.lead.high) if end is not None]
    scale, unit = _scale(metric)
    return f"; intervals allow differences up to {significant(scale * max(ends), 2)}{unit}" if ends else ""


def _crossing(summary: Summary, runs: list[list[Duel]]) -> str:
    """Between which values of the sweep the lead changes sides, where it does so once."""
    sided = [run for run in runs if run[0].ahead]
    changes = [(a[-1], b[0]) for a, b in zip(sided, sided[1:], strict=False) if a[0].ahead != b[0].ahead]
    if len(changes) != 1 or not summary.sweep_keys or categories_of(summary):
        return ""
    low, high = (value_text(summary.points[duel.point_index][summary.sweep_keys[0]]) for duel in changes[0])
    name, _, unit = words(summary.sweep_keys[0]).removesuffix(")").partition(" (")
    return f": the lead changes between {name} {low} and {high} {unit}".rstrip()


def _counted(summary: Summary, metric: str, pair: tuple[str, str], duels: list[Duel]) -> str:
    parts: list[str] = []
    for side, winner, loser in ((1, *pair), (-1, *pair[::-1])):
        won = [duel for duel in duels if duel.ahead == side]
        if won:
            most = max(won, key=lambda duel: abs(duel.lead.mean))
            what = f" in the {_name(metric)}" * (not parts)
            parts.append(f"{quoted(winner)} beats {quoted(loser)}{what} at {len(won)} of {len(duels)} sweep points, most at "
                         f"{point_text(summary.points[most.point_index])} ({gap_text(most, metric)})")
    ties = sum(duel.ahead == 0 for duel in duels)
    return listed(parts) + (f"; at {ties} they cannot be told apart" if ties else "")
