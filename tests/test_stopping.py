"""Stop rules: what the [stop] table may say, at which counts of items it is asked, and who stops together."""

from __future__ import annotations

from typing import Any

import pytest

from channel_sim.checks import RequestError
from channel_sim.store import Trial
from scenarios import stopping
from scenarios.scenario import Scenario, load
from scenarios.stopping import decide, looks

RATE = "token_error_rate"
TABLES: dict[str, Any] = {
    "question": "?",
    "items": 120,
    "source": {"name": "markov", "flip_probability": 0.2, "num_symbols": 50},
    "channel": {"name": "packet_loss", "loss_rate": 0.1},
    "coder": {"name": "fixed_length", "packet_bits": 1, "header_bits": 0},
    "arm": [{"label": "exact", "decoder": {"name": "exact_markov"}}, {"label": "none"}],
    "sweep": {"channel.loss_rate": [0.1, 0.5]},
}


def scenario_with(stop: dict[str, Any] | None, **more: Any) -> Scenario:
    return load(TABLES | ({} if stop is None else {"stop": {"metric": RATE} | stop}) | more)


def prefix_of(scenario: Scenario, num_items: int, *, wrong_every: dict[tuple[str, int], int]) -> dict[str, list[Trial]]:
    """Item i of (arm, point) is all wrong where i is a multiple of its `wrong_every`, 0 for never."""
    prefix = {}
    for task in scenario.tasks:
        every = wrong_every.get((task.arm, task.point_index), 0)
        prefix[task.task_id] = [Trial(task.task_id, i, 0, {RATE: (50.0 * (every > 0 and i % every == 0), 50.0)}, {}, {})
                                for i in range(num_items)]
    return prefix


def stopped_points(scenario: Scenario, decided: dict[str, str]) -> set[tuple[str, int]]:
    return {(task.arm, task.point_index) for task in scenario.tasks if task.task_id in decided}


@pytest.mark.parametrize("table, message", [
    ({}, "stop: needs exactly one of half_width, difference_half_width, errors, got none"),
    ({"half_width": 0.1, "errors": 5}, "stop: needs exactly one of .*, got half_width, errors"),
    ({"difference_half_width": 0.1}, "stop: baseline and difference_half_width belong together"),
    ({"half_width": 0.1, "baseline": "none"}, "stop: baseline and difference_half_width belong together"),
    ({"difference_half_width": 0.1, "baseline": "nnoe"}, "stop.baseline: no arm is called 'nnoe'; did you mean 'none'"),
    ({"metric": "token_eror_rate", "errors": 5}, "no metric is called 'token_eror_rate'; did you mean 'token_error_rate'"),
    ({"metric": "bits_per_token", "errors": 5}, "bits_per_token is no error rate; use half_width"),
    ({"half_with": 0.1}, "stop.half_with: no such table or key; did you mean 'half_width'"),
    ({"half_width": 0.0}, "stop.half_width: Input should be greater than 0"),
    ({"half_width": 0.1, "max_items": 20}, "stop: max_items must be >= min_items = 50, got 20"),
])
def test_a_wrong_table_is_refused_by_name_rule_and_cure(table: dict[str, Any], message: str) -> None:
    """Catches a rule that is silently ignored: two criteria, a misspelt metric, arm or key."""
    with pytest.raises(RequestError, match=message):
        scenario_with(table)


def test_a_difference_needs_a_second_arm() -> None:
    """Catches a rule without anything to compare, met at the first look."""
    with pytest.raises(RequestError, match="stop.baseline: there is no second arm"):
        scenario_with({"difference_half_width": 0.1, "baseline": "none"}, arm=[{"label": "none"}])


def test_the_rule_changes_no_address() -> None:
    """Catches results thrown away because a rule was added or changed: no number of any trial depends on it."""
    plain, ruled = scenario_with(None), scenario_with({"errors": 5})
    assert plain.stop is None and ruled.stop is not None
    assert [task.task_id for task in plain.tasks] == [task.task_id for task in ruled.tasks]


