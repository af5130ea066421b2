"""How fast the entropy coder is, and what a packet costs beyond -log2 P: `python -m benchmarks.entropy [REPEATS]`."""

from __future__ import annotations

import sys
from time import perf_counter

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import CERTAIN_LLR, Packets, Reception, Tokens
from sources.coder import Entropy
from sources.models.markov import ExactMarkov
from sources.models.model import CausalModel
from sources.models.ngram import NGram
from sources.models.uniform import Uniform
from sources.text import python_docs

NUM_TOKENS = 8192
SETTINGS = [(context, packet_bits) for packet_bits in (512, 4096) for context in ("independent", "chained")] + [("chained", None)]
MODELS: dict[str, CausalModel] = {
    "uniform 256": Uniform(),
    "exact_markov p=.1": ExactMarkov(flip_probability=0.1, alphabet_size=2),
    "ngram, python-docs": NGram(),
}


def main(repeats: int) -> None:
    print(f"median of {repeats} runs over {NUM_TOKENS} tokens, one item, one thread")
    print(f"{'model':<20}{'context':<13}{'packet_bits':>11}{'encode':>12}{'decode':>12}{'overhead':>14}")
    for name, model in MODELS.items():
        tokens = _tokens(model)
        for context, packet_bits in SETTINGS:
            coder = Entropy(model=model, context=context, packet_bits=packet_bits, header_bits=64)
            encode, decode, overhead = _measure(coder, tokens, repeats)
            setting = f"{name:<20}{context:<13}{packet_bits or 'none':>11}"
            print(f"{setting}{encode:>9.0f} /s{decode:>9.0f} /s{overhead:>9.2f} bits/packet")


def _tokens(model: CausalModel) -> Tokens:
    if isinstance(model, ExactMarkov):
        flips = Key(1).uniform(NUM_TOKENS) < model.flip_probability
        return Tokens(np.cumsum(flips).astype(np.int32) % 2, 2)
    if isinstance(model, NGram):
        return Tokens(np.frombuffer(python_docs(), np.uint8)[:NUM_TOKENS].astype(np.int32), 256)
    return Tokens(Key(1).integers(model.vocab_size, NUM_TOKENS).astype(np.int32), model.vocab_size)


def _measure(coder: Entropy, tokens: Tokens, repeats: int) -> tuple[float, float, float]:
    """Median tokens a second of encoding and of decoding, and bits a packet past the ideal."""
    encoding, decoding = [], []
    for _ in range(repeats):
        start = perf_counter()
        (packets, preamble), = coder.encode([tokens])
        encoding.append(perf_counter() - start)
        start = perf_counter()
        evidence, = coder.receive([_intact(packets)], [preamble])
        decoding.append(perf_counter() - start)
        assert np.array_equal(evidence.values, tokens.values)
    assert packets.ideal_bits is not None
    overhead = (packets.num_bits.sum() - packets.ideal_bits) / packets.num_packets
    return NUM_TOKENS / float(np.median(encoding)), NUM_TOKENS / float(np.median(decoding)), float(overhead)


def _intact(packets: Packets) -> Reception:
    llr = np.where(packets.bits, CERTAIN_LLR, -CERTAIN_LLR).astype(np.float32)
    arrived = np.ones(packets.num_packets, bool)
    return Reception(llr, ~arrived, arrived, packets.header)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
