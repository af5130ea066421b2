"""How far a decoder's confidence can be believed: `python -m benchmarks.calibration FILE [--train TRAIN]`.

Messages of 1,024 bytes, spread evenly over a text that no model was trained on; 10 % of bytes, then 10 % of byte-pair tokens,
erased, never two in a row. Of every decoder, over all erased tokens, with 95 % intervals (bootstrap over messages):

    right, said    share restored exactly, mean confidence
    NLL            bits of surprise at the truth; gain: less that of the best constant, which gives the share right to the token
                   chosen and spreads the rest
    Brier          mean squared error of the confidence; gain: less r (1 - r), the best constant's at a share r right
    area           mean error rate of the most confident tokens over all coverages, message by message; gain: less any constant's
    posterior      Brier score of the whole posterior (0 to 2), which can be compared between decoders that choose otherwise
    ECE            |confidence - right| in ten bins of confidence, over all tokens
    sure, wrong    share of tokens that are wrong at a confidence of 0.9 or more: what abstain_below = 0.9 leaves of the errors
    doubted        share of tokens at a confidence below 0.9: what that gives up

The best constant is chosen in hindsight: no receiver can know it, so what beats it beats every constant. Negative gains are good.
With TRAIN, also lm_beam with its posterior raised to 1 / T, T of least surprise on as many messages of TRAIN.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.optimize import minimize_scalar
from scipy.special import xlogy

from benchmarks.concealment import interval, isolated
from benchmarks.restoration import messages
from channel_sim.keys import Key
from channel_sim.metrics import risk_coverage_area
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Item, Reconstruction
from decoders.bidirectional import Bidirectional
from decoders.dude import Dude
from decoders.lm_beam import LmBeam
from decoders.lm_greedy import LmGreedy
from decoders.most_frequent import MostFrequent
from decoders.ngram import NGramRestorer
from decoders.posterior_sample import PosteriorSample
from reports.figures import COLOURS, COLUMN_INCHES, MARKERS, render, style
from sources.bpe import Bpe
from sources.models.model import CausalModel
from sources.models.neural import TextSmall
from sources.models.ngram import NGram
from sources.models.placebos import Unigram

ERASURES = 0.1
CONFIDENT = np.float32(0.9)
NUM_BINS = 10
RESAMPLES = 2000
LEAST_IN_BIN = 20
"""A bin of fewer tokens is not drawn."""
DRAWN = ("ngram", "lm_beam", "bidirectional", "lm_greedy", "dude")
"""In reliability diagrams; the others have one confidence for all tokens, or that of lm_beam."""


class Part(NamedTuple):
    """Messages as tokens, and what is erased of them."""

    name: str
    items: list[np.ndarray]
    erased: list[np.ndarray]
    vocab_size: int


class Answers(NamedTuple):
    """What a decoder said of one message's erased tokens; truth_probability and posterior_score are of its whole posterior."""

    right: np.ndarray
    confidence: np.ndarray
    truth_probability: np.ndarray
    posterior_score: np.ndarray


Sums = dict[str, np.ndarray]
"""Name -> float64 [messages, ...]: what adds up over tokens and messages."""


def decoders(model: CausalModel, *, exact: bool) -> dict[str, Decoder]:
    """exact: also the n-gram's own lattice."""
    own: dict[str, Decoder] = {"ngram": NGramRestorer()} if exact else {}
    return own | {
        "lm_beam": LmBeam(model=model), "bidirectional": Bidirectional(model=model), "lm_greedy": LmGreedy(model=model),
        "posterior_sample": PosteriorSample(model=model), "dude": Dude(), "most_frequent": MostFrequent(),
        "lm_beam, unigram": LmBeam(model=Unigram(model=model)),
    }


def parts(path: Path, num_messages: int) -> tuple[Part, Part]:
    """The same messages as bytes and as byte-pair tokens."""
    contents, tokenizer = messages(path, num_messages), Bpe()
    tokens = [tokenizer.encode(Item(one.astype(np.uint8).tobytes(), "text", ""), Key(0)).values for one in contents]
    return (Part("bytes", contents, isolated(contents, ERASURES), 256),
            Part("byte-pair tokens", tokens, isolated(tokens, ERASURES), tokenizer.vocab_size))


