"""Merging: parts of one scenario become one results file, all or nothing, and no two numbers share an address."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from channel_sim.checks import RequestError
from channel_sim.store import Failure, Store, StoreConflict, Trial
from scenarios import runner
from scenarios.merge import merge
from scenarios.scenario import load

AXIS = "channel.loss_rate"
TABLES: dict[str, Any] = {
    "question": "?",
    "items": 12,
    "source": {"name": "markov", "flip_probability": 0.1, "num_symbols": 100},
    "channel": {"name": "packet_loss", "loss_rate": 0.3},
    "coder": {"name": "fixed_length", "packet_bits": 1, "header_bits": 0},
    "arm": [{"label": "exact", "decoder": {"name": "exact_markov"}}, {"label": "none"}],
    "sweep": {AXIS: [0.1, 0.3, 0.5]},
}


def collect(out: Path, **changes: Any) -> Path:
    """The folder of a run of TABLES with some keys changed."""
    scenario = load(TABLES | changes)
    with closing(runner.open_store(scenario, out, f"run of {out.name}")) as store:
        runner.execute(scenario, store)
    return out


def contents(folder: Path) -> dict[str, Any]:
    with closing(Store(folder / "results.sqlite")) as store:
        return {"points": store.points(), "curves": store.curves(), "done": store.done(), "tasks": store.tasks(),
                "trials": {task: list(store.trials(task)) for task in store.tasks()},
                "samples": {task: store.samples(task) for task in store.tasks()},
                "laws": store.laws(),
                "meta": {key: store.meta()[key] for key in ("name", "question", "items", "replicates", "sweep", "arms")}}


def change(folder: Path, seconds: float = 0.0, **numbers: tuple[float, float]) -> Trial:
    """Replace a metric of the first trial of a store, as another version of code would have measured it."""
    with closing(Store(folder / "results.sqlite", writable=True)) as store:
        one = next(store.trials(store.points()[0].task_id))
        store._connection.execute("DELETE FROM trials WHERE (task_id, item, replicate) = (?, ?, ?)",
                                  (one.task_id, one.item, one.replicate))
        changed = Trial(one.task_id, one.item, one.replicate, one.metrics | numbers, one.reasons, one.ledger, seconds, one.card)
        store.add([changed])
    return changed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collect(tmp_path_factory.mktemp("whole"))


def test_a_sweep_split_by_its_values_is_united_to_what_one_run_gives(whole: Path, tmp_path: Path):
    """Catches points out of order, arms counted twice, lost samples or closed forms, and trials under another point."""
    parts = [collect(tmp_path / "b", sweep={AXIS: [0.3]}), collect(tmp_path / "a", sweep={AXIS: [0.1, 0.5]})]
    assert merge(parts, tmp_path / "all") == 2 * 3 * 12
    assert contents(tmp_path / "all") == contents(whole)


def test_parts_may_overlap_in_items_arms_and_replicates(whole: Path, tmp_path: Path):
    """Catches equal rows that are taken for a conflict or counted twice, whatever time they took."""
    parts = [collect(tmp_path / "items", items=5), collect(tmp_path / "arm", arm=TABLES["arm"][:1]),
             collect(tmp_path / "more", arm=TABLES["arm"][1:], items=12)]
    change(parts[0], seconds=99.0)
    assert merge(parts, tmp_path / "all") == 2 * 3 * 12
    assert contents(tmp_path / "all") == contents(whole)


def test_what_is_there_already_is_the_first_part(whole: Path, tmp_path: Path):
    """Catches results of the target that are dropped, and trials that are counted as new though they were there."""
    here, there = collect(tmp_path / "here", sweep={AXIS: [0.1, 0.3]}), collect(tmp_path / "there", sweep={AXIS: [0.3, 0.5]})
    assert merge([here, there / "results.sqlite"], here) == 2 * 12
    assert contents(here) == contents(whole)
    assert merge([there], here) == 0 and contents(here) == contents(whole)


def test_a_run_goes_on_with_what_was_merged(whole: Path, tmp_path: Path):
    """Catches addresses that the runner does not find again."""
    parts = [collect(tmp_path / "a", sweep={AXIS: [0.1]}), collect(tmp_path / "b", items=7)]
    added = merge(parts, tmp_path / "all")
    assert added == 2 * (12 + 7 + 7)
    with closing(Store(tmp_path / "all" / "results.sqlite")) as store:
        scenario = load(TABLES)
        assert sum(work.num_trials for work in runner.plan(scenario, store.done())) == 2 * 3 * 12 - added
    assert contents(collect(tmp_path / "all")) == contents(whole)


@pytest.mark.parametrize("is_new", [True, False])
def test_other_numbers_for_an_address_are_a_conflict_that_names_both_files(tmp_path: Path, is_new: bool):
    """Catches a silent choice between two results, a conflict blamed on the united file, and a half-done merge."""
    parts = [collect(tmp_path / name, items=3) for name in ("first", "second", "third")]
    changed = change(parts[2], token_error_rate=(17.0, 100.0))
    into = tmp_path / "all" if is_new else collect(tmp_path / "all", items=2, sweep={AXIS: [0.5]})
    before = None if is_new else contents(into)
    with pytest.raises(StoreConflict) as caught:
        merge(parts, into)
    for named in ("first/results.sqlite", "third/results.sqlite", changed.task_id[:12], "item 0", "replicate 0", "17.0"):
        assert named in str(caught.value)
    assert "second" not in str(caught.value).split("task")[0] and "\n" not in str(caught.value)
    assert caught.value.address == (changed.task_id, 0, 0)
    if before is None:
        assert list(into.iterdir()) == []
    else:
        assert contents(into) == before


@pytest.mark.parametrize("changes, named", [
    ({"seed": 2}, "seed 1 and 2"),
    ({"coder": {"name": "fixed_length", "packet_bits": 2, "header_bits": 0}}, "coder.packet_bits = 1 and 2"),
    ({"sweep": {}, "channel": {"name": "packet_loss", "loss_rate": 0.1}}, None),
])
def test_parts_that_are_not_of_one_scenario_are_refused(tmp_path: Path, changes: dict[str, Any], named: str | None):
    """Catches a plan in which one arm at one point is two tasks; what only lies at another point is no contradiction."""
    first, second = collect(tmp_path / "a", items=2), collect(tmp_path / "b", **{"items": 2} | changes)
    if named is None:
        assert merge([first, second], tmp_path / "all") == 2 * 3 * 2
        return
    with pytest.raises(RequestError, match=named) as caught:
        merge([first, second], tmp_path / "all")
    assert "a/results.sqlite" in str(caught.value) and "b/results.sqlite" in str(caught.value)
    assert not (tmp_path / "all").exists()


def test_another_scenario_is_refused_by_name(tmp_path: Path):
    """Catches two questions in one report."""
    first, second = collect(tmp_path / "a", items=2), collect(tmp_path / "b", items=2)
    with closing(Store(second / "results.sqlite", writable=True)) as store:
        store.set_meta("name", "other")
    with pytest.raises(RequestError, match="name 'scenario' and 'other'; only parts of one scenario"):
        merge([first, second], tmp_path / "all")


def test_failures_and_stops_are_united_too(tmp_path: Path):
    """Catches a failure that stays though another part has the trial, and a stopped point that looks unfinished."""
    first, second = collect(tmp_path / "a", items=2), collect(tmp_path / "b", items=3)
    with closing(Store(first / "results.sqlite", writable=True)) as store:
        task = store.points()[0].task_id
        store.add_failure(task, 2, 0, "out of memory")
        store.add_failure(task, 7, 0, "killed")
    with closing(Store(second / "results.sqlite", writable=True)) as store:
        store.set_stop(task, "half-width reached")
    merge([first, second], tmp_path / "all")
    with closing(Store(tmp_path / "all" / "results.sqlite")) as store:
        assert store.failures() == [Failure(task, 7, 0, "killed")] and store.stops() == {task: "half-width reached"}


def test_sentences_about_numbers_stay_only_where_all_parts_have_them(tmp_path: Path):
    """Catches a note that gives the percentages of one part as those of the whole; and keeps where parts come from."""
    parts = [collect(tmp_path / "a", items=2), collect(tmp_path / "b", items=3)]
    for part, sentence in zip(parts, ("12 % are restored", "14 % are restored"), strict=True):
        with closing(Store(part / "results.sqlite", writable=True)) as store:
            store.set_meta("notes", [sentence])
    merge(parts, tmp_path / "all")
    with closing(Store(tmp_path / "all" / "results.sqlite")) as store:
        assert store.meta()["notes"] == []
        assert [one["command"] for one in store.meta()["merged"]] == ["run of a", "run of b"]


def test_missing_and_broken_parts_are_named_and_nothing_is_made(tmp_path: Path):
    """Catches a merge that leaves out what it cannot read."""
    good = collect(tmp_path / "good", items=2)
    (tmp_path / "bad").mkdir()
    with pytest.raises(RequestError, match="bad/results.sqlite: no results there"):
        merge([good, tmp_path / "bad"], tmp_path / "all")
    (tmp_path / "bad" / "results.sqlite").write_bytes((good / "results.sqlite").read_bytes()[:9000])
    with pytest.raises(RequestError, match="bad/results.sqlite: (not a results file|damaged)"):
        merge([good, tmp_path / "bad"], tmp_path / "all")
    with pytest.raises(RequestError, match="nothing to merge"):
        merge([good], good)
    assert not (tmp_path / "all").exists()
