"""Gaps of one item in turn or as lanes: `python -m benchmarks.gap_lanes FILE [ITEMS] [aside]`.

Messages of 1,024 bytes, spread evenly over the file; with `aside`, over the part of a training text that the shipped models were
not trained on (one of 64 blocks of 16 KiB). Bytes erased one by one under `text-byte-small`, byte-pair tokens, never two in a row,
under `text-small`, alone and with `text-masked-small` as guide. Prints for `lm_beam`, gaps in turn and as lanes in 1, 2 and 3
rounds: the share restored exactly and its difference from gaps in turn, with 95 % intervals over messages (+-1.96 standard errors);
how many posteriors are the same to the last bit; CPU seconds a message, all together and the first few one at a time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.concealment import holes, interval, isolated
from channel_sim.keys import Key
from channel_sim.types import Evidence, Item, Reconstruction
from decoders.lm_beam import LmBeam
from sources.bpe import Bpe
from sources.models.masked import TextMaskedSmall
from sources.models.neural import TextByteSmall, TextSmall
from sources.training.text_lanes import messages, set_aside

ALONE = 4
ROUNDS = (1, 2, 3)


def restored(decoder: LmBeam, evidence: list[Evidence], together: int) -> tuple[list[Reconstruction], float]:
    """(what comes back, CPU seconds a message), so many messages at a time."""
    found: list[Reconstruction] = []
    begin = time.process_time()
    for first in range(0, len(evidence), together):
        batch = evidence[first:first + together]
        found += decoder.restore(batch, [Key(0)] * len(batch))
    return found, (time.process_time() - begin) / len(evidence)


def right(found: list[Reconstruction], items: list[np.ndarray], erased: list[np.ndarray]) -> np.ndarray:
    """int [messages]: erased tokens restored exactly."""
    return np.array([np.count_nonzero((one.values == values)[lost]) for one, values, lost in zip(found, items, erased)])


def alike(first: list[Reconstruction], second: list[Reconstruction]) -> int:
    """How many posteriors are the same to the last bit."""
    return sum(int((one.posterior == two.posterior).all(axis=1).sum()) for one, two in zip(first, second)
               if one.posterior is not None and two.posterior is not None)


def table(title: str, decoder: LmBeam, items: list[np.ndarray], erased: list[np.ndarray], vocab_size: int) -> None:
    evidence = [Evidence(~lost, np.where(lost, 0, values), vocab_size) for values, lost in zip(items, erased)]
    lost = np.array([np.count_nonzero(one) for one in erased])
    print(f"{title}: {lost.sum()} erased", flush=True)
    restored(decoder, evidence[:1], 1)  # compile and load
    in_turn, seconds = restored(decoder, evidence, len(evidence))
    before = right(in_turn, items, erased)
    share, spread = interval(before, lost)
    print(f"  in turn          exact {100 * share:.1f} +- {100 * spread:.1f} %; {seconds:.3f} CPU s a message, one alone "
          f"{restored(decoder, evidence[:ALONE], 1)[1]:.3f}", flush=True)
    for num_rounds in ROUNDS:
        lanes = decoder.model_copy(update={"gaps": "as_lanes", "num_rounds": num_rounds})
        found, seconds = restored(lanes, evidence, len(evidence))
        now = right(found, items, erased)
        change, spread = interval(now - before, lost)
        alone = restored(lanes, evidence[:ALONE], 1)[1]
        exact, bits = 100 * now.sum() / lost.sum(), 100 * alike(found, in_turn) / lost.sum()
        print(f"  lanes, {num_rounds} round(s)  exact {exact:.1f} %, {100 * change:+.2f} +- {100 * spread:.2f}; "
              f"{bits:.1f} % to the last bit; {seconds:.3f} CPU s a message, one alone {alone:.3f}", flush=True)


def main(path: Path, num_items: int, aside: bool) -> None:
    text = path.read_bytes()
    contents = messages(set_aside(text, 64)[1] if aside else text, 1024, num_items)
    items = [np.frombuffer(content, np.uint8).astype(np.int32) for content in contents]
    print(f"{path.name}{', set aside' if aside else ''}: {len(items)} messages of 1024 bytes")
    for rate in (0.1, 0.3):
        table(f"text-byte-small, {100 * rate:g} %", LmBeam(model=TextByteSmall()), items, holes(items, rate, 1), 256)
    tokenizer = Bpe()
    pieces = [tokenizer.encode(Item(content, "text", ""), Key(0)).values for content in contents]
    for rate in (0.1, 0.3):
        for guide in (None, TextMaskedSmall()):
            table(f"text-small, {100 * rate:g} %{', guided' if guide else ''}", LmBeam(model=TextSmall(), guide=guide), pieces,
                  isolated(pieces, rate), tokenizer.vocab_size)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.gap_lanes FILE [ITEMS] [aside]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 32, "aside" in sys.argv[3:])
