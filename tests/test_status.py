"""What `status` and `run --dry-run` say of a run: done, missing, failed, widths, reasons, and a time from its own timings."""

from __future__ import annotations

from pathlib import Path

import pytest

from channel_sim.checks import RequestError
from channel_sim.store import Point, Store, Trial
from scenarios.progress import Progress, duration
from scenarios.scenario import load
from scenarios.status import dry_run, standings, status
from tests.synthetic_results import meta, synthetic_store

SMALL = {"question": "Does a prior help?", "items": 6, "source": {"name": "text", "item_bytes": 128}, "coder": {"packet_bits": 64},
         "channel": {"name": "packet_loss"}, "arm": [{"label": "none"}, {"label": "prior", "decoder": {"name": "ngram"}}],
         "sweep": {"channel.loss_rate": [0.1, 0.4]}}


def small_store(folder: Path, num_done: int, seconds: float = 2.0) -> Store:
    """Two arms at one point, six items planned, `num_done` of them on file; every second item has an error."""
    store = Store.create(folder / "results.sqlite", {**meta({}), "items": 6, "show": ["block_error_rate"], "name": "scenario"})
    store.set_plan([Point(arm, 0, "ab"[arm], {}, "ab"[arm] * 64) for arm in range(2)], {"a" * 64: {}, "b" * 64: {}}, [])
    for task in ("a" * 64, "b" * 64):
        store.add(Trial(task, item, 0, {"block_error_rate": (item % 2, 1)}, {}, {}, seconds) for item in range(num_done))
    return store


def test_what_is_done_failed_and_missing(tmp_path: Path):
    """Catches failures counted as missing or done, and trials past the plan counted at all."""
    with_failure = small_store(tmp_path, 4)
    with_failure.add_failure("a" * 64, 4, 0, "ValueError: no such thing\n  somewhere")
    with_failure.add([Trial("b" * 64, 6, 0, {"block_error_rate": (1, 1)}, {}, {})])  # of a longer run
    first, second = standings(with_failure)
    assert (first.done, first.failed, first.missing) == (4, 1, 1) and (second.done, second.failed, second.missing) == (4, 0, 2)
    with_failure.close()
    said = status(tmp_path)
    assert "failed: item 4, replicate 0, task aaaaaaaaaaaa: ValueError: no such thing\n" in said
    assert said.endswith("scenario: 1 trial failed, 3 trials missing; run the same command to go on (8 trials on file)")


def test_a_stopped_point_misses_nothing_and_says_why(tmp_path: Path):
    """Catches a stop rule that looks like an unfinished run for ever."""
    store = small_store(tmp_path, 4)
    for task in ("a" * 64, "b" * 64):
        store.set_stop(task, "4 items: half-width met")
    store.close()
    said = status(tmp_path)
    assert "stopped: 4 items: half-width met" in said and "scenario: complete (8 trials on file)" in said


def test_intervals_are_shown_with_their_width(tmp_path: Path):
    """Catches a status without the width, or with the width of another metric."""
    small_store(tmp_path, 6).close()
    assert "block_error_rate: 0.5 [0.1181, 0.8819], width 0.76" in status(tmp_path)


def test_no_event_is_an_upper_limit(tmp_path: Path):
    """Catches a rate of 0 where nothing was seen to happen, and silence where nothing was measured."""
    small_store(tmp_path, 1).close()
    assert "block_error_rate: below 1, no event in 1 item" in status(tmp_path)


def test_equal_tasks_are_counted_once(tmp_path: Path):
    """Catches an arm that the sweep leaves as it is being counted at every point."""
    store = small_store(tmp_path, 6)
    store.set_plan([Point(0, point, "a", {"channel.loss_rate": point}, "a" * 64) for point in range(3)], {}, [])
    store.close()
    assert "complete (6 trials on file)" in status(tmp_path)


def test_status_of_a_whole_report(tmp_path: Path):
    """Catches a status that fails on metrics that an arm has not measured."""
    synthetic_store(tmp_path / "results.sqlite").close()
    said = status(tmp_path)
    assert "40/40 trials  none, loss rate 0.01" in said and "quickstart: complete (1200 trials on file)" in said


def test_a_dry_run_says_the_plan_and_writes_nothing(tmp_path: Path):
    """Catches a dry run that leaves a folder, or promises a time that nobody measured."""
    said = dry_run(load(SMALL), tmp_path / "new")
    assert "6 items × 1 replicate × 2 arms × 2 points = 24 trials" in said
    assert "sweep: channel.loss_rate = 0.1, 0.4" in said and "to run: 24" in said and "time: no estimate" in said
    assert not (tmp_path / "new").exists()


def test_a_dry_run_estimates_from_the_times_on_file(tmp_path: Path):
    """Catches an estimate that takes all arms for equally slow, forgets the workers, or counts what is done."""
    scenario = load(SMALL)
    slow = {task.task_id for task in scenario.tasks if task.arm == "prior"}
    store = Store.create(tmp_path / "results.sqlite", {**meta({}), "name": "scenario"})
    store.set_plan([], {task.task_id: {} for task in scenario.tasks}, [])
    store.add(Trial(task.task_id, item, 0, {}, {}, {}, 9.0 if task.task_id in slow else 1.0)
              for task in scenario.tasks for item in range(2))
    store.close()
    assert "on file in" in dry_run(scenario, tmp_path) and "8 trials; to run: 16" in dry_run(scenario, tmp_path)
    assert "time: about 80 s with 1 worker, from 8 trials on file" in dry_run(scenario, tmp_path)
    assert "time: about 40 s with 2 workers" in dry_run(scenario, tmp_path, workers=2)


def test_a_dry_run_shows_the_stop_rule_and_what_is_met_twice(tmp_path: Path):
    """Catches a plan that counts a task twice, and one that hides that it may end before."""
    twice = {**SMALL, "arm": [*SMALL["arm"], {"label": "ideal", "channel": {"name": "ideal"}}], "items": 100,
             "stop": {"metric": "token_error_rate", "half_width": 0.01}}
    said = dry_run(load(twice), tmp_path)
    assert "= 600 trials, of which 100 are met twice and run once" in said and "to run: 500" in said
    assert "stop: metric token_error_rate, half_width 0.01, min_items 50; fewer trials" in said


def test_a_dry_run_refuses_the_folder_of_another_scenario(tmp_path: Path):
    """Catches a plan that promises what the run will refuse."""
    synthetic_store(tmp_path / "results.sqlite").close()
    with pytest.raises(RequestError, match="holds the results of scenario 'quickstart'"):
        dry_run(load(SMALL), tmp_path)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (7200, "2.0 h"), (200_000, "2.3 days")])
def test_times_are_written_as_one_reads_them(seconds: float, text: str):
    """Catches 432000 seconds, and days that are hours."""
    assert duration(seconds) == text


def test_progress_says_items_arms_points_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Catches a log of a cluster job from which nobody can tell when it will end."""
    clock = iter([0.0, 20.0, 20.0, 40.0, 40.0])
    monkeypatch.setattr("scenarios.progress.time.monotonic", lambda: next(clock))
    with Progress.of(load(SMALL)) as progress:
        progress(8, 24)
        progress(24, 24)
    assert capsys.readouterr().err.splitlines() == [
        "scenario, 2 arms × 2 points: 8/24 trials, 2/6 items in 20 s, 0.4/s, 40 s left",
        "scenario, 2 arms × 2 points: 24/24 trials, 6/6 items in 40 s"]
