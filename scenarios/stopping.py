"""When a comparison has items enough: all arms of one sweep point, in lockstep, by a rule that looks at fixed counts of items.

A rule sees the first `look` items of every arm and nothing else, so neither the number of workers nor the size of a block
changes where it stops. The looks grow geometrically: each one is a chance to stop on an interval that is narrow by luck, so
there are few of them, and an interval that carries a warning stops nothing. So the intervals keep their coverage, 94 to 97 %
in 4,000 reruns of each rule (tests/test_coverage.py). The mean itself is pulled along, by less than its half-width: upwards
where errors are counted (5 % at 15 of them; stopped at the k-th error itself it would be (k - 1) / (n - 1) that is unbiased, not
k / n), downwards by a half-width (1 to 7 %, where few errors make it small). Where the mean matters more, run fixed `items`.

Source: J. B. S. Haldane, "On a method of estimating frequencies", Biometrika 33 (1945), for the count of errors; Y. S. Chow
and H. Robbins, "On the asymptotic theory of fixed-width sequential confidence intervals for the mean", Ann. Math. Statist. 36
(1965): the width on file may decide when to stop, and coverage tends to the nominal one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from channel_sim.metrics import CATALOGUE
from channel_sim.store import Trial
from reports.statistics import Estimate, estimate, paired_difference
from scenarios.catalogue import nearest

if TYPE_CHECKING:
    from scenarios.scenario import Scenario

LOOK_GROWTH = 1.5
_CRITERIA = ("half_width", "difference_half_width", "errors")
Arms = Mapping[str, Sequence[Trial]]
"""Label -> trials of one sweep point."""


class Stop(BaseModel):
    """The [stop] table: a metric, exactly one criterion that every arm must meet, and bounds on the number of items.

    An arm that does not measure the metric never meets it: its comparison runs to `max_items`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    metric: str
    half_width: float | None = Field(None, gt=0, description="of the metric's 95 % interval, in its own unit")
    difference_half_width: float | None = Field(None, gt=0, description="of the paired difference from `baseline`")
    baseline: str | None = Field(None, description="label of the arm that all others are compared with")
    errors: int | None = Field(None, ge=1, description="items with an error; errors of one item share its fade and count once")
    min_items: int = Field(50, ge=2, description="of the first look")
    max_items: int | None = Field(None, ge=2, description="the end whatever the rule says; by default the scenario's `items`")

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        given = [name for name in _CRITERIA if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_CRITERIA)}, got {', '.join(given) or 'none'}")
        if (self.baseline is None) != (self.difference_half_width is None):
            raise ValueError("baseline and difference_half_width belong together; give both or neither")
        if self.max_items is not None and self.max_items < self.min_items:
            raise ValueError(f"max_items must be >= min_items = {self.min_items}, got {self.max_items}")
        if self.metric not in CATALOGUE:
            raise ValueError(f"metric: no metric is called {self.metric!r}{nearest(self.metric, CATALOGUE)}")
        counts_errors = CATALOGUE[self.metric].unit == "1" and CATALOGUE[self.metric].better != "higher"
        if self.errors is not None and not counts_errors:
            raise ValueError(f"errors counts items with an error, and {self.metric} is no error rate; use half_width")
        return self


def looks(scenario: Scenario) -> list[int]:
    """The counts of items at which the rule is asked, ascending; the last is the end. Blocks must not straddle one."""
    counts = []
    count = scenario.stop.min_items if scenario.stop else scenario.items
    while count < scenario.items:
        counts.append(count)
        count = int(count * LOOK_GROWTH)
    return [*counts, scenario.items]


def decide(scenario: Scenario, prefix: Mapping[str, Sequence[Trial]], num_items: int) -> dict[str, str]:
    """Task id -> why it stops, of the tasks that need no item past `num_items`; `prefix` holds all trials of the items before.

    A pure function: of the looks up to `num_items`, the first that meets the rule counts, whenever it is asked. Points that
    share a task (an arm that the sweep leaves as it is) stop together: that arm would otherwise have items that its rivals lack.
    """
    reached = [look for look in looks(scenario) if look <= num_items]
    return {task_id: why for points in _comparisons(scenario)
            if (why := next(filter(None, (_reason(scenario, points, prefix, look) for look in reached)), None))
            for point in points for task_id in point.values()}


def _comparisons(scenario: Scenario) -> list[list[dict[str, str]]]:
    """Sweep points (label -> task id) that must stop together."""
    points: dict[int, dict[str, str]] = {}
    for task in scenario.tasks:
        points.setdefault(task.point_index, {})[task.arm] = task.task_id
    groups: list[list[dict[str, str]]] = []
    for point in points.values():
        linked = [group for group in groups if any({*point.values()} & {*other.values()} for other in group)]
        groups = [group for group in groups if group not in linked] + [[*sum(linked, []), point]]
    return groups


def _reason(scenario: Scenario, points: list[dict[str, str]], prefix: Mapping[str, Sequence[Trial]], look: int) -> str | None:
    """Why these points stop at `look`; None if they do not."""
    stop = scenario.stop
    if stop is None:
        return f"{look} items"
    for point in points:
        missing = _missing(stop, {label: _first(prefix.get(task_id, ()), look) for label, task_id in point.items()})
        if missing:
            return f"{look} items, the most allowed: {missing}" if look >= scenario.items else None
    return f"{look} items: {_rule(stop)}"


def _first(trials: Sequence[Trial], look: int) -> list[Trial]:
    return [trial for trial in trials if trial.item < look]


def _rule(stop: Stop) -> str:
    if stop.errors is not None:
        return f"{stop.errors} items with errors by {stop.metric} in every arm"
    if stop.half_width is not None:
        return f"half-width of {stop.metric} at most {stop.half_width:g} in every arm"
    return f"half-width of the difference in {stop.metric} from {stop.baseline!r} at most {stop.difference_half_width:g}"


def _missing(stop: Stop, arms: Arms) -> str:
    """What the first arm that does not meet the rule lacks; "" if all do."""
    lacks: Callable[[Stop, Arms, str], str] = _lacks_errors if stop.errors is not None else _lacks_width
    judged = (label for label in arms if label != stop.baseline)
    return next(filter(None, (lacks(stop, arms, label) for label in judged)), "")


def _lacks_errors(stop: Stop, arms: Arms, label: str) -> str:
    assert stop.errors is not None
    found = len({trial.item for trial in arms[label] if trial.metrics.get(stop.metric, (0.0, 0.0))[0] > 0})
    return f"{label!r} has {found} of {stop.errors} items with errors" if found < stop.errors else ""


def _lacks_width(stop: Stop, arms: Arms, label: str) -> str:
    wanted = stop.half_width or stop.difference_half_width
    one = _interval(stop, arms, label)
    if one is None or one.low is None or one.high is None:
        return f"{label!r} has no interval of {stop.metric}"
    half = (one.high - one.low) / 2
    assert wanted is not None
    if half > wanted:
        return f"half-width of {label!r} is {half:.3g}"
    return f"{label!r}: {one.note}" if one.note else ""


def _interval(stop: Stop, arms: Arms, label: str) -> Estimate | None:
    if stop.baseline is None:
        return estimate(arms[label], stop.metric)
    own, base = arms[label], arms[stop.baseline]
    both = {trial.item for trial in own} & {trial.item for trial in base}  # an item that failed in one arm is in neither
    return paired_difference([trial for trial in own if trial.item in both], [trial for trial in base if trial.item in both],
                             stop.metric)
