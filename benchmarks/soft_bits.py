"""What a prior gains on soft bits of a text it never saw: `python -m benchmarks.soft_bits FILE [ITEMS] [FIGURE.svg]`.

Runs `scenarios/soft_bits.toml` on messages of 1,024 bytes spread evenly over FILE. Prints byte error rates of all arms with their
95 % intervals, the exact rate of hard decisions, how many times fewer errors the prior leaves, and how many decibels less it
needs for a byte error rate of 5e-2; the last two with bootstrap intervals over messages, both arms resampled together.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import scenarios
from benchmarks.restoration import messages
from channel_sim.keys import Key
from channel_sim.theory import qam_bit_error_probability
from scenarios.python_api import Results
from scenarios.scenario import read_shipped

RATE = 5e-2
HARD, PRIOR, RIVAL = "hard decisions", "n-gram prior", "compress + LDPC 1/3"
NUM_RESAMPLES = 2000


def run_on(path: Path, name: str, num_items: int, esno_db: list[float] | None, out: Path, arms: list[dict[str, Any]]) -> Results:
    """The shipped scenario `name`, and further `arms`, on messages of `path`; at `esno_db` instead of its own points if given."""
    tables = read_shipped(name)
    file = out / f"{path.stem}.txt"
    file.write_bytes(b"".join(one.astype(np.uint8).tobytes() for one in messages(path, num_items)))
    tables["source"]["path"], tables["items"] = str(file), num_items
    tables["arm"] += arms
    if esno_db is not None:
        tables["sweep"]["channel.esno_db"] = esno_db
    return scenarios.run(tables, out / "results", progress=False)


def errors(results: Results, metric: str) -> dict[str, np.ndarray]:
    """Arm -> float64 [messages, points], the metric of each message."""
    found: dict[str, dict[float, dict[int, float]]] = {}
    for trial in results.trials:
        value = trial.metrics[metric]
        assert value is not None
        found.setdefault(trial.arm, {}).setdefault(trial.sweep["channel.esno_db"], {})[trial.item] = value
    return {arm: np.array([[of_items[item] for item in sorted(of_items)] for _, of_items in sorted(points.items())]).T
            for arm, points in found.items()}


def bootstrap(statistic: Callable[[np.ndarray], float], num_items: int) -> str:
    """`statistic` of the indices of messages, with its 95 % percentile interval."""
    drawn = Key(0).child("benchmark").integers(num_items, NUM_RESAMPLES, num_items)
    low, high = np.quantile([statistic(rows) for rows in drawn], (0.025, 0.975))
    return f"{statistic(np.arange(num_items)):.3g} [{low:.3g}, {high:.3g}]"


def table(results: Results, metric: str) -> None:
    for row in results.find(metric):
        esno_db = row.sweep["channel.esno_db"]
        limit = " (no event: upper limit)" if row.method == "upper limit" else ""
        assert row.mean is not None and row.low is not None and row.high is not None
        print(f"  {row.arm:24s} {esno_db:5.1f} dB  {row.mean:.4f} [{row.low:.4f}, {row.high:.4f}]{limit}")


def decibels_at(rates: np.ndarray, esno_db: np.ndarray) -> float:
    """Es/N0 at which rates that fall pass RATE, their logarithm interpolated between points."""
    return float(np.interp(-np.log(RATE), -np.log(np.maximum(rates, 1e-9)), esno_db))


def main(path: Path, num_items: int, figure: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        results = run_on(path, "soft_bits", num_items, [-6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 2.0, 4.0, 5.0, 6.0], out, [])
        if figure is not None:
            shutil.copy(out / "results" / "figures" / "byte_error_rate.svg", figure)
    print(f"{path.name}: {num_items} messages of 1024 bytes, byte error rates")
    table(results, "byte_error_rate")
    uses = results.find("channel_uses_per_sample", esno_db=0.0)
    print("channel uses a byte: " + ", ".join(f"{row.arm} {row.mean:.3f}" for row in uses))
    found = errors(results, "byte_error_rate")
    esno_db = np.array(sorted({row.sweep["channel.esno_db"] for row in results.summary}))
    for at in (0.0, 2.0, 4.0, 6.0):
        print(f"{at:g} dB: hard decisions exactly {1 - (1 - qam_bit_error_probability(2, at)) ** 8:.4f}")
    for at in (0.0, 2.0, 4.0):
        column = int(np.flatnonzero(esno_db == at)[0])
        fewer = bootstrap(lambda rows: found[HARD][rows, column].mean() / found[PRIOR][rows, column].mean(), num_items)
        print(f"{at:g} dB: the prior leaves {fewer} times fewer")

    def needed(arm: str, rows: np.ndarray) -> float:
        return decibels_at(found[arm][rows].mean(axis=0), esno_db)

    everything = np.arange(num_items)
    for arm in ("unigram MAP", PRIOR):
        gain = bootstrap(lambda rows: needed(HARD, rows) - needed(arm, rows), num_items)
        print(f"byte error rate {RATE:g}: {arm} at {needed(arm, everything):.2f} dB, {gain} dB less than hard decisions")
    # between two points it falls from all to nothing: no curve to interpolate
    below = esno_db[found[RIVAL].mean(axis=0) < RATE].min()
    wrong = ", ".join(f"{share:.3f} at {at:g} dB" for at, share in zip(esno_db, np.mean(found[RIVAL] > 0, axis=0), strict=True))
    print(f"byte error rate {RATE:g}: {RIVAL} is below it from {below:g} dB on; messages with any error: {wrong}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.soft_bits FILE [ITEMS] [FIGURE.svg]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60, Path(sys.argv[3]) if len(sys.argv) > 3 else None)
