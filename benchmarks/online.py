"""Learning while coding, on whole streams: bits a symbol and symbols a second of coder `online`, beside what it must beat.

    python -m benchmarks.online [--symbols N] [--no-bits] [--text FILE] [--dna FILE ...] [--primed FILE] [--lanes FILE]

One configuration of `online` for every row; every stream is decoded and compared. Sources of bits are packed, eight to a byte, for
the classical compressors; their sizes are whole files. Seconds are CPU time of one thread, compiling left out.
--text:   its first N bytes;  --dna: all bases of each file, a byte each, line feeds left out
--primed: the text once more, both ends having learned from the first bytes of this file beforehand (and PPMd having coded them)
--lanes:  the first N bytes of this file in 1, 2, 4, … lanes: what it costs that each starts from nothing
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import time
import zlib
from pathlib import Path

import numpy as np
import pyppmd

from channel_sim.keys import Key
from channel_sim.types import CERTAIN_LLR, Packets, Reception, Tokens
from sources.online import Online
from sources.synthetic import Bernoulli, HmmK, SymbolSource, XorK

KEY = Key(1)
PPMD_ORDERS, PPMD_MEMORY = (4, 5, 6, 8, 10, 12, 16), 1 << 27
PRIOR_COUNTS = (1 / 2, 1 / 16)


def main() -> None:
    options = _options()
    _coded(Online(packet_bits=None), Tokens(np.zeros(600, np.int32), 2))  # compiled
    print(f"{'source':<34}{'n':>10}{'floor':>8}{'online':>9}{'symbols/s':>11}{'decoded/s':>11}   beside")
    for label, source, floor in _bit_sources(options.symbols) if options.bits else []:
        symbols = np.asarray(source.items([0], [KEY.child("item", 0, "source")])[0].content)
        _row(label, Tokens(symbols.astype(np.int32), 2), floor, _classical(np.packbits(symbols).tobytes()))
    for file in options.dna:
        bases = _bytes(file).replace(b"\n", b"")
        _row(file.stem, _tokens(bases), None, _classical(bases) | _context_coders(bases))
    if options.text:
        text = _bytes(options.text)[:options.symbols]
        _row(options.text.name, _tokens(text), None, _classical(text) | _ppmd(text))
        if options.primed:
            coder = Online(packet_bits=None, primed=str(options.primed))
            before = _bytes(options.primed)[:coder.primed_bytes]
            _row(f"{options.text.name}, primed", _tokens(text), None, _ppmd(text, before), coder)
    if options.lanes:
        _lanes(_bytes(options.lanes)[:options.symbols])


def _bit_sources(num_symbols: int) -> list[tuple[str, SymbolSource, float]]:
    noise = _entropy(0.1)
    return [
        ("i.i.d. p = .1", Bernoulli(probability=0.1, num_symbols=num_symbols), noise),
        *((f"xor_k, k = {k}", XorK(k=k, num_symbols=num_symbols), 0.0) for k in (10, 20, 30)),
        ("three lags: 1, 17, 40", XorK(k=40, lags=(1, 17), num_symbols=num_symbols), 0.0),
        ("four lags: 1, 9, 17, 40", XorK(k=40, lags=(1, 9, 17), num_symbols=num_symbols), 0.0),
        *((f"xor_k, k = {k}, innovations .1", XorK(k=k, flip_probability=0.1, num_symbols=num_symbols), noise) for k in (20, 30)),
        *((f"hmm_k, k = {k}", HmmK(k=k, num_symbols=num_symbols), noise) for k in (20, 30)),
    ]


def _entropy(probability: float) -> float:
    return float(-probability * np.log2(probability) - (1 - probability) * np.log2(1 - probability))


def _row(label: str, tokens: Tokens, floor: float | None, beside: dict[str, int | float], coder: Online | None = None) -> None:
    """`beside`: bytes of files, or bits."""
    num_bits, encoding, decoding = _coded(coder or Online(packet_bits=None), tokens)
    size = tokens.values.size
    others = ", ".join(f"{name} {8 * length / size if isinstance(length, int) else length / size:.4f}"
                       for name, length in beside.items())
    print(f"{label:<34}{size:>10,}{'' if floor is None else f'{floor:.4f}':>8}{num_bits / size:>9.4f}{size / encoding:>11,.0f}"
          f"{size / decoding:>11,.0f}   {others}", flush=True)


def _coded(coder: Online, tokens: Tokens) -> tuple[int, float, float]:
    """(payload bits, seconds of encoding, of decoding); what comes back is what was sent."""
    start = time.process_time()
    packets, preamble = coder.encode([tokens])[0]
    middle = time.process_time()
    evidence = coder.receive([_intact(packets)], [preamble])[0]
    assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)
    return int(packets.num_bits.sum()), middle - start, time.process_time() - middle


def _intact(packets: Packets) -> Reception:
    there = np.ones(packets.num_packets, bool)
    llr = np.where(packets.bits, np.float32(CERTAIN_LLR), np.float32(-CERTAIN_LLR))
    return Reception(llr, ~there, there, packets.header, crc_checked=True)


def _classical(data: bytes) -> dict[str, int | float]:
    return {"zlib": len(zlib.compress(data, 9)), "LZMA": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
            "bz2": len(bz2.compress(data, 9))}


def _ppmd(data: bytes, before: bytes = b"") -> dict[str, int | float]:
    """The best order, of variants H and I; what it makes of the bytes before is not counted."""
    sizes = {}
    for order in PPMD_ORDERS:
        sizes[f"PPMd H{order}"] = _ppmd_size(pyppmd.Ppmd7Encoder(order, PPMD_MEMORY), before, data)
        sizes[f"PPMd I{order}"] = _ppmd_size(pyppmd.Ppmd8Encoder(order, PPMD_MEMORY, 0), before, data)
    best = min(sizes, key=sizes.__getitem__)
    return {best: sizes[best]}


def _ppmd_size(encoder: pyppmd.Ppmd7Encoder, before: bytes, data: bytes) -> int:
    if before:
        encoder.encode(before)
    return len(encoder.encode(data)) + len(encoder.flush())


def _context_coders(bases: bytes) -> dict[str, int | float]:
    """Ideal bits of adaptive arithmetic coding under one order: the better of two prior counts."""
    letters = np.unique(np.frombuffer(bases, np.uint8), return_inverse=True)[1]
    return {f"order {order}": min(_context_bits(letters, order, prior) for prior in PRIOR_COUNTS) for order in (2, 12)}


def _context_bits(letters: np.ndarray, order: int, prior: float) -> float:
    context = np.zeros(letters.size, np.int64)
    for lag in range(1, order + 1):
        context[lag:] = context[lag:] * 4 + letters[:letters.size - lag]
    contexts = np.unique(context[order:], return_inverse=True)[1]
    pairs = contexts * 4 + letters[order:]
    seen, all_seen = _times_before(pairs), _times_before(contexts)
    return float(2 * order - np.log2((seen + prior) / (all_seen + 4 * prior)).sum())


def _times_before(values: np.ndarray) -> np.ndarray:
    """How often each value came before, at each place."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-1))
    counts = np.empty(values.size, np.int64)
    counts[order] = np.arange(values.size) - np.repeat(starts, np.diff(np.append(starts, values.size)))
    return counts


def _lanes(data: bytes) -> None:
    for lanes in (1, 2, 4, 8, 16):
        _row(f"{lanes} lanes", _tokens(data), None, {}, Online(packet_bits=None, lanes=lanes))


def _bytes(file: Path) -> bytes:
    return file.read_bytes()


def _tokens(data: bytes) -> Tokens:
    return Tokens(np.frombuffer(data, np.uint8).astype(np.int32), 256)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=1_000_000, help="length of a stream")
    parser.add_argument("--bits", action=argparse.BooleanOptionalAction, default=True, help="the synthetic sources")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--dna", type=Path, nargs="*", default=[])
    parser.add_argument("--primed", type=Path)
    parser.add_argument("--lanes", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
