"""The two LDPC decoders side by side, on the same noise and in one run: `python -m benchmarks.ldpc [BLOCKS [REPEATS]]`.

First the decoding rate, in information bits per second of CPU time; then how many dB the numba decoder needs more than
Sionna's boxplus-phi at a block error rate of 1e-2 (below 0: less).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Any

import numpy as np

from channel_sim import ldpc
from channel_sim.keys import Key
from channel_sim.sionna_blocks import load

SIONNA_ITERATIONS = 20
SIONNA_BATCH = 500
"""Sionna's fastest batch at (512, 1024) on a CPU."""
TARGET = 1e-2
FORMATS = {  # information bits, code bits: Eb/N0 in dB on both sides of a block error rate of 1e-2
    (512, 1024): (1.75, 1.95),
    (64, 128): (3.0, 3.4),
    (256, 1280): (1.1, 1.3),
    (1000, 3000): (0.9, 1.05),
    (400, 444): (4.9, 5.2),
    (2000, 2400): (3.25, 3.45),
    (4000, 8000): (1.25, 1.35),
}


@dataclass(frozen=True)
class Comparison:
    """Which blocks came out wrong at one Eb/N0: bool [num_blocks] of each decoder, on the same noise."""

    ebno_db: float
    sionna_wrong: np.ndarray
    numba_wrong: np.ndarray


