"""Real `channel-sim run` processes that are killed, run out of room, or meet a broken file: what was finished is kept, what
was wrong is one line, and the same command leads to the results of a run that nothing ever happened to."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.store import SCHEMA_VERSION, Store, Trial

SCENARIO = """
question = "Does it survive?"
items = 400
replicates = 2
[source]
name = "markov"
flip_probability = 0.1
num_symbols = 2000
[coder]
name = "fixed_length"
packet_bits = 1
header_bits = 0
[channel]
name = "packet_loss"
[[arm]]
label = "exact"
decoder = { name = "exact_markov" }
[[arm]]
label = "none"
[sweep]
"channel.loss_rate" = [0.1, 0.5]
"""
NUM_TRIALS = 400 * 2 * 2 * 2
BLOCK_TRIALS = 8 * 2 * 2
WRITES_BEFORE = 15  # description and plan
PROGRAM = "import sys; from scenarios.cli import main; sys.exit(main())"
NOBODY = 65534


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: its tables, and how long it took to write them and all figures after its last trial."""

    scenario: Path
    tables: dict[str, bytes]
    seconds: float


def start(scenario: Path, out: Path, program: str = PROGRAM) -> subprocess.Popen[str]:
    return begin(program, "run", str(scenario), "--out", str(out))


def begin(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("trials.csv", "summary.csv")}


def snapshot(out: Path) -> list[tuple[str, int, int]]:
    found = []
    for entry in os.scandir(out) if out.exists() else ():
        try:
            found.append((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size))
        except FileNotFoundError:
            continue
    return sorted(found)


def wait_for_first_write(process: subprocess.Popen[str], out: Path) -> None:
    """Most of a short run is imports, in which a kill cannot do harm; what matters begins with its first write."""
    before = snapshot(out)
    while process.poll() is None and snapshot(out) == before:
        time.sleep(0.002)


def wait_for_writes(process: subprocess.Popen[str], out: Path, num_writes: float) -> None:
    """Wait until that many transactions were written (a few more where the machine is busy), or all of them."""
    log, before, seen = out / "results.sqlite-wal", None, 0
    while process.poll() is None and seen < num_writes and not (out / "trials.csv").exists():
        now = log.stat().st_mtime_ns if log.exists() else None
        seen, before = seen + (now != before), now
        time.sleep(0.001)


def num_on_file(out: Path) -> int:
    """Trials that are there after a kill; what is there must always be sound."""
    if not (out / "results.sqlite").exists():
        return 0
    with closing(Store(out / "results.sqlite")) as store:
        return store.num_trials()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    scenario = folder / "crash.toml"
    scenario.write_text(SCENARIO)
    process = start(scenario, folder / "out")
    wait_for_writes(process, folder / "out", NUM_TRIALS)
    last_trial = time.perf_counter()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert num_on_file(folder / "out") == NUM_TRIALS
    return Whole(scenario, tables(folder / "out"), time.perf_counter() - last_trial)


