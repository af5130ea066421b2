"""What is asked: the scenario, its run, and the command line. `run` is the way in from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.python_api import Results

__all__ = ["run"]


def run(request: str | Path | Mapping[str, Any], out: str | Path | None = None, *, items: int | None = None, workers: int = 1,
        scheduler: str | None = None, overrides: Mapping[str, Any] | None = None, max_seconds: float | None = None,
        progress: Callable[[int, int], None] | bool = False) -> Results:
    """Run a scenario and hand back what it measured, as records: `channel-sim run` from Python or a notebook.

    request:     a scenario file, the name of a shipped scenario, or the tables themselves
    out:         folder for the same files as the command line leaves, gone on with if it has some; None: only records, in memory
    overrides:   dotted keys for every arm that has them, such as {"channel.loss_rate": 0.1}
    workers:     processes on this machine; results do not depend on their number
    scheduler:   address of a Dask cluster to run on instead
    max_seconds: after that the run ends like an interrupted one; with `out`, the same call goes on
    progress:    True for a bar, or a function of (trials done, trials in all)

    A wrong request is a `channel_sim.checks.RequestError`, a ValueError; an item that failed is counted in
    `Results.num_failed` and the rest is there. With `workers`, a program needs its `if __name__ == "__main__":`.
    """
    from scenarios.python_api import run as run_now  # here, so that `import scenarios` loads nothing else

    return run_now(request, out, items=items, workers=workers, scheduler=scheduler, overrides=overrides, max_seconds=max_seconds,
                   progress=progress)
