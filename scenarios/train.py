"""`channel-sim train …`: what can be trained or fitted on a user's own data, one function and one parser each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scenarios.arguments import count


def add_trainers(models: Any) -> None:
    """A sub-command for each; `models` is what `add_subparsers` gave."""
    ngram = models.add_parser("ngram", help="byte n-gram, interpolated Kneser-Ney, pruned")
    ngram.set_defaults(function=_ngram)
    ngram.add_argument("--data", type=Path, required=True, help="a file or a folder of training data")
    ngram.add_argument("--out", type=Path, default=Path("ngram.safetensors"), help="weights to write (default ngram.safetensors)")
    ngram.add_argument("--order", type=count, default=8, help="longest n-gram (default 8)")
    ngram.add_argument("--max-megabytes", type=float, default=6.0, help="size to prune to (default 6)")


def _ngram(options: argparse.Namespace) -> int:
    from scenarios.progress import Progress
    from sources.training import train_ngram

    with Progress("ngram") as progress:
        card = train_ngram(options.data, options.out, order=options.order, max_megabytes=options.max_megabytes, progress=progress)
    print(card)
    return 0
