"""Workers: what dies is repeated, what dies again is named, and the rest of the sweep is as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.store import Store
from channel_sim.types import Item
from scenarios import executors, runner
from scenarios.blocks import Work
from scenarios.runner import Done, execute, open_store
from scenarios.scenario import Scenario, load
from sources.synthetic import Markov
from tests.test_runner import rows

BAD = 5
TABLES: dict[str, Any] = {
    "question": "?",
    "items": 20,
    "source": {"name": "markov", "flip_probability": 0.1, "num_symbols": 100},
    "channel": {"name": "packet_loss", "loss_rate": 0.3},
    "coder": {"name": "fixed_length", "packet_bits": 1, "header_bits": 0},
    "arm": [{"label": "good"}, {"label": "bad", "decoder": {"name": "repeat_last"}}],
}


class Raises(Markov):
    """Item 5 cannot be drawn."""

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        if BAD in indices:
            raise ArithmeticError("no item 5")
        return super().items(indices, keys)


class Refuses(Markov):
    """No item can be drawn, and the scenario is to blame."""

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        raise RequestError("source.num_symbols: must be something else")


class Kills(Markov):
    """Item 5 kills its process, `times` times; every process leaves its mark in `folder`."""

    folder: str
    times: int = 1_000_000

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        Path(self.folder, f"worker-{os.getpid()}").touch()
        deaths = Path(self.folder, "deaths")
        if BAD in indices and (num_deaths := len(deaths.read_text()) if deaths.exists() else 0) < self.times:
            deaths.write_text("x" * (num_deaths + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().items(indices, keys)


class Slow(Markov):
    """An item takes 50 ms."""

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        time.sleep(0.05 * len(indices))
        return super().items(indices, keys)


class Threads(Markov):
    """Every process leaves the number of threads it was given."""

    folder: str

    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        Path(self.folder, str(os.getpid())).write_text(" ".join(os.environ.get(name, "?") for name in executors._THREADS))
        time.sleep(0.1)
        return super().items(indices, keys)


def with_source(scenario: Scenario, source: Markov, arm: str = "") -> Scenario:
    """The scenario with another source under the same addresses, in one arm or in all."""
    return replace(scenario, tasks=tuple(replace(task, chain=replace(task.chain, source=source)) if arm in task.arm else task
                                         for task in scenario.tasks))


def conduct(scenario: Scenario, out: Path, **options: Any) -> tuple[Done, dict[tuple[str, int, int], Any], list[Any]]:
    """(what a run did, all rows, all failures)"""
    with closing(open_store(scenario, out, "test")) as store:
        done = execute(scenario, store, **options)
        return done, rows(store), store.failures()


@pytest.fixture(name="whole", scope="module")
def fixture_whole(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int, int], Any]:
    """Every row of an undisturbed run in one process."""
    return conduct(load(TABLES), tmp_path_factory.mktemp("whole"))[1]


@pytest.mark.parametrize(("workers", "block_items"), [(2, 8), (3, 3)])
def test_no_number_depends_on_workers_or_blocks(workers: int, block_items: int, whole: Any, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch):
    """Catches state that lives in a process, and items that feel their neighbours."""
    monkeypatch.setattr(runner, "BLOCK_ITEMS", block_items)
    assert conduct(load(TABLES), tmp_path, workers=workers) == (Done(40, 0, None), whole, [])


def test_the_block_of_a_killed_worker_is_repeated(whole: Any, tmp_path: Path):
    """Catches a sweep that ends, or lacks a block, when the system kills a worker."""
    scenario = with_source(load(TABLES), Kills(num_symbols=100, folder=str(tmp_path), times=1))
    assert conduct(scenario, tmp_path / "out", workers=2) == (Done(40, 0, None), whole, [])
    assert (tmp_path / "deaths").read_text() == "x"


def test_an_item_that_kills_every_worker_is_named_and_the_rest_is_done(whole: Any, tmp_path: Path):
    """Catches one bad item that ends the sweep, takes its neighbours or its rivals with it, or is blamed on another."""
    scenario = with_source(load(TABLES), Kills(num_symbols=100, folder=str(tmp_path)), "bad")
    done, found, failures = conduct(scenario, tmp_path / "out", workers=2)
    (bad,) = (task.task_id for task in scenario.tasks if task.arm == "bad")
    assert done == Done(39, 1, None)
    assert found == {at: row for at, row in whole.items() if at != (bad, BAD, 0)}
    ((task_id, item, error),) = ((one.task_id, one.item, one.error) for one in failures)
    assert (task_id, item) == (bad, BAD) and "worker died" in error


def test_what_failed_is_tried_again(whole: Any, tmp_path: Path):
    """Catches failures that outlive their cause."""
    scenario = load(TABLES)
    conduct(with_source(scenario, Raises(num_symbols=100)), tmp_path)
    assert conduct(scenario, tmp_path) == (Done(2, 0, None), whole, [])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_stays_with_its_item_and_arm(workers: int, whole: Any, tmp_path: Path):
    """Catches an exception that ends the sweep or takes the rest of its block with it."""
    scenario = with_source(load(TABLES), Raises(num_symbols=100), "bad")
    done, found, failures = conduct(scenario, tmp_path, workers=workers)
    (bad,) = (task.task_id for task in scenario.tasks if task.arm == "bad")
    assert done == Done(39, 1, None)
    assert found == {at: row for at, row in whole.items() if at != (bad, BAD, 0)}
    assert [(one.task_id, one.item) for one in failures] == [(bad, BAD)]
    assert failures[0].error.startswith("ArithmeticError: no item 5\ntest_workers.py, line")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_is_refused_altogether_is_a_wrong_request(workers: int, tmp_path: Path):
    """Catches thousands of failures on file where one line to the user was due."""
    scenario = with_source(load(TABLES), Refuses(num_symbols=100), "bad")
    with closing(open_store(scenario, tmp_path, "test")) as store:
        with pytest.raises(RequestError, match="source.num_symbols"):
            execute(scenario, store, workers=workers)
        assert store.failures() == []


def test_workers_share_the_threads_and_live_as_long_as_the_sweep(tmp_path: Path):
    """Catches workers that each take every core, and processes started anew for every block (models would be loaded anew)."""
    scenario = with_source(load(TABLES | {"items": 40}), Threads(num_symbols=100, folder=str(tmp_path)))
    conduct(scenario, tmp_path / "out", workers=2)
    given = [one.read_text().split() for one in tmp_path.iterdir() if one.is_file()]
    assert len(given) == 2
    assert all(set(one) == {str(max(1, executors.num_cores() // 2))} for one in given)
    assert "TF_NUM_INTEROP_THREADS" not in os.environ


@pytest.mark.parametrize("workers", [1, 2])
def test_a_time_limit_ends_a_run_that_can_be_gone_on_with(workers: int, whole: Any, tmp_path: Path):
    """Catches a limit that is overrun, that is taken for the end, or that leaves what cannot be completed."""
    scenario = with_source(load(TABLES), Slow(num_symbols=100))
    with closing(open_store(scenario, tmp_path, "test")) as store:
        start = time.monotonic()
        done = execute(scenario, store, workers=workers, max_seconds=0.2 if workers == 1 else 0.0)
        assert time.monotonic() - start < 10
        assert (done.stopped, store.meta()["interrupted"]) == ("time limit", "time limit")
        assert done.num_trials == store.num_trials() < 40
        assert execute(load(TABLES), store) == Done(40 - done.num_trials, 0, None)
        assert store.meta()["interrupted"] is None
        assert rows(store) == whole


_PROGRAM = """
import signal
import sys
from pathlib import Path
from scenarios.runner import execute, open_store
from scenarios.scenario import load
from tests.test_workers import TABLES, Slow, with_source

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell put into the background ignores it from birth
    scenario = with_source(load(TABLES | {"items": 400}), Slow(num_symbols=100))
    store = open_store(scenario, Path(sys.argv[1]), "test")
    try:
        execute(scenario, store, workers=int(sys.argv[2]), progress=lambda done, total: print(done, flush=True))
    except KeyboardInterrupt:
        sys.exit(130)

