"""Envelopes: of several arms the best at every point, as a curve of its own that says what it is."""

import pytest

from channel_sim.checks import RequestError
from reports.axes import curves_of
from reports.summary import summarise
from scenarios.scenario import load
from tests.synthetic_results import ARMS, synthetic_store

TABLES = {"question": "?", "source": {"name": "text"}, "arm": [{"label": "a"}, {"label": "b"}]}


def test_an_envelope_is_the_best_of_its_arms_at_every_point(tmp_path):
    """Catches the mean or the worst of the arms, arms that are not named, and rates for which less is better."""
    store = synthetic_store(tmp_path / "results.sqlite", num_items=12)
    summary = summarise(store)
    summary.meta["envelopes"] = {"two": list(ARMS)[:2]}
    means = {arm: {row.point.point_index: row.estimate("token_error_rate").mean for row in summary.of(arm)}
             for arm in list(ARMS)[:2]}
    curve = curves_of(summary, "token_error_rate")["two (oracle)"]
    assert curve == {index: min(of_arm[index] for of_arm in means.values()) for index in summary.points}
    assert not any(label.startswith("two") for label in curves_of(summary, "channel_uses_per_sample"))
    store.close()


def test_an_envelope_is_one_arm_in_every_figure(tmp_path):
    """Catches a best that is one arm by errors and another by what was recovered: no sender is both."""
    store = synthetic_store(tmp_path / "results.sqlite", num_items=12)
    summary = summarise(store)
    store.close()
    parity = next(arm for arm in ARMS if "Reed" in arm)  # which is ahead in errors where it holds, and recovers no token itself
    summary.meta.update({"envelopes": {"two": ["n-gram prior", parity]}, "show": ["recovered_fraction", "token_error_rate"]})
    prior = {row.point.point_index: row.estimate("token_error_rate").mean for row in summary.of("n-gram prior")}
    assert any(row.estimate("token_error_rate").mean < prior[row.point.point_index] for row in summary.of(parity))
    assert curves_of(summary, "token_error_rate")["two (oracle)"] == prior


@pytest.mark.parametrize(("arms", "reason"), [(["a", "c"], "no arm is called 'c'"), (["a"], "two arms or more")])
def test_an_envelope_of_no_arms_is_refused(arms, reason):
    """Catches a misspelt label, which would leave an arm out of the best without a word."""
    with pytest.raises(RequestError, match=reason):
        load(TABLES | {"envelopes": {"best": arms}})


def test_an_envelope_changes_no_number():
    """Catches drawing that gets into the address of a task."""
    with_one = load(TABLES | {"envelopes": {"best": ["a", "b"]}})
    assert [task.task_id for task in with_one.tasks] == [task.task_id for task in load(TABLES).tasks]
