"""The recurrent language models in integers: weights, activations, nonlinearities and coding tables, equal bit for bit anywhere.

    matrix products   int8 x int8, held in float32 for BLAS: exact in any order of summation while 127 * 127 * K < 2^24, K <= 1040
    pre-activations   int32, unit 2^-10        state, gates   int32, unit 2^-14; as factors of a product rounded to 2^-7
    logits            int32, unit 2^-10 bit    tables         sum 2^frequency_bits, every entry >= 1

Nothing here is rounded by a floating-point unit, so lanes, threads, SIMD width and BLAS have no say in the result.

Source: J. Ballé, N. Johnston, D. Minnen, "Integer networks for data compression with latent-variable models", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from math import isqrt
from typing import NamedTuple

import numpy as np
from numba import njit
from threadpoolctl import ThreadpoolController

GATE_BITS, PRODUCT_BITS, ACTIVATION_BITS = 14, 7, 10
LONGEST_SUM = 1040
_WORTH_A_THREAD = 256
_MULTIPLIER_BITS = 24
_SATURATED = 8 << ACTIVATION_BITS  # where sigmoid and tanh are 0, 1 or -1 to 14 bits or nearly
_LARGEST_SUM = 1 << 16  # |pre-activation|, 64
_EXPONENT_BITS = 24
_FAINTEST = 30 << ACTIVATION_BITS  # logits this far below the largest get the floor alone


Weights = dict[str, np.ndarray]
"""A network, quantised: what is stored.

embedded:  int8 [tokens, embedding], tanh of the embedding, unit 2^-7; where there is one
matrices:  int8, named and shaped as they are trained
*_scale:   int32 of each column: its unit in pre-activations or logits, times 2^24
*_bias:    int32, pre-activations or logits
"""


Each = Callable[[Callable[[np.ndarray], None], np.ndarray], None]
"""Does something for places int64 [n], in parts that have nothing to do with one another, in any order."""


class Dense(NamedTuple):
    """A product: matrix float32, of integers; scale int64 and bias int32 of each column."""

    matrix: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class Gated(NamedTuple):
    """A gated layer: inputs int32 [tokens, 3 hidden], what a token adds to the pre-activations; what the state adds to them."""

    inputs: np.ndarray
    recurrent: Dense

    @property
    def hidden(self) -> int:
        return self.recurrent.matrix.shape[0]


class Network(NamedTuple):
    """The causal network, ready to run."""

    layer: Gated
    head: Dense


def one_blas_thread() -> AbstractContextManager[object]:
    """For loops over `step`: its products are so small that threads which wait for one another cost more than they bring."""
    return _controller().limit(limits=1, user_api="blas")


@contextmanager
def shared_out() -> Iterator[Each]:
    """Work on as many threads as BLAS has, each product on one of them."""
    threads = max((one.num_threads for one in _controller().lib_controllers if one.user_api == "blas"), default=1)
    with ThreadPoolExecutor(threads) as pool, one_blas_thread():
        def each(action: Callable[[np.ndarray], None], places: np.ndarray) -> None:
            own, *others = np.array_split(places, threads) if places.size >= _WORTH_A_THREAD else [places]
            elsewhere = [pool.submit(action, other) for other in others]
            action(own)
            for other in elsewhere:
                other.result()

        yield each


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def quantise(weights: dict[str, np.ndarray]) -> Weights:
    """From the trained float weights of `recurrent.Architecture.shapes` or another network's of the kind, by rounding."""
    whole = {}
    for name, values in weights.items():
        unit = 2.0**ACTIVATION_BITS * (np.log2(np.e) if name.startswith("head") else 1.0)  # logits are in bits
        if name == "embedding":
            whole["embedded"] = _whole(np.tanh(values) * 2**PRODUCT_BITS, 127).astype(np.int8)
        elif name.endswith("_bias"):
            whole[name] = _whole(values * unit)
        else:
            whole[name], whole[f"{name}_scale"] = _by_column(values, unit / 2**PRODUCT_BITS)
    return whole


def assemble(weights: Weights) -> Network:
    """The network of `recurrent.Architecture`, and what can be computed before the first token."""
    return Network(gated(weights), dense(weights, "head"))


def gated(weights: Weights, layer: str = "") -> Gated:
    """The layer whose weights' names begin with `layer`."""
    given = dense(weights, f"{layer}input")
    inputs = _scaled(_product(weights["embedded"].astype(np.float32), given.matrix), given.scale) + given.bias
    return Gated(inputs.astype(np.int32), dense(weights, f"{layer}recurrent"))


