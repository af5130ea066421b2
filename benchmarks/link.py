"""How long the coded link takes to start and how fast it then runs, and what it costs over Sionna's bare blocks.

    python -m benchmarks.link [REPEATS]

Information bits a second of CPU time (all threads added up), transmission and detection together, one item of 64 kbit at a time.
The bare blocks are Sionna's encoder, mapper, AWGN, demapper and decoder in compiled functions of the batch that the link uses.
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.sionna_blocks import BLOCKS_A_CALL, encoder, ldpc_decoder, load
from channel_sim.types import Packets

ITEM_BITS = 1 << 16
LINKS = {
    "uncoded, QPSK": CodedLink(code="uncoded", esno_db=6.0),
    "uncoded, 64-QAM, Rayleigh": CodedLink(code="uncoded", modulation="qam64", fading="rayleigh_block", esno_db=15.0),
    "LDPC (512, 1024), QPSK, numba": CodedLink(block_bits=512, esno_db=2.0, ldpc_backend="numba"),
    "LDPC (2048, 4096), QPSK, numba": CodedLink(block_bits=2048, esno_db=2.0, ldpc_backend="numba"),
    "LDPC (512, 1024), 64-QAM, TDL-A": CodedLink(block_bits=512, modulation="qam64", fading="tdl_a", esno_db=18.0,
                                                 ldpc_backend="numba"),
    "LDPC (512, 1024), QPSK, Sionna": CodedLink(block_bits=512, esno_db=2.0, ldpc_backend="sionna"),
    "polar (64, 128), QPSK, list 8": CodedLink(code="polar", block_bits=64, esno_db=3.0),
    "polar (512, 1024), QPSK, list 8": CodedLink(code="polar", block_bits=512, esno_db=2.0),
    "convolutional (512, 1024), QPSK": CodedLink(code="convolutional", block_bits=512, esno_db=4.0),
    "turbo (512, 1024), QPSK, 8 iter.": CodedLink(code="turbo", block_bits=512, num_iterations=8, esno_db=2.0),
}
COMPARED = "LDPC (512, 1024), QPSK, Sionna"


def main(repeats: int) -> None:
    start = perf_counter()
    load()
    print(f"loading TensorFlow and Sionna: {perf_counter() - start:.1f} s")
    print(f"{'link':<34}{'first item':>12}{'then':>18}{'wall':>14}")
    for name, link in LINKS.items():
        first, cpu, wall = measure(link, repeats)
        print(f"{name:<34}{first:>10.1f} s{ITEM_BITS / cpu / 1e6:>9.2f} Mbit/CPU-s{ITEM_BITS / wall / 1e6:>7.2f} Mbit/s")
    print(f"{COMPARED}: CPU time over that of the bare blocks {over_bare_blocks(LINKS[COMPARED], repeats):.3f}")


def measure(link: CodedLink, repeats: int) -> tuple[float, float, float]:
    """Seconds of the first item, which compiles, and median CPU and wall seconds of later ones."""
    packets = _packets(link)
    first = _seconds(link, packets)[1]
    later = [_seconds(link, packets) for _ in range(repeats)]
    return first, median(cpu for cpu, _ in later), median(wall for _, wall in later)


def over_bare_blocks(link: CodedLink, repeats: int) -> float:
    """Median ratio of CPU times, link to bare blocks, taken in turns so that both meet the same machine."""
    packets, bare = _packets(link), _bare_blocks(link)
    num_calls = packets.num_packets // BLOCKS_A_CALL[link.code]
    _seconds(link, packets), bare(num_calls)
    ratios = []
    for _ in range(repeats):
        start = process_time()
        bare(num_calls)
        ratios.append(_seconds(link, packets)[0] / (process_time() - start))
    return median(ratios)


def _bare_blocks(link: CodedLink) -> Any:
    """A function that sends and decodes so many batches."""
    tf, phy = load()
    frame = link.frame
    rows = BLOCKS_A_CALL[link.code]
    encode, decode = encoder(frame), ldpc_decoder(frame)
    mapper, demapper = phy.mapping.Mapper("qam", frame.bits_per_symbol), phy.mapping.Demapper("app", "qam", frame.bits_per_symbol)
    source, channel = phy.mapping.BinarySource(), phy.channel.AWGN()

    @tf.function(jit_compile=True)
    def batch() -> Any:
        bits = source([rows, frame.info_bits])
        received = channel(mapper(encode(bits)), tf.constant(link.no, tf.float32))
        wrong = (decode(demapper(received, tf.constant(link.no, tf.float32))) > 0) != (bits > 0)
        return tf.reduce_any(wrong, axis=1)

    def send(num_batches: int) -> int:
        return sum(int(batch().numpy().sum()) for _ in range(num_batches))

    return send


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