def restorations(decoder: Decoder, part: Part) -> list[Reconstruction]:
    evidence = [Evidence(~lost, np.where(lost, 0, values), part.vocab_size) for values, lost in zip(part.items, part.erased)]
    return decoder.restore(evidence, [Key(3).child(index) for index in range(len(evidence))])


def answers(found: list[Reconstruction], part: Part, temperature: float = 1.0) -> list[Answers]:
    """What the reconstructions say, with their posteriors raised to 1 / temperature."""
    said = []
    for one, values, lost in zip(found, part.items, part.erased):
        assert one.posterior is not None
        law = one.posterior.astype(np.float64) ** (1 / temperature)
        law /= law.sum(axis=1, keepdims=True)
        rows = np.arange(len(law))
        truth = law[rows, values[lost]]
        said.append(Answers((one.values == values)[lost], law[rows, one.values[lost]].astype(np.float32), truth,
                            1 - 2 * truth + np.sum(law**2, axis=1)))
    return said


def fitted_temperature(decoder: Decoder, part: Part) -> float:
    """The temperature of least surprise at the truth."""
    found = restorations(decoder, part)

    def surprise(temperature: float) -> float:
        return float(sum(-np.log2(one.truth_probability).sum() for one in answers(found, part, temperature)))

    return float(minimize_scalar(surprise, bounds=(0.5, 4.0), method="bounded").x)


def sums(found: list[Answers]) -> Sums:
    rows: list[dict[str, Any]] = []
    for one in found:
        bins = np.minimum((one.confidence.astype(np.float64) * NUM_BINS).astype(int), NUM_BINS - 1)
        rows.append({
            "tokens": one.right.size, "right": one.right.sum(), "said": one.confidence.sum(dtype=np.float64),
            "nll": -np.log2(np.maximum(one.truth_probability, 2.0**-30)).sum(),
            "brier": np.sum((one.confidence.astype(np.float64) - one.right) ** 2),
            "posterior": one.posterior_score.sum(), "doubted": np.sum(one.confidence < CONFIDENT),
            "sure and wrong": np.sum((one.confidence >= CONFIDENT) & ~one.right),
            "messages": min(one.right.size, 1), "area": risk_coverage_area(one.confidence.astype(np.float64), one.right),
            "constant area": np.mean(~one.right) if one.right.size else 0.0,
            "in bin": np.bincount(bins, minlength=NUM_BINS), "right in bin": np.bincount(bins, one.right, NUM_BINS),
            "said in bin": np.bincount(bins, one.confidence, NUM_BINS)})
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def per_token(name: str) -> Callable[[Sums], np.ndarray]:
    return lambda total: total[name] / total["tokens"]


def nll_gain(vocab_size: int) -> Callable[[Sums], np.ndarray]:
    def gain(total: Sums) -> np.ndarray:
        right = total["right"] / total["tokens"]
        constant = xlogy(right, right) + xlogy(1 - right, (1 - right) / (vocab_size - 1))
        return total["nll"] / total["tokens"] + constant / np.log(2)
    return gain


def brier_gain(total: Sums) -> np.ndarray:
    right = total["right"] / total["tokens"]
    return total["brier"] / total["tokens"] - right * (1 - right)


def calibration_error(total: Sums) -> np.ndarray:
    return np.abs(total["said in bin"] - total["right in bin"]).sum(axis=-1) / total["tokens"]


def scores(vocab_size: int) -> dict[str, Callable[[Sums], np.ndarray]]:
    """Column -> its value from sums, of one or many resamples."""
    return {
        "right": per_token("right"), "said": per_token("said"), "NLL": per_token("nll"), "NLL gain": nll_gain(vocab_size),
        "Brier": per_token("brier"), "Brier gain": brier_gain, "area": lambda total: total["area"] / total["messages"],
        "area gain": lambda total: (total["area"] - total["constant area"]) / total["messages"],
        "posterior": per_token("posterior"), "ECE": calibration_error, "sure, wrong": per_token("sure and wrong"),
        "doubted": per_token("doubted")}


def resampled(own: Sums) -> Sums:
    """The sums of messages drawn with replacement: float64 [RESAMPLES, ...]."""
    num_messages = own["tokens"].size
    drawn = Key(4).child("bootstrap").integers(num_messages, RESAMPLES, num_messages)
    times = np.stack([np.bincount(row, minlength=num_messages) for row in drawn])
    return {name: np.tensordot(times, one, axes=1) for name, one in own.items()}


