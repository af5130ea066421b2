"""The masked network that is trained against Keras's own layers, and the masks against their law."""

import numpy as np
import pytest

from channel_sim.keys import Key
from sources.models.masked_network import DIRECTIONS, MaskedArchitecture, masks
from tests.laws import assert_rate

SMALL = MaskedArchitecture(vocab_size=11, embedding=5, hidden=7, merge=6)
KEY = Key(5)


def built(precision="float32"):
    """A network with weights that are no special case: biases too are not zero."""
    model = SMALL.build(3, precision)
    for name, shape in SMALL.shapes().items():
        model.weight[name].assign(0.5 * KEY.child("test", name).normal(*shape))
    return model


def numbers(model):
    from keras import ops

    return {name: ops.convert_to_numpy(ops.copy(value)) for name, value in model.weight.items()}


def window(steps=9, edges=()):
    drawn = KEY.child("tokens").integers(SMALL.vocab_size, 3, steps + 1).astype(np.int32)
    for lane, step in edges:
        drawn[lane, step] = SMALL.start
    return drawn


@pytest.mark.sionna
def test_logits_are_those_of_two_layers_that_read_towards_each_other():
    """Catches a direction read the wrong way, states one place off, a merge in another order; reference: keras.layers.GRU."""
    import keras

    model, given = built(), SMALL.examples(window(), KEY)[0]
    weight, states = numbers(model), []
    for direction in DIRECTIONS:
        layer = keras.layers.GRU(SMALL.hidden, return_sequences=True, reset_after=True, go_backwards=direction == "backward_")
        layer.build((None, None, SMALL.embedding))
        inner = np.concatenate([np.zeros(2 * SMALL.hidden), weight[direction + "recurrent_bias"]])
        layer.set_weights([weight[direction + "input"], weight[direction + "recurrent"],
                           np.stack([weight[direction + "input_bias"], inner])])
        states.append(np.array(layer(np.tanh(weight["embedding"])[given])))
    forward, backward = states[0][:, :-2], states[1][:, ::-1][:, 2:]
    merged = np.tanh(np.concatenate([forward, backward], axis=2) @ weight["merge"] + weight["merge_bias"])
    assert np.allclose(model(given), merged @ weight["head"] + weight["head_bias"], atol=2e-6)


@pytest.mark.sionna
def test_a_token_is_predicted_from_all_others_and_never_from_itself():
    """Catches the answer leaking into the question, which would train perfectly and help nobody; and a side that is not read."""
    model = built()
    given = SMALL.examples(window(), KEY)[0]
    before = np.array(model(given))
    for place in range(9):
        changed = given.copy()
        changed[:, 1 + place] = (given[:, 1 + place] + 1) % SMALL.vocab_size
        moved = np.abs(np.array(model(changed)) - before).max(axis=(0, 2)) > 1e-6
        assert not moved[place] and moved[np.arange(9) != place].all()


@pytest.mark.sionna
def test_messages_know_nothing_of_their_neighbours():
    """Catches a state that is carried over an edge, in either direction."""
    given = SMALL.examples(window(edges=[(1, 4)]), KEY)[0]
    whole, model = np.array(built()(given)), built()
    left, right = np.array(model(given[:, :6])), np.array(model(given[:, 5:]))
    assert np.allclose(whole[1, :4], left[1], atol=1e-6) and np.allclose(whole[1, 5:], right[1], atol=1e-6)
    assert not np.allclose(whole[2, :4], left[2], atol=1e-2)


def test_targets_are_what_was_masked_and_an_edge_is_neither():
    """Catches targets one place off, a masked edge, and masks that are the same in every update."""
    tokens = window(60, edges=[(0, 5), (2, 17)])
    given, targets = SMALL.examples(tokens, KEY)
    inner, hidden = given[:, 1:-1], given[:, 1:-1] == SMALL.mask
    assert np.array_equal(targets, tokens[:, :-1]) and hidden.any()
    assert (given[:, [0, -1]] == SMALL.start).all() and np.array_equal(inner[~hidden], targets[~hidden])
    assert not hidden[targets == SMALL.start].any()
    assert not np.array_equal(given, SMALL.examples(tokens, KEY.child("other"))[0])


def test_masks_follow_their_law():
    """Catches a wrong share and runs of the wrong length.

    Reference: a run of L starts at rate r / L, r = u² / 2, so a token far from the first is free with (1 - r / L)^L, integrated
    over u and the mean of L = 1, 2, 4. One token a lane: tokens of a lane are dependent.
    """
    drawn = masks(KEY, 20_000, 12)
    shares = (np.arange(200_000) + 0.5) / 200_000
    rate = 0.5 * shares**2
    expected = np.mean([1 - (1 - rate / length) ** length for length in (1, 2, 4)])
    assert_rate(int(drawn[:, 9].sum()), 20_000, expected=expected)
    both = np.mean([np.mean(_both(rate / length, length)) for length in (1, 2, 4)])
    assert_rate(int((drawn[:, 9] & drawn[:, 10]).sum()), 20_000, expected=both)


def _both(first, length):
    """Two neighbours masked: by one run over both (L - 1 places to start from), or else by two."""
    one = 1 - (1 - first) ** (length - 1)
    return one + (1 - one) * first**2


@pytest.mark.sionna
def test_initial_weights_predict_nothing_yet():
    """Catches weights of the wrong shape, and a start so far from uniform that training first has to undo it."""
    weights = SMALL.initial(KEY)
    assert {name: value.shape for name, value in weights.items()} == SMALL.shapes()
    assert not np.array_equal(weights["forward_recurrent"], weights["backward_recurrent"])
    model = SMALL.build(3)
    for name, value in weights.items():
        model.weight[name].assign(value)
    logits = np.array(model(SMALL.examples(window(), KEY)[0]))
    assert np.abs(logits).max() < 3
