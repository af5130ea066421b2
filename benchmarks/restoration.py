"""How well the shipped n-gram compresses and restores a text it never saw: `python -m benchmarks.restoration FILE [ITEMS]`.

Messages of 1,024 bytes, spread evenly over the file. Prints real coded bits a byte; the share of erased bytes restored
exactly, by erasure rate and by length of holes; and byte error rates of uncoded BPSK over AWGN, hard and with the prior.
95 % intervals are +-1.96 standard errors over messages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Evidence, Tokens, hard_decision, token_bits
from decoders.ngram import NGramRestorer
from sources.coder import Entropy
from sources.models.ngram import NGram

ITEM_BYTES = 1024
ERASURES = (0.05, 0.1, 0.2, 0.3)
HOLES = (2, 4, 8, 32)
EBNO_DB = (0.0, 2.0, 4.0, 6.0)


def messages(path: Path, num_items: int) -> list[np.ndarray]:
    """int32 [ITEM_BYTES] each."""
    data = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int32)
    starts = np.linspace(0, data.size - ITEM_BYTES, num_items).astype(int)
    return [data[start:start + ITEM_BYTES] for start in starts]


def coded_bits_per_byte(items: list[np.ndarray]) -> np.ndarray:
    """Real bits of each message as one packet, preamble included."""
    coded = Entropy(model=NGram(), packet_bits=None, header_bits=0).encode([Tokens(values, 256) for values in items])
    return np.array([int(packets.num_bits.sum()) + preamble.num_bits for packets, preamble in coded]) / ITEM_BYTES


def restored(items: list[np.ndarray], rate: float, hole_bytes: int) -> np.ndarray:
    """Share of erased bytes restored exactly, by message; holes of `hole_bytes` begin independently."""
    shares = []
    for index, values in enumerate(items):
        starts = Key(1).child("hole", hole_bytes, index).uniform(ITEM_BYTES) < rate / hole_bytes
        erased = np.convolve(starts, np.ones(hole_bytes))[:ITEM_BYTES] > 0
        (found,) = NGramRestorer().restore([Evidence(~erased, np.where(erased, 0, values), 256)], [Key(0)])
        if erased.any():
            shares.append(np.mean((found.values == values)[erased]))
    return np.array(shares)


def byte_error_rates(items: list[np.ndarray], ebno_db: float) -> tuple[np.ndarray, np.ndarray]:
    """(hard decision, prior), by message."""
    no, hard, prior = 10 ** (-ebno_db / 10), [], []
    for index, values in enumerate(items):
        signs = 2.0 * token_bits(values, 256) - 1
        llr = 4 / no * (signs + np.sqrt(no / 2) * Key(2).child("noise", index).normal(*signs.shape))
        evidence = Evidence(np.zeros(ITEM_BYTES, bool), np.zeros(ITEM_BYTES, np.int32), 256, bit_llr=llr.astype(np.float32))
        hard.append(np.mean(hard_decision(evidence).values != values))
        prior.append(np.mean(NGramRestorer().restore([evidence], [Key(0)])[0].values != values))
    return np.array(hard), np.array(prior)


def text(values: np.ndarray, scale: float = 1.0) -> str:
    return f"{scale * values.mean():.4g} +- {scale * 1.96 * values.std(ddof=1) / np.sqrt(values.size):.2g}"


def main(path: Path, num_items: int) -> None:
    items = messages(path, num_items)
    print(f"{path.name}: {num_items} messages of {ITEM_BYTES} bytes")
    print(f"coded, preamble included: {text(coded_bits_per_byte(items))} bits per byte")
    for rate in ERASURES:
        print(f"restored exactly, {100 * rate:g} % single bytes erased: {text(restored(items, rate, 1), 100)} %")
    for hole in HOLES:
        print(f"restored exactly, holes of {hole} bytes, about 10 % in all: {text(restored(items, 0.1, hole), 100)} %")
    for ebno_db in EBNO_DB:
        hard, prior = byte_error_rates(items, ebno_db)
        print(f"uncoded BPSK, Eb/N0 {ebno_db:g} dB, byte error rate: hard {text(hard)}, n-gram prior {text(prior)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.restoration FILE [ITEMS]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100)
