"""The erasure code against an independent library and by exhaustion."""

from itertools import combinations

import galois
import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.reed_solomon import FIELD_POLYNOMIAL, cauchy, decode, encode

FIELD = galois.GF(2**8, irreducible_poly=galois.Poly.Int(FIELD_POLYNOMIAL))


def draw(num_rows: int, size: int, seed: int = 1) -> np.ndarray:
    return Key(seed).integers(256, num_rows, size).astype(np.uint8)


@pytest.mark.parametrize("num_data, num_parity", [(1, 1), (3, 2), (16, 4), (100, 155), (254, 1), (1, 254)])
def test_code_words_are_those_of_the_field(num_data, num_parity):
    """Catches a wrong multiplication table or generator: parity by galois, 1 / (x + y) and matrix product."""
    data = draw(num_data, 33)
    x, y = FIELD(np.arange(num_data, num_data + num_parity)), FIELD(np.arange(num_data))
    generator = FIELD(np.ones((num_parity, num_data), np.uint8)) / (x[:, None] + y[None, :])
    assert np.array_equal(encode(data, num_parity), np.asarray(generator @ FIELD(data)))


@pytest.mark.parametrize("num_data, num_parity", [(1, 3), (2, 2), (4, 4), (5, 3), (6, 2)])
def test_any_k_of_n_rows_restore_the_data(num_data, num_parity):
    """Catches a code that is not maximum distance separable, by exhaustion."""
    data = draw(num_data, 7)
    word = np.concatenate([data, encode(data, num_parity)])
    for rows in combinations(range(num_data + num_parity), num_data):
        assert np.array_equal(decode(word[list(rows)], np.array(rows), num_data), data)


def test_decoding_solves_the_equations_of_the_field():
    """Catches an elimination that agrees with its own encoder only: galois solves for the same rows."""
    data, rows = draw(20, 50), np.array([0, 3, 4, 7, 9, 11, 13, 17, 20, 21, 23, 24, 25, 26, 28, 29, 31, 33, 35, 39])
    generator = FIELD(np.concatenate([np.eye(20, dtype=np.uint8), cauchy(20, 20)]))
    received = np.asarray(generator @ FIELD(data))[rows]
    assert np.array_equal(decode(received, rows, 20), np.asarray(np.linalg.solve(generator[rows], FIELD(received))))
    assert np.array_equal(decode(received, rows, 20), data)


@pytest.mark.parametrize("num_data, num_parity", [(16, 4), (60, 195), (127, 128), (128, 127), (230, 25)])
def test_long_codes_restore_random_losses(num_data, num_parity):
    """Catches field elements that coincide in long codes, and an order of arrival that matters."""
    data = draw(num_data, 19)
    word = np.concatenate([data, encode(data, num_parity)])
    for trial in range(10):
        rows = np.argsort(Key(2).child(trial).uniform(len(word)))[:num_data + trial % 2]
        assert np.array_equal(decode(word[rows], rows, num_data), data)


def test_one_row_fewer_tells_nothing_of_a_missing_row():
    """Catches a decoder that guesses: k - 1 rows are consistent with every value of a missing byte."""
    data = draw(3, 1)
    word = np.concatenate([data, encode(data, 2)])
    with pytest.raises(ValueError, match="3 distinct rows"):
        decode(word[[1, 4]], np.array([1, 4]), 3)
    with pytest.raises(ValueError, match="3 distinct rows"):
        decode(word[[1, 4, 4]], np.array([1, 4, 4]), 3)


def test_codes_past_the_field_are_refused_and_empty_ones_work():
    """Catches n > 255, and a block of no parity or rows of no bytes."""
    with pytest.raises(ValueError, match="at most 255 rows, got 200 \\+ 56"):
        encode(draw(200, 4), 56)
    assert encode(draw(5, 4), 0).shape == (0, 4)
    assert encode(draw(5, 0), 2).shape == (2, 0)
    assert np.array_equal(decode(draw(5, 4), np.arange(5), 5), draw(5, 4))
