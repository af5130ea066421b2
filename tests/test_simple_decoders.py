"""The rules that need no model: none, most_frequent, repeat_last."""

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin
from decoders.most_frequent import MostFrequent
from decoders.none import NoDecoder
from decoders.repeat_last import RepeatLast

R, I, C, L = Origin.RECEIVED, Origin.INFERRED, Origin.CONCEALED, Origin.LOST
GAP = None
DECODERS = [NoDecoder(), MostFrequent(), MostFrequent(symbol=1), RepeatLast()]


def hear(tokens, vocab_size=4, bit_llr=None):
    """Evidence from a list of tokens, with GAP where nothing certain was received."""
    known = np.array([token is not GAP for token in tokens], bool)
    values = np.array([0 if token is GAP else token for token in tokens], np.int32)
    return Evidence(known, values, vocab_size, bit_llr=None if bit_llr is None else np.array(bit_llr, np.float32))


def restore(decoder, *evidence):
    return decoder.restore(list(evidence), [Key(i) for i in range(len(evidence))])


@pytest.mark.parametrize("decoder", DECODERS, ids=repr)
@pytest.mark.parametrize("tokens", [[], [2], [2, 3, 3]])
def test_what_was_received_stays(decoder, tokens):
    """Catches a prior that overrules certain tokens, and empty items that crash."""
    (result,) = restore(decoder, hear(tokens))
    assert result.values.tolist() == tokens and not result.origin.any() and np.all(result.confidence == 1)


@pytest.mark.parametrize("decoder", DECODERS, ids=repr)
def test_items_do_not_depend_on_their_neighbours(decoder):
    """Catches statistics that leak from one item into the next."""
    items = [hear([GAP, 1, GAP]), hear([3, GAP, 3, 3]), hear([GAP, GAP]), hear([])]
    for alone, together in zip([restore(decoder, item)[0] for item in items], restore(decoder, *items)):
        for name in ("values", "origin", "confidence"):
            assert np.array_equal(getattr(alone, name), getattr(together, name))


def test_none_decides_soft_tokens_and_gives_up_the_rest():
    """Catches a guess where half a token is unknown, and a decision outside the vocabulary that is kept."""
    llr = [[0, 0], [-3, 2], [5, 0], [5, 5], [0, 0]]
    (result,) = restore(NoDecoder(), hear([2, GAP, GAP, GAP, GAP], vocab_size=3, bit_llr=llr))
    assert result.values.tolist() == [2, 1, 0, 0, 0] and result.origin.tolist() == [R, I, L, L, L]


def test_most_frequent_fills_with_the_mode():
    """Catches ties to the largest, counting of gaps as zeros, and a posterior that is no probability."""
    (result,) = restore(MostFrequent(), hear([3, 1, GAP, 1, 3, GAP, 0]))
    assert result.values.tolist() == [3, 1, 1, 1, 3, 1, 0] and result.origin.tolist() == [R, R, C, R, R, C, R]
    expected = np.array([1.5, 2.5, 0.5, 2.5]) / 7
    assert np.allclose(result.posterior, [expected, expected], atol=1e-7)
    assert result.confidence[2] == pytest.approx(2.5 / 7)


def test_most_frequent_without_anything_is_uniform():
    """Catches a division by zero in an item that is lost as a whole."""
    (result,) = restore(MostFrequent(), hear([GAP, GAP]))
    assert result.values.tolist() == [0, 0] and result.origin.tolist() == [C, C] and np.allclose(result.posterior, 0.25)


def test_most_frequent_weighs_soft_evidence():
    """Catches soft evidence that is ignored, or that overrules the prior whatever its strength."""
    llr = np.zeros((7, 1))
    llr[4], llr[5] = -1.0, -3.0  # towards 0; the histogram is 0.5 against 4.5, 2.2 nat towards 1
    (result,) = restore(MostFrequent(), hear([1, 1, 1, 1, GAP, GAP, GAP], vocab_size=2, bit_llr=llr))
    assert result.values.tolist() == [1, 1, 1, 1, 1, 0, 1] and result.origin.tolist() == [R, R, R, R, I, I, C]
    assert np.allclose(result.posterior[:, 1], [9 / (9 + np.exp(1)), 9 / (9 + np.exp(3)), 0.9])


def test_most_frequent_takes_a_fixed_symbol():
    """Catches a fixed symbol that reaches soft tokens, a symbol past the vocabulary, and a confidence that is not its own."""
    (result,) = restore(MostFrequent(symbol=2), hear([1, 1, GAP, GAP], bit_llr=[[0, 0], [0, 0], [0, 0], [9, 9]]))
    assert result.values.tolist() == [1, 1, 2, 3] and result.confidence[2] == pytest.approx(0.5 / 4)
    with pytest.raises(ValueError, match="most_frequent.symbol must be less than the vocabulary of 4 tokens, got 4; lower"):
        restore(MostFrequent(symbol=4), hear([1, GAP]))


@pytest.mark.parametrize("tokens, expected, origin", [
    ([1, GAP, GAP, 2, GAP], [1, 1, 1, 2, 2], [R, C, C, R, C]),
    ([GAP, GAP, 3, 2], [3, 3, 3, 2], [C, C, R, R]),
    ([GAP, GAP], [0, 0], [L, L]),
    ([], [], []),
])
def test_repeat_last_holds_the_last_token(tokens, expected, origin):
    """Catches looking ahead inside an item, and an item that is lost as a whole passed off as zeros."""
    (result,) = restore(RepeatLast(), hear(tokens))
    assert result.values.tolist() == expected and result.origin.tolist() == origin
    assert np.all((result.confidence == 0) == (result.origin == L))


def test_repeat_last_repeats_soft_decisions():
    """Catches a soft token skipped over, and a half-known one repeated."""
    (result,) = restore(RepeatLast(), hear([1, GAP, GAP, GAP], bit_llr=[[0, 0], [4, 4], [0, 0], [4, 0]]))
    assert result.values.tolist() == [1, 3, 3, 3] and result.origin.tolist() == [R, I, C, C]


def test_repeat_last_says_how_often_it_is_right():
    """Catches a confidence that is not between what was seen and a half."""
    (result,) = restore(RepeatLast(), hear([1, 1, 1, 2, GAP, 3]))
    assert result.confidence[4] == pytest.approx(2.5 / 4)
