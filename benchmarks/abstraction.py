"""How close `bler_table` is to the link that it stands for, and how much faster: `python -m benchmarks.abstraction [BLOCKS]`.

    accuracy   fresh bit-exact blocks (BLOCKS at an error rate of 0.1, four times as many at 0.01) where the table says so: how many
               dB the table would have to be shifted to say, on the same fades, what was counted; ± one standard error, fades
               given; last column: the same without the fit to fading, by mutual information alone
    speed      CPU time a packet of one code block of what the channels do (transmission and detection), and with what is done for
               any channel (delivery); items of 400 packets; ratios within this run
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time

import numpy as np
from scipy.optimize import brentq

from channel_sim.abstraction import BlerTable
from channel_sim.bler_measurement import one_block_packets, wrong_blocks
from channel_sim.effective_snr import effective_snr_db
from channel_sim.fading import Flat
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.stages import Channel

AT_ONCE = 200
FADES_A_BLOCK = (1, 4, 8, 32)
ITEM_PACKETS = 400
Effective = Callable[[np.ndarray, int], np.ndarray]


def main(num_blocks: int) -> None:
    print(f"{'accuracy':<30}{'Es/N0':>8}{'counted':>10}{'table':>10}{'off by':>20}{'unfitted':>14}")
    for target, blocks in ((0.1, num_blocks), (0.01, 4 * num_blocks)):
        accuracy("AWGN", BlerTable(esno_db=0.0), target, blocks)
        for fades in FADES_A_BLOCK:
            channel = BlerTable(esno_db=0.0, fading="rayleigh_block", fading_block_symbols=512 // fades)
            accuracy(f"Rayleigh, {fades} fades a block", channel, target, blocks)
    speed()


def accuracy(name: str, channel: BlerTable, target: float, num_blocks: int) -> None:
    """One line of the table."""
    keys = [Key(20_000).child(name, part) for part in range(-(-num_blocks // AT_ONCE))]
    flat = Flat(channel.fading, channel.fading_block_symbols)
    gain_db = [20 * np.log10(np.abs(flat.fades(AT_ONCE * channel.link.frame.symbols, key))) for key in keys]

    def rates(esno_db: float, effective: Effective = channel.effective_snr_db) -> np.ndarray:
        return channel.block_error_probability(np.concatenate([effective(gain + esno_db, AT_ONCE) for gain in gain_db]))

    esno_db = round(float(brentq(lambda at: rates(at).mean() - target, -5, 60)), 2)
    shared = {name: getattr(channel, name) for name in ("fading", "fading_block_symbols", "ldpc_backend")}
    link = CodedLink(**shared, esno_db=esno_db)
    counted = float(np.mean([wrong_blocks(link, AT_ONCE, key).mean() for key in keys]))
    expected = rates(esno_db)
    off, plain_off = (float(brentq(lambda by: rates(esno_db - by, effective).mean() - counted, -6, 6))
                      for effective in (channel.effective_snr_db, partial(by_information, channel)))
    a_tenth = rates(esno_db - 0.1).mean() - expected.mean()
    error = 0.1 * np.sqrt((expected * (1 - expected)).sum()) / expected.size / a_tenth
    print(f"{name:<30}{esno_db:>8.2f}{counted:>10.4f}{expected.mean():>10.4f}{off:>11.3f} ± {error:.3f} dB{plain_off:>11.3f} dB",
          flush=True)


def by_information(channel: BlerTable, snr_db: np.ndarray, num_blocks: int) -> np.ndarray:
    """The effective SNR without the fit."""
    if channel.fading == "awgn":
        return channel.effective_snr_db(snr_db, num_blocks)
    return effective_snr_db(snr_db, symbols_a_fade=channel.fading_block_symbols, symbols_a_block=channel.link.frame.symbols,
                            num_blocks=num_blocks, bits_per_symbol=channel.link.bits_per_symbol)


def speed() -> None:
    keys = {"fading": "rayleigh_block", "esno_db": 6.0}
    cost = {"bler_table": cpu_seconds(BlerTable(**keys), 41)}
    for backend in ("sionna", "numba"):
        cost[backend] = cpu_seconds(CodedLink(**keys, ldpc_backend=backend), 3)
    for name, (channel, delivered) in cost.items():
        print(f"{'speed':<30}{name:<12}{1e6 * channel:8.2f} µs a packet, {1e6 * delivered:.2f} delivered; "
              f"{channel / cost['bler_table'][0]:.0f} and {delivered / cost['bler_table'][1]:.0f} times")


def cpu_seconds(channel: Channel, repeats: int) -> tuple[float, float]:
    """Median CPU seconds a packet, all threads added up, before and after delivery."""
    packets = one_block_packets(CodedLink(esno_db=0.0), ITEM_PACKETS, Key(2))
    times = []
    for repeat in range(repeats + 1):
        start = process_time()
        observation, = channel.transmit([packets], [Key(3).child(repeat)])
        detection = channel.detect(observation)
        detected = process_time()
        channel.deliver(observation, detection)
        times.append((detected - start, process_time() - start))
    detect, deliver = zip(*times[1:], strict=True)  # the first compiles
    return median(detect) / ITEM_PACKETS, median(deliver) / ITEM_PACKETS


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
