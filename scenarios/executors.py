"""Who runs the blocks of a sweep: this process, a pool of processes, or a Dask cluster. Nothing outside this file knows which.

Workers die: killed by the system for memory, by an operator, by a fault in native code. What was under way is then repeated, one
block at a time, so that a block that kills its worker again is known to be the cause; it is halved until one trial is left.
"""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Protocol, Self, TypeVar

from channel_sim.checks import RequestError

_PROBES = 3
_CONNECT_SECONDS = 20
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Splittable(Protocol):
    """Work that can be halved."""

    def split(self) -> Sequence[Self]:
        """Its two halves; nothing if it is a single trial."""


W = TypeVar("W", bound=Splittable)
R = TypeVar("R")


class Crew(ABC):
    """Somebody who runs functions. `died`: what a future raises whose worker was lost."""

    died: tuple[type[BaseException], ...] = ()
    is_here = True  # on this machine, so that files next to the store are its files too

    @property
    @abstractmethod
    def num_workers(self) -> int:
        """How many blocks run at once."""

    @abstractmethod
    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Have `function` run."""

    @property
    def num_in_flight(self) -> int:
        """Blocks handed out at once: a worker finds its next one waiting, and memory stays flat."""
        return self.num_workers + 1

    def renew(self) -> None:
        """Replace workers that are lost."""

    def close(self, *, at_once: bool) -> None:
        """No more work; `at_once`: what is under way is abandoned."""


@contextmanager
def crew(workers: int, scheduler: str | None) -> Iterator[Crew]:
    """`workers` processes of this machine, none besides this one if it is 1; with `scheduler`, the workers of that cluster."""
    one: Crew = _Cluster(scheduler) if scheduler else _Processes(workers) if workers > 1 else _ThisProcess()
    try:
        yield one
    except BaseException:
        one.close(at_once=True)
        raise
    one.close(at_once=False)


def completed(team: Crew, works: Iterable[W], function: Callable[..., R], *arguments: Any) -> Iterator[tuple[W, R | None]]:
    """(work, function(work, *arguments)) in the order in which they end. None: a single trial that its worker died of twice."""
    fresh, suspects = iter(works), deque[W]()
    running: dict[Future[R], W] = {}
    while True:
        alone = bool(suspects) and not running
        if alone:
            team.renew()
            suspect = suspects.popleft()
            running[_submit(team, function, suspect, *arguments)] = suspect
        while not suspects and not alone and len(running) < team.num_in_flight and (work := next(fresh, None)) is not None:
            running[_submit(team, function, work, *arguments)] = work
        if not running:
            return
        for work, result in _ended(team, running):
            if result is not None:
                yield work, result
            elif alone and not (halves := work.split()):
                yield work, None
            else:
                suspects.extend(halves if alone else [work])


def _ended(team: Crew, running: dict[Future[R], W]) -> Iterator[tuple[W, R | None]]:
    """Take out what has ended; None: its worker died. An interruption still hands over what is finished."""
    interrupted: KeyboardInterrupt | None = None
    try:
        wait(running, return_when=FIRST_COMPLETED)
    except KeyboardInterrupt as error:
        interrupted = error
    for future in [future for future in running if future.done()]:
        work = running.pop(future)
        try:
            yield work, future.result()
        except team.died:
            yield work, None
        except CancelledError as error:
            raise RequestError("the scheduler is gone; finished blocks are kept: run the same command to go on") from error
    if interrupted:
        raise interrupted


def _submit(team: Crew, function: Callable[..., R], *arguments: Any) -> Future[R]:
    try:
        return team.submit(function, *arguments)
    except team.died:  # an idle worker was killed
        team.renew()
        return team.submit(function, *arguments)


class _ThisProcess(Crew):
    """No workers: a block runs when it is submitted."""

    num_workers = 1
    num_in_flight = 1

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class _Processes(Crew):
    """A pool of processes on this machine, each with its share of the threads. A pool that loses one is replaced as a whole."""

    died = (BrokenExecutor,)
    num_workers = 1

    def __init__(self, workers: int) -> None:
        self.num_workers = workers
        self._open()

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        return self._pool.submit(function, *arguments)

    def renew(self) -> None:
        for _ in range(_PROBES):
            try:
                self._pool.submit(os.getpid).result()
                return
            except BrokenExecutor:
                self.close(at_once=True)
                self._open()
        raise RequestError("--workers: worker processes die as soon as they start; use --workers 1 (a program that calls "
                           'scenarios.run with workers needs its `if __name__ == "__main__":`)')

    def close(self, *, at_once: bool) -> None:
        if at_once:
            for process in self._context.started:
                process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _open(self) -> None:
        self._context = spawning(self.num_workers)
        self._pool = ProcessPoolExecutor(self.num_workers, mp_context=self._context, initializer=_end_with_parent)


def spawning(num_workers: int) -> _Context:
    """Where `num_workers` processes come from that share the cores: more threads than cores would wait for one another."""
    return _Context(max(1, num_cores() // num_workers))


class _Context(SpawnContext):
    """Spawned processes (TensorFlow does not survive a fork), told from birth how many threads to use and to leave Ctrl-C to us."""

    def __init__(self, num_threads: int) -> None:
        self.started: list[SpawnProcess] = []
        self._environment = {name: str(min(num_threads, _asked(name, num_threads))) for name in _THREADS}
        self._environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # or the first worker would take all of the device's memory

    def Process(self, *arguments: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]
        process = _Worker(*arguments, **options)
        process.environment = self._environment
        self.started.append(process)
        return process


class _Worker(SpawnProcess):
    """Libraries read the number of threads when they are imported, so it must be there before anything runs."""

    environment: dict[str, str] = {}

    def start(self) -> None:
        before = {name: os.environ.get(name) for name in self.environment}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: a worker never sees Ctrl-C
        os.environ.update(self.environment)
        try:
            super().start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def num_cores() -> int:
    """Cores that this process may use: a batch system lends a part of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _asked(name: str, default: int) -> int:
    """What the user set that variable to."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() and int(value) > 0 else default


def _end_with_parent() -> None:
    """A worker whose parent was killed ends too, instead of waiting for work for ever."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Cluster(Crew):
    """The workers of a Dask cluster. The scheduler itself repeats the work of lost workers, and says when that was in vain."""

    is_here = False
    _num_workers = 1

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client, KilledWorker
        except ImportError as error:
            raise RequestError("--scheduler: Dask is not installed; pip install 'channel-sim[cluster]'") from error
        try:
            self._client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise RequestError(f"--scheduler {address}: no scheduler answers there ({error}); start one with `dask scheduler`, or "
                               "give its address, such as tcp://10.0.0.1:8786") from error
        self.died = (KilledWorker,)
        self._executor: Executor = self._client.get_executor(pure=False)

    @property
    def num_workers(self) -> int:
        with suppress(OSError):  # a scheduler that is gone cancels what is under way, and so ends the run
            self._num_workers = max(1, len(self._client.nthreads()))  # asked every time: a cluster grows and shrinks
        return self._num_workers

    @property
    def num_in_flight(self) -> int:
        return 2 * self.num_workers

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        return self._executor.submit(_one_at_a_time, function, *arguments)

    def close(self, *, at_once: bool) -> None:
        self._executor.shutdown(wait=not at_once)
        self._client.close()


_lock = threading.Lock()


def _one_at_a_time(function: Callable[..., R], *arguments: Any) -> R:
    """A Dask worker may have several threads, and kernels and models are made for one."""
    with _lock:
        return function(*arguments)
