"""Rate against model size and training data, raw and adjusted: `python -m benchmarks.scale TRAIN FILE [--figure FILE.svg]`.

n-grams of many sizes, trained on more and more of TRAIN, and other trained models by name or path. The raw rate is that of range
coding messages of 1,024 bytes of FILE, each alone. The adjusted rate charges the model too, (coded + model) / data, for data sets
of several sizes: its minimum is the size that pays.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.small_trainings import coded_bits, rate
from reports.figures import COLUMN_INCHES, arm_look, render, style
from scenarios import catalogue
from sources.models.model import CausalModel
from sources.models.ngram import NGram, save_weights
from sources.training.ngram import count, prune

ORDER, LEVEL_RATIO = 8, 1.3
DATA_SETS = {"1 MB": 1e6, "10 MB": 1e7, "100 MB": 1e8, "1 GB": 1e9}


class Point(NamedTuple):
    """A model: megabytes of its file, raw bits a byte, half of their 95 % interval."""

    megabytes: float
    mean: float
    half: float

    def adjusted(self, data_bytes: float) -> float:
        """Bits a byte with the model sent along once."""
        return self.mean + 8e6 * self.megabytes / data_bytes


def main() -> None:
    options = _options()
    text, grown = np.fromfile(options.train, np.uint8), dict[str, list[Point]]()
    print(f"{options.file.name}, at most {options.messages} messages of 1,024 bytes; raw, then adjusted for data of "
          + ", ".join(DATA_SETS))
    for megabytes in options.train_megabytes:
        label = f"n-grams of {min(megabytes, text.size / 1e6):.3g} MB"
        grown[label] = []
        counted = count(text[:int(megabytes * 1e6)], ORDER)
        for size in options.sizes:
            streams, packed = prune(counted, size, LEVEL_RATIO, lambda: None)
            with TemporaryDirectory() as folder:
                save_weights(Path(folder) / "one.safetensors", packed, {})
                grown[label].append(_measured(label, NGram(path=str(Path(folder) / "one.safetensors")), options))
            if len(packed) < 0.9e6 * size:  # nothing was pruned
                break
    others = [(Path(name).stem, _measured(Path(name).stem, _model(name), options)) for name in options.models]
    for label, data_bytes in DATA_SETS.items():
        best = min((point.adjusted(data_bytes), name, point.megabytes)
                   for name, points in [*grown.items(), *((name, [point]) for name, point in others)] for point in points)
        print(f"data of {label:<7} least {best[0]:.3f} bits per byte: {best[1]}, {best[2]:.2f} MB")
    if options.figure:
        options.figure.write_bytes(render(draw(grown, others)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("file", type=Path, help="text that is no part of TRAIN")
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--train-megabytes", type=float, nargs="+", default=[0.1, 1, 10, 100])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3, 1, 3, 8], help="megabytes")
    parser.add_argument("--models", nargs="*", default=["text-byte-small", "text-small"], help="others: names or paths of weights")
    parser.add_argument("--figure", type=Path, help="where to draw it, .svg")
    return parser.parse_args()


def _model(name: str) -> CausalModel:
    model = catalogue.build("models", catalogue.model_table(name, "--models"), "--models")
    assert isinstance(model, CausalModel)
    return model


def _measured(label: str, model: CausalModel, options: argparse.Namespace) -> Point:
    point = Point((model.shared_bytes + model.tokenizer().shared_bytes) / 1e6,
                  *rate(*coded_bits(model, options.file, options.messages)))
    adjusted = "".join(f"{point.adjusted(data_bytes):9.3f}" for data_bytes in DATA_SETS.values())
    print(f"{label:<22}{point.megabytes:7.3f} MB {point.mean:.3f} ± {point.half:.3f}{adjusted}", flush=True)
    return point


def draw(grown: dict[str, list[Point]], others: Sequence[tuple[str, Point]]) -> Figure:
    """Left: raw, a line for each amount of training data. Right: the most data, adjusted, a line for each size of what is coded."""
    with style():
        figure = Figure(figsize=(2 * COLUMN_INCHES, 2.6))
        raw, adjusted = figure.subplots(1, 2)
        for number, (label, points) in enumerate(grown.items()):
            bars = [point.half for point in points]
            raw.errorbar(*zip(*(point[:2] for point in points)), yerr=bars, label=label.replace("n-grams of", "n-grams,"),
                         **arm_look(number))
        for number, (label, point) in enumerate(others, len(grown)):
            raw.errorbar([point.megabytes], [point.mean], yerr=[point.half], linestyle="none", label=label, **arm_look(number))
        largest = list(grown.values())[-1]
        for number, (label, data_bytes) in enumerate(DATA_SETS.items()):
            values = [point.adjusted(data_bytes) for point in largest]
            adjusted.plot([point.megabytes for point in largest], values, label=f"data of {label}", **arm_look(number))
            adjusted.plot([largest[int(np.argmin(values))].megabytes], [min(values)], "*", color="#000000", markersize=8, zorder=4)
        for axis, words in ((raw, "bits per byte, raw"), (adjusted, "bits per byte with the model")):
            axis.set_xscale("log")
            axis.set_xlabel("model (MB)")
            axis.set_ylabel(words)
            axis.legend(fontsize=6)
        adjusted.set_ylim(1.9, 6)
    return figure


if __name__ == "__main__":
    main()