def test_items_and_max_items_bound_the_run() -> None:
    """Catches `--items 2` on a scenario with a rule running to max_items, and max_items cut to the default of items."""
    without_items = {key: value for key, value in TABLES.items() if key != "items"}
    rule = {"metric": RATE, "errors": 5}
    assert load(TABLES | {"stop": rule}).items == 120
    assert load(without_items | {"stop": rule | {"max_items": 900}}).items == 900
    assert load(TABLES | {"stop": rule | {"max_items": 60}}).items == 60
    assert load(TABLES | {"stop": rule | {"max_items": 900}}, {"items": 2}).items == 2


def test_looks_grow_geometrically_up_to_the_end() -> None:
    """Catches a look after every item, and none at the end."""
    assert looks(scenario_with({"errors": 5})) == [50, 75, 112, 120]
    assert looks(scenario_with({"errors": 5, "min_items": 120})) == [120]
    assert looks(scenario_with({"errors": 5}, items=2)) == [2]
    assert looks(scenario_with({"errors": 5, "min_items": 2})) == [2, 3, 4, 6, 9, 13, 19, 28, 42, 63, 94, 120]
    assert looks(scenario_with(None)) == [120]


def test_without_a_rule_all_items_are_run() -> None:
    """Catches a stop before the items that were asked for, and a point that does not say why it ended."""
    scenario = scenario_with(None)
    prefix = prefix_of(scenario, 120, wrong_every={})
    assert decide(scenario, prefix, 119) == {}
    assert set(decide(scenario, prefix, 120).values()) == {"120 items"}


def test_arms_of_a_point_stop_together_and_points_apart() -> None:
    """Catches a rule per arm (pairs with items of their own) and one good point that ends the whole sweep."""
    scenario = scenario_with({"errors": 10})
    prefix = prefix_of(scenario, 75, wrong_every={("exact", 0): 5, ("none", 0): 2, ("exact", 1): 20, ("none", 1): 2})
    decided = decide(scenario, prefix, 75)
    assert stopped_points(scenario, decided) == {("exact", 0), ("none", 0)}
    assert set(decided.values()) == {f"50 items: 10 items with errors by {RATE} in every arm"}


def test_only_items_before_the_look_count() -> None:
    """Catches a rule that reads on: what workers ran ahead, or blocks past the look, must not change where it stops."""
    scenario = scenario_with({"errors": 12})
    alike = {(arm, point): 6 for arm in ("exact", "none") for point in (0, 1)}
    prefix = prefix_of(scenario, 120, wrong_every=alike)  # 9 by item 50, 13 by item 75
    assert [bool(decide(scenario, prefix, count)) for count in (50, 74, 75, 90)] == [False, False, True, True]
    backwards = {task_id: trials[::-1] for task_id, trials in prefix.items()}
    assert decide(scenario, backwards, 90) == decide(scenario, prefix, 75)


def test_errors_of_one_item_count_once() -> None:
    """Catches one bad fade of fifty tokens passing for fifty errors."""
    scenario = scenario_with({"errors": 6})
    prefix = prefix_of(scenario, 50, wrong_every={(arm, point): 10 for arm in ("exact", "none") for point in (0, 1)})
    assert decide(scenario, prefix, 50) == {}  # five items, 250 tokens


def test_half_width_holds_for_every_arm_and_an_interval_with_a_warning_stops_nothing() -> None:
    """Catches a mean over arms, and a narrow interval that hangs on two items."""
    scenario = scenario_with({"half_width": 0.16}, sweep={})
    halves = prefix_of(scenario, 75, wrong_every={("exact", 0): 2, ("none", 0): 2})
    mixed = prefix_of(scenario, 75, wrong_every={("exact", 0): 25, ("none", 0): 2})
    assert set(decide(scenario, halves, 75).values()) == {f"50 items: half-width of {RATE} at most 0.16 in every arm"}
    assert decide(scenario, mixed, 75) == {}
    ended = decide(scenario_with({"half_width": 0.16}, sweep={}, items=75), mixed, 75)
    assert all("75 items, the most allowed: 'exact': events in only 3 of 75 items" in why for why in ended.values()) and ended


