"""Where the time of a sweep goes: `python -m benchmarks.memo [SCENARIO [ITEMS [REPEATS]]]`.

    ratio = time of the sweep / (encoding and decoding each item once + all restorations); at most 1.2
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any
from unittest.mock import patch

from channel_sim import trial
from channel_sim.keys import Key
from channel_sim.losses import Ideal
from channel_sim.protection import NoProtection
from channel_sim.store import Store
from scenarios.runner import execute, open_store
from scenarios.scenario import Scenario, load

STEPS = ("encode", "channel", "decode", "restore", "measure", "store")
METHODS = {"protection": ("send", "channel"), "coder": ("receive", "decode"), "decoder": ("restore", "restore")}


def main(name: str, items: int, repeats: int) -> None:
    scenario = load(name, {"items": items})
    _sweep(load(name, {"items": 1}), remembers=False)  # kernels are compiled, weights are read
    print(f"{name}, {items} items, {len(scenario.tasks)} tasks, one process; median of {repeats} runs, seconds of CPU")
    print(f"{'':<16}{'sweep':>9}" + "".join(f"{step:>9}" for step in (*STEPS, "rest")) + f"{'code once':>11}{'ratio':>7}")
    for label, remembers in (("without memo", False), ("with memo", True)):
        # the run that took the median time: the steps of one run sum to its whole
        sweep, code_once, *steps = sorted(_run(scenario, remembers) for _ in range(repeats))[repeats // 2]
        restore = steps[STEPS.index("restore")]
        columns = "".join(f"{seconds:>9.3f}" for seconds in (sweep, *steps, sweep - sum(steps)))
        print(f"{label:<16}{columns}{code_once:>11.3f}{sweep / (code_once + restore):>7.3f}")


def _run(scenario: Scenario, remembers: bool) -> list[float]:
    """Seconds of the sweep, of coding each item once, and of each step of the sweep."""
    sweep, steps = _sweep(scenario, remembers=remembers)
    return [sweep, _code_once(scenario), *(steps[step] for step in STEPS)]


def _sweep(scenario: Scenario, *, remembers: bool) -> tuple[float, dict[str, float]]:
    seconds = dict.fromkeys(STEPS, 0.0)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        store = open_store(scenario, Path(folder), "benchmark")
        stack.callback(store.close)
        for owner, name, step in _timed_functions(scenario):
            stack.enter_context(_timed(owner, name, seconds, step))
        start = process_time()
        execute(scenario, store, memo=remembers)
        return process_time() - start, seconds


def _timed_functions(scenario: Scenario) -> set[tuple[Any, str, str]]:
    """(owner, name, step) of every function that a step of the sweep consists of."""
    functions: set[tuple[Any, str, str]] = {(trial, "encode", "encode"), (trial, "measure", "measure"), (Store, "add", "store")}
    for task in scenario.tasks:
        for stage, (method, step) in METHODS.items():
            owners = type(getattr(task.chain, stage)).__mro__
            functions.add((next(owner for owner in owners if method in vars(owner)), method, step))
    return functions


@contextmanager
def _timed(owner: Any, name: str, seconds: dict[str, float], step: str) -> Iterator[None]:
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        start = process_time()
        try:
            return function(*arguments, **named)
        finally:
            seconds[step] += process_time() - start

    with patch.object(owner, name, timed):
        yield


def _code_once(scenario: Scenario) -> float:
    """Encoding and decoding each item once with each coder, nothing lost."""
    ideal, unprotected = Ideal(), NoProtection()
    chains = {(task.chain.source, task.chain.tokenizer, task.chain.coder): task.chain for task in scenario.tasks}
    seconds = 0.0
    for chain in chains.values():
        start = process_time()
        sent = trial.send(chain, range(scenario.items), Key(scenario.seed))
        seconds += process_time() - start
        deliveries = unprotected.send([one.packets for one in sent], ideal, [Key(1)] * len(sent))
        start = process_time()
        chain.coder.receive([one.reception for one in deliveries], [one.preamble for one in sent])
        seconds += process_time() - start
    return seconds


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "quickstart", int(sys.argv[2]) if len(sys.argv) > 2 else 8,
         int(sys.argv[3]) if len(sys.argv) > 3 else 3)
