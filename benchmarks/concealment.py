"""Every decoder on the same lost tokens of a text it never saw: `python -m benchmarks.concealment FILE [ITEMS] [PART ...]`.

Messages of 1,024 bytes, spread evenly over the file. Parts: `bytes` (single ones erased), `holes` (of 8 bytes), `tokens` (byte-pair
tokens, 10 % erased but never two in a row), `token-holes` (30 % so, and holes of 2 and 4 tokens). Prints, for each decoder, the
share of erased tokens restored exactly, in all and of those that are not a space, with 95 % intervals over messages (+-1.96
standard errors); mean confidence; bits of surprise at the truth; CPU seconds a message. `against left` divides by the first
decoder, which hears only what comes before.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.restoration import messages
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
from sources.models.neural import TextByteSmall, TextSmall
from sources.models.ngram import NGram

BYTES: dict[str, Decoder] = {
    "lm_greedy, ngram (left)": LmGreedy(model=NGram()), "most_frequent": MostFrequent(), "dude": Dude(),
    "bidirectional, ngram": Bidirectional(model=NGram()), "ngram": NGramRestorer(),
    "lm_beam, text-byte-small": LmBeam(model=TextByteSmall(), beam_width=32),
    "lm_beam, text-byte-mixed": LmBeam(model=TextByteMixed(), beam_width=32),
}
HOLES = BYTES | {"ngram, 4,096 hole paths": NGramRestorer(hole_paths=4096)}
TOKENS: dict[str, Decoder] = {
    "lm_greedy, text-small (left)": LmGreedy(model=TextSmall()), "most_frequent": MostFrequent(), "dude": Dude(),
    "bidirectional, text-small": Bidirectional(model=TextSmall()),
    "lm_beam, text-small": LmBeam(model=TextSmall()), "lm_beam, text-small, 64 wide": LmBeam(model=TextSmall(), beam_width=64),
    "posterior_sample, text-small": PosteriorSample(model=TextSmall()),
    "masked_lm, one round": MaskedLm(model=TextMaskedSmall(), num_rounds=1), "masked_lm": MaskedLm(model=TextMaskedSmall()),
    "lm_beam, guided": LmBeam(model=TextSmall(), guide=TextMaskedSmall()),
}
TOKEN_HOLES = {label: TOKENS[label] for label in ("lm_greedy, text-small (left)", "lm_beam, text-small", "masked_lm, one round",
                                                  "masked_lm", "lm_beam, guided")}


class Outcome(NamedTuple):
    """Of every message: erased tokens restored exactly and erased, in all and not a space; and means over erased tokens."""

    right: np.ndarray
    erased: np.ndarray
    confidence: float
    surprise: float
    seconds: float


def holes(items: list[np.ndarray], rate: float, length: int) -> list[np.ndarray]:
    """bool [n] each, True = erased; holes of `length` tokens begin independently."""
    starts = [Key(1).child("hole", length, index).uniform(values.size) < rate / length for index, values in enumerate(items)]
    return [np.convolve(one, np.ones(length))[:one.size] > 0 for one in starts]


def isolated(items: list[np.ndarray], rate: float) -> list[np.ndarray]:
    """bool [n] each, True = erased, never two in a row."""
    erased = []
    for index, values in enumerate(items):
        lost = Key(2).child("token", index).uniform(values.size) < rate
        for at in range(1, values.size):
            lost[at] &= not lost[at - 1]
        erased.append(lost)
    return erased


def measure(decoder: Decoder, items: list[np.ndarray], erased: list[np.ndarray], vocab_size: int, spaces: np.ndarray) -> Outcome:
    """spaces: bool [vocab_size], the tokens that are a space."""
    evidence = [Evidence(~lost, np.where(lost, 0, values), vocab_size) for values, lost in zip(items, erased)]
    begin = time.process_time()
    found = decoder.restore(evidence, [Key(3).child(index) for index in range(len(items))])
    seconds = (time.process_time() - begin) / len(items)
    right, count, confidence, surprise = [], [], [], []
    for one, values, lost in zip(found, items, erased):
        hits, solid = (one.values == values)[lost], ~spaces[values[lost]]
        right.append((hits.sum(), hits[solid].sum()))
        count.append((hits.size, solid.sum()))
        confidence.append(one.confidence[lost])
        if one.posterior is not None:
            surprise.append(-np.log2(one.posterior[np.arange(hits.size), values[lost]]))
    return Outcome(np.array(right), np.array(count), float(np.concatenate(confidence).mean()),
                   float(np.concatenate(surprise).mean()), seconds)


def interval(right: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """(share, 1.96 standard errors), of the ratio of sums over messages."""
    share = right.sum() / count.sum()
    spread = np.sqrt(np.sum((right - share * count) ** 2)) / count.sum()
    return float(share), float(1.96 * spread)


def table(title: str, decoders: dict[str, Decoder], items: list[np.ndarray], erased: list[np.ndarray], vocab_size: int,
          spaces: np.ndarray) -> None:
    print(f"{title}: {sum(int(lost.sum()) for lost in erased)} erased")
    left: list[float] = []
    for label, decoder in decoders.items():
        decoder.restore([Evidence(np.arange(9) != 4, np.zeros(9, np.int32), vocab_size)], [Key(0)])  # compile and load
        out = measure(decoder, items, erased, vocab_size, spaces)
        shares = [interval(out.right[:, kind], out.erased[:, kind]) for kind in (0, 1)]
        left = left or [share for share, _ in shares]
        print(f"  {label:30s} exact {100 * shares[0][0]:.1f} +- {100 * shares[0][1]:.1f} %, no space {100 * shares[1][0]:.1f} +- "
              f"{100 * shares[1][1]:.1f} %; against left {shares[0][0] / left[0]:.2f}, {shares[1][0] / left[1]:.2f}; "
              f"confidence {out.confidence:.3f}, surprise {out.surprise:.2f} bits, {out.seconds:.2f} CPU s", flush=True)


def main(path: Path, num_items: int, parts: list[str]) -> None:
    contents = messages(path, num_items)
    print(f"{path.name}: {num_items} messages of 1024 bytes")
    spaces = np.arange(256) == ord(" ")
    for rate in (0.1, 0.3) if "bytes" in parts else ():
        table(f"single bytes, {100 * rate:g} %", BYTES, contents, holes(contents, rate, 1), 256, spaces)
    if "holes" in parts:
        table("holes of 8 bytes, 10 %", HOLES, contents, holes(contents, 0.1, 8), 256, spaces)
    if {"tokens", "token-holes"} & set(parts):
        tokenizer = Bpe()
        items = [tokenizer.encode(Item(values.astype(np.uint8).tobytes(), "text", ""), Key(0)).values for values in contents]
        space = np.isin(np.arange(tokenizer.vocab_size), tokenizer.encode(Item(b" ", "text", ""), Key(0)).values)
        if "tokens" in parts:
            table("isolated byte-pair tokens, 10 %", TOKENS, items, isolated(items, 0.1), tokenizer.vocab_size, space)
        if "token-holes" in parts:
            losses = {"isolated byte-pair tokens, 30 %": isolated(items, 0.3), "holes of 2 tokens, 10 %": holes(items, 0.1, 2),
                      "holes of 4 tokens, 10 %": holes(items, 0.1, 4)}
            for title, erased in losses.items():
                table(title, TOKEN_HOLES, items, erased, tokenizer.vocab_size, space)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.concealment FILE [ITEMS] [bytes|holes|tokens|token-holes ...]")
    chosen = sys.argv[3:] or ["bytes", "holes", "tokens", "token-holes"]
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100, chosen)