def test_a_paired_difference_stops_where_its_arms_would_not() -> None:
    """Catches the width of an arm in place of that of the difference: arms that err together differ by little."""
    rule = {"difference_half_width": 0.1, "baseline": "none"}
    scenario = scenario_with(rule, sweep={})
    prefix = prefix_of(scenario, 50, wrong_every={("exact", 0): 2, ("none", 0): 2})
    why = f"50 items: half-width of the difference in {RATE} from 'none' at most 0.1"
    assert set(decide(scenario, prefix, 50).values()) == {why}
    assert decide(scenario_with({"half_width": 0.1}, sweep={}), prefix, 50) == {}


def test_an_item_that_failed_in_one_arm_does_not_break_the_pair() -> None:
    """Catches a sweep that dies of one failed item: the pair is judged by the items that both arms have."""
    scenario = scenario_with({"difference_half_width": 0.1, "baseline": "none"}, sweep={})
    prefix = prefix_of(scenario, 50, wrong_every={("exact", 0): 2, ("none", 0): 2})
    first = next(iter(prefix))
    assert decide(scenario, prefix | {first: prefix[first][1:]}, 50).keys() == prefix.keys()


def test_the_end_says_what_was_missing() -> None:
    """Catches a point that looks as if its rule had been met, and an arm without the metric that stops at once."""
    scenario = scenario_with({"errors": 10}, sweep={})
    prefix = prefix_of(scenario, 120, wrong_every={("none", 0): 2})
    assert set(decide(scenario, prefix, 120).values()) == {
        "120 items, the most allowed: 'exact' has 0 of 10 items with errors"}
    scenario = scenario_with({"half_width": 0.3}, sweep={})
    absent = {task.task_id: [Trial(task.task_id, i, 0, {}, {RATE: "?"}, {}) for i in range(120)] for task in scenario.tasks}
    assert decide(scenario, absent, 119) == {}
    assert set(decide(scenario, absent, 120).values()) == {f"120 items, the most allowed: 'exact' has no interval of {RATE}"}


def test_points_that_share_a_task_stop_together() -> None:
    """Catches an arm outside the sweep stopped by its easiest point, or left with items that its rivals lack."""
    arms = [{"label": "exact", "decoder": {"name": "exact_markov"}},
            {"label": "without", "channel": {"name": "ideal"}, "decoder": {"name": "none"}}]
    scenario = scenario_with({"half_width": 0.16}, arm=arms)
    assert len({task.task_id for task in scenario.tasks}) == 3
    easy = prefix_of(scenario, 112, wrong_every={("exact", 0): 10, ("exact", 1): 2, ("without", 0): 0})
    assert len({*decide(scenario, easy, 50).values()}) == 1 and len(decide(scenario, easy, 50)) == 3
    hard = scenario_with({"half_width": 0.1}, arm=arms)
    assert decide(hard, easy, 50) == {} and len(decide(hard, easy, 112)) == 3


def test_growth_is_what_coverage_was_measured_for() -> None:
    """Catches a new number of looks without a new measurement: see tests/test_coverage.py."""
    assert stopping.LOOK_GROWTH == 1.5


@pytest.mark.parametrize("half_width, stops", [(0.5, True), (0.01, False)])
def test_a_width_is_that_of_the_transformed_metric(half_width: float, stops: bool) -> None:
    """Catches a width in squared errors held against one in decibels: the error of 50 here is ± .4 dB, but ± 5 itself."""
    metric = "psnr_of_mean_mse_db"
    scenario = scenario_with({"metric": metric, "half_width": half_width}, sweep={})
    prefix = {task.task_id: [Trial(task.task_id, i, 0, {metric: (50.0 * (30 + 40 * (i % 2)), 50.0)}, {}, {}) for i in range(60)]
              for task in scenario.tasks}
    assert bool(decide(scenario, prefix, 60)) == stops


@pytest.mark.parametrize("metric", ["psnr_of_mean_mse_db", "ssim", "exact_item_rate"])
def test_what_went_well_is_no_error_to_count(metric: str) -> None:
    """Catches items counted as errors for being similar or exact."""
    with pytest.raises(RequestError, match="is no error rate; use half_width"):
        scenario_with({"metric": metric, "errors": 5})
