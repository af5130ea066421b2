"""Messages for training: the whole text, each byte once an epoch, from the start state, and a continuation that misses nothing."""

import numpy as np
import pytest

from channel_sim.keys import Key
from sources.training.text_lanes import BLOCK_BYTES, Lanes, messages, pieces, set_aside

KEY = Key(3)
START = 256


def as_bytes(contents):
    return [np.frombuffer(content, np.uint8).astype(np.int32) for content in contents]


def lanes(text, num_lanes=3, **place):
    return Lanes(text, as_bytes, START, 40, KEY, num_lanes, **place)


def numbered(length):
    """Bytes that differ from their neighbours, so that order and place show."""
    return (np.arange(length) * 7 % 251).astype(np.uint8).tobytes()


@pytest.mark.parametrize("num_bytes", [1, 39, 40, 41, 1000, 5003])
def test_pieces_cut_the_text_once(num_bytes):
    """Catches a byte that is never trained on or twice, and a message longer than four times the usual."""
    cut = pieces(num_bytes, 40, KEY)
    ordered = cut[np.argsort(cut[:, 0])]
    assert ordered[0, 0] == 0 and ordered[-1, 1] == num_bytes and np.array_equal(ordered[1:, 0], ordered[:-1, 1])
    assert (cut[:, 1] > cut[:, 0]).all() and (cut[:, 1] - cut[:, 0]).max() <= 160


def test_pieces_begin_elsewhere_in_every_epoch_and_are_shuffled():
    """Catches a phase or an order that stays, after which the starts of messages would be learned by heart."""
    cuts = [pieces(5003, 40, KEY.child(epoch)) for epoch in range(2)]
    assert set(cuts[0][:, 0]) - set(cuts[1][:, 0]) and not np.array_equal(cuts[0], np.sort(cuts[0], axis=0))
    assert np.array_equal(cuts[0], pieces(5003, 40, KEY.child(0)))
    lengths = np.diff(pieces(400_000, 40, KEY), axis=1).ravel()
    assert abs((lengths == 160).mean() - 0.2) < 0.02  # 5 standard deviations of some 6,000 draws


def test_lanes_hold_every_message_behind_a_start():
    """Catches tokens lost or repeated between windows, and messages without their start token."""
    text, source = numbered(2000), lanes(numbered(2000))
    seen = np.concatenate([source.window(16)[:, :-1] for _ in range(80)], axis=1)
    epoch = pieces(2000, 40, KEY.child("epoch", 0))
    parts = [part for row in seen for part in np.split(row, np.flatnonzero(row == START))[1:]]
    found = {bytes(part[1:].tolist()) for part in parts}
    for first, end in epoch:
        assert text[first:end] in found
    assert (seen[:, 0] == START).all() and source.epoch >= 1


def test_the_last_token_of_a_window_is_the_first_of_the_next():
    """Catches a target that is never predicted at the seam of two windows."""
    source = lanes(numbered(3000))
    before, after = source.window(8), source.window(8)
    assert before.shape == (3, 9) and before.dtype == np.int32 and np.array_equal(before[:, -1], after[:, 0])


def test_a_continuation_is_the_same_lanes():
    """Catches a place in the data that is not wholly kept: epoch, message, or the tokens that wait."""
    source = lanes(numbered(700))
    for _ in range(30):
        source.window(16)
    going_on = lanes(numbered(700), epoch=source.epoch, next_piece=source.next_piece, waiting=list(source.waiting))
    for _ in range(30):
        assert np.array_equal(source.window(16), going_on.window(16))


def test_what_is_set_aside_is_not_trained_on():
    """Catches a part that is in both, or in neither, for long and for short texts."""
    blocks = [bytes([number]) * BLOCK_BYTES for number in range(17)]
    training, aside = set_aside(b"".join(blocks), 4)
    assert aside == blocks[3] + blocks[7] + blocks[11] + blocks[15]
    assert training == b"".join(block for number, block in enumerate(blocks) if number % 4 != 3)
    training, aside = set_aside(numbered(1000), 4)
    assert len(aside) == 100 and training + aside == numbered(1000)


def test_messages_are_spread_over_the_text():
    """Catches measuring on the beginning alone."""
    text = numbered(10_000)
    assert messages(text, 1000, 4) == [text[first:first + 1000] for first in (0, 3000, 6000, 9000)]
    assert messages(text[:50], 1000, 4) == [text[:50]] and len(messages(text, 10, 7)) == 7
