"""Results on disk: one SQLite file a run, one row a trial, one writer, a transaction a block."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from channel_sim.card import Card
from channel_sim.checks import RequestError
from channel_sim.stored_json import dump, dump_short, load, load_card, load_shared

SCHEMA_VERSION = 2
_APPLICATION_ID = 0x63686E73  # "chns": tells our files from any other SQLite file
_PATIENCE_SECONDS = 60.0  # how long a writer waits for another one
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tasks (task_id TEXT PRIMARY KEY, resolved TEXT NOT NULL);
CREATE TABLE laws (task_id TEXT PRIMARY KEY REFERENCES tasks, law TEXT NOT NULL);
CREATE TABLE points (arm_index INTEGER, point_index INTEGER, arm TEXT NOT NULL, sweep TEXT NOT NULL,
                     task_id TEXT NOT NULL REFERENCES tasks, PRIMARY KEY (arm_index, point_index));
CREATE TABLE trials (task_id TEXT NOT NULL REFERENCES tasks, item INTEGER, replicate INTEGER,
                     metrics TEXT NOT NULL, reasons TEXT NOT NULL, ledger TEXT NOT NULL, seconds REAL NOT NULL,
                     card TEXT NOT NULL, calibration TEXT NOT NULL DEFAULT 'null', features TEXT NOT NULL DEFAULT 'null',
                     PRIMARY KEY (task_id, item, replicate));
CREATE TABLE samples (task_id TEXT NOT NULL REFERENCES tasks, item INTEGER, sample TEXT NOT NULL, PRIMARY KEY (task_id, item));
CREATE TABLE failures (task_id TEXT NOT NULL REFERENCES tasks, item INTEGER, replicate INTEGER, error TEXT NOT NULL,
                       PRIMARY KEY (task_id, item, replicate)) WITHOUT ROWID;
CREATE TABLE stops (task_id TEXT PRIMARY KEY REFERENCES tasks, reason TEXT NOT NULL);
CREATE TABLE curves (point_index INTEGER, label TEXT, metric TEXT, value REAL NOT NULL, source TEXT NOT NULL,
                     PRIMARY KEY (point_index, label, metric));
"""
_OUTCOME = "item, replicate, metrics, reasons, ledger, seconds"
_LATER = ("calibration", "features")
"""Columns of trials that older versions did not have."""


Address = tuple[str, int, int]
"""(task_id, item, replicate)"""


class StoreConflict(RequestError):
    """The same address was given two different results; `values` are what differs of them, the one on file first."""

    def __init__(self, message: str, address: Address, values: tuple[str, str]) -> None:
        super().__init__(message, address, values)
        self.address, self.values = address, values

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Trial:
    """The result at one address. metrics: name -> (numerator, denominator); one that is not defined is in `reasons` instead.

    card: what the channel's losses looked like, as `Card.to_list` writes it; None where no channel was met.
    calibration: as in `Measurement`; None where no token was restored, and in results of versions that did not keep it.
    features: of the original and of what came out, as `pack_features` writes them; None where no evaluator has any.
    """

    task_id: str
    item: int
    replicate: int
    metrics: dict[str, tuple[float, float]]
    reasons: dict[str, str]
    ledger: dict[str, float]
    seconds: float = field(default=0.0, compare=False)
    card: list[Any] | None = None
    calibration: list[list[float]] | None = None
    features: str | None = None


class Outcome(NamedTuple):
    """What estimates need of a `Trial`."""

    task_id: str
    item: int
    replicate: int
    metrics: Mapping[str, Sequence[float]]
    reasons: Mapping[str, str]
    ledger: Mapping[str, float]
    seconds: float


def pack_features(features: np.ndarray | None) -> str | None:
    """float32 [2, d] as text, bit for bit."""
    return None if features is None else base64.b64encode(features.astype("<f4").tobytes()).decode("ascii")


@dataclass(frozen=True)
class Failure:
    """An address without a result, and the error that its last attempt ended with."""

    task_id: str
    item: int
    replicate: int
    error: str


@dataclass(frozen=True)
class Point:
    """One arm at one point of the sweep; `sweep` maps dotted keys to values."""

    arm_index: int
    point_index: int
    arm: str
    sweep: dict[str, Any]
    task_id: str


@dataclass(frozen=True)
class Curve:
    """One value of a closed form or bound at one sweep point."""

    point_index: int
    label: str
    metric: str
    value: float
    source: str


