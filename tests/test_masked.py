"""The masked model in integers: what it computes, and that no neighbour, batch or thread has a say in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from scenarios import catalogue
from sources.models import fixed_point
from sources.models.masked import FORMAT, Masked
from sources.models.masked_network import MaskedArchitecture
from sources.models.stored import save_weights

SIZES = MaskedArchitecture(vocab_size=300, embedding=24, hidden=48, merge=40)


def trained() -> dict[str, np.ndarray]:
    """Float weights as training might leave them: sure of itself, biases in use."""
    weights = SIZES.initial(Key(1))
    weights["head"] = 8 * weights["head"]
    for name in ("forward_recurrent_bias", "backward_recurrent_bias", "merge_bias", "head_bias"):
        weights[name] = (0.3 * Key(3).child(name).normal(*weights[name].shape)).astype(np.float32)
    return weights


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Masked:
    file = tmp_path_factory.mktemp("masked") / "m.safetensors"
    save_weights(file, fixed_point.quantise(trained()), {"tokenizer": {"name": "bytes"}}, FORMAT)
    return Masked(path=str(file))


def message(num_tokens: int, label: int = 0, unknown: float = 0.2) -> np.ndarray:
    """int32 [num_tokens], one in five unknown."""
    key = Key(4).child(label)
    hidden = key.child("unknown").uniform(num_tokens) < unknown
    return np.where(hidden, -1, key.child("values").integers(300, num_tokens)).astype(np.int32)


def read(weights: dict[str, np.ndarray], layer: str, tokens: list[int]) -> list[np.ndarray]:
    """States after each token, by the equations of `sources.models.recurrent` in float64."""
    hidden, states = np.zeros(SIZES.hidden), []
    for token in tokens:
        outer = np.split(np.tanh(weights["embedding"][token]) @ weights[layer + "input"] + weights[layer + "input_bias"], 3)
        inner = np.split(hidden @ weights[layer + "recurrent"], 3)
        update, reset = (1 / (1 + np.exp(-outer[gate] - inner[gate])) for gate in (0, 1))
        new = np.tanh(outer[2] + reset * (inner[2] + weights[layer + "recurrent_bias"]))
        hidden = new + update * (hidden - new)
        states.append(hidden)
    return states


def log_probabilities(weights: dict[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    """The equations of `sources.models.masked_network` in float64: every token of one message."""
    tokens = [SIZES.start, *np.where(values < 0, SIZES.mask, values).tolist(), SIZES.start]
    before = read(weights, "forward_", tokens)[:-2]
    after = read(weights, "backward_", tokens[::-1])[::-1][2:]
    merged = np.tanh(np.concatenate([before, after], axis=1) @ weights["merge"] + weights["merge_bias"])
    logits = merged @ weights["head"] + weights["head_bias"]
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def everything(model: Masked, messages: list[np.ndarray]) -> list[np.ndarray]:
    return model.frequencies(messages, [np.arange(one.size) for one in messages])


def loss_and_entropy(model: Masked, weights: dict[str, np.ndarray]) -> tuple[float, float]:
    values = message(60)
    expected, found = log_probabilities(weights, values), everything(model, [values])[0] / 2**16
    assert np.array_equal(everything(model, [values])[0].sum(axis=1), np.full(60, 2**16)) and found.min() > 0
    entropy = -np.sum(np.exp(expected) * expected, axis=1).mean()
    return float(np.sum(np.exp(expected) * (expected - np.log(found)), axis=1).mean()), float(entropy)


def test_integers_predict_what_floats_do(model: Masked):
    """Catches a direction, scale, bias or place that is off: the loss against the equations in float64 is under a hundredth."""
    loss, entropy = loss_and_entropy(model, trained())
    assert 0 <= loss < 0.005 * entropy and entropy < 0.95 * np.log(300)
    wrong = trained() | {"backward_recurrent_bias": np.zeros(SIZES.hidden)}
    assert loss_and_entropy(model, wrong)[0] > 0.005 * entropy


def test_a_token_is_predicted_from_all_others_and_never_from_itself(model: Masked):
    """Catches an answer that leaks into the question, at run time: known or not, a place's own token changes nothing there."""
    values = message(12, unknown=0)
    before = everything(model, [values])[0]
    for place in range(12):
        for other in (-1, (values[place] + 1) % 300):
            changed = values.copy()
            changed[place] = other
            moved = (everything(model, [changed])[0] != before).any(axis=1)
            assert not moved[place] and moved[np.arange(12) != place].all()


def test_company_and_what_else_is_asked_do_not_show(model: Masked):
    """Catches lanes that feel one another, a lane that ends early, places asked about out of order, and empty messages."""
    messages = [message(size, label) for label, size in enumerate((7, 0, 1, 30, 18, 300))]
    alone = [everything(model, [one])[0] for one in messages]
    for together, expected in zip(everything(model, messages), alone):
        np.testing.assert_array_equal(together, expected)
    asked = [np.argsort(Key(8).child(i).uniform(one.size))[:one.size // 2] for i, one in enumerate(messages)]
    for some, places, expected in zip(model.frequencies(messages, asked), asked, alone):
        np.testing.assert_array_equal(some, expected[places])


DIGEST = """
import hashlib, sys
from tests.test_masked import Masked, everything, message
tables = everything(Masked(path=sys.argv[1]), [message(20 + one, one) for one in range(5)])
print(hashlib.sha256(b"".join(one.tobytes() for one in tables)).hexdigest())
"""


@pytest.mark.parametrize("setting", [
    {"OPENBLAS_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "AVX512F"},
], ids=["threads", "simd"])
def test_threads_and_kernels_do_not_show(setting: dict[str, str], model: Masked):
    """Catches an operation that a floating-point unit rounds."""
    tables = everything(model, [message(20 + one, one) for one in range(5)])
    here = hashlib.sha256(b"".join(one.tobytes() for one in tables)).hexdigest()
    program = [sys.executable, "-W", "ignore", "-c", DIGEST, str(model.path)]
    done = subprocess.run(program, env=os.environ | setting, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_a_path_says_that_it_is_a_masked_model(model: Masked):
    """Catches masked weights read as causal ones, or the other way round."""
    assert catalogue.model_table(str(model.path), "it") == {"name": "masked", "path": model.path}
    with pytest.raises(RequestError, match="weights of a recurrent model"):
        catalogue.build("models", {"name": "recurrent", "path": model.path}, "it").vocab_size  # type: ignore[attr-defined]
    with pytest.raises(RequestError, match="model.path of a masked model must be given"):
        Masked().vocab_size