def show(part: Part, measured: dict[str, Sums]) -> None:
    columns = scores(part.vocab_size)
    num_erased = int(sum(lost.sum() for lost in part.erased))
    print(f"{part.name}: {len(part.items)} messages, {num_erased} erased\n{'':18s}" + "".join(f"{name:>17s}" for name in columns))
    for label, own in measured.items():
        again, cells = resampled(own), []
        for score in columns.values():
            low, high = np.quantile(score(again), [0.025, 0.975])
            cells.append(f"{score({name: one.sum(axis=0) for name, one in own.items()}):.3f} [{low:.3f},{high:.3f}]")
        print(f"{label:18s}" + " ".join(f"{cell:>21s}" for cell in cells), flush=True)


def kept_and_wrong(found: list[Answers]) -> tuple[np.ndarray, np.ndarray]:
    """(share given up, share wrong and kept) of all erased tokens, as `abstain_below` rises through all confidences."""
    confidence = np.concatenate([one.confidence for one in found])
    wrong = np.concatenate([~one.right for one in found])
    order = np.argsort(confidence, kind="stable")
    given_up = np.append(0, np.flatnonzero(np.diff(confidence[order]) > 0) + 1)  # equal confidences go together
    left = wrong.sum() - np.append(0, np.cumsum(wrong[order]))
    return given_up / confidence.size, left[given_up] / confidence.size


def draw(measured: dict[str, dict[str, list[Answers]]]) -> Figure:
    """A reliability diagram of each part, and what giving up buys on the last."""
    with style():
        figure = Figure(figsize=(2 * COLUMN_INCHES, 2.75))
        axes = figure.subplots(1, len(measured) + 1)
        looks = {label: {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)], "label": label}
                 for at, label in enumerate(dict.fromkeys(label for found in measured.values() for label in found))}
        for axis, (name, found) in zip(axes, measured.items()):
            axis.plot([0, 1], [0, 1], color="#555555", linestyle=(0, (5, 2)), linewidth=0.8)
            for label in (label for label in found if label in DRAWN):
                _reliability(axis, sums(found[label]), looks[label])
            axis.set(title=name, xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        for label, own in found.items():
            lost, wrong = kept_and_wrong(own)
            axes[-1].plot(lost, wrong, markevery=max(1, lost.size // 6), **looks[label])
        axes[-1].set(title=f"giving up, {name}", xlabel="share given up", ylabel="share wrong and kept")
        axes[-1].set(xlim=(0, 1), ylim=(0, None))
        for axis in axes:
            axis.xaxis.set_major_locator(MaxNLocator(5))
        handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return figure


def _reliability(axis: Axes, own: Sums, look: dict[str, Any]) -> None:
    count = own["in bin"].sum(axis=0)
    drawn = np.flatnonzero(count >= LEAST_IN_BIN)
    said = own["said in bin"].sum(axis=0)[drawn] / count[drawn]
    share, spread = np.transpose([interval(own["right in bin"][:, at], own["in bin"][:, at]) for at in drawn])
    axis.errorbar(said, share, yerr=spread, linewidth=0.8, elinewidth=0.6, **look)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--messages", type=int, default=60)
    parser.add_argument("--train", type=Path, help="text of the models' training, to fit lm_beam's temperature to")
    parser.add_argument("--figure", type=Path, help="where to draw calibration, .svg")
    options = parser.parse_args()
    measured = {}
    training = parts(options.train, options.messages) if options.train else (None, None)
    for part, seen, model in zip(parts(options.file, options.messages), training, (NGram(), TextSmall())):
        chosen = decoders(model, exact=part.vocab_size == 256)
        restored = {label: restorations(decoder, part) for label, decoder in chosen.items()}
        found = {label: answers(one, part) for label, one in restored.items()}
        tempered = {}
        if seen is not None:
            temperature = fitted_temperature(chosen["lm_beam"], seen)
            tempered[f"lm_beam, T = {temperature:.2f}"] = answers(restored["lm_beam"], part, temperature)
        show(part, {label: sums(own) for label, own in (found | tempered).items()})
        measured[part.name] = found
    if options.figure:
        options.figure.write_bytes(render(draw(measured)))


if __name__ == "__main__":
    main()
