"""What the seed alone changes in a text model: `python -m benchmarks.text_seeds DATA [--config FILE] [--updates N] [--seeds N]`.

The same settings, data and number of updates, another seed for initial weights and order of messages. Two models or settings that
differ by less than this spread can't be told apart. Bits a byte of the part of the data set aside, float32, after the last update.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sources.training.recurrent import Settings, Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="text to train on, such as that of the shipped models")
    parser.add_argument("--config", type=Path, help="settings of channel-sim train text; default: those of text-small")
    parser.add_argument("--updates", type=int, default=400, help="updates of each training (default 400)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds (default 1 2 3)")
    options = parser.parse_args()
    settings = Settings.read(options.config) if options.config else Settings(precision="bfloat16")
    text = options.data.read_bytes()
    found = []
    for seed in options.seeds:
        trainer = Trainer(settings.model_copy(update={"seed": seed, "updates": options.updates, "minutes": None}), text)
        while trainer.part_done < 1:
            trainer.update()
        trainer.measure()
        point = trainer.curve[-1]
        found.append(point.held_out_bits_per_byte)
        print(f"seed {seed}: {point.held_out_bits_per_byte:.4f} bits per byte after {point.updates} updates, "
              f"{point.tokens:,} tokens, {point.cpu_seconds:.0f} CPU seconds", flush=True)
    print(f"mean {np.mean(found):.4f}, standard deviation {np.std(found, ddof=1):.4f}, range {np.ptp(found):.4f}")


if __name__ == "__main__":
    main()
