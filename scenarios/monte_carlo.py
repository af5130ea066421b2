"""Error rates of a link of your own: a function mc_fun(batch_size, ebno_db) -> (b, b_hat), Sionna's convention, collected.

What `sionna.phy.utils.sim_ber` does, with intervals, a store to resume from, and no point that reads 0 because nothing was
simulated there or nothing went wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.store import Point, Store, Trial
from reports.statistics import clopper_pearson, estimate
from scenarios.describe import provenance

MonteCarlo = Callable[..., tuple[Any, Any]]
_SECONDS_BETWEEN_COMMITS = 1.0
_METRICS = ("bit_error_rate", "block_error_rate")


@dataclass(frozen=True)
class Stop:
    """When a point is done: after `max_batches`, or with enough errors, `min_batches` at least; None asks for none."""

    max_batches: int
    min_batches: int = 20
    num_target_bit_errors: int | None = None
    num_target_block_errors: int | None = None

    def reason(self, num_batches: int, bit_errors: float, block_errors: float) -> str:
        """Why what the first batches of a point saw is enough; "" if it is not."""
        if num_batches >= min(self.min_batches, self.max_batches):
            for target, errors, what in ((self.num_target_bit_errors, bit_errors, "bit"),
                                         (self.num_target_block_errors, block_errors, "block")):
                if target is not None and errors >= target:
                    return f"at least {target} {what} errors"
        return f"{self.max_batches} batches" if num_batches >= self.max_batches else ""


@dataclass(frozen=True)
class ErrorRate:
    """`errors` of `count`. rate is None where nothing was counted and where no error was seen: then `high` is the result.

    low, high: 95 %; None where there is none yet. method, note: as in `reports.statistics.Estimate`
    """

    errors: int
    count: int
    rate: float | None
    low: float | None
    high: float | None
    method: str
    note: str

    def __str__(self) -> str:
        if self.rate is None:
            return "not simulated" if not self.count else f"< {self.high:.2g}"
        return f"{self.rate:.3g}" + ("" if self.low is None else f" [{self.low:.3g}, {self.high:.3g}]")


@dataclass(frozen=True)
class ErrorRates:
    """What was collected at one Eb/N0. `stop` says why it ended; a point that nothing was simulated at says so there."""

    ebno_db: float
    bit: ErrorRate
    block: ErrorRate
    num_batches: int
    seconds: float
    stop: str


def collect(mc_fun: MonteCarlo, ebno_dbs: Sequence[float], *, batch_size: int, max_batches: int, out: str | Path | None = None,
            num_target_bit_errors: int | None = None, num_target_block_errors: int | None = None, min_batches: int = 20,
            early_stop: bool = True, soft_estimates: bool = False, independent_blocks: bool | None = None,
            reseed: Callable[[int], Any] | None = None, seed: int = 1, name: str | None = None,
            max_seconds: float | None = None, progress: Callable[[int, int], None] = lambda done, total: None) -> list[ErrorRates]:
    """Call mc_fun(batch_size=…, ebno_db=…) -> (b, b_hat), [..., bits of a block] each, until every point has enough.

    A batch is the unit: bits of a block and blocks of a batch may depend on one another, so intervals resample batches. Blocks are
    counted one by one (Clopper–Pearson) where they are independent: `independent_blocks`, by default where b is [batch, bits].
    No error in n independent units bounds a rate by 3/n.

    out:            folder of the store; called again, collection goes on from there, with the same or another rule
    min_batches:    before this, no number of errors ends a point: an interval over a few batches is too narrow
    early_stop:     leave out what comes after a point without an error in `max_batches`
    soft_estimates: b_hat holds logits, > 0 is a 1
    reseed:         called before every batch with an integer that names it, the same at every Eb/N0 (common random numbers);
                    needed to go on from a store, where a new process would else draw its first batches again
    name:           names the link in the store (default: that of the function); a link that has changed needs another
    max_seconds:    after that the call ends with what it has; the same call goes on
    progress:       called with (batches done, batches at most)

    >>> from channel_sim.keys import Key
    >>> def coin(batch_size, ebno_db):
    ...     sent = Key(1).child("sent").integers(2, batch_size, 8)
    ...     return sent, sent ^ (Key(1).child("flips").uniform(batch_size, 8) < 0.1)
    >>> (point,) = collect(coin, [0.0], batch_size=100, max_batches=20)
    >>> point.bit.count, point.num_batches, point.stop
    (16000, 20, '20 batches')
    """
    if not len(ebno_dbs) or batch_size < 1 or max_batches < 1:
        raise RequestError("collect: ebno_dbs, batch_size, max_batches: need at least one point, block and batch, got "
                           f"{len(ebno_dbs)}, {batch_size}, {max_batches}")
    label = name or str(getattr(mc_fun, "__name__", type(mc_fun).__name__))
    link = _Link(mc_fun, label, batch_size, soft_estimates, reseed, seed)
    stop = Stop(max_batches, min_batches, num_target_bit_errors, num_target_block_errors)
    points = [Point(0, index, label, {"ebno_db": float(at)}, link.task_id(float(at))) for index, at in enumerate(ebno_dbs)]
    deadline = time.monotonic() + (math.inf if max_seconds is None else max_seconds)
    with nullcontext(str(out)) if out is not None else tempfile.TemporaryDirectory() as folder:
        with closing(_open(Path(folder), link, points, max_batches)) as store:
            _collect(link, store, points, stop, deadline=deadline, early_stop=early_stop, progress=progress)
            return [_rates(store, point, batch_size, independent_blocks) for point in points]


@dataclass(frozen=True)
class _Link:
    """The function and all that changes its numbers."""

    mc_fun: MonteCarlo
    label: str
    batch_size: int
    soft: bool
    reseed: Callable[[int], Any] | None
    seed: int

    def task_id(self, ebno_db: float) -> str:
        return hashlib.sha256(json.dumps({**self.facts(), "ebno_db": ebno_db}, sort_keys=True).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        return {"mc_fun": self.label, "batch_size": self.batch_size, "soft_estimates": self.soft,
                "seed": self.seed if self.reseed else None}

    def batch(self, point: Point, index: int) -> Trial:
        """Batch `index` of a point, counted."""
        if self.reseed:
            # one after the other, so that no two batches share a number
            self.reseed((Key(self.seed).child("batches").seed() + index) % 2**31)
        start = time.perf_counter()
        # keywords and single precision, as sim_ber calls it; a NumPy number and not Python's, or a tf.function traces every point
        sent, decided = self.mc_fun(batch_size=self.batch_size, ebno_db=np.float32(point.sweep["ebno_db"]))
        pairs = dict(zip(_METRICS, count_errors(sent, decided, soft=self.soft), strict=True))
        return Trial(point.task_id, index, 0, pairs, {}, {}, time.perf_counter() - start)


def count_errors(b: Any, b_hat: Any, *, soft: bool = False) -> tuple[tuple[float, float], tuple[float, float]]:
    """((bit errors, bits), (block errors, blocks)) of b and b_hat [..., bits of a block]; what is not a number is an error.

    >>> count_errors([[0, 1, 1], [1, 0, 0]], [[0, 1, 1], [1, 1, 1]])
    ((2.0, 6.0), (1.0, 2.0))
    """
    sent, decided = np.asarray(b), np.asarray(b_hat)
    if sent.shape != decided.shape or sent.ndim < 2 or not sent.size:
        raise RequestError(f"mc_fun: b and b_hat must have one shape [batch, ..., bits], got {sent.shape} and {decided.shape}")
    wrong = (decided > 0 if soft else decided) != sent
    wrong |= np.isnan(decided)
    blocks = np.any(wrong, axis=-1)
    return (float(wrong.sum()), float(wrong.size)), (float(blocks.sum()), float(blocks.size))


def _open(folder: Path, link: _Link, points: Sequence[Point], max_batches: int) -> Store:
    path = folder / "results.sqlite"
    meta = {"name": link.label, "question": f"Error rates of {link.label}", "seed": link.seed, "replicates": 1,
            "items": max_batches, "sweep": {"ebno_db": [point.sweep["ebno_db"] for point in points]}, "show": list(_METRICS),
            "scenario_toml": "", "arms": [{"label": link.label, "chain": []}], "mc_fun": link.facts(),
            "provenance": provenance("scenarios.monte_carlo"), "notes": ["An item is a batch of blocks."]}
    if path.exists():
        store = Store(path, writable=True)
        held = store.meta().get("mc_fun", "a scenario's results")
        if held != link.facts():
            store.close()
            raise RequestError(f"out: {folder}: holds {held}, not {link.facts()}; choose another folder")
    else:
        store = Store.create(path, meta)
    for key, value in meta.items():
        store.set_meta(key, value)
    store.set_plan(points, {point.task_id: {**link.facts(), **point.sweep} for point in points}, [])
    return store


def _collect(link: _Link, store: Store, points: Sequence[Point], stop: Stop, *, deadline: float, early_stop: bool,
             progress: Callable[[int, int], None]) -> None:
    """Point by point; with `early_stop` nothing is begun after one that is done without an error."""
    total = len(points) * stop.max_batches
    progress(0, total)
    for index, point in enumerate(points):
        tell = partial(_tell, progress, index * stop.max_batches, total)
        reason, block_errors = _collect_point(link, store, point, stop, deadline, tell)
        if reason:
            store.set_stop(point.task_id, reason)
        if early_stop and reason and not block_errors:
            for later in (one for one in points[index + 1:] if not any(store.trials(one.task_id))):
                store.set_stop(later.task_id, f"not simulated: no error at {point.sweep['ebno_db']:g} dB")
            break
    progress(total, total)


def _collect_point(link: _Link, store: Store, point: Point, stop: Stop, deadline: float,
                   tell: Callable[[int], None]) -> tuple[str, float]:
    """(why it ended, block errors): batch by batch, so that the rule sees the same ones however often it was interrupted."""
    fresh: list[Trial] = []
    errors = np.array([[trial.metrics[metric][0] for metric in _METRICS] for trial in store.trials(point.task_id)]).reshape(-1, 2)
    on_file = batches = len(errors)
    bit_errors, block_errors = map(float, errors.sum(axis=0))
    last = time.monotonic()
    try:
        while not (reason := stop.reason(batches, bit_errors, block_errors)) and time.monotonic() < deadline:
            if on_file and not link.reseed:
                raise RequestError(f"{store.path}: has {on_file} batches at {point.sweep['ebno_db']:g} dB and mc_fun may draw them "
                                   "again; give reseed (lambda seed: None if mc_fun never draws the same twice) or another out")
            fresh.append(link.batch(point, batches))
            batches += 1
            bit_errors += fresh[-1].metrics["bit_error_rate"][0]
            block_errors += fresh[-1].metrics["block_error_rate"][0]
            if time.monotonic() - last > _SECONDS_BETWEEN_COMMITS:
                store.add(fresh)
                fresh, last = [], time.monotonic()
            tell(batches)
    finally:
        store.add(fresh)
    return reason, block_errors


def _tell(progress: Callable[[int, int], None], before: int, total: int, batches: int) -> None:
    progress(before + batches, total)


def _rates(store: Store, point: Point, batch_size: int, independent: bool | None) -> ErrorRates:
    trials = list(store.trials(point.task_id))
    if independent is None:
        independent = all(trial.metrics["block_error_rate"][1] == batch_size for trial in trials)
    bit, block = (_rate(trials, metric, independent) for metric in _METRICS)
    reason = store.stops().get(point.task_id, "time limit" if trials else "not simulated: time limit")
    return ErrorRates(point.sweep["ebno_db"], bit, block, len(trials), sum(trial.seconds for trial in trials), reason)


def _rate(trials: Sequence[Trial], metric: str, independent: bool) -> ErrorRate:
    one = estimate(trials, metric)
    if one is None:
        return ErrorRate(0, 0, None, None, None, "none", "not simulated")
    errors, count = (int(sum(trial.metrics[metric][part] for trial in trials)) for part in (0, 1))
    blocks = int(sum(trial.metrics["block_error_rate"][1] for trial in trials))
    if not errors:
        # a mean rate m needs an error in at least m of all units
        return ErrorRate(0, count, None, 0.0, min(1.0, 3 / (blocks if independent else len(trials))), "upper limit", one.note)
    if independent and metric == "block_error_rate":
        return ErrorRate(errors, count, errors / count, *clopper_pearson(errors, count), "clopper-pearson", "")
    return ErrorRate(errors, count, one.mean, one.low, one.high, one.method, one.note)
