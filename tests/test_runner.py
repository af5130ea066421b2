"""Runs: resumable, paired, independent of blocks and workers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.store import Store
from channel_sim.trial import run, send
from scenarios import blocks, runner
from scenarios.scenario import load

TABLES: dict[str, Any] = {
    "question": "?",
    "items": 20,
    "replicates": 2,
    "source": {"name": "markov", "flip_probability": 0.1, "num_symbols": 200},
    "channel": {"name": "packet_loss", "loss_rate": 0.3},
    "coder": {"name": "fixed_length", "packet_bits": 1, "header_bits": 0},
    "arm": [{"label": "exact", "decoder": {"name": "exact_markov"}}, {"label": "none"}],
    "sweep": {"channel.loss_rate": [0.1, 0.5]},
}


def rows(store: Store) -> dict[tuple[str, int, int], Any]:
    trials = [one for task in {point.task_id for point in store.points()} for one in store.trials(task)]
    return {(one.task_id, one.item, one.replicate): (one.metrics, one.reasons, one.ledger) for one in trials}


def collect(tables: dict[str, Any], out: Path, **options: Any) -> dict[tuple[str, int, int], Any]:
    scenario = load(tables)
    with closing(runner.open_store(scenario, out, "test")) as store:
        runner.execute(scenario, store, **options)
        return rows(store)


def test_a_run_has_every_address_once(tmp_path: Path):
    """Catches blocks that skip or repeat an address."""
    assert len(collect(TABLES, tmp_path)) == 2 * 2 * 20 * 2


def test_going_on_equals_running_at_once(tmp_path: Path):
    """Catches results that depend on where a run was interrupted."""
    whole = collect(TABLES, tmp_path / "whole")
    collect(TABLES | {"items": 7, "replicates": 1}, tmp_path / "parts")
    assert collect(TABLES, tmp_path / "parts") == whole


def test_nothing_is_run_twice(tmp_path: Path):
    """Catches a plan that does not subtract what is on file."""
    collect(TABLES, tmp_path)
    scenario = load(TABLES)
    with closing(runner.open_store(scenario, tmp_path, "test")) as store:
        assert runner.execute(scenario, store).num_trials == 0


def test_results_do_not_depend_on_block_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches items that feel their neighbours."""
    whole = collect(TABLES, tmp_path / "eight")
    monkeypatch.setattr(runner, "BLOCK_ITEMS", 3)
    assert collect(TABLES, tmp_path / "three") == whole


def test_results_do_not_depend_on_workers(tmp_path: Path):
    """Catches state that lives in a process."""
    tables = TABLES | {"replicates": 1}
    assert collect(tables, tmp_path / "two", workers=2) == collect(tables, tmp_path / "one")


def test_an_arm_that_the_sweep_leaves_alone_is_run_once(tmp_path: Path):
    """Catches equal tasks that are computed again at every point."""
    tables = TABLES | {"arm": [*TABLES["arm"], {"label": "clean", "channel": {"name": "ideal"}}], "replicates": 1}
    assert len(collect(tables, tmp_path)) == (2 * 2 + 1) * 20


def test_arms_and_points_share_items_and_losses():
    """Catches draws that depend on who watches: arms must meet the same losses, nested over the sweep."""
    tasks = load(TABLES).tasks
    outcomes = {(task.arm, task.sweep["channel.loss_rate"]): run(task.chain, send(task.chain, [0], Key(1)), 0, Key(1))[0]
                for task in tasks}
    lost = {at: one.delivery.reception.lost for at, one in outcomes.items()}
    assert np.array_equal(lost["exact", 0.5], lost["none", 0.5])
    assert np.all(lost["none", 0.5] >= lost["none", 0.1])
    assert np.array_equal(outcomes["exact", 0.1].sent.tokens.values, outcomes["none", 0.5].sent.tokens.values)


@pytest.mark.parametrize("beside", [
    {"decoder": {"name": "exact_markov"}},
    {"coder": {"name": "fixed_length", "packet_bits": 4, "header_bits": 0}},
    {"channel": {"name": "packet_loss", "loss_rate": 0.2}},
    {"protection": {"name": "reed_solomon"}},
    {"source": {"name": "markov", "flip_probability": 0.3, "num_symbols": 100}},
], ids=lambda tables: next(iter(tables)))
def test_an_arm_is_the_same_beside_any_other(beside: dict[str, Any], tmp_path: Path):
    """Catches arms that share what was sent or heard although they differ in more than their decoders."""
    tables = TABLES | {"items": 3, "replicates": 2}
    del tables["sweep"]
    alone = collect(tables | {"arm": [{"label": "none"}]}, tmp_path / "alone")
    together = collect(tables | {"arm": [{"label": "beside", **beside}, {"label": "none"}]}, tmp_path / "together")
    assert alone.items() <= together.items() and len(together) == 2 * len(alone)


