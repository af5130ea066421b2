"""Models whose law is known in closed form: tables against that law."""

from __future__ import annotations

import numpy as np
import pytest

from sources.models.markov import ExactMarkov
from sources.models.model import FiniteContextModel
from sources.models.uniform import Uniform

MODELS = [Uniform(vocab_size=size) for size in (2, 3, 255, 256, 1024, 1025, 50_000)]
MODELS += [ExactMarkov(flip_probability=p, alphabet_size=m) for p in (0.0, 1e-9, 0.1, 0.5, 1.0) for m in (2, 3, 7, 1024)]


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_tables_are_complete(model: FiniteContextModel):
    """Catches an entry of 0, which can't be coded, and a sum that is not a power of two."""
    contexts = np.array([[-1], [0], [1], [model.vocab_size - 1]], np.int32)
    tables = model.frequencies(contexts)
    assert tables.dtype == np.int64 and tables.shape == (4, model.vocab_size)
    assert tables.min() >= 1 and np.all(tables.sum(axis=1) == 1 << model.frequency_bits)


def test_uniform_costs_log2_of_its_vocabulary():
    """Catches what division leaves piled onto one token."""
    tables = Uniform(vocab_size=1000).frequencies(np.full((1, 1), -1))
    assert set(tables.ravel().tolist()) == {65, 66}
    assert np.allclose(Uniform().log_probabilities(np.full((1, 1), 3)), -np.log(256))


@pytest.mark.parametrize("flip_probability", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("alphabet_size", [2, 3, 8])
def test_exact_markov_is_the_law_of_the_chain(flip_probability: float, alphabet_size: int):
    """Catches rows for columns, a first symbol that is not uniform, and p/m for p/(m - 1)."""
    model = ExactMarkov(flip_probability=flip_probability, alphabet_size=alphabet_size)
    law = np.full((alphabet_size, alphabet_size), flip_probability / (alphabet_size - 1))
    np.fill_diagonal(law, 1 - flip_probability)
    states = np.arange(alphabet_size)[:, None]
    assert np.abs(model.frequencies(states) / 65536 - law).max() <= 1 / 65536
    assert np.abs(model.frequencies(np.array([[-1]])) / 65536 - 1 / alphabet_size).max() <= 1 / 65536


def test_entropy_rate_of_the_binary_chain():
    """h(.1) = .468996 bit: catches tables that cost more than rounding does."""
    table = ExactMarkov(flip_probability=0.1, alphabet_size=2).frequencies(np.array([[0]]))[0]
    assert -(0.9 * np.log2(table[0] / 65536) + 0.1 * np.log2(table[1] / 65536)) == pytest.approx(0.468996, abs=1e-6)


def test_tables_of_a_sequence_are_those_of_its_steps():
    """Catches bulk tables that are shifted against the step-wise ones."""
    model = ExactMarkov(flip_probability=0.2, alphabet_size=3)
    values = np.array([0, 2, 2, 1, 0])
    state = model.start(1)
    bulk, after = model.tables(state, values)
    for row, value in zip(bulk, values, strict=True):
        assert np.array_equal(row, model.frequencies(state)[0])
        state = model.advance(state, np.array([value]))
    assert np.array_equal(after, state)


def test_an_unfilled_parameter_is_named_with_its_cure():
    """Catches a silent default for what only the source knows."""
    with pytest.raises(ValueError, match="flip_probability of model exact_markov must be given.*set it"):
        ExactMarkov().frequencies(np.array([[-1]]))
