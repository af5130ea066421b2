"""Does the better compressor restore better? `python -m benchmarks.efficiency_resilience FILE --train TRAIN [--figure FILE.svg]`.

Every model as a coder and as a concealer on the same messages of 1,024 bytes of FILE, which no model was trained on: real coded
bits per byte, preamble included, against bits of surprise at the truth (-log2 posterior) per erased byte, where 10 % are erased,
never two in a row. All restore through decoder lm_beam, so that nothing but the model differs. Beside the shipped models: n-grams
of orders 2 to 8, and pruned ones of order 8, made of the first megabytes of TRAIN; and the placebos. Models of byte-pair tokens
are measured per token, on erased tokens: no unit of one kind is one of the other, so they are correlated apart.

Prints both with +-1.96 standard errors over messages, and Spearman's rank correlation with a 95 % interval (bootstrap over
messages), over all models and over those that are no placebo; then the pairs that break the rule, with 95 % intervals of both
differences over the same messages. Drawn are the models of bytes.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import permutations
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from benchmarks.calibration import RESAMPLES, Part, answers, parts, restorations
from benchmarks.concealment import interval
from channel_sim.keys import Key
from channel_sim.types import Tokens
from decoders.lm_beam import LmBeam
from reports.figures import COLOURS, COLUMN_INCHES, MARKERS, render, style
from sources.coder import Entropy
from sources.models.mixture import TextByteMixed
from sources.models.model import CausalModel
from sources.models.neural import TextByteSmall, TextSmall
from sources.models.ngram import NGram
from sources.models.placebos import NGramDna, ShuffledContext, Unigram
from sources.models.uniform import Uniform
from sources.training.ngram import train_ngram

ORDERS = (2, 3, 4, 5, 6, 8)
MEGABYTES = (0.05, 0.2, 0.8)
LARGEST_MEGABYTES = 6.0
Merit = TypeVar("Merit")
PLACEBO, SHIPPED, GRAM, SIZE = "placebos", "shipped", "n-grams of orders 2 to 8", "8-grams of 50 to 800 kB"


class Model(NamedTuple):
    """family: what is drawn alike; name: within it."""

    family: str
    name: str
    model: CausalModel


class Merits(NamedTuple):
    """By message, float64: bits coded, tokens coded, bits of surprise at erased tokens, tokens erased."""

    bits: np.ndarray
    tokens: np.ndarray
    surprise: np.ndarray
    erased: np.ndarray

    def resampled(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bits a token, surprise an erased token) of messages taken so many `times`, float64 [resamples, messages]."""
        return times @ self.bits / (times @ self.tokens), times @ self.surprise / (times @ self.erased)


Resamples = dict[Model, tuple[np.ndarray, np.ndarray]]
"""What `Merits.resampled` gives: first of all messages once, then of `RESAMPLES` draws of them."""


def byte_models(text: bytes, folder: Path) -> list[Model]:
    data = folder / "train.txt"
    data.write_bytes(text)
    made = []
    asked = [(GRAM, order, LARGEST_MEGABYTES) for order in ORDERS] + [(SIZE, 8, megabytes) for megabytes in MEGABYTES]
    for family, order, megabytes in asked:
        weights = folder / f"{order}-{megabytes:g}.safetensors"
        train_ngram(data, weights, order=order, max_megabytes=megabytes)
        name = str(order) if family == GRAM else f"{1000 * megabytes:g} kB"
        made.append(Model(family, name, NGram(path=str(weights))))
    return [
        *made, Model(SHIPPED, "ngram", NGram()), Model(SHIPPED, "text-byte-small", TextByteSmall()),
        Model(SHIPPED, "text-byte-mixed", TextByteMixed()),
        Model(PLACEBO, "uniform", Uniform()), Model(PLACEBO, "unigram", Unigram()), Model(PLACEBO, "shuffled", ShuffledContext()),
        Model(PLACEBO, "genome", NGramDna())]


def token_models() -> list[Model]:
    shipped = TextSmall()
    return [Model(SHIPPED, "text-small", shipped), Model(PLACEBO, "uniform", Uniform(vocab_size=shipped.vocab_size)),
            Model(PLACEBO, "unigram", Unigram(model=shipped)), Model(PLACEBO, "shuffled", ShuffledContext(model=shipped))]


def measure(model: CausalModel, part: Part) -> Merits:
    coded = Entropy(model=model, packet_bits=None, header_bits=0).encode([Tokens(values, part.vocab_size) for values in part.items])
    bits = [int(packets.num_bits.sum()) + preamble.num_bits for packets, preamble in coded]
    found = answers(restorations(LmBeam(model=model), part), part)
    surprise = [-np.log2(one.truth_probability).sum() for one in found]
    return Merits(*(np.array(one, np.float64) for one in (
        bits, [values.size for values in part.items], surprise, [one.right.size for one in found])))


def resampled(measured: dict[Model, Merits]) -> Resamples:
    num_messages = len(next(iter(measured.values())).bits)
    drawn = Key(4).child("bootstrap").integers(num_messages, RESAMPLES, num_messages)
    times = np.vstack([np.ones(num_messages), *(np.bincount(row, minlength=num_messages) for row in drawn)])
    return {one: own.resampled(times) for one, own in measured.items()}


