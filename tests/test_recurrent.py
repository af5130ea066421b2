"""The network that is trained against Keras's own GRU, the gradient against automatic differentiation."""

import numpy as np
import pytest

from channel_sim.keys import Key
from sources.models.recurrent import Architecture, network

SMALL = Architecture(vocab_size=11, embedding=5, hidden=7)
KEY = Key(5)


def built(architecture=SMALL, num_lanes=3, precision="float32"):
    """A network with weights that are no special case: biases too are not zero."""
    model = network(architecture, num_lanes, precision)
    for name, shape in architecture.shapes().items():
        model.weight[name].assign(0.5 * KEY.child("test", name).normal(*shape))
    return model


def tokens(lanes, steps, *, starts=()):
    drawn = KEY.child("tokens").integers(SMALL.vocab_size, lanes, steps).astype(np.int32)
    drawn[:, 0] = SMALL.start
    for lane, step in starts:
        drawn[lane, step] = SMALL.start
    return drawn


def numbers(model):
    from keras import ops

    return {name: ops.convert_to_numpy(ops.copy(value)) for name, value in model.weight.items()}


def keras_layer(model):
    """keras.layers.GRU with the same weights: its gates stand in the same order, its state is mixed the same way."""
    import keras

    weight, hidden = numbers(model), SMALL.hidden
    layer = keras.layers.GRU(hidden, return_sequences=True, reset_after=True)
    layer.build((None, None, SMALL.embedding))
    inner = np.concatenate([np.zeros(2 * hidden), weight["recurrent_bias"]])
    layer.set_weights([weight["input"], weight["recurrent"], np.stack([weight["input_bias"], inner])])
    return layer, weight


@pytest.mark.sionna
def test_logits_are_those_of_a_gru():
    """Catches gates in another order, a reset before the product, a bias in the wrong place; reference: keras.layers.GRU."""
    model, given = built(), tokens(3, 9)
    layer, weight = keras_layer(model)
    expected = np.array(layer(np.tanh(weight["embedding"])[given])) @ weight["head"] + weight["head_bias"]
    assert np.allclose(model(given), expected, atol=2e-6)


@pytest.mark.sionna
def test_a_start_token_forgets_what_was_before():
    """Catches messages that know of one another, which would train on a help that is not there."""
    model, given = built(), tokens(3, 9, starts=[(1, 4)])
    whole, after = np.array(model(given)), np.array(model(given[:, 4:]))
    assert np.allclose(whole[1, 4:], after[1], atol=1e-6) and not np.allclose(whole[2, 4:], after[2], atol=1e-2)


@pytest.mark.sionna
def test_training_carries_the_state_over_windows():
    """Catches a state that is lost between two windows, or that leaks into a measurement."""
    model, given = built(), tokens(3, 10, starts=[(0, 6)])
    whole = np.array(model(given))
    parts = [np.array(model(part, training=True)) for part in np.split(given, [4, 7], axis=1)]
    assert np.allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)
    assert np.allclose(model(given), whole, atol=1e-6)


@pytest.mark.sionna
def test_the_written_gradient_is_that_of_the_equations():
    """Catches a term missing from the backward pass; reference: TensorFlow's differentiation of a plain loop."""
    import tensorflow as tf

    model, given = built(), tokens(3, 9, starts=[(1, 4), (2, 8)])
    upstream = tf.constant(KEY.child("upstream").normal(3, 9, SMALL.vocab_size), tf.float32)
    with tf.GradientTape() as tape:
        score = tf.reduce_sum(model(given) * upstream)
    found = dict(zip(model.weight, tape.gradient(score, [one.value for one in model.weight.values()])))
    weight = {name: tf.Variable(value) for name, value in numbers(model).items()}
    with tf.GradientTape() as tape:
        score = tf.reduce_sum(plain(weight, given) * upstream)
    for name, expected in zip(weight, tape.gradient(score, list(weight.values()))):
        assert np.allclose(tf.convert_to_tensor(found[name]), tf.convert_to_tensor(expected), rtol=1e-4, atol=1e-5), name


def plain(weight, given):
    """The equations of the module's docstring, step by step, in TensorFlow alone."""
    import tensorflow as tf

    state, rows, hidden = tf.zeros((len(given), SMALL.hidden)), [], SMALL.hidden
    for column in given.T:
        state = state * tf.constant((column != SMALL.start)[:, None], tf.float32)
        outer = tf.gather(tf.tanh(weight["embedding"]), column) @ weight["input"] + weight["input_bias"]
        inner = state @ weight["recurrent"]
        update, reset = (tf.sigmoid(outer[:, part] + inner[:, part]) for part in (slice(hidden), slice(hidden, 2 * hidden)))
        new = tf.tanh(outer[:, 2 * hidden:] + reset * (inner[:, 2 * hidden:] + weight["recurrent_bias"]))
        state = update * state + (1 - update) * new
        rows.append(state @ weight["head"] + weight["head_bias"])
    return tf.stack(rows, axis=1)


@pytest.mark.sionna
def test_half_precision_is_close():
    """Catches a product left in the wrong type; bfloat16 keeps 8 bits, so a few per cent."""
    given = tokens(3, 9)
    exact, rough = (np.array(built(precision=precision)(given)) for precision in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


def test_initial_weights_follow_the_seed_and_the_shapes():
    """Catches weights of another shape or type, equal for two seeds, and a state that forgets at once."""
    first, again, other = (SMALL.initial(Key(seed)) for seed in (1, 1, 2))
    assert {name: value.shape for name, value in first.items()} == SMALL.shapes()
    assert all(value.dtype == np.float32 for value in first.values())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["recurrent"], other["recurrent"])
    square = first["recurrent"][:, :SMALL.hidden].astype(float)
    assert np.allclose(square @ square.T, np.eye(SMALL.hidden), atol=1e-6)
    assert (first["input_bias"][:SMALL.hidden] >= 0).all() and (first["input_bias"][SMALL.hidden:] == 0).all()
