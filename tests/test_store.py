"""Results on disk: what is written comes back, two values for one address conflict, and a foreign or broken file is named."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from channel_sim.checks import RequestError
from channel_sim.store import SCHEMA_VERSION, Curve, Failure, Point, Store, StoreConflict, Trial

META = {"question": "Wer gewinnt? «ä»", "seed": 1, "arms": ["a", "b"]}
POINTS = [Point(0, 0, "a", {"channel.loss_rate": 0.1}, "t0"), Point(1, 0, "b", {"channel.loss_rate": 0.1}, "t1"),
          Point(0, 1, "a", {"channel.loss_rate": 0.2}, "t2")]
RESOLVED = {f"t{i}": {"coder": {"name": "fixed_length", "packet_bits": 8 * i}} for i in range(3)}
CURVES = [Curve(1, "optimum", "recovered_fraction", 0.875, "a closed form"),
          Curve(0, "optimum", "recovered_fraction", 1 / 3, "the same")]


def trial(item: int, errors: float = 1.0, replicate: int = 0, seconds: float = 0.5, task: str = "t0") -> Trial:
    metrics, ledger = {"token_error_rate": (errors, 3.0)}, {"coded_bits": 40, "energy": 0.1}
    return Trial(task, item, replicate, metrics, {"chrf": "not text"}, ledger, seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "results.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store.create(path, META)) as one:
        one.set_plan(POINTS, RESOLVED, CURVES)
        yield one


def contents(path: Path) -> dict[str, object]:
    """All that a reader gets."""
    with closing(Store(path)) as one:
        tasks = [point.task_id for point in one.points()]
        return {"meta": one.meta(), "points": one.points(), "curves": one.curves(), "done": one.done(),
                "resolved": {task: one.resolved(task) for task in tasks}, "trials": [list(one.trials(task)) for task in tasks],
                "samples": [one.samples(task) for task in tasks]}


def test_what_is_written_comes_back(path, store):
    """Catches a field that is lost or changes type on disk, and readers that depend on the order of writing."""
    store.add([trial(1), trial(0, 1 / 3, replicate=1), trial(0)], [("t0", 1, {"text": "ü\x00"}), ("t0", 0, {"text": ""})])
    store.set_meta("seed", 2)
    store.close()
    found = contents(path)
    assert found["meta"] == META | {"seed": 2} and found["resolved"] == RESOLVED
    assert found["points"] == [POINTS[0], POINTS[2], POINTS[1]] and found["curves"] == CURVES[::-1]
    assert found["trials"][0] == [trial(0), trial(0, 1 / 3, replicate=1), trial(1)] and found["trials"][1:] == [[], []]
    assert found["trials"][0][0].seconds == 0.5 and isinstance(found["trials"][0][0].ledger["coded_bits"], int)
    assert found["samples"][0] == [(0, {"text": ""}), (1, {"text": "ü\x00"})]


def test_a_run_is_resumed_from_the_addresses_on_file(path, store):
    """Catches a resumed run that starts again, or that forgets the plan."""
    store.add([trial(0), trial(1, replicate=2)])
    store.close()
    with closing(Store(path, writable=True)) as again:
        assert again.done() == {("t0", 0, 0), ("t0", 1, 2)}
        again.add([trial(2)])
    assert contents(path)["done"] == {("t0", 0, 0), ("t0", 1, 2), ("t0", 2, 0)}


def test_a_new_plan_replaces_the_old_one_and_keeps_its_trials(path, store):
    """Catches points of arms that are gone, and results thrown away with them."""
    store.add([trial(0)])
    store.set_plan([Point(0, 0, "c", {}, "t9")], {"t9": {}}, [])
    assert store.points() == [Point(0, 0, "c", {}, "t9")] and store.curves() == []
    assert store.done() == {("t0", 0, 0)} and store.resolved("t0") == RESOLVED["t0"]


def test_equal_numbers_are_no_conflict_whatever_the_time_they_took(store):
    """Catches a resumed or merged run that stumbles over its own rows."""
    store.add([trial(0, seconds=1.0)])
    store.add([trial(0, seconds=9.0), trial(1)])
    assert list(store.trials("t0")) == [trial(0), trial(1)]


@pytest.mark.parametrize("other, named", [
    (trial(0, errors=2.0), ("1.0", "2.0")),
    (Trial("t0", 0, 0, trial(0).metrics, {"chrf": "empty"}, trial(0).ledger), ("not text", "empty")),
    (Trial("t0", 0, 0, trial(0).metrics, trial(0).reasons, {"coded_bits": 41, "energy": 0.1}), ("40", "41")),
    (trial(0, errors=1.0 + 2**-52), ("1.0,", "1.0000000000000002")),
])
def test_another_value_for_an_address_is_a_conflict_that_names_both(store, other, named):
    """Catches overwriting, keeping the first without a word, and a message that shows two equal values."""
    store.add([trial(0)])
    with pytest.raises(StoreConflict) as caught:
        store.add([trial(1), other])
    assert all(value in str(caught.value) for value in (*named, "item 0", "replicate 0", "t0")) and "\n" not in str(caught.value)
    assert isinstance(caught.value, RequestError)
    assert list(store.trials("t0")) == [trial(0)], "the block with the conflict must not be there in part"


def test_no_results_are_named_and_reading_never_makes_any(path):
    """Catches an empty results file, or a folder, that a reader leaves behind."""
    for writable in (False, True):
        with pytest.raises(RequestError, match="no results there; run a scenario with --out"):
            Store(path, writable=writable)
    assert not path.parent.exists()


def test_reading_leaves_the_folder_as_it_was(path, store):
    """Catches a reader that writes: neither the file nor its neighbours may change."""
    store.add([trial(0)])
    store.close()
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.parent.iterdir()}
    assert before.keys() == {"results.sqlite"}, "one file, that can be copied"
    contents(path)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.parent.iterdir()} == before


def test_a_reader_cannot_write(path, store):
    """Catches a report or status command that could damage a run."""
    store.close()
    with closing(Store(path)) as reader, pytest.raises(RequestError, match="cannot write results.*readonly"):
        reader.add([trial(0)])
    with closing(Store(path)) as reader, pytest.raises(RequestError, match="cannot write results.*readonly"):
        reader.set_meta("seed", 3)


def test_results_can_be_read_while_a_run_writes_them(path, store):
    """Catches a status command that fails, or stops the run, while it is going on."""
    store.add([trial(0)])
    with closing(Store(path)) as reader:
        assert list(reader.trials("t0")) == [trial(0)]
        store.add([trial(1)])
        store.close()  # a reader is still there
        assert list(reader.trials("t0")) == [trial(0), trial(1)]


def test_results_that_are_there_are_not_made_anew(path, store):
    """Catches a second run that overwrites the first."""
    store.add([trial(0)])
    with pytest.raises(RequestError, match="must not be there yet"):
        Store.create(path, {})
    assert store.done() == {("t0", 0, 0)}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """Catches a traceback where --out names a file or lies below one."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RequestError, match="cannot be written.*--out"):
        Store.create(tmp_path / "file" / "results.sqlite", META)