class Pair:
    """Both decoders of one code on QPSK over AWGN, and what they are given."""

    def __init__(self, info_bits: int, code_bits: int, batch: int) -> None:
        self.tensorflow, phy = load()
        self.info_bits, self.code_bits, self.batch = info_bits, code_bits, batch
        self.encoder = phy.fec.ldpc.LDPC5GEncoder(info_bits, code_bits, num_bits_per_symbol=2)
        sendable = self.encoder.n_ldpc - 2 * self.encoder.z - (self.encoder.k_ldpc - info_bits)
        decoder = phy.fec.ldpc.LDPC5GDecoder(self.encoder, cn_update="boxplus-phi", hard_out=False, return_infobits=True,
                                             num_iter=SIONNA_ITERATIONS, prune_pcm=code_bits < sendable)
        signature = [self.tensorflow.TensorSpec((batch, code_bits), self.tensorflow.float32)]
        self._compiled = self.tensorflow.function(lambda llr: decoder(llr), jit_compile=True, input_signature=signature)
        self.graph = ldpc.graph_of(info_bits, code_bits, 2)

    def received(self, ebno_db: float, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """Information bits uint8 [batch, info_bits] and channel LLRs float32 [batch, code_bits]."""
        bits = key.child("bits").integers(2, self.batch, self.info_bits)
        word = self.encoder(self.tensorflow.constant(bits, self.tensorflow.float32)).numpy()
        snr = 10 ** (ebno_db / 10) * self.info_bits / self.code_bits  # Es/N0 of each real dimension, one bit in each
        noise = key.child("noise").normal(self.batch, self.code_bits)
        return bits.astype(np.uint8), (4 * snr * (2 * word - 1) + np.sqrt(8 * snr) * noise).astype(np.float32)

    def sionna(self, llr: np.ndarray) -> np.ndarray:
        posterior: np.ndarray = self._compiled(self.tensorflow.constant(llr)).numpy()
        return posterior

    def numba(self, llr: np.ndarray, num_iterations: int, early_stop: bool = True) -> np.ndarray:
        return ldpc.decode(llr, graph=self.graph, num_iterations=num_iterations, early_stop=early_stop)

    def compare(self, ebno_db: float, num_blocks: int, num_iterations: int) -> Comparison:
        wrong: tuple[list[Any], list[Any]] = ([], [])
        for part in range(-(-num_blocks // self.batch)):
            bits, llr = self.received(ebno_db, Key(1).child("part", part, round(1000 * ebno_db)))
            for outcomes, posterior in zip(wrong, (self.sionna(llr), self.numba(llr, num_iterations)), strict=True):
                outcomes.append(((posterior > 0) != bits).any(axis=1))
        return Comparison(ebno_db, np.concatenate(wrong[0]), np.concatenate(wrong[1]))


def gap_db(comparisons: list[Comparison]) -> tuple[float, float, float]:
    """Eb/N0 that numba needs more than Sionna at TARGET, and its 95 % interval over blocks drawn again, both decoders' together.

    A decoder's place is where the straight line through its log BLER meets TARGET: the points should lie close around it.
    """
    drawn = [_gap(comparisons, again) for again in range(200)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return _gap(comparisons, None), float(low), float(high)


def _gap(comparisons: list[Comparison], again: int | None) -> float:
    ebno_db, rates = [one.ebno_db for one in comparisons], []
    for number, one in enumerate(comparisons):
        size = one.sionna_wrong.size
        rows = np.arange(size) if again is None else Key(2).child("again", again, number).integers(size, size)
        rates.append([max(wrong[rows].mean(), 0.5 / size) for wrong in (one.sionna_wrong, one.numba_wrong)])
    slope, intercept = np.polyfit(ebno_db, np.log10(rates), 1)  # of both decoders
    places = (np.log10(TARGET) - intercept) / slope
    return float(places[1] - places[0])


def main(num_blocks: int, repeats: int) -> None:
    _print_rates(repeats)
    print(f"\ndB that numba needs more at BLER {TARGET:g} (95 % interval), against {SIONNA_ITERATIONS} iterations of boxplus-phi")
    same = ldpc.layered_iterations(SIONNA_ITERATIONS)
    print(f"{'code':<16}{f'{same} layered':>26}{f'{SIONNA_ITERATIONS} layered':>26}   BLER: Sionna, numba, numba")
    for (info_bits, code_bits), ebno_db in FORMATS.items():
        pair = Pair(info_bits, code_bits, 250)
        found = [[pair.compare(one, num_blocks, count) for one in ebno_db] for count in (same, SIONNA_ITERATIONS)]
        gaps = "".join("{:>10.3f} ({:.3f} .. {:.3f})".format(*gap_db(one)).rjust(26) for one in found)
        rates = ", ".join(f"{a.ebno_db} dB {a.sionna_wrong.mean():.2e} {a.numba_wrong.mean():.2e} {b.numba_wrong.mean():.2e}"
                          for a, b in zip(*found, strict=True))
        print(f"{f'({info_bits}, {code_bits})':<16}{gaps}   {rates}", flush=True)


def _print_rates(repeats: int) -> None:
    pair = Pair(512, 1024, SIONNA_BATCH)
    _, llr = pair.received(2.0, Key(3))
    same = ldpc.layered_iterations(SIONNA_ITERATIONS)
    ways: dict[str, Callable[[], Any]] = {
        f"Sionna under XLA, {SIONNA_ITERATIONS} iterations": lambda: pair.sionna(llr),
        f"numba, {SIONNA_ITERATIONS} layered iterations": lambda: pair.numba(llr, SIONNA_ITERATIONS, early_stop=False),
        f"numba, {same} layered iterations": lambda: pair.numba(llr, same, early_stop=False),
        f"numba, {SIONNA_ITERATIONS} with early stop": lambda: pair.numba(llr, SIONNA_ITERATIONS),
        f"numba, {same} with early stop": lambda: pair.numba(llr, same),
    }
    print(f"(512, 1024), {SIONNA_BATCH} blocks at Eb/N0 2 dB: Mbit per CPU second, median of {repeats}")
    first = {name: _cpu_seconds(way) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():  # in turns: what else the machine does meets all of them
            times[name].append(_cpu_seconds(way))
    slowest = median(next(iter(times.values())))
    for name, seconds in times.items():
        rate = SIONNA_BATCH * pair.info_bits / median(seconds) / 1e6
        print(f"{name:<36}{rate:>8.2f}{slowest / median(seconds):>8.1f} x   first call {first[name]:.2f} CPU s", flush=True)


def _cpu_seconds(way: Callable[[], Any]) -> float:
    start = process_time()
    way()
    return process_time() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 9)
