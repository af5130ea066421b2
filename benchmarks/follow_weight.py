"""How much the tokens after a gap should count: `python -m benchmarks.follow_weight TRAINING_TEXT [MESSAGES]`.

Messages of 1,024 bytes from the part of the training text that `text-small` was not trained on (one of 64 blocks of 16 KiB); 10 %
of byte-pair tokens erased, never two in a row. Prints, for decoder `lm_beam` at two widths and each `follow_weight`: the share
restored exactly, the mean confidence, the expected calibration error (ten bins), bits of surprise at the truth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.concealment import isolated
from channel_sim.keys import Key
from channel_sim.types import Evidence, Item
from decoders.lm_beam import LmBeam
from sources.bpe import Bpe
from sources.models.neural import TextSmall
from sources.training.text_lanes import messages, set_aside

WIDTHS = (16, 64)
WEIGHTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)


def measured(decoder: LmBeam, items: list[np.ndarray], erased: list[np.ndarray], vocab_size: int) -> str:
    evidence = [Evidence(~lost, np.where(lost, 0, values), vocab_size) for values, lost in zip(items, erased)]
    found = decoder.restore(evidence, [Key(0)] * len(items))
    right = np.concatenate([(one.values == values)[lost] for one, values, lost in zip(found, items, erased)])
    confidence = np.concatenate([one.confidence[lost] for one, lost in zip(found, erased)])
    truth = [one.posterior[np.arange(len(one.posterior)), values[lost]]
             for one, values, lost in zip(found, items, erased) if one.posterior is not None]
    bins = np.minimum((10 * confidence).astype(int), 9)
    error = np.abs(np.bincount(bins, confidence - right, 10)).sum() / right.size
    return (f"right {right.mean():.3f}, said {confidence.mean():.3f}, calibration error {error:.3f}, "
            f"surprise {-np.log2(np.concatenate(truth)).mean():.2f} bits")


def main(path: Path, num_messages: int) -> None:
    tokenizer = Bpe()
    aside = messages(set_aside(path.read_bytes(), 64)[1], 1024, num_messages)
    items = [tokenizer.encode(Item(content, "text", ""), Key(0)).values for content in aside]
    erased = isolated(items, 0.1)
    print(f"{path.name}, set aside: {len(items)} messages, {sum(int(lost.sum()) for lost in erased)} tokens erased")
    for width in WIDTHS:
        for weight in WEIGHTS:
            decoder = LmBeam(model=TextSmall(), beam_width=width, follow_weight=weight)
            print(f"  {width} wide, follow_weight {weight:g}: {measured(decoder, items, erased, tokenizer.vocab_size)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.follow_weight TRAINING_TEXT [MESSAGES]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40)