def dense(weights: Weights, name: str) -> Dense:
    scale, bias = weights[f"{name}_scale"], weights[f"{name}_bias"]
    return Dense(weights[name].astype(np.float32), scale.astype(np.int64), bias.astype(np.int32))


def step(layer: Gated, hidden: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """State int32 [lanes, hidden] after one more token a lane; unit 2^-14."""
    _, scale, bias = layer.recurrent
    sums = rounded(hidden) @ layer.recurrent.matrix
    return _advanced(hidden, sums, layer.inputs, np.asarray(tokens), scale, bias, sigmoid_table(), tanh_table())


def run(layer: Gated, hidden: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """States int32 [n, hidden] after each of the tokens [n], of one lane from `hidden` int32 [1, hidden] on."""
    states = np.empty((len(tokens), layer.hidden), np.int32)
    for position in range(len(tokens)):
        hidden = step(layer, hidden, tokens[position:position + 1])
        states[position] = hidden[0]
    return states


def logits(head: Dense, factors: np.ndarray) -> np.ndarray:
    """int32 [lanes, vocab], unit 2^-10 bit; `factors` float32 [lanes, n], a state or activations in units of 2^-7."""
    return requantised(factors @ head.matrix, head.scale, head.bias)


def activations(layer: Dense, factors: np.ndarray) -> np.ndarray:
    """tanh of pre-activations, as `factors` float32 [lanes, columns] of the next product."""
    return _activated(requantised(factors @ layer.matrix, layer.scale, layer.bias), tanh_table())


def frequencies(logits: np.ndarray, frequency_bits: int) -> np.ndarray:
    """int64 [lanes, vocab]: 2^logits over their sum, in integers, every entry >= 1, each row summing to 2^frequency_bits."""
    return _frequencies(logits, exponential_table(), frequency_bits)


def _by_column(matrix: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """(int8 of the shape of `matrix`, int32 scale of each column): matrix * unit is about integers * scale / 2^24."""
    largest = np.maximum(np.abs(matrix).max(axis=0), 1e-6)
    scale = np.maximum(np.round(largest / 127 * unit * 2**_MULTIPLIER_BITS), 1)
    assert scale.max() < 2**31, "weights too large for their integers"
    return _whole(matrix / (scale / unit / 2**_MULTIPLIER_BITS), 127).astype(np.int8), scale.astype(np.int32)


def _whole(values: np.ndarray, most: int = 2**30) -> np.ndarray:
    return np.clip(np.round(values), -most, most).astype(np.int32)


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    assert left.shape[1] <= LONGEST_SUM, "longer sums are not exact in float32"
    return (left @ right).astype(np.int64)


def _scaled(sums: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (sums * scale.astype(np.int64) + (1 << _MULTIPLIER_BITS - 1)) >> _MULTIPLIER_BITS


@njit(cache=True)
def rounded(hidden: np.ndarray) -> np.ndarray:
    """float32 [lanes, hidden]: the state in units of 2^-7."""
    factors = np.empty(hidden.shape, np.float32)
    shift = GATE_BITS - PRODUCT_BITS
    for lane in range(hidden.shape[0]):
        for cell in range(hidden.shape[1]):
            factors[lane, cell] = max(-127, min(127, (hidden[lane, cell] + (1 << shift - 1)) >> shift))
    return factors


@njit(cache=True, nogil=True)
def _rescaled(total: np.float32, scale: np.int64) -> np.int32:
    exact = (np.int64(total) * scale + (1 << _MULTIPLIER_BITS - 1)) >> _MULTIPLIER_BITS
    bounded: int = max(-_LARGEST_SUM, min(_LARGEST_SUM, int(exact)))
    return np.int32(bounded)


@njit(cache=True)
def _advanced(hidden: np.ndarray, sums: np.ndarray, inputs: np.ndarray, tokens: np.ndarray, scale: np.ndarray, bias: np.ndarray,
              sigmoid: np.ndarray, tanh: np.ndarray) -> np.ndarray:
    lanes, cells = hidden.shape
    after = np.empty_like(hidden)
    half = 1 << GATE_BITS - 1
    for lane in range(lanes):
        given = inputs[tokens[lane]]
        for cell in range(cells):
            update = _looked_up(sigmoid, given[cell] + _rescaled(sums[lane, cell], scale[cell]))
            reset = _looked_up(sigmoid, given[cells + cell] + _rescaled(sums[lane, cells + cell], scale[cells + cell]))
            offset = _rescaled(sums[lane, 2 * cells + cell], scale[2 * cells + cell]) + bias[cell]
            new = _looked_up(tanh, given[2 * cells + cell] + ((reset * offset + half) >> GATE_BITS))
            after[lane, cell] = new + ((update * (hidden[lane, cell] - new) + half) >> GATE_BITS)
    return after


@njit(cache=True)
def _looked_up(table: np.ndarray, activation: np.int32) -> np.int32:
    if activation <= -_SATURATED:
        return table[0]
    return table[activation + _SATURATED] if activation < _SATURATED else table[2 * _SATURATED]


@njit(cache=True, nogil=True)
def requantised(sums: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """int32 [lanes, columns], unit 2^-10: pre-activations or logits of what a product of `Dense` adds up to."""
    lanes, columns = sums.shape
    result = np.empty((lanes, columns), np.int32)
    for lane in range(lanes):
        for column in range(columns):
            result[lane, column] = _rescaled(sums[lane, column], scale[column]) + bias[column]
    return result


@njit(cache=True)
def _activated(sums: np.ndarray, tanh: np.ndarray) -> np.ndarray:
    values = np.empty(sums.shape, np.int32)
    for lane in range(sums.shape[0]):
        for column in range(sums.shape[1]):
            values[lane, column] = _looked_up(tanh, sums[lane, column])
    return rounded(values)


@njit(cache=True, nogil=True)
def _frequencies(logits: np.ndarray, exponential: np.ndarray, frequency_bits: int) -> np.ndarray:
    lanes, vocab = logits.shape
    table = np.empty((lanes, vocab), np.int64)
    fraction = (1 << ACTIVATION_BITS) - 1
    spare = (1 << frequency_bits) - vocab  # beyond the 1 that every token has
    for lane in range(lanes):
        best = 0
        for token in range(1, vocab):
            if logits[lane, token] > logits[lane, best]:
                best = token
        total = np.int64(0)
        for token in range(vocab):
            below = min(_FAINTEST, logits[lane, best] - logits[lane, token])
            weight = np.int64(exponential[below & fraction]) >> (below >> ACTIVATION_BITS)
            table[lane, token] = weight
            total += weight
        reciprocal = (np.int64(spare) << 40) // total  # total >= 2^24, so that the product below is less than 2^63
        given = np.int64(0)
        for token in range(vocab):
            share = (table[lane, token] * reciprocal) >> 40
            table[lane, token] = 1 + share
            given += share
        table[lane, best] += spare - given
    return table


@lru_cache(maxsize=1)
def sigmoid_table() -> np.ndarray:
    """int32: 1 / (1 + e^-x), unit 2^-14, for x from -8 to 8 in steps of 2^-10."""
    one = 1 << 64
    falling = _powers(_exp_of_minus(ACTIVATION_BITS), _SATURATED)  # e^-x for x >= 0
    upper = [_nearest(one << GATE_BITS, one + power) for power in falling]
    return np.array([(1 << GATE_BITS) - value for value in upper[:0:-1]] + upper, np.int32)


@lru_cache(maxsize=1)
def tanh_table() -> np.ndarray:
    """int32: tanh x = (1 - e^-2x) / (1 + e^-2x), unit 2^-14, for x from -8 to 8 in steps of 2^-10."""
    one = 1 << 64
    falling = _powers(_exp_of_minus(ACTIVATION_BITS - 1), _SATURATED)
    upper = [_nearest((one - power) << GATE_BITS, one + power) for power in falling]
    return np.array([-value for value in upper[:0:-1]] + upper, np.int32)


@lru_cache(maxsize=1)
def exponential_table() -> np.ndarray:
    """int32 [1024]: 2^-(i / 1024), unit 2^-24."""
    ratio = 1 << 63  # 1/2; every root halves the exponent
    for _ in range(ACTIVATION_BITS):
        ratio = isqrt(ratio << 64)
    return np.array([power >> 64 - _EXPONENT_BITS for power in _powers(ratio, (1 << ACTIVATION_BITS) - 1)], np.int32)


def _exp_of_minus(bits: int) -> int:
    """e^-(2^-bits), unit 2^-64, by its series."""
    one = 1 << 64
    total = term = one
    for order in range(1, 40):
        term = -(term >> bits) // order
        total += term
    return total


def _powers(ratio: int, most: int) -> list[int]:
    """ratio^0 … ratio^most, unit 2^-64."""
    powers = [1 << 64]
    for _ in range(most):
        powers.append(powers[-1] * ratio >> 64)
    return powers


def _nearest(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
