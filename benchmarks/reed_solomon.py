"""How fast the erasure code encodes and decodes, on one core: `python -m benchmarks.reed_solomon`.

Prints megabytes of data a second, the median of repeated runs; the worst case of decoding misses n - k rows of data.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

from channel_sim.keys import Key
from channel_sim.reed_solomon import decode, encode

CODES = [(20, 16), (255, 223), (24, 12)]
PACKET_BYTES = [64, 1500]
REPEATS = 25


def seconds(task: Callable[[], object]) -> float:
    """Median over `REPEATS` runs after one to warm up."""
    task()
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        task()
        times.append(perf_counter() - start)
    return median(times)


def measure(n: int, k: int, size: int) -> tuple[float, float]:
    """(encoding, decoding) in MB of data a second, for k packets of `size` bytes."""
    data = Key(1).integers(256, k, size).astype(np.uint8)
    word = np.concatenate([data, encode(data, n - k)])
    arrived = np.arange(n)[-k:]
    megabytes = data.size / 1e6
    return (megabytes / seconds(lambda: encode(data, n - k)), megabytes / seconds(lambda: decode(word[arrived], arrived, k)))


def main() -> None:
    print(f"{'code':>12} {'packet':>10} {'encode':>12} {'decode':>12}")
    for n, k in CODES:
        for size in PACKET_BYTES:
            encoding, decoding = measure(n, k, size)
            print(f"{f'({n}, {k})':>12} {size:>8} B {encoding:>7.0f} MB/s {decoding:>7.0f} MB/s")


if __name__ == "__main__":
    main()