@pytest.mark.parametrize("num_kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_any_instant_and_resumed_it_ends_as_if_nothing_happened(whole: Whole, tmp_path: Path, num_kills: int):
    """Catches half-written blocks, a file that no run can go on with, and rows that depend on where the run was cut.

    A fresh run is begun whenever one gets to its end, so that its beginning and its end are killed as often as its middle.
    """
    delays = Key(3).child("kills", num_kills).uniform(20 * num_kills)
    kills, complete, cut = 0, 0, 0
    for attempt, delay in enumerate(delays):
        out = tmp_path / str(complete)
        before = num_on_file(out)
        process = start(whole.scenario, out)
        wait_for_first_write(process, out)
        if before < NUM_TRIALS:
            wait_for_writes(process, out, 1.1 * delay * (WRITES_BEFORE + (NUM_TRIALS - before) / BLOCK_TRIALS))
            time.sleep(0.02 * (delay * 997 % 1))  # anywhere between two blocks
        else:
            time.sleep(delay * whole.seconds)
        if kills < num_kills and (before < NUM_TRIALS or attempt % 2):
            process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        print(f"attempt {attempt}: status {process.returncode}, {before} to {num_on_file(out)} of {NUM_TRIALS} trials")
        on_file = num_on_file(out)
        assert on_file >= before, "a committed block is gone"
        kills += process.returncode == -signal.SIGKILL
        cut += process.returncode == -signal.SIGKILL and before < on_file < NUM_TRIALS
        if process.returncode == 0:
            assert tables(out) == whole.tables
            complete += 1
            if kills >= num_kills:
                break
    assert kills == num_kills and complete >= 1
    assert cut >= num_kills // 10, "too few kills hit the middle of a run to mean anything"


def limited(num_bytes: int) -> str:
    """A program that cannot make a file longer than `num_bytes`: to SQLite it looks like a disk without room."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes}, {num_bytes})); {PROGRAM}"


def assert_one_line(process: subprocess.Popen[str], *named: str) -> None:
    _, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line.startswith("channel-sim: ")]
    assert process.returncode == 2 and "Traceback" not in errors and len(lines) == 1, errors
    assert all(one in lines[0] for one in named), errors


@pytest.mark.parametrize("num_bytes, is_begun", [(8_000, False), (400_000, True)])
def test_without_room_it_says_so_and_goes_on_when_there_is(whole: Whole, tmp_path: Path, num_bytes: int, is_begun: bool):
    """Catches a traceback, blocks that are lost with the one that did not fit, and a file that cannot be opened again."""
    out = tmp_path / "out"
    assert_one_line(start(whole.scenario, out, limited(num_bytes)), "results.sqlite", "written" if not is_begun else "cannot write")
    assert (num_on_file(out) > 0) == is_begun and num_on_file(out) < NUM_TRIALS
    process = start(whole.scenario, out)
    _, errors = process.communicate()
    assert process.returncode == 0 and tables(out) == whole.tables, errors


def test_a_report_without_room_says_so_and_leaves_the_results(whole: Whole, tmp_path: Path):
    """Catches a traceback where all trials are on file and only a table or figure does not fit."""
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(whole.scenario.parent / "out" / "results.sqlite", out)
    assert_one_line(begin(limited(400_000), "report", str(out)), "trials.csv", "cannot be written")
    assert num_on_file(out) == NUM_TRIALS


def test_a_block_that_does_not_fit_leaves_those_before(tmp_path: Path):
    """Catches a transaction that a full disk leaves open or half done."""
    def block(first: int) -> list[Trial]:
        return [Trial("t0", item, 0, {"token_error_rate": (1.0, 3.0)}, {}, {"coded_bits": 40}) for item in range(first, first + 50)]

    with closing(Store.create(tmp_path / "results.sqlite", {})) as store:
        store.add(block(0))
        ((pages,),) = store._connection.execute("PRAGMA page_count").fetchall()
        store._connection.execute(f"PRAGMA max_page_count={pages + 3}")
        with pytest.raises(RequestError, match="full.*what was finished is kept") as caught:
            for first in range(50, 5000, 50):
                store.add(block(first))
        kept = store.num_trials()
        assert kept % 50 == 0 and 50 <= kept < 5000 and "\n" not in str(caught.value)
        store._connection.execute("PRAGMA max_page_count=100000")
        store.add(block(kept))
    with closing(Store(tmp_path / "results.sqlite")) as store:
        assert store.num_trials() == kept + 50


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder in which the test may not write. Permissions do not bind root, who becomes nobody for the while."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    is_root = os.geteuid() == 0
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def close_to_writing(folder: Path) -> None:
    for path in folder.rglob("*"):
        path.chmod(0o444)
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def filled(folder: Path) -> Path:
    path = folder / "results.sqlite"
    with closing(Store.create(path, {"question": "?"})) as store:
        store.add([Trial("t0", 0, 0, {"token_error_rate": (1.0, 3.0)}, {}, {})])
    return path


def test_a_read_only_folder_can_be_read_but_not_written(read_only: Path):
    """Catches a traceback, a run that starts though it cannot keep its results, and a reader that needs to write."""
    path = filled(read_only)
    close_to_writing(read_only)
    with pytest.raises(RequestError, match="cannot write results.*choose another --out"):
        Store(path, writable=True)
    with pytest.raises(RequestError, match="cannot be written.*choose another --out"):
        Store.create(read_only / "new" / "results.sqlite", {})
    with closing(Store(path)) as store:
        assert store.num_trials() == 1


def test_what_a_killed_run_left_can_be_read_in_a_read_only_folder(read_only: Path):
    """Catches blocks that only the next writer would find: a killed run leaves them in a file of their own."""
    path = filled(read_only)
    program = (f"import os; from pathlib import Path; from channel_sim.store import Store, Trial; "
               f"Store(Path({str(path)!r}), writable=True).add([Trial('t0', 1, 0, {{}}, {{}}, {{}})]); os._exit(9)")
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    close_to_writing(read_only)
    with closing(Store(path)) as store:
        assert store.done() == {("t0", 0, 0), ("t0", 1, 0)}


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (x)")


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("spoil, named", [(newer, "schema"), (foreign, "another program"), (truncated, "damaged")])
def test_files_that_are_not_ours_to_write_end_the_command_and_stay_as_they_are(tmp_path, capsys, spoil, named):
    """Catches a run that repairs, overwrites or empties what it does not understand."""
    from scenarios.cli import main

    (tmp_path / "crash.toml").write_text(SCENARIO.replace("items = 400", "items = 2"))
    command = ["run", str(tmp_path / "crash.toml"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    spoil(tmp_path / "out" / "results.sqlite")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    capsys.readouterr()
    for again in (command, ["report", str(tmp_path / "out")], ["status", str(tmp_path / "out")]):
        assert main(again) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "results.sqlite" in said and named in said
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_a_folder_below_a_file_is_named(tmp_path, capsys):
    """Catches a traceback for --out that cannot be made; permissions would not bind a test that runs as root."""
    from scenarios.cli import main

    (tmp_path / "crash.toml").write_text(SCENARIO)
    assert main(["run", str(tmp_path / "crash.toml"), "--out", str(tmp_path / "crash.toml" / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "crash.toml/out" in said and "another" in said
