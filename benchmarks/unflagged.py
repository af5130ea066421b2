"""Bytes that arrive wrong without a flag, and a prior told how far to trust them: `python -m benchmarks.unflagged FILE [ITEMS]`.

Messages of 1,024 bytes, spread evenly over the file, over a binary symmetric channel without CRC. Prints byte error rates as
received and after decoder `ngram` that is told a flip probability: the channel's own, half of it, and twice. 95 % intervals are
+-1.96 standard errors over messages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.restoration import messages, text
from channel_sim.keys import Key
from channel_sim.types import Evidence, token_bits
from decoders.ngram import NGramRestorer

FLIPS = (0.01, 0.02, 0.05)
MISJUDGED = (0.5, 1.0, 2.0)


def received(items: list[np.ndarray], flip: float, stated: float) -> list[Evidence]:
    """Every bit flipped with probability `flip`, its LLR that of `stated`."""
    level, evidence = np.log((1 - stated) / stated), []
    for index, values in enumerate(items):
        bits = token_bits(values, 256) ^ (Key(4).child("flips", index).uniform(values.size, 8) < flip)
        llr = (level * (2.0 * bits - 1)).astype(np.float32)
        evidence.append(Evidence(np.zeros(values.size, bool), np.zeros(values.size, np.int32), 256, bit_llr=llr))
    return evidence


def main(path: Path, num_items: int) -> None:
    items = messages(path, num_items)
    print(f"{path.name}: {num_items} messages of 1024 bytes; byte error rates")
    for flip in FLIPS:
        before = [np.mean((one.log_likelihood(np.arange(values.size)).argmax(axis=1) != values))
                  for one, values in zip(received(items, flip, flip), items)]
        print(f"bits flipped with {flip:g}: as received {text(np.array(before))}", flush=True)
        for factor in MISJUDGED:
            found = NGramRestorer().restore(received(items, flip, factor * flip), [Key(0)] * num_items)
            after = [np.mean(one.values != values) for one, values in zip(found, items)]
            print(f"  told {factor * flip:g}: {text(np.array(after))}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.unflagged FILE [ITEMS]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100)