@pytest.mark.parametrize("folder", ["a b", "50%?mode=rw#x", "ünï", "a'b"])
def test_any_folder_name_will_do(tmp_path, folder):
    """Catches a path that is taken for a part of an address: '?', '#' and '%' have a meaning there."""
    path = tmp_path / folder / "results.sqlite"
    Store.create(path, META).close()
    assert contents(path)["meta"] == META and os.listdir(tmp_path) == [folder]


def test_a_name_that_is_no_utf_8_can_be_kept(path):
    """Catches a traceback for a command line with a file name of another encoding."""
    with closing(Store.create(path, {"command": "caf\udce9"})) as one:
        assert one.meta() == {"command": "caf\udce9"}


def test_numbers_that_are_none_are_refused(store):
    """Catches NaN and infinity that would pass for measured values, and that other readers of JSON can't read."""
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            store.add([trial(0, errors=value)])
    assert store.done() == set()


def sqlite_file(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.mark.parametrize("writable", [False, True])
def test_foreign_files_are_refused_and_left_alone(path, writable):
    """Catches writing into another program's database, and a traceback for a file that is none."""
    path.parent.mkdir()
    for make in (lambda: path.write_bytes(b""), lambda: path.write_bytes(b"task,item\n" * 200),
                 lambda: sqlite_file(path, "CREATE TABLE notes (x)"), lambda: sqlite_file(path, "PRAGMA application_id=7")):
        path.unlink(missing_ok=True)
        make()
        before = path.read_bytes()
        with pytest.raises(RequestError, match="another program|not a results file") as caught:
            Store(path, writable=writable)
        assert str(path) in str(caught.value) and "choose another --out" in str(caught.value)
        assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_results_of_a_newer_version_are_refused_with_both_versions(path, store):
    """Catches reading columns that mean something else by now."""
    store.close()
    sqlite_file(path, f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(RequestError, match=f"schema {SCHEMA_VERSION + 1}, this version reads {SCHEMA_VERSION}"):
        Store(path)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999])
def test_truncated_files_are_named_and_lose_no_rows_silently(path, store, share):
    """Catches a copy that broke off: without a check the last page reads as zeros and its rows are gone without a word."""
    store.add([trial(item) for item in range(500)])
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    for writable in (False, True):
        with pytest.raises(RequestError, match="not a results file|damaged"):
            Store(path, writable=writable)


