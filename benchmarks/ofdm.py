"""What a multipath channel costs beside flat fading: `python -m benchmarks.ofdm [ITEMS]`.

Median CPU milliseconds an item of 4096 symbols (5 slots of 72 subcarriers), each item on a channel of its own.
"""

from __future__ import annotations

import sys
from statistics import median
from time import process_time

from channel_sim.keys import Key
from channel_sim.ofdm import FADINGS, ChannelKnowledge, Fading, propagation
from channel_sim.sionna_blocks import load

NUM_SYMBOLS = 4096
NO = 0.1


def main(num_items: int) -> None:
    load()
    print(f"{'fading':<16}{'perfect':>12}{'ls_lmmse':>12}")
    for fading in FADINGS:
        perfect, estimated = (milliseconds(fading, knowledge, num_items) for knowledge in ("perfect", "ls_lmmse"))
        print(f"{fading:<16}{perfect:>9.2f} ms{estimated:>9.2f} ms")


def milliseconds(fading: Fading, knowledge: ChannelKnowledge, num_items: int) -> float:
    way, sent = propagation(fading=fading, channel_knowledge=knowledge), Key(1).complex_normal(NUM_SYMBOLS)
    seconds = []
    for item in range(num_items + 1):
        start = process_time()
        way.carry(sent, NO, Key(2).child(fading, knowledge, item))
        seconds.append(process_time() - start)
    return 1e3 * median(seconds[1:])  # the first one builds the model


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