def without_placebos(models: dict[Model, Merit]) -> dict[Model, Merit]:
    return {one: own for one, own in models.items() if one.family != PLACEBO}


def rank_correlation(again: Resamples) -> str:
    """Spearman's of efficiency and resilience over the models, with its 95 % interval over resamples."""
    ranks = [rankdata([own[side] for own in again.values()], axis=0) for side in (0, 1)]
    centred = [one - one.mean(axis=0) for one in ranks]
    found = np.sum(centred[0] * centred[1], axis=0) / np.sqrt(np.sum(centred[0]**2, axis=0) * np.sum(centred[1]**2, axis=0))
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return f"{found[0]:.3f} [{low:.3f}, {high:.3f}]"


def show(part: Part, measured: dict[Model, Merits]) -> None:
    num_erased = sum(int(lost.sum()) for lost in part.erased)
    unit = "byte" if part.vocab_size == 256 else "token"
    print(f"{part.name}: {len(part.items)} messages, {num_erased} erased; real bits a {unit}; bits of surprise an erased {unit}")
    for one, own in measured.items():
        pairs = interval(own.bits, own.tokens), interval(own.surprise, own.erased)
        cells = " ".join(f"{value:7.3f} ± {half:.3f}" for value, half in pairs)
        print(f"  {one.family:24s} {one.name:16s} {cells}", flush=True)
    again = resampled(measured)
    for label, kept in {"all": again, "no placebo": without_placebos(again)}.items():
        if len(kept) > 2:
            print(f"  rank correlation, {label} ({len(kept)}): {rank_correlation(kept)}")
    for better, worse in exceptions(again):
        rate, surprise = (paired(again[better][side] - again[worse][side]) for side in (0, 1))
        pair = f"{better.family} {better.name} less {worse.family} {worse.name}"
        print(f"  exception: {pair}: {rate} as a coder, {surprise} as a concealer")


def exceptions(again: Resamples) -> list[tuple[Model, Model]]:
    """Pairs whose first codes better and conceals worse, by chance or not."""
    return [(one, other) for one, other in permutations(again, 2)
            if again[one][0][0] < again[other][0][0] and again[one][1][0] > again[other][1][0]]


def paired(differences: np.ndarray) -> str:
    """differences: float64 [1 + RESAMPLES], first of all messages once."""
    low, high = np.quantile(differences[1:], [0.025, 0.975])
    return f"{differences[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def draw(measured: dict[Model, Merits]) -> Figure:
    """All models, and those that are no placebo seen closer."""
    with style():
        figure = Figure(figsize=(2 * COLUMN_INCHES, 2.9))
        whole, close = figure.subplots(1, 2)
        for axis, shown, title in ((whole, measured, "all models"), (close, without_placebos(measured), "without placebos")):
            _scatter(axis, shown)
            axis.set_title(f"{title}: rank correlation {rank_correlation(resampled(shown))}")
        for one, own in measured.items():
            if one.family == PLACEBO:
                place = interval(own.bits, own.tokens)[0], interval(own.surprise, own.erased)[0]
                whole.annotate(one.name, place, (-5, 4), textcoords="offset points", fontsize=7, ha="right")
        for axis in (whole, close):
            axis.set(xlabel="as a coder: real bits per byte", ylabel="as a concealer: bits of\nsurprise per erased byte")
            axis.grid(axis="both")
            axis.margins(0.08)
        handles, labels = whole.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _scatter(axis: Axes, measured: dict[Model, Merits]) -> None:
    """A series a family, in the order of the models; the shipped ones are a series each."""
    series: dict[str, list[Merits]] = {}
    for one, own in measured.items():
        series.setdefault(one.name if one.family == SHIPPED else one.family, []).append(own)
    for at, (label, members) in enumerate(series.items()):
        rates, across = np.transpose([interval(own.bits, own.tokens) for own in members])
        surprises, up = np.transpose([interval(own.surprise, own.erased) for own in members])
        axis.errorbar(rates, surprises, xerr=across, yerr=up, linestyle="none" if label == PLACEBO else "-", linewidth=0.6,
                      elinewidth=0.5, color=COLOURS[at], marker=MARKERS[at], label=label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--train", type=Path, required=True, help="text to make n-grams of")
    parser.add_argument("--train-bytes", type=int, default=4_000_000)
    parser.add_argument("--messages", type=int, default=40)
    parser.add_argument("--figure", type=Path, help="where to draw the scatter, .svg")
    options = parser.parse_args()
    of_bytes, of_tokens = parts(options.file, options.messages)
    with tempfile.TemporaryDirectory() as folder:
        models = byte_models(options.train.read_bytes()[:options.train_bytes], Path(folder))
        bytes_measured = {one: measure(one.model, of_bytes) for one in models}
    show(of_bytes, bytes_measured)
    show(of_tokens, {one: measure(one.model, of_tokens) for one in token_models()})
    if options.figure:
        options.figure.write_bytes(render(draw(bytes_measured)))


if __name__ == "__main__":
    main()
