"""A systematic erasure code over GF(256): any k of the n rows restore the k rows of data."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from channel_sim.checks import require

FIELD_POLYNOMIAL = 0x11D
"""x^8 + x^4 + x^3 + x^2 + 1, of which x is a primitive root: the field of most Reed-Solomon codes in use."""
MOST_ROWS = 255


def encode(data: np.ndarray, num_parity: int) -> np.ndarray:
    """uint8 [num_parity, size]: the parity of `data` uint8 [k, size], with k + num_parity <= 255.

    Parity row i is Σ_j data_j / (x_i + y_j) with x_i = k + i and y_j = j, a Cauchy matrix: all its square submatrices are
    regular, so the code is maximum distance separable, as every (generalised) Reed-Solomon code is.

    >>> data = np.arange(12, dtype=np.uint8).reshape(3, 4)
    >>> parity = encode(data, 2)
    >>> bool(np.array_equal(decode(np.stack([parity[1], data[1], parity[0]]), np.array([4, 1, 3]), 3), data))
    True

    Source: J. Blömer et al., "An XOR-based erasure-resilient coding scheme", ICSI TR-95-048 (1995).
    """
    return _product(cauchy(len(data), num_parity), np.ascontiguousarray(data, np.uint8))


def decode(received: np.ndarray, indices: np.ndarray, num_data: int) -> np.ndarray:
    """uint8 [num_data, size] from at least `num_data` distinct rows uint8 [m, size] of the code word.

    indices: int [m], which row of the code word each one is: data first, then parity, from `num_data` on. Rows that are
             not needed are not looked at.
    """
    indices = np.asarray(indices)
    require(np.unique(indices).size == indices.size >= num_data, f"{num_data} distinct rows restore the data, got {indices.size}")
    data = np.zeros((num_data, received.shape[1]), np.uint8)
    is_data = indices < num_data
    data[indices[is_data]] = received[is_data]
    missing = np.setdiff1d(np.arange(num_data), indices)
    if missing.size == 0:
        return data
    chosen = np.flatnonzero(~is_data)[:missing.size]
    equations = indices[chosen] - num_data
    matrix = cauchy(num_data, int(equations.max()) + 1)[equations]
    # what is missing is still 0 in data, so the product is the share of the known rows
    unexplained = received[chosen] ^ _product(matrix, data)
    data[missing] = _product(_inverse(matrix[:, missing], _products()), unexplained)
    return data


@lru_cache(maxsize=256)
def cauchy(num_data: int, num_parity: int) -> np.ndarray:
    """uint8 [num_parity, num_data]: 1 / (x_i + y_j) over GF(256), x_i = num_data + i, y_j = j."""
    require(num_data + num_parity <= MOST_ROWS, f"a code word has at most {MOST_ROWS} rows, got {num_data} + {num_parity}")
    x, y = num_data + np.arange(num_parity), np.arange(num_data)
    matrix = _inverses()[x[:, None] ^ y]
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=1)
def _products() -> np.ndarray:
    """uint8 [256, 256]: the multiplication table, by discrete logarithms."""
    powers = np.empty(510, np.uint8)
    log = np.zeros(256, np.int64)
    value = 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        log[value] = exponent
        value = value << 1 ^ (FIELD_POLYNOMIAL if value & 0x80 else 0)
    table = powers[log[:, None] + log]
    table[0] = table[:, 0] = 0
    return table


@lru_cache(maxsize=1)
def _inverses() -> np.ndarray:
    """uint8 [256]: 1 / a; 0 where a = 0, which no Cauchy matrix asks for."""
    return (_products() == 1).argmax(axis=1).astype(np.uint8)


def _product(matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
    result = np.zeros((len(matrix), rows.shape[1]), np.uint8)
    _accumulate(matrix, np.ascontiguousarray(rows), _products(), result)
    return result


@njit(cache=True)
def _accumulate(matrix: np.ndarray, rows: np.ndarray, products: np.ndarray, result: np.ndarray) -> None:
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            times = products[matrix[i, j]]  # 256 bytes, which stay in the first cache
            for place in range(rows.shape[1]):
                result[i, place] ^= times[rows[j, place]]


@njit(cache=True)
def _inverse(matrix: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Gauss and Jordan. A square submatrix of a Cauchy matrix has regular leading minors, so no pivot is 0."""
    size = matrix.shape[0]
    left, right = matrix.copy(), np.eye(size).astype(np.uint8)
    for pivot in range(size):
        scale = products[np.argmax(products[left[pivot, pivot]] == 1)]
        for column in range(size):
            left[pivot, column] = scale[left[pivot, column]]
            right[pivot, column] = scale[right[pivot, column]]
        for row in range(size):
            factor = products[left[row, pivot]]
            if row != pivot:
                for column in range(size):
                    left[row, column] ^= factor[left[pivot, column]]
                    right[row, column] ^= factor[right[pivot, column]]
    return right
