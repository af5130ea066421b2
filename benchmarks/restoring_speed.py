"""Cost of restoring text: `python -m benchmarks.restoring_speed [ITEMS]`.

Slices of the Python documentation. CPU seconds of one process; items a minute are 120 seconds, two cores, over those of an item.
First every decoder on items of 1,024 bytes, 10 % of bytes erased one by one; then, for the n-gram and a beam over a network,
seconds an erased byte over how many are erased and over the length of the item, and the growth of the process's peak memory beside
the posterior itself, each length in a process of its own that has restored 1,024 bytes before.
"""

from __future__ import annotations

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence
from decoders.bidirectional import Bidirectional
from decoders.dude import Dude
from decoders.lm_beam import LmBeam
from decoders.lm_greedy import LmGreedy
from decoders.most_frequent import MostFrequent
from decoders.ngram import NGramRestorer
from decoders.posterior_sample import PosteriorSample
from sources.models.mixture import TextByteMixed
from sources.models.neural import TextByteSmall
from sources.models.ngram import NGram
from sources.text import python_docs

ITEM_BYTES = 1024
DECODERS: dict[str, Decoder] = {
    "most_frequent": MostFrequent(), "dude": Dude(), "lm_greedy, ngram": LmGreedy(model=NGram()),
    "bidirectional, ngram": Bidirectional(model=NGram()), "ngram": NGramRestorer(),
    "lm_beam, text-byte-small": LmBeam(model=TextByteSmall()),
    "posterior_sample, text-byte-small": PosteriorSample(model=TextByteSmall()),
    "lm_beam, text-byte-mixed, 32 wide": LmBeam(model=TextByteMixed(), beam_width=32),
}
SCALED = ("ngram", "lm_beam, text-byte-small")
RATES = (0.025, 0.05, 0.1, 0.2, 0.4)
LENGTHS = (1024, 8192, 65536)


def items(num_items: int, num_bytes: int, rate: float) -> list[Evidence]:
    text = np.frombuffer(python_docs(), np.uint8).astype(np.int32)
    evidence = []
    for index, begin in enumerate(np.linspace(0, text.size - num_bytes, num_items).astype(int)):
        known = Key(1).child(index).uniform(num_bytes) >= rate
        evidence.append(Evidence(known, np.where(known, text[begin:begin + num_bytes], 0), 256))
    return evidence


def seconds(decoder: Decoder, evidence: list[Evidence]) -> float:
    begin = time.process_time()
    decoder.restore(evidence, [Key(index) for index in range(len(evidence))])
    return time.process_time() - begin


def cost(label: str, num_bytes: int) -> tuple[float, float]:
    """(CPU seconds an erased byte, growth of peak memory beside the posterior in MB) of one item, 10 % erased."""
    decoder, one = DECODERS[label], items(1, num_bytes, 0.1)
    seconds(decoder, items(1, ITEM_BYTES, 0.1))  # compile and load
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken, erased = seconds(decoder, one), int(np.count_nonzero(~one[0].known))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return taken / erased, max(0.0, grown - erased * 256 * 4 / 1e6)


def main(num_items: int) -> None:
    evidence = items(num_items, ITEM_BYTES, 0.1)
    for label, decoder in DECODERS.items():
        seconds(decoder, evidence[:1])
        taken = seconds(decoder, evidence) / num_items
        print(f"{label:34s} {taken:.4f} CPU s an item, {120 / taken:,.0f} items a minute on two cores", flush=True)
    for label in SCALED:
        for rate in RATES:
            evidence = items(num_items, ITEM_BYTES, rate)
            erased = sum(int(np.count_nonzero(~one.known)) for one in evidence)
            taken = 1e3 * seconds(DECODERS[label], evidence) / erased
            print(f"{label}: {100 * rate:g} % erased, {taken:.2f} CPU ms an erased byte", flush=True)
        for num_bytes in LENGTHS:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                taken, grown = process.submit(cost, label, num_bytes).result()
            print(f"{label}: an item of {num_bytes:,} bytes, {1e3 * taken:.2f} CPU ms an erased byte, {grown:.0f} MB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
