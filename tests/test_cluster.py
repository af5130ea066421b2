"""Dask clusters: a real scheduler with worker processes on loopback, which die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from channel_sim.checks import RequestError
from scenarios.executors import crew
from scenarios.runner import Done, Progress
from scenarios.scenario import load
from tests.test_workers import BAD, TABLES, Kills, Slow, conduct, with_source

pytest.importorskip("distributed")


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `dask` command."""
    with subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=subprocess.DEVNULL) as one:
        try:
            yield one
        finally:
            one.kill()


class Cluster:
    """A scheduler and its workers."""

    def __init__(self, address: str, scheduler: subprocess.Popen[bytes], workers: list[subprocess.Popen[bytes]]) -> None:
        self.address, self.scheduler, self.workers = address, scheduler, workers


@pytest.fixture(name="cluster")
def fixture_cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two workers; with a nanny each, which replaces one that dies, where the test's parameter says so."""
    from distributed import Client

    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    file = tmp_path / "scheduler.json"
    nanny = "--nanny" if getattr(request, "param", False) else "--no-nanny"
    with ExitStack() as stack:
        scheduler = stack.enter_context(process("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                                "--scheduler-file", str(file)))
        workers = [stack.enter_context(process("worker", "--scheduler-file", str(file), nanny, "--nthreads", "1", "--no-dashboard",
                                               "--local-directory", str(tmp_path))) for _ in range(2)]
        while not file.exists():
            time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        yield Cluster(address, scheduler, workers)


def after(num_trials: int, action: Any) -> Progress:
    """A progress that acts once, as soon as so many trials are done."""
    acted: list[int] = []

    def progress(done: int, total: int) -> None:
        if done >= num_trials and not acted:
            acted.append(done)
            action()
    return progress


def test_a_worker_that_is_killed_changes_nothing(cluster: Cluster, tmp_path: Path):
    """Catches a block that is lost, or doubled, with its worker; and numbers that depend on where they are computed."""
    _, whole, _ = conduct(load(TABLES), tmp_path / "one")
    scenario = with_source(load(TABLES), Slow(num_symbols=100))
    killed = after(4, cluster.workers[0].kill)
    assert conduct(scenario, tmp_path / "many", scheduler=cluster.address, progress=killed) == (Done(40, 0, None), whole, [])
    assert cluster.workers[0].poll() is not None and cluster.workers[1].poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [True], indirect=True)
def test_an_item_that_kills_every_worker_is_named(cluster: Cluster, tmp_path: Path):
    """Catches a sweep that ends with the error of one block."""
    _, whole, _ = conduct(load(TABLES), tmp_path / "one")
    scenario = with_source(load(TABLES), Kills(num_symbols=100, folder=str(tmp_path)), "bad")
    (bad,) = (task.task_id for task in scenario.tasks if task.arm == "bad")
    done, found, failures = conduct(scenario, tmp_path / "many", scheduler=cluster.address)
    assert done == Done(39, 1, None)
    assert found == {at: row for at, row in whole.items() if at != (bad, BAD, 0)}
    assert [(one.task_id, one.item) for one in failures] == [(bad, BAD)]


def test_a_scheduler_that_goes_away_ends_the_run_with_a_cure(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a run that waits for a dead scheduler for ever."""
    scenario = with_source(load(TABLES), Slow(num_symbols=100))
    with pytest.raises(RequestError, match="scheduler is gone"):
        conduct(scenario, tmp_path / "many", scheduler=cluster.address, progress=after(4, cluster.scheduler.kill))
    done, found, _ = conduct(load(TABLES), tmp_path / "many")
    assert 0 < done.num_trials < 40 and len(found) == 40


def test_no_scheduler_is_a_wrong_request(monkeypatch: pytest.MonkeyPatch):
    """Catches a traceback, or a wait without end, for an address where nothing is."""
    monkeypatch.setattr("scenarios.executors._CONNECT_SECONDS", 1)
    with pytest.raises(RequestError, match="--scheduler tcp://127.0.0.1:9: no scheduler answers"), crew(1, "tcp://127.0.0.1:9"):
        pass
