"""How long the coded link takes to start, and how fast it then runs: `python -m benchmarks.link [REPEATS]`.

Information bits a second of CPU time (all threads added up), transmission and detection together, one item of 64 kbit at a time.
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter, process_time

import numpy as np

from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.sionna_blocks import load
from channel_sim.types import Packets

ITEM_BITS = 1 << 16
LINKS = {
    "uncoded, QPSK": CodedLink(code="uncoded", esno_db=6.0),
    "uncoded, 64-QAM, Rayleigh": CodedLink(code="uncoded", modulation="qam64", fading="rayleigh_block", esno_db=15.0),
    "LDPC (128, 256), QPSK": CodedLink(block_bits=128, esno_db=3.0),
    "LDPC (512, 1024), QPSK": CodedLink(block_bits=512, esno_db=3.0),
    "LDPC (512, 1536), 16-QAM": CodedLink(block_bits=512, code_rate=1 / 3, modulation="qam16", esno_db=6.0),
    "LDPC (2048, 4096), QPSK": CodedLink(block_bits=2048, esno_db=3.0),
    "LDPC (8448, 16896), QPSK": CodedLink(block_bits=8448, esno_db=3.0),
}


def main(repeats: int) -> None:
    start = perf_counter()
    load()
    print(f"loading TensorFlow and Sionna: {perf_counter() - start:.1f} s")
    print(f"{'link':<28}{'first item':>12}{'then':>18}{'wall':>14}")
    for name, link in LINKS.items():
        first, cpu, wall = measure(link, repeats)
        print(f"{name:<28}{first:>10.1f} s{ITEM_BITS / cpu / 1e6:>9.2f} Mbit/CPU-s{ITEM_BITS / wall / 1e6:>7.2f} Mbit/s")


def measure(link: CodedLink, repeats: int) -> tuple[float, float, float]:
    """Seconds of the first item, which compiles, and median CPU and wall seconds of later ones."""
    packets = _packets(link)
    first = _seconds(link, packets)[1]
    later = [_seconds(link, packets) for _ in range(repeats)]
    return first, median(cpu for cpu, _ in later), median(wall for _, wall in later)


def _seconds(link: CodedLink, packets: Packets) -> tuple[float, float]:
    cpu, wall = process_time(), perf_counter()
    observation, = link.transmit([packets], [Key(1)])
    link.receive(observation)
    return process_time() - cpu, perf_counter() - wall


def _packets(link: CodedLink) -> Packets:
    """Packets that fill one code block each with their CRC (512 bits where there is no code)."""
    size = (512 if link.code == "uncoded" else link.block_bits) - link.crc_bits
    count = ITEM_BITS // (size + link.crc_bits)
    bits = Key(2).integers(2, count, size).astype(np.uint8)
    return Packets(bits=bits, num_bits=np.full(count, size, np.int32), order=np.zeros(0, np.int32),
                   bounds=np.zeros(count + 1, np.int32), header=np.zeros((count, 3), np.int32))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
