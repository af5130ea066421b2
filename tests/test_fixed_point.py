"""The recurrent network in integers: what it computes, and that nothing but its input has a say in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from channel_sim.keys import Key
from sources.models import fixed_point
from sources.models.recurrent import Architecture

ARCHITECTURE = Architecture(vocab_size=300, embedding=40, hidden=96)
START = ARCHITECTURE.start


def trained() -> dict[str, np.ndarray]:
    """Float weights as training might leave them: sure of itself, all gates in use."""
    weights = ARCHITECTURE.initial(Key(1))
    weights["head"] = 8 * weights["head"]
    weights["recurrent_bias"] = 0.2 * Key(3).normal(ARCHITECTURE.hidden)
    return weights


def log_probabilities(weights: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """The equations of `sources.models.recurrent`, in float64, token by token."""
    hidden, rows = np.zeros(ARCHITECTURE.hidden), []
    for token in tokens:
        from_token = np.split(np.tanh(weights["embedding"][token]) @ weights["input"] + weights["input_bias"], 3)
        inner = np.split(hidden @ weights["recurrent"], 3)
        update, reset = (1 / (1 + np.exp(-from_token[gate] - inner[gate])) for gate in (0, 1))
        new = np.tanh(from_token[2] + reset * (inner[2] + weights["recurrent_bias"]))
        hidden = new + update * (hidden - new)
        logits = hidden @ weights["head"] + weights["head_bias"]
        rows.append(logits - np.logaddexp.reduce(logits))
    return np.array(rows)


def whole_run(network: fixed_point.Network, tokens: np.ndarray) -> np.ndarray:
    """Frequencies after each token of a message from the start state, all in one go."""
    states = fixed_point.run(network.layer, np.zeros((1, network.layer.hidden), np.int32), tokens)
    return fixed_point.frequencies(fixed_point.logits(network.head, fixed_point.rounded(states)), 16)


def messages(num_lanes: int) -> np.ndarray:
    """int [num_lanes, 40], each from the start token on; lane i is the same in any number of lanes."""
    return np.stack([np.concatenate([[START], Key(4).child("lane", lane).integers(300, 39)]) for lane in range(num_lanes)])


def stepped(network: fixed_point.Network, tokens: np.ndarray) -> np.ndarray:
    """Frequencies [lanes, steps, vocab], step by step."""
    hidden, tables = np.zeros((len(tokens), network.layer.hidden), np.int32), []
    for column in tokens.T:
        hidden = fixed_point.step(network.layer, hidden, column)
        logits = fixed_point.logits(network.head, fixed_point.rounded(hidden))
        tables.append(fixed_point.frequencies(logits, 16))
    return np.stack(tables, axis=1)


@pytest.fixture(scope="module")
def network() -> fixed_point.Network:
    return fixed_point.assemble(fixed_point.quantise(trained()))


def test_integers_predict_what_floats_do(network: fixed_point.Network):
    """Catches a wrong scale, gate or bias anywhere: the loss against the equations in float64 is under a hundredth."""
    tokens = messages(1)[0]
    expected = log_probabilities(trained(), tokens.tolist())
    found = whole_run(network, tokens) / 2**16
    entropy = -np.sum(np.exp(expected) * expected, axis=1).mean()
    loss = np.sum(np.exp(expected) * (expected - np.log(found)), axis=1).mean()
    assert 0 <= loss < 0.003 * entropy
    assert entropy < 0.95 * np.log(300)  # or a network of constants would pass
    wrong = trained() | {"recurrent_bias": np.zeros(ARCHITECTURE.hidden)}
    found = whole_run(fixed_point.assemble(fixed_point.quantise(wrong)), tokens) / 2**16
    assert np.sum(np.exp(expected) * (expected - np.log(found)), axis=1).mean() > 0.003 * entropy


def test_tables_are_the_functions_they_stand_for():
    """Catches a table that is off by one place or by more than half a unit."""
    at = np.arange(-8 * 2**10, 8 * 2**10 + 1) / 2**10
    np.testing.assert_array_equal(fixed_point.sigmoid_table(), np.round(2**14 / (1 + np.exp(-at))))
    np.testing.assert_array_equal(fixed_point.tanh_table(), np.round(2**14 * np.tanh(at)))
    assert np.abs(fixed_point.exponential_table() - 2.0 ** (24 - np.arange(1024) / 1024)).max() <= 1


@pytest.mark.parametrize("frequency_bits", [16, 22])
def test_frequencies_are_a_coding_table(frequency_bits: int):
    """Catches zero entries, wrong sums, and a softmax to another base than 2."""
    logits = (Key(5).normal(50, 300) * 3000).astype(np.int32)
    logits[0], logits[1, 1:], logits[2, 7] = 0, -2**30 // 2, 2**30 // 2
    table = fixed_point.frequencies(logits, frequency_bits)
    assert np.all(table >= 1) and np.all(table.sum(axis=1) == 2**frequency_bits)
    exact = np.exp2((logits - logits.max(axis=1, keepdims=True)).astype(float) / 2**10)
    exact /= exact.sum(axis=1, keepdims=True)
    rest = 2**frequency_bits - 300
    assert np.all(np.abs(table - 1 - rest * exact) <= 1 + 300 * (exact == exact.max(axis=1, keepdims=True)) + 1e-6 * rest)


@pytest.mark.parametrize("num_lanes", [1, 4, 16, 64])
def test_lanes_and_steps_do_not_show(network: fixed_point.Network, num_lanes: int):
    """Catches tables that depend on how many lanes run, or on running step by step: the standing complaint."""
    tokens = messages(num_lanes)
    for lane, table in enumerate(stepped(network, tokens)):
        np.testing.assert_array_equal(table, whole_run(network, tokens[lane]))


def test_products_are_exact_at_their_largest():
    """Catches sums past 2^24 and overflow: every factor at its limit, compared with Python's own integers."""
    cells = 1040
    shapes = {"embedded": (3, 1040), "input": (1040, 3 * cells), "recurrent": (cells, 3 * cells), "head": (cells, 2)}
    sizes = {"input": 3 * cells, "recurrent": 3 * cells, "head": 2}
    extreme = {name: np.full(shape, 127, np.int8) for name, shape in shapes.items()}
    extreme |= {f"{name}_scale": np.full(size, 40_000, np.int32) for name, size in sizes.items()}
    extreme |= {f"{name}_bias": np.zeros(size, np.int32) for name, size in (sizes | {"recurrent": cells}).items()}
    network = fixed_point.assemble(extreme)
    expected = (127 * 127 * 1040 * 40_000 + 2**23) >> 24
    assert np.all(network.layer.inputs == expected)
    hidden = np.stack([np.full(cells, 2**14), np.full(cells, -2**14), np.arange(cells) % 2 * 2**14]).astype(np.int32)
    half = (127 * 127 * 520 * 40_000 + 2**23) >> 24
    np.testing.assert_array_equal(fixed_point.logits(network.head, fixed_point.rounded(hidden))[:, 0], [expected, -expected, half])
    assert np.all(np.abs(fixed_point.step(network.layer, hidden, np.zeros(3, int))) <= 2**14)


DIGEST = """
import hashlib
from tests.test_fixed_point import fixed_point, messages, stepped, trained
network = fixed_point.assemble(fixed_point.quantise(trained()))
print(hashlib.sha256(stepped(network, messages(5)).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("setting", [
    {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "AVX512F"},
    {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
], ids=["threads", "blas", "simd", "compiler"])
def test_threads_and_kernels_do_not_show(network: fixed_point.Network, setting: dict[str, str], tmp_path: Path):
    """Catches an operation that a floating-point unit rounds: another BLAS kernel, SIMD width or compiler target gives it away."""
    here = hashlib.sha256(stepped(network, messages(5)).tobytes()).hexdigest()
    compiled_anew = {"NUMBA_CACHE_DIR": str(tmp_path)} if "NUMBA_CPU_NAME" in setting else {}
    environment = os.environ | setting | compiled_anew
    program = [sys.executable, "-W", "ignore", "-c", DIGEST]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here