def test_arms_that_differ_in_their_decoders_meet_the_channel_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a link that is simulated again for every decoder."""
    num_carried = []
    carry = blocks.carry
    monkeypatch.setattr(blocks, "carry", lambda chain, sent, *rest: num_carried.append(len(sent)) or carry(chain, sent, *rest))
    collect(TABLES | {"items": 8, "replicates": 1}, tmp_path)
    assert sum(num_carried) == 8 * 2  # each item once at each point


def test_replicates_share_the_item_and_draw_the_channel_anew():
    """Catches replicates that repeat the same losses, or that send something else."""
    chain = load(TABLES).tasks[0].chain
    sent = send(chain, [3], Key(1))
    first, second = (run(chain, sent, replicate, Key(1))[0].delivery.reception.lost for replicate in (0, 1))
    assert not np.array_equal(first, second)


def test_too_many_items_are_refused_before_anything_is_written(tmp_path: Path):
    """Catches a run that stops half-way at the end of the file."""
    (tmp_path / "short.txt").write_text("short")
    tables = {"question": "?", "items": 2, "source": {"name": "text", "path": str(tmp_path / "short.txt")}, "arm": [{"label": "a"}]}
    with pytest.raises(RequestError, match="items: 2, but the source of arm 'a' has only 1"):
        runner.plan(load(tables), set())


def test_another_scenarios_folder_is_refused(tmp_path: Path):
    """Catches results that are overwritten by another scenario's."""
    collect(TABLES | {"items": 2}, tmp_path)
    before = (tmp_path / "results.sqlite").read_bytes()
    other = tmp_path / "other.toml"
    other.write_text('question = "?"\nitems = 1\n[[arm]]\nlabel = "a"\n')
    with pytest.raises(RequestError, match="holds the results of scenario"):
        runner.open_store(load(other), tmp_path, "test")
    assert (tmp_path / "results.sqlite").read_bytes() == before


def test_a_file_that_is_no_store_is_refused(tmp_path: Path):
    """Catches a foreign file that is overwritten."""
    (tmp_path / "results.sqlite").write_bytes(b"precious")
    with pytest.raises(RequestError, match="not a results file"):
        runner.open_store(load(TABLES), tmp_path, "test")
    assert (tmp_path / "results.sqlite").read_bytes() == b"precious"


STOPPING: dict[str, Any] = TABLES | {"items": 60, "replicates": 1, "sweep": {"channel.loss_rate": [0.05, 0.9]},
                                     "stop": {"metric": "token_error_rate", "half_width": 0.03, "min_items": 10}}


def stopped(tables: dict[str, Any], out: Path, **options: Any) -> tuple[dict[str, str], dict[tuple[str, int, int], Any]]:
    """(why each task stopped, all rows)"""
    scenario = load(tables)
    with closing(runner.open_store(scenario, out, "test")) as store:
        runner.execute(scenario, store, **options)
        return store.stops(), rows(store)


def test_a_stopped_comparison_gets_no_further_items(tmp_path: Path):
    """Catches a rule that is not asked, one that stops an arm alone, and progress that waits for what is spared."""
    told: list[tuple[int, int]] = []
    stops, found = stopped(STOPPING, tmp_path, progress=lambda done, total: told.append((done, total)))
    items: dict[str, set[int]] = {}
    for task_id, item, _ in found:
        items.setdefault(task_id, set()).add(item)
    counts = {(task.sweep["channel.loss_rate"], task.arm): len(items[task.task_id]) for task in load(STOPPING).tasks}
    assert stops.keys() == items.keys()
    assert all(items[task_id] == set(range(int(why.split()[0]))) for task_id, why in stops.items())
    assert counts[0.05, "exact"] == counts[0.05, "none"] < 60
    assert counts[0.9, "exact"] == counts[0.9, "none"]
    assert told[0] == (0, 240) and told[-1] == (len(found), len(found))


@pytest.mark.parametrize("options", [{"workers": 2}, {"block_items": 3}])
def test_where_a_rule_stops_does_not_depend_on_workers_or_blocks(options: dict[str, int], tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch):
    """Catches a rule that sees more than the shortest completed prefix, and items that are run ahead of it."""
    whole = stopped(STOPPING, tmp_path / "whole")
    monkeypatch.setattr(runner, "BLOCK_ITEMS", options.pop("block_items", runner.BLOCK_ITEMS))
    assert stopped(STOPPING, tmp_path / "other", **options) == whole


def test_a_rule_is_asked_again_when_a_run_goes_on(tmp_path: Path):
    """Catches a resumed run that forgets what it had stopped."""
    whole = stopped(STOPPING, tmp_path / "whole")
    stopped({key: value for key, value in STOPPING.items() if key != "stop"} | {"items": 9}, tmp_path / "parts")
    assert stopped(STOPPING, tmp_path / "parts") == whole


def test_a_memo_changes_no_number(tmp_path: Path):
    """Catches what is remembered under the wrong name."""
    tables = TABLES | {"coder": {"name": "entropy", "model": "exact_markov", "packet_bits": 40}}
    assert collect(tables, tmp_path / "with") == collect(tables, tmp_path / "without", memo=False)
    assert (tmp_path / "with" / "memo.sqlite").exists() and not (tmp_path / "without" / "memo.sqlite").exists()