if __name__ == "__main__":
    main()
"""


def started(out: Path, workers: int) -> subprocess.Popen[str]:
    """A long run in a process group of its own, after its first block."""
    program = out.with_suffix(".py")
    program.write_text(_PROGRAM)
    run = subprocess.Popen([sys.executable, str(program), str(out), str(workers)], text=True, start_new_session=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert run.stdout is not None
    while int(run.stdout.readline()) == 0:
        pass
    return run


def ends(group: int, seconds: float = 10) -> bool:
    """Whether every process of the group ends in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_within_seconds_and_keeps_what_is_finished(workers: int, tmp_path: Path):
    """Catches a terminal full of tracebacks, workers that stay behind, and results that are lost."""
    run = started(tmp_path / "out", workers)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, errors = run.communicate(timeout=60)  # seconds where nothing else runs
    assert (run.returncode, errors) == (130, "")
    assert ends(run.pid)
    with closing(Store(tmp_path / "out" / "results.sqlite")) as store:
        assert 0 < store.num_trials() < 800
        assert store.meta()["interrupted"] == "interrupt"


def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    """Catches processes that wait for work for ever."""
    run = started(tmp_path / "out", 2)
    run.kill()
    run.communicate(timeout=10)
    assert ends(run.pid)


def test_halves_hold_the_whole():
    """Catches trials that are lost or repeated while the one that kills is looked for."""
    parts = list(runner.plan(load(TABLES), set()))[:1]
    whole = sorted((task.task_id, item) for task, items in parts[0].missing for item in items)
    while any(part.num_trials > 1 for part in parts):
        parts = [half for part in parts for half in part.split() or [part]]
    assert sorted((task.task_id, item) for part in parts for task, (item,) in part.missing) == whole
    assert all(isinstance(part, Work) and part.split() == [] for part in parts)
