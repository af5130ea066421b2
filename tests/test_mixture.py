"""The mixture of the shipped byte models: a table that codes, and worth more than its parts."""

from __future__ import annotations

import numpy as np

from sources.models.mixture import TextByteMixed
from sources.models.neural import TextByteSmall
from sources.models.ngram import NGram
from sources.text import python_docs


def sample(num_bytes: int) -> np.ndarray:
    return np.frombuffer(python_docs()[100_000:100_000 + num_bytes], np.uint8).astype(np.int32)


def test_tables_are_the_mean_of_both() -> None:
    """Catches states that are cut in the wrong place, sums that drift, and entries of 0."""
    values = sample(300)
    tables, state = TextByteMixed().tables(TextByteMixed().start(1), values)
    parts = [model.tables(model.start(1), values)[0] for model in (NGram(), TextByteSmall())]
    assert np.all(tables.sum(axis=1) == 1 << 16) and tables.min() >= 1
    assert np.abs(2 * tables - parts[0] - parts[1]).max() <= 1
    np.testing.assert_array_equal(TextByteMixed().frequencies(state).sum(axis=1), 1 << 16)


def test_steps_and_lanes_give_the_same_tables() -> None:
    """Catches an encoder that sees other tables than the decoder does."""
    model, values = TextByteMixed(), sample(60)
    tables, last = model.tables(model.start(1), values)
    state = model.start(3)
    for at, value in enumerate(values):
        assert np.all(model.frequencies(state) == tables[at])
        state = model.advance(state, np.full(3, value))
    assert np.array_equal(state[1], last[0])


def test_it_predicts_better_than_either() -> None:
    """Catches weights that favour one: on text that neither saw the mixture costs the fewest bits."""
    values = sample(4096)
    bits = []
    for model in (TextByteMixed(), NGram(), TextByteSmall()):
        tables, _ = model.tables(model.start(1), values)
        bits.append(float(np.mean(16 - np.log2(tables[np.arange(values.size), values]))))
    assert bits[0] < min(bits[1:]) - 0.03
