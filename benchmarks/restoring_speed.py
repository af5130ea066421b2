"""Cost of restoring text: `python -m benchmarks.restoring_speed [ITEMS]`.

Slices of the Python documentation. CPU seconds of one process; items a minute are 120 seconds, two cores, over those of an item.
First every decoder on items of 1,024 bytes, 10 % of bytes erased one by one, all together and each alone; then, for some of them,
seconds an erased token over how many are erased; and over the length of the item, one item at a time, with the growth of the
process's peak memory beside the posterior itself, each length in a process of its own that has restored 1,024 bytes before.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Item
from decoders.bidirectional import Bidirectional
from decoders.dude import Dude
from decoders.lm_beam import LmBeam
from decoders.lm_greedy import LmGreedy
from decoders.masked_lm import MaskedLm
from decoders.most_frequent import MostFrequent
from decoders.ngram import NGramRestorer
from decoders.posterior_sample import PosteriorSample
from sources.bpe import Bpe
from sources.models.masked import TextMaskedSmall
from sources.models.mixture import TextByteMixed
from sources.models.neural import TextByteSmall
from sources.models.ngram import NGram
from sources.text import python_docs
from sources.tokenizers import BytesTokenizer

ITEM_BYTES = 1024
DECODERS: dict[str, Decoder] = {
    "most_frequent": MostFrequent(), "dude": Dude(), "lm_greedy, ngram": LmGreedy(model=NGram()),
    "bidirectional, ngram": Bidirectional(model=NGram()), "ngram": NGramRestorer(),
    "lm_beam, text-byte-small": LmBeam(model=TextByteSmall()),
    "the same, gaps as lanes": LmBeam(model=TextByteSmall(), gaps="as_lanes"),
    "posterior_sample, text-byte-small": PosteriorSample(model=TextByteSmall()),
    "lm_beam, text-byte-mixed, 32 wide": LmBeam(model=TextByteMixed(), beam_width=32),
}
OF_PIECES = "masked_lm, text-masked-small"
"""Its tokens are those of the shipped vocabulary, about 2.5 bytes each."""
DECODERS[OF_PIECES] = MaskedLm(model=TextMaskedSmall())
DECODERS["ngram, 128 hole paths"] = NGramRestorer(hole_paths=128)
SCALED = ("bidirectional, ngram", "ngram", "ngram, 128 hole paths", "lm_beam, text-byte-small", "the same, gaps as lanes",
          OF_PIECES)
RATES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
LENGTHS = (1024, 4096, 16384, 65536)
LEAST_BYTES = 8192


def items(label: str, num_items: int, num_bytes: int, rate: float) -> list[Evidence]:
    text, key = python_docs(), Key(1)
    begins = np.linspace(0, len(text) - num_bytes, num_items).astype(int)
    return [_erased(label, text[begin:begin + num_bytes], rate, key.child(index)) for index, begin in enumerate(begins)]


def _erased(label: str, text: bytes, rate: float, key: Key) -> Evidence:
    tokenizer = Bpe() if label == OF_PIECES else BytesTokenizer()
    tokens = tokenizer.encode(Item(text, "text", "slice"), key)
    known = key.uniform(tokens.values.size) >= rate
    return Evidence(known, np.where(known, tokens.values, 0), tokens.vocab_size)


def num_erased(evidence: list[Evidence]) -> int:
    return sum(int(np.count_nonzero(~one.known)) for one in evidence)


def seconds(decoder: Decoder, evidence: list[Evidence]) -> float:
    begin = time.process_time()
    decoder.restore(evidence, [Key(index) for index in range(len(evidence))])
    return time.process_time() - begin


def peak_mb() -> float:
    """Peak resident memory since it was last forgotten; Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def cost(label: str, num_bytes: int) -> tuple[float, float]:
    """(CPU seconds an erased token, growth of peak memory beside the posterior in MB), items one at a time, 10 % erased."""
    decoder, evidence = DECODERS[label], items(label, max(1, LEAST_BYTES // num_bytes), num_bytes, 0.1)
    seconds(decoder, items(label, 1, ITEM_BYTES, 0.1))  # compile and load
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was that of compiling
    before = peak_mb()
    taken = sum(seconds(decoder, [one]) for one in evidence)
    grown = peak_mb() - before
    posterior = max(num_erased([one]) * one.vocab_size * 4 / 1e6 for one in evidence)
    return taken / num_erased(evidence), max(0.0, grown - posterior)


def main(num_items: int) -> None:
    for label, decoder in DECODERS.items():
        evidence = items(label, num_items, ITEM_BYTES, 0.1)
        seconds(decoder, evidence[:1])
        taken, alone = seconds(decoder, evidence) / num_items, sum(seconds(decoder, [one]) for one in evidence) / num_items
        print(f"{label:34s} {taken:.4f} CPU s an item, {120 / taken:,.0f} items a minute on two cores; alone {alone:.4f}",
              flush=True)
    for label in SCALED:
        for rate in RATES:
            evidence = items(label, num_items, ITEM_BYTES, rate)
            taken = 1e3 * seconds(DECODERS[label], evidence) / num_erased(evidence)
            print(f"{label}: {100 * rate:g} % erased, {taken:.2f} CPU ms an erased token", flush=True)
    for label in SCALED:
        for num_bytes in LENGTHS:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                taken, grown = process.submit(cost, label, num_bytes).result()
            print(f"{label}: an item of {num_bytes:,} bytes, {1e3 * taken:.2f} CPU ms an erased token, {grown:.0f} MB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
