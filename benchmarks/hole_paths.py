"""What the paths that decoder `ngram` keeps in holes cost and bring: `python -m benchmarks.hole_paths [ITEMS]`.

Slices of the Python documentation, 1,024 bytes each, which the shipped n-gram never saw. Bytes erased one by one at four rates, and
in holes of eight. Prints for each `hole_paths` CPU ms an erased byte, the share restored exactly, its difference from 512 paths on
the same losses with a 95 % interval over items (+-1.96 standard errors), and bits of surprise at the truth.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.concealment import holes, interval, measure
from channel_sim.keys import Key
from channel_sim.types import Evidence
from decoders.ngram import NGramRestorer
from sources.text import python_docs
from sources.training.text_lanes import messages

PATHS = (512, 256, 128, 64)
LOSSES = ((0.05, 1), (0.1, 1), (0.2, 1), (0.4, 1), (0.1, 8))


def main(num_items: int) -> None:
    items = [np.frombuffer(one, np.uint8).astype(np.int32) for one in messages(python_docs(), 1024, num_items)]
    nowhere = np.zeros(256, bool)
    NGramRestorer().restore([Evidence(np.arange(9) % 4 > 1, np.zeros(9, np.int32), 256)], [Key(0)])  # compile and load
    for rate, length in LOSSES:
        erased = holes(items, rate, length)
        most = None
        for hole_paths in PATHS:
            out = measure(NGramRestorer(hole_paths=hole_paths), items, erased, 256, nowhere)
            most = most or out
            share, (less, spread) = interval(out.right[:, 0], out.erased[:, 0])[0], interval(
                out.right[:, 0] - most.right[:, 0], out.erased[:, 0])
            cost = 1e3 * out.seconds * num_items / out.erased[:, 0].sum()
            print(f"{100 * rate:g} % in holes of {length}, {hole_paths} paths: {cost:.2f} CPU ms an erased byte, exact "
                  f"{100 * share:.1f} %, {100 * less:+.2f} +- {100 * spread:.2f}, surprise {out.surprise:.2f} bits", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
