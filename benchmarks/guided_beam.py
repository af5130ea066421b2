"""What a guide is worth to the beam: `python -m benchmarks.guided_beam FILE [ITEMS] [aside]`.

Messages of 1,024 bytes, spread evenly over the file; with `aside`, over the part of a training text that the shipped models were
not trained on (one of 64 blocks of 16 KiB). Byte-pair tokens erased, 10 and 30 % of them never two in a row, and holes of two.
Prints for `lm_beam` under `text-small`, alone and guided by `text-masked-small`: the share restored exactly and bits of surprise at
the truth; the gain of the guide on the same losses; intervals are 1.96 standard errors over messages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.concealment import holes, interval, isolated, measure
from channel_sim.keys import Key
from channel_sim.types import Item
from decoders.lm_beam import LmBeam
from sources.bpe import Bpe
from sources.models.masked import TextMaskedSmall
from sources.models.neural import TextSmall
from sources.training.text_lanes import messages, set_aside


def main(path: Path, num_items: int, aside: bool) -> None:
    text, tokenizer = path.read_bytes(), Bpe()
    contents = messages(set_aside(text, 64)[1] if aside else text, 1024, num_items)
    items = [tokenizer.encode(Item(content, "text", ""), Key(0)).values for content in contents]
    print(f"{path.name}{', set aside' if aside else ''}: {len(items)} messages of 1024 bytes")
    losses = {"isolated, 10 %": isolated(items, 0.1), "holes of 2, 10 %": holes(items, 0.1, 2),
              "isolated, 30 %": isolated(items, 0.3)}
    for title, erased in losses.items():
        alone, guided = (measure(LmBeam(model=TextSmall(), guide=guide), items, erased, tokenizer.vocab_size,
                                 np.zeros(tokenizer.vocab_size, bool)) for guide in (None, TextMaskedSmall()))
        shares = [interval(out.right[:, 0], out.erased[:, 0]) for out in (alone, guided)]
        gain = interval(guided.right[:, 0] - alone.right[:, 0], alone.erased[:, 0])
        told = "; ".join(f"{label} {100 * share:.1f} +- {100 * spread:.1f} %, surprise {out.surprise:.2f} bits"
                         for label, (share, spread), out in zip(("alone", "guided"), shares, (alone, guided)))
        print(f"  {title}, {alone.erased[:, 0].sum()} erased: {told}; gain {100 * gain[0]:+.2f} +- {100 * gain[1]:.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.guided_beam FILE [ITEMS] [aside]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60, "aside" in sys.argv[3:])
