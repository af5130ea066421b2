"""Exchanges between prior and LDPC decoder on a text they never saw: `python -m benchmarks.exchanges FILE [ITEMS] [ES/N0 ...]`.

Runs `scenarios/exchanges.toml` on messages of 1,024 bytes spread evenly over FILE, with two arms more whose packets carry no CRC,
so that nothing tells which bytes are wrong. Prints byte error rates with their 95 % intervals, code blocks in error, and the share
of the wrong bytes of the best arm without context that the n-gram leaves after each exchange: bootstrap intervals over messages,
both arms resampled together.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.soft_bits import bootstrap, errors, run_on, table

WITHOUT_CONTEXT = ("drop what failed", "hard decisions", "unigram MAP")
UNCHECKED = [{"label": f"no CRC, {number} exchanges", "channel": {"crc": "none"}, "receiver": {"num_exchanges": number}}
             for number in (0, 3)]


def compare(found: dict[str, np.ndarray], esno_db: list[float]) -> None:
    """found: arm -> float64 [messages, points], byte error rates."""
    for column, at in enumerate(esno_db):
        of_arms = {arm: rates[:, column] for arm, rates in found.items()}
        best = of_arms[min(WITHOUT_CONTEXT, key=lambda arm: of_arms[arm].mean())]
        for arm, rates in of_arms.items():
            if arm in WITHOUT_CONTEXT:
                continue
            # not its inverse, which has no end where nothing is left
            left = bootstrap(lambda rows: rates[rows].mean() / best[rows].mean(), best.size) if rates.any() else "none"
            print(f"  {at:5.1f} dB  {arm:24s} leaves {left} of the wrong bytes of the best without context")


def main(path: Path, num_items: int, esno_db: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = run_on(path, "exchanges", num_items, esno_db, Path(folder), UNCHECKED)
    print(f"{path.name}: {num_items} messages of 1024 bytes, byte error rates")
    table(results, "token_error_rate")
    print("code blocks in error")
    table(results, "block_error_rate")
    print("channel uses a byte: " + ", ".join(f"{row.arm} {row.mean:.3f}" for row in results.find("channel_uses_per_sample")
                                              if row.sweep["channel.esno_db"] == esno_db[0]))
    compare(errors(results, "token_error_rate"), esno_db)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.exchanges FILE [ITEMS] [ES/N0 in dB, ascending ...]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 24, [float(at) for at in sys.argv[3:]] or [-2.0, 0.0, 1.0])
