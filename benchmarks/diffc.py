"""What the coding of samples costs on sources whose law is known: `python -m benchmarks.diffc [chunks|searches] …`.

chunks:   bits and seconds of a stream over the size of its chunks, and by dithered quantisation
searches: bits of one chunk over what it tells, by Zipf's law and by one fitted to these very numbers; and the bound
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
from scipy.stats import entropy

from channel_sim.keys import Key
from sources.diffusion import reverse_channel
from sources.diffusion.diffc import Diffc
from sources.diffusion.stream import cost_bits, symbols_of_number
from sources.gaussian import GaussianVector

ROOT = Key(10)
ITEMS, SEARCHES = 8, 400


def chunks() -> None:
    print(f"{'vectors':<31}{'chunks of':<14}{'bits':>6}{'chunks':>8}{'sent':>9}{'over':>8}{'ms':>8}")
    for covariance, bits, noise in (("identity", 0.39, "isotropic"), ("patches", 0.39, "isotropic"), ("patches", 0.39, "optimal"),
                                    ("patches", 2.0, "optimal")):
        law = {"covariance": covariance, "num_dimensions": 256}
        told = {"information_bits": bits, "noise": noise, "check_bits": 0}
        for size in (8, 11, 14, 16):
            _stream(f"{covariance}, {noise}, {bits:g} bits", f"2^{size}", Diffc(**law, **told, search_bits=size))
        _stream(f"{covariance}, {noise}, {bits:g} bits", "dithered", Diffc(**law, **told, coding="dithered"))


def _stream(vectors: str, size: str, diffc: Diffc) -> None:
    source: dict[str, Any] = {"covariance": diffc.covariance, "num_dimensions": diffc.num_dimensions}
    keys = [ROOT.child("item", index) for index in range(ITEMS)]
    items = GaussianVector(**source).items(range(ITEMS), [key.child("source") for key in keys])
    told = [chunk.information_bits for step in diffc.steps for chunk in step]
    start = process_time()
    octets = [diffc.encode(item, key.child("shared")).values.size for item, key in zip(items, keys, strict=True)]
    milliseconds = 1000 * (process_time() - start) / ITEMS
    sent = 8 * float(np.mean(octets))
    print(f"{vectors:<31}{size:<14}{np.mean(told):>6.2f}{len(told):>8}{sent:>9.0f}{100 * (sent / sum(told) - 1):>7.0f}%"
          f"{milliseconds:>8.0f}")


def searches() -> None:
    print(f"{'dimensions':<12}{'I':>6}{'sent':>8}{'±':>6}{'fitted':>8}{'bound':>8}{'candidates':>12}{'ms':>8}")
    for num_dimensions, bits in ((1, 0.5), (1, 2), (1, 4), (1, 8), (1, 10), (2, 4), (4, 1), (8, 0.5), (40, 0.05)):
        ratio = np.full(num_dimensions, 4.0**-bits)
        told, costs, octaves, drawn, start = num_dimensions * bits, list[float](), list[int](), 0, process_time()
        for trial in range(SEARCHES):
            key = ROOT.child("search", trial)
            choice = reverse_channel.choose(key, np.sqrt(1 - ratio) * key.child("x").normal(num_dimensions), ratio)
            costs.append(cost_bits(symbols_of_number(choice.number, told)))
            octaves.append(choice.number.bit_length() - 1)
            drawn += choice.searched
        fitted = np.mean(octaves) + entropy(np.bincount(octaves), base=2)
        print(f"{num_dimensions:<12}{told:>6.2f}{np.mean(costs):>8.2f}{1.96 * np.std(costs) / SEARCHES**0.5:>6.2f}{fitted:>8.2f}"
              f"{told + np.log2(told + 1) + 5:>8.2f}{drawn / SEARCHES:>12.0f}{1000 * (process_time() - start) / SEARCHES:>8.2f}")


PARTS: dict[str, Callable[[], None]] = {"chunks": chunks, "searches": searches}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
        print()