class Store:
    """A results file. Opening for writing creates it; opening for reading never does.

    >>> import tempfile, pathlib
    >>> store = Store.create(pathlib.Path(tempfile.mkdtemp()) / "results.sqlite", {"question": "?"})
    >>> store.meta()["question"]
    '?'
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        if not path.is_file():
            raise RequestError(f"{path}: no results there; run a scenario with --out {path.parent} first")
        self.path, self._writable = path, writable
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={'rw' if writable else 'ro'}", uri=True,
                                           timeout=_PATIENCE_SECONDS, isolation_level=None)
        try:
            self._check()
            if writable:
                with self._writing():
                    self._connection.execute("PRAGMA journal_mode=WAL")
                    # a commit survives the end of the process; a power cut may cost the last blocks, which are run again
                    self._connection.execute("PRAGMA synchronous=NORMAL")
            self._later = self._later_columns()
        except RequestError:
            self._connection.close()
            raise

    @classmethod
    def create(cls, path: Path, meta: dict[str, Any]) -> Store:
        """A new results file with its tables and `meta` (JSON values), complete or not there at all."""
        if path.exists():
            raise RequestError(f"{path}: must not be there yet; go on with it or choose another --out")
        unborn = path.with_name(path.name + ".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unborn.unlink(missing_ok=True)  # left by a run that was killed right here
            with closing(sqlite3.connect(unborn)) as connection, connection:
                connection.executescript(f"PRAGMA journal_mode=MEMORY; {_TABLES} PRAGMA application_id={_APPLICATION_ID};"
                                         f"PRAGMA user_version={SCHEMA_VERSION};")
                connection.executemany("INSERT INTO meta VALUES (?, ?)", [(k, dump(v)) for k, v in meta.items()])
            unborn.rename(path)
        except (OSError, sqlite3.DatabaseError) as error:
            with suppress(OSError):
                unborn.unlink(missing_ok=True)
            raise RequestError(f"{path}: cannot be written ({error}); choose another --out") from error
        return cls(path, writable=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside it as one: on file together when it ends, none of them when it fails or is killed."""
        if self._connection.in_transaction:
            yield
            return
        with self._writing(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")  # nobody writes between a look at an address and its row
            yield

    def close(self) -> None:
        """Close the file; one that was written is a single file again, readable where nothing can be written."""
        if self._writable:
            self._writable = False  # closing twice does no harm
            with suppress(sqlite3.OperationalError):  # somebody reads it right now: it stays as it is
                self._connection.execute("PRAGMA journal_mode=DELETE")
        self._connection.close()

    def version(self) -> tuple[int, int]:
        """Another value than before whenever this store, or another program, has written to the file in the meantime."""
        ((others,),) = self._rows("PRAGMA data_version")
        return self._connection.total_changes, int(others)

    def meta(self) -> dict[str, Any]:
        """What describes the run: question, scenario, provenance, chain, assumptions."""
        return {key: json.loads(value) for key, value in self._rows("SELECT key, value FROM meta")}

    def set_meta(self, key: str, value: Any) -> None:
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, dump(value)))

    def set_plan(self, points: Iterable[Point], resolved: dict[str, dict[str, Any]], curves: Iterable[Curve]) -> None:
        """Replace the plan: which arm is which task at which sweep point. Trials of tasks that leave the plan stay on file;
        why points were stopped is forgotten, since the new plan may have another rule."""
        with self.transaction():
            self._connection.execute("DELETE FROM stops")
            self._connection.execute("DELETE FROM points")
            self._connection.execute("DELETE FROM curves")
            tasks = [(task_id, dump(one)) for task_id, one in resolved.items()]
            self._connection.executemany("INSERT OR IGNORE INTO tasks VALUES (?, ?)", tasks)
            self._connection.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?)",
                                         [(p.arm_index, p.point_index, p.arm, dump(p.sweep), p.task_id) for p in points])
            self._connection.executemany("INSERT INTO curves VALUES (?, ?, ?, ?, ?)",
                                         [(c.point_index, c.label, c.metric, c.value, c.source) for c in curves])

    def set_laws(self, laws: Mapping[str, dict[str, Any]]) -> None:
        """What the channels of tasks on file say of their own losses, as `LossLaw.to_dict` writes it."""
        with self.transaction():
            self._connection.executemany("INSERT OR REPLACE INTO laws VALUES (?, ?)",
                                         [(task_id, dump_short(law)) for task_id, law in laws.items()])

    def add(self, trials: Iterable[Trial], samples: Iterable[tuple[str, int, dict[str, Any]]] = ()) -> None:
        """Commit one block. An address on file with other numbers is a `StoreConflict`; equal numbers are no conflict."""
        with self.transaction():
            for trial in trials:
                self._add_one(trial)
            self._connection.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?)",
                                         [(task, item, dump(sample)) for task, item, sample in samples])
            self._connection.execute("DELETE FROM failures WHERE EXISTS (SELECT 1 FROM trials WHERE "
                                     "(trials.task_id, trials.item, trials.replicate) = "
                                     "(failures.task_id, failures.item, failures.replicate))")

    def add_failure(self, task_id: str, item: int, replicate: int, error: str) -> None:
        """Record that an address gave an error and no trial; a trial at that address, before or later, is what counts."""
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO failures SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS "
                                     "(SELECT 1 FROM trials WHERE task_id=?1 AND item=?2 AND replicate=?3)",
                                     (task_id, item, replicate, error))

    def set_stop(self, task_id: str, reason: str) -> None:
        """Record why a task gets no further items."""
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO stops VALUES (?, ?)", (task_id, reason))

    def done(self) -> set[Address]:
        """The addresses (task_id, item, replicate) on file."""
        names: dict[str, str] = {}  # one string a task, not one a trial
        rows = self._rows("SELECT task_id, item, replicate FROM trials")
        return {(names.setdefault(task_id, task_id), item, replicate) for task_id, item, replicate in rows}

    def num_trials(self) -> int:
        """How many trials are on file, those of tasks outside the plan included."""
        ((count,),) = self._rows("SELECT count(*) FROM trials")
        return int(count)

    def failures(self) -> list[Failure]:
        """The addresses that gave an error and no trial so far, in order."""
        rows = self._rows("SELECT task_id, item, replicate, error FROM failures ORDER BY task_id, item, replicate")
        return [Failure(*row) for row in rows]

    def stops(self) -> dict[str, str]:
        """task_id -> why it got no further items."""
        return dict(self._rows("SELECT task_id, reason FROM stops ORDER BY task_id"))

    def tasks(self) -> dict[str, dict[str, Any]]:
        """task_id -> the resolved task, of all tasks on file, those outside the plan included."""
        return {task_id: json.loads(text) for task_id, text in self._rows("SELECT task_id, resolved FROM tasks ORDER BY task_id")}

    def points(self) -> list[Point]:
        """The plan, ordered by arm, then by sweep point."""
        rows = self._rows("SELECT arm_index, point_index, arm, sweep, task_id FROM points ORDER BY arm_index, point_index")
        return [Point(a, p, arm, json.loads(sweep), task) for a, p, arm, sweep, task in rows]

    def resolved(self, task_id: str) -> dict[str, Any]:
        """The resolved task: every component with all its fields, revisions and digests."""
        ((text,),) = self._rows("SELECT resolved FROM tasks WHERE task_id = ?", task_id)
        return json.loads(text)

    def trials(self, task_id: str) -> Iterator[Trial]:
        """The trials of one task, ordered by item, then replicate."""
        rows = self._rows(f"SELECT {_OUTCOME}, card, {self._later['calibration']}, {self._later['features']} FROM trials "
                          "WHERE task_id = ? ORDER BY item, replicate", task_id)
        for item, replicate, metrics, reasons, ledger, seconds, *others in rows:
            pairs = {name: (a, b) for name, (a, b) in load(metrics).items()}
            yield Trial(task_id, item, replicate, pairs, load_shared(reasons), load_shared(ledger), seconds, *map(load, others))

    def outcomes(self, task_id: str) -> Iterator[Outcome]:
        """What estimates need of `trials`, in half the time."""
        rows = self._rows(f"SELECT {_OUTCOME} FROM trials WHERE task_id = ? ORDER BY item, replicate", task_id)
        for item, replicate, metrics, reasons, ledger, seconds in rows:
            yield Outcome(task_id, item, replicate, load(metrics), load_shared(reasons), load_shared(ledger), seconds)

    def cards(self, task_id: str) -> Iterator[Card]:
        """The channel cards of one task's trials, ordered by item, then replicate; trials without one are left out."""
        for (card,) in self._rows("SELECT card FROM trials WHERE task_id = ? AND card != 'null' ORDER BY item, replicate", task_id):
            yield load_card(card)

    def calibrations(self, task_id: str) -> Iterator[tuple[int, list[list[float]]]]:
        """(item, calibration) of one task's trials, ordered by item, then replicate; trials without one are left out."""
        for item, calibration in self._rows(f"SELECT item, {self._later['calibration']} AS bins FROM trials WHERE task_id = ? "
                                            "AND bins != 'null' ORDER BY item, replicate", task_id):
            yield item, json.loads(calibration)

    def features(self, task_id: str) -> tuple[np.ndarray, np.ndarray]:
        """(items int64 [n], features float32 [n, 2, d]) of one task's trials that have any, ordered by item, then replicate."""
        rows = list(self._rows(f"SELECT item, {self._later['features']} AS packed FROM trials WHERE task_id = ? "
                               "AND packed != 'null' ORDER BY item, replicate", task_id))
        values = np.frombuffer(b"".join(base64.b64decode(json.loads(packed)) for _, packed in rows), "<f4")
        return np.array([item for item, _ in rows], np.int64), values.reshape(len(rows), 2, values.size // (2 * len(rows) or 1))

    def laws(self) -> dict[str, dict[str, Any]]:
        """task_id -> what its channel says of its own losses, where it has a closed form."""
        return {task_id: json.loads(law) for task_id, law in self._rows("SELECT task_id, law FROM laws ORDER BY task_id")}

    def samples(self, task_id: str) -> list[tuple[int, dict[str, Any]]]:
        """(item, sample) of one task, ordered by item."""
        rows = self._rows("SELECT item, sample FROM samples WHERE task_id = ? ORDER BY item", task_id)
        return [(item, json.loads(sample)) for item, sample in rows]

    def curves(self) -> list[Curve]:
        """Closed forms and bounds, ordered by label, metric and sweep point."""
        rows = self._rows("SELECT point_index, label, metric, value, source FROM curves ORDER BY label, metric, point_index")
        return [Curve(*row) for row in rows]

    def _add_one(self, trial: Trial) -> None:
        numbers = (*map(dump, (trial.metrics, trial.reasons, trial.ledger)),
                   *map(dump_short, (trial.card, trial.calibration, trial.features)))
        address = (trial.task_id, trial.item, trial.replicate)
        added = self._connection.execute("INSERT INTO trials (task_id, item, replicate, metrics, reasons, ledger, seconds, card, "
                                         "calibration, features) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                                         (*address, *numbers[:3], trial.seconds, *numbers[3:]))
        if added.rowcount:
            return
        known = self._connection.execute("SELECT metrics, reasons, ledger, card, calibration, features FROM trials "
                                         "WHERE task_id=? AND item=? AND replicate=?", address).fetchone()
        if known[4] == "null" != numbers[4]:  # written by a version that did not keep it
            self._connection.execute("UPDATE trials SET calibration=? WHERE task_id=? AND item=? AND replicate=?",
                                     (numbers[4], *address))
        compared = [pair for place, pair in enumerate(zip(known, numbers, strict=True)) if place != 4 or "null" not in pair]
        if any(before != now for before, now in compared):
            before, now = next(pair for pair in compared if pair[0] != pair[1])
            raise StoreConflict(f"{self.path}: task {trial.task_id[:12]}, item {trial.item}, replicate {trial.replicate} has "
                                f"{before} on file and {now} now; two versions of code or machine met: use another --out",
                                address, (before, now))

    def _rows(self, query: str, *arguments: Any) -> Iterator[Any]:
        try:
            for row in self._connection.execute(query, arguments):  # not `yield from`: it would close a cursor of a closed file
                yield row
        except sqlite3.DatabaseError as error:
            raise RequestError(f"{self.path}: cannot be read ({error}); restore it or choose another --out") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise RequestError(f"{self.path}: cannot write results ({error}); what was finished is kept: make room, let one run "
                               "alone write there, or choose another --out") from error

    def _later_columns(self) -> dict[str, str]:
        """What a query names each of `_LATER`: a file of an older version has no such column until it is opened for writing."""
        missing = set(_LATER) - {name for _, name, *_ in self._rows("PRAGMA table_info(trials)")}
        for name in (name for name in _LATER if name in missing and self._writable):
            with self.transaction():
                self._connection.execute(f"ALTER TABLE trials ADD COLUMN {name} TEXT NOT NULL DEFAULT 'null'")
        return {name: "'null'" if name in missing and not self._writable else name for name in _LATER}

    def _check(self) -> None:
        try:
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            what = "not a results file" if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB else "damaged, or closed to reading"
            raise RequestError(f"{self.path}: {what} ({error}); restore it or choose another --out") from error
        if application != _APPLICATION_ID:
            raise RequestError(f"{self.path}: an SQLite file of another program; choose another --out")
        if version != SCHEMA_VERSION:
            raise RequestError(f"{self.path}: results schema {version}, this version reads {SCHEMA_VERSION}; "
                               "use the version that wrote it")
        if verdict != "ok":
            raise RequestError(f"{self.path}: damaged ({' '.join(verdict.split())}); restore it or choose another --out")
