"""Make scenarios/handover_trace.txt: losses that no chain of few states has.

    python benchmarks/handover_trace.py scenarios/handover_trace.txt

Every 140 to 180 slots a handover loses 9 to 11 slots in a row; in between 2 % of the slots are lost, independently. Both laws are
uniform, not geometric. The trace is drawn, not measured; it stands in for one, since measured traces may not be passed on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from channel_sim.keys import Key

NUM_SLOTS = 8_000


def handover_trace() -> np.ndarray:
    """bool [NUM_SLOTS]; the same on every machine."""
    key = Key(1).child("handover trace")
    lost = key.child("between").uniform(NUM_SLOTS) < 0.02
    number = NUM_SLOTS // 140 + 1
    apart, long = 140 + key.child("apart").integers(41, number), 9 + key.child("long").integers(3, number)
    for end, length in zip(np.cumsum(apart), long, strict=True):
        lost[end - length:end] |= end <= NUM_SLOTS
    return lost


if __name__ == "__main__":
    text = "".join("01"[int(one)] for one in handover_trace())
    Path(sys.argv[1]).write_text("\n".join(text[start:start + 100] for start in range(0, NUM_SLOTS, 100)) + "\n")
