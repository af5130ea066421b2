"""Bytes or byte pairs, for a small network and a larger one: `python -m benchmarks.tokenisers TRAIN FILE --folder FOLDER`.

One recurrent network for each vocabulary and size, each trained on TRAIN for the same processor time; the rate is that of range
coding messages of 1,024 bytes of FILE, each alone. Vocabularies are learnt from TRAIN. What is in FOLDER is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.small_trainings import coded_bits, rate, trained
from sources.bpe import train_bpe
from sources.models.neural import Recurrent
from sources.training.recurrent import Settings

SIZES = {"small": (64, 128), "larger": (128, 384)}
"""Name -> (embedding, hidden)."""


def main() -> None:
    options = _options()
    print(f"{options.file.name}, at most {options.messages} messages; {options.cpu_seconds:g} s of training each")
    for size, (embedding, hidden) in SIZES.items():
        for vocab_size in options.vocabularies:
            out = options.folder / f"{size}-{vocab_size}.safetensors"
            settings = Settings(tokenizer="bytes" if vocab_size == 256 else "bpe",
                                vocabulary=_vocabulary(options.train, options.folder, vocab_size),
                                embedding=embedding, hidden=hidden, lanes=16, window=64)
            took = trained(out, settings, options.train, options.cpu_seconds)
            mean, half = rate(*coded_bits(Recurrent(path=str(out)), options.file, options.messages))
            print(f"{size:<8}{vocab_size:>7} tokens {out.stat().st_size / 1e6:6.2f} MB  {mean:.3f} ± {half:.3f} bits per byte, "
                  f"{took}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("file", type=Path, help="text that is no part of TRAIN")
    parser.add_argument("--folder", type=Path, required=True, help="for vocabularies and weights")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[256, 1024, 4096, 20000], help="256: bytes")
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--cpu-seconds", type=float, default=40)
    return parser.parse_args()


def _vocabulary(train: Path, folder: Path, vocab_size: int) -> str | None:
    """The file of a vocabulary of that size; none for bytes."""
    if vocab_size == 256:
        return None
    file = folder / f"bpe-{vocab_size}.json"
    if not file.exists():
        train_bpe(train, file, vocab_size=vocab_size)
    return str(file)


if __name__ == "__main__":
    main()