def test_a_file_that_breaks_while_it_is_read_is_named(path, store):
    """Catches a traceback for a disk that fails after the file was opened."""
    store.add([trial(item) for item in range(500)])
    store.close()
    with closing(Store(path)) as reader:
        path.write_bytes(path.read_bytes()[:4096])
        with pytest.raises(RequestError, match="cannot be read"):
            list(reader.trials("t0"))


KILLED = {
    "before its tables": "sqlite3.connect = lambda *a, **k: os._exit(9)",
    "before its description": "store.dump = lambda value: os._exit(9)",
    "before it has its name": "Path.rename = lambda self, target: os._exit(9)",
}


@pytest.mark.parametrize("moment", KILLED)
def test_killed_while_it_is_made_it_is_not_there(path, moment):
    """Catches a results file without tables or description, which no command could go on with or read."""
    _run(f"{KILLED[moment]}; Store.create(path, {META!r})", path, status=9)
    assert not path.exists()
    Store.create(path, META).close()
    assert contents(path)["meta"] == META and os.listdir(path.parent) == [path.name]


def test_killed_while_a_block_is_written_all_blocks_before_are_there(path, store):
    """Catches half a block on file, and a block that was reported as done but is not there."""
    store.close()
    block = "store.Trial('t0', {0}, 0, {{'token_error_rate': (1.0, 3.0)}}, {{}}, {{}})"
    _run(f"one = Store(path, writable=True); one.add([{block.format(0)}]); "
         f"one.add(({block.format(1)} if item == 1 else os._exit(9)) for item in (1, 2))", path, status=9)
    assert contents(path)["done"] == {("t0", 0, 0)}
    with closing(Store(path, writable=True)) as again:
        again.add([trial(1)])
    assert contents(path)["done"] == {("t0", 0, 0), ("t0", 1, 0)} and os.listdir(path.parent) == [path.name]


def _run(statements: str, path: Path, *, status: int) -> None:
    imports = "import os, sqlite3; from pathlib import Path; from channel_sim import store; from channel_sim.store import Store"
    program = f"{imports}; path = Path({str(path)!r}); {statements}"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == status


def test_a_failure_stays_until_its_address_has_a_trial(path, store):
    """Catches failures that are lost, kept beside the good trial of a later attempt, or that hide one."""
    store.add([trial(0)])
    for item, error in ((0, "late"), (2, "killed"), (1, "out of memory"), (2, "killed again")):
        store.add_failure("t0", item, 0, error)
    store.close()
    with closing(Store(path, writable=True)) as again:
        assert again.failures() == [Failure("t0", 1, 0, "out of memory"), Failure("t0", 2, 0, "killed again")]
        assert again.done() == {("t0", 0, 0)} and again.num_trials() == 1
        again.add([trial(2), trial(1, replicate=1)])
        assert again.failures() == [Failure("t0", 1, 0, "out of memory")]


def test_stops_belong_to_the_plan(store):
    """Catches a point that counts as finished under the rule of an earlier plan."""
    store.set_stop("t0", "half-width 0.01 reached")
    store.set_stop("t1", "time")
    store.set_stop("t1", "max_items")
    assert store.stops() == {"t0": "half-width 0.01 reached", "t1": "max_items"}
    store.set_plan(POINTS, RESOLVED, CURVES)
    assert store.stops() == {}


def test_tasks_outside_the_plan_are_still_listed(store):
    """Catches a merge that forgets them."""
    store.set_plan([Point(0, 0, "c", {}, "t9")], {"t9": {"coder": {}}}, [])
    assert store.tasks() == RESOLVED | {"t9": {"coder": {}}}


def test_writes_in_a_transaction_are_all_there_or_none(path, store):
    """Catches a merge that leaves half of its rows behind."""
    with pytest.raises(KeyboardInterrupt), store.transaction():
        store.add([trial(0)])
        store.add_failure("t0", 1, 0, "killed")
        store.set_meta("seed", 3)
        raise KeyboardInterrupt
    assert (store.done(), store.failures(), store.meta()) == (set(), [], META)
    with store.transaction():
        store.add([trial(0)])
        assert contents(path)["done"] == set(), "nothing shows before the end"
    assert contents(path)["done"] == {("t0", 0, 0)}


def test_two_runs_that_write_to_one_file_by_mistake_take_turns(path, store):
    """Catches lost rows, a lock that ends one of them, and a row that slips in between a look at its address and its writing."""
    store.close()
    rows = "[store.Trial('t0', item, 0, {'token_error_rate': (1.0, 3.0)}, {}, {})]"
    program = (f"import sys; from pathlib import Path; from channel_sim import store; one = store.Store(Path({str(path)!r}), "
               f"writable=True)\nfor item in range(0, 200, int(sys.argv[1])): one.add({rows})")
    writers = [subprocess.Popen([sys.executable, "-c", program, step]) for step in ("1", "2")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert contents(path)["done"] == {("t0", item, 0) for item in range(200)}
