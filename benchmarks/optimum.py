"""How near every decoder that is given the true law comes to the optimum: `python -m benchmarks.optimum [ITEMS]`.

Binary chains of 1,000 symbols, erased independently: symmetric Markov, hidden Markov, and of order three. The law of each is given
to the decoders as their model; the optimum is symbol-wise MAP by exact forward-backward. Errors are counted in exact posterior
probability, 1 - P(symbol chosen | y), so that chance is in the items alone. Prints the errors of an erased symbol at the optimum,
beside the closed form p / (1 - λe²) where there is one, and for each decoder the symbols that it restores as a fraction of those
that the optimum does, with its errors over the optimum's; 95 % intervals by 1.96 standard errors over items.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from pydantic import Field

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.theory.concealment import markov_map_error
from channel_sim.types import Evidence
from decoders.bidirectional import Bidirectional
from decoders.dude import Dude
from decoders.exact_markov import ExactHiddenMarkov, ExactMarkovDecoder
from decoders.fitted_markov import FittedMarkov
from decoders.lm_beam import LmBeam
from decoders.lm_greedy import LmGreedy
from decoders.ngram import NGramRestorer
from decoders.posterior_sample import PosteriorSample
from sources.models.markov import ExactMarkov
from sources.models.model import CausalModel, FiniteContextModel
from sources.models.ngram import NGram
from sources.synthetic import HiddenMarkov, Markov
from sources.training.ngram import train_ngram

NUM_SYMBOLS = 1000
ORDER = 3
ONE_AFTER = (0.05, 0.6, 0.3, 0.9, 0.2, 0.5, 0.15, 0.85)
"""P(1) of the chain of order three after each three symbols, the newest the lowest bit."""
FLIPS, ERASURES = (0.05, 0.1, 0.2), (0.1, 0.3, 0.5)
HIDDEN = {"flip_probability": 0.1, "observation_error": 0.05}
TRAINED_ON = 1_000_000


class OrderThree(FiniteContextModel):
    """The law of the chain of order three; its first symbols are fair."""

    vocab_size: ClassVar[int] = 2
    context_length: ClassVar[int] = ORDER

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        one = np.where(np.all(state >= 0, axis=1), np.array(ONE_AFTER)[np.maximum(state, 0) @ [4, 2, 1]], 0.5)
        ones = np.rint(one * 65536).astype(np.int64)
        return np.stack([65536 - ones, ones], axis=1)


class HiddenChain(CausalModel):
    """The law of the hidden Markov source: its state is P(hidden symbol | all seen so far), float64 [lanes, 2]."""

    vocab_size: ClassVar[int] = 2
    flip_probability: float = Field(description="of the chain")
    observation_error: float = Field(description="of the symbols seen")

    def start(self, num_lanes: int) -> np.ndarray:
        return np.full((num_lanes, 2), 0.5)

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        kept = state * np.where(np.asarray(tokens)[:, None] == [0, 1], 1 - self.observation_error, self.observation_error)
        kept /= kept.sum(axis=1, keepdims=True)
        return kept * (1 - self.flip_probability) + kept[:, ::-1] * self.flip_probability

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        one = state[:, 1] * (1 - self.observation_error) + state[:, 0] * self.observation_error
        ones = np.rint(one * 65536).astype(np.int64)
        return np.stack([65536 - ones, ones], axis=1)


def order_three_items(num_items: int, num_symbols: int = NUM_SYMBOLS) -> list[np.ndarray]:
    """int32 [num_symbols] each, drawn from `OrderThree`."""
    uniforms = np.array([Key(5).child("order 3", index).uniform(num_symbols) for index in range(num_items)])
    symbols, recent = np.empty((num_items, num_symbols), np.int32), np.zeros(num_items, np.int64)
    for at in range(num_symbols):
        symbols[:, at] = uniforms[:, at] < (np.array(ONE_AFTER)[recent] if at >= ORDER else 0.5)
        recent = (recent << 1 | symbols[:, at]) & 7
    return list(symbols)


def order_three_posterior(evidence: Evidence) -> np.ndarray:
    """float64 [unknown, 2]: p(symbol | y) under `OrderThree`, by forward-backward over the last three symbols."""
    seen = np.exp(evidence.log_likelihood(np.arange(evidence.num_tokens)))  # [n, 2]
    after = np.array([[(state << 1 | symbol) & 7 for symbol in (0, 1)] for state in range(8)])
    law = np.stack([1 - np.array(ONE_AFTER), ONE_AFTER], axis=1)  # [state, symbol]
    steps = [np.full((8, 2), 0.5) * row if at < ORDER else law * row for at, row in enumerate(seen)]
    forward = [np.eye(8)[0]]
    for step in steps:
        weights = np.zeros(8)
        np.add.at(weights, after, forward[-1][:, None] * step)
        forward.append(weights / weights.sum())
    posterior, later = np.empty(seen.shape), np.ones(8)
    for at in range(len(steps) - 1, -1, -1):
        onward = steps[at] * later[after]
        posterior[at] = forward[at] @ onward
        later = onward.sum(axis=1) / onward.sum()
    return (posterior / posterior.sum(axis=1, keepdims=True))[~evidence.known]


def erased(items: Sequence[np.ndarray], erasure_probability: float) -> list[Evidence]:
    known = [Key(6).child(index).uniform(values.size) >= erasure_probability for index, values in enumerate(items)]
    return [Evidence(sure, np.where(sure, values, 0), 2) for sure, values in zip(known, items)]


def wrong(decoder: Decoder, evidence: Sequence[Evidence], posteriors: Sequence[np.ndarray]) -> np.ndarray:
    """float64 [items]: the expected number of erased symbols that `decoder` has wrong; the n-gram is asked for bytes."""
    asked = [Evidence(one.known, one.values, 256) for one in evidence] if isinstance(decoder, NGramRestorer) else evidence
    found = decoder.restore(asked, [Key(7).child(index) for index in range(len(evidence))])
    return np.array([np.sum(1 - exact[np.arange(len(exact)), np.minimum(two.values[~one.known], 1)])
                     for one, two, exact in zip(evidence, found, posteriors)])


def ratio(above: np.ndarray, below: np.ndarray) -> str:
    share = above.sum() / below.sum()
    return f"{share:.4f} +- {1.96 * np.sqrt(np.sum((above - share * below) ** 2)) / below.sum():.4f}"


def compare(title: str, decoders: dict[str, Decoder], evidence: list[Evidence], posteriors: list[np.ndarray]) -> None:
    best = np.array([np.sum(1 - exact.max(axis=1)) for exact in posteriors])
    count = np.array([len(exact) for exact in posteriors])
    print(f"{title}; optimum {ratio(best, count)}", flush=True)
    for label, decoder in decoders.items():
        errors = wrong(decoder, evidence, posteriors)
        print(f"  {label:22s} restored {ratio(count - errors, count - best)} of the optimum's, errors {ratio(errors, best)}",
              flush=True)


def exact(decoder: Decoder, evidence: Sequence[Evidence]) -> list[np.ndarray]:
    """float64 [unknown, 2] of each item."""
    found = decoder.restore(evidence, [Key(0)] * len(evidence))
    return [one.posterior.astype(np.float64) for one in found if one.posterior is not None]


def with_law(model: CausalModel, sample: np.ndarray, folder: Path) -> dict[str, Decoder]:
    """The general decoders: given the law; the n-gram, which takes no law, trained on a sample of the source; dude, on the item."""
    folder.mkdir()
    (folder / "sample").write_bytes(sample.astype(np.uint8).tobytes())
    train_ngram(folder / "sample", folder / "model.safetensors")
    return {"lm_beam": LmBeam(model=model, follow_weight=1.0), "lm_greedy": LmGreedy(model=model),
            "posterior_sample": PosteriorSample(model=model, follow_weight=1.0), "bidirectional": Bidirectional(model=model),
            "ngram, trained": NGramRestorer(model=NGram(path=str(folder / "model.safetensors"))), "dude": Dude()}


def markov(num_items: int, folder: Path) -> None:
    for flip in FLIPS:
        items, sample = drawn(Markov(flip_probability=flip, num_symbols=NUM_SYMBOLS), num_items)
        decoders = with_law(ExactMarkov(flip_probability=flip), sample, folder / f"{flip:g}") | {"fitted_markov": FittedMarkov()}
        for e in ERASURES:
            evidence = erased(items, e)
            compare(f"markov, p {flip:g}, e {e:g}: closed form {markov_map_error(flip, e):.4f}", decoders, evidence,
                    exact(ExactMarkovDecoder(flip_probability=flip), evidence))


def hidden(num_items: int, folder: Path) -> None:
    items, sample = drawn(HiddenMarkov(num_symbols=NUM_SYMBOLS, **HIDDEN), num_items)
    decoders = with_law(HiddenChain(**HIDDEN), sample, folder / "hidden")
    for e in ERASURES:
        evidence = erased(items, e)
        compare(f"hidden markov, e {e:g}", decoders, evidence, exact(ExactHiddenMarkov(**HIDDEN), evidence))


def order_three(num_items: int, folder: Path) -> None:
    items = order_three_items(num_items)
    decoders = with_law(OrderThree(), np.concatenate(order_three_items(TRAINED_ON // NUM_SYMBOLS + num_items)[num_items:]),
                        folder / "order three")
    for e in ERASURES:
        evidence = erased(items, e)
        compare(f"order three, e {e:g}", decoders, evidence, [order_three_posterior(one) for one in evidence])


def drawn(source: Markov, num_items: int) -> tuple[list[np.ndarray], np.ndarray]:
    """(items, a sample of the same source to train on)."""
    items = source.items(range(num_items), [Key(8).child(index) for index in range(num_items)])
    (sample,) = source.model_copy(update={"num_symbols": TRAINED_ON}).items([0], [Key(9)])
    return [np.asarray(one.content, np.int32) for one in items], np.asarray(sample.content)


def main(num_items: int) -> None:
    with TemporaryDirectory() as folder:
        for part in (markov, hidden, order_three):
            part(num_items, Path(folder))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
