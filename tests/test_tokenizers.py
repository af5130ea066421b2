"""Bytes and symbols to tokens and back."""

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction
from sources.tokenizers import BytesTokenizer, Symbols

KEY = Key(1)


def received(values, vocab_size, origin=None):
    origin = np.zeros(len(values), np.uint8) if origin is None else origin
    return Reconstruction(values, origin, np.ones(len(values), np.float32), vocab_size)


@pytest.mark.parametrize("content", [b"", b"\x00", bytes(range(256)), "déjà vu\r\n".encode()])
def test_bytes_come_back(content):
    """Catches an off-by-one in the alphabet and any text decoding on the way."""
    tokens = BytesTokenizer().encode(Item(content, "bytes", "b"), KEY)
    assert tokens.vocab_size == BytesTokenizer().vocab_size == 256
    back, missing = BytesTokenizer().decode(received(tokens.values, 256), KEY)
    assert back == content and missing.shape == (len(content),) and not missing.any()


@pytest.mark.parametrize("symbols", [[], [1], [0, 1, 2, 2]])
def test_symbols_come_back(symbols):
    """Catches a change of type or length between the vector and its tokens."""
    content = np.array(symbols, np.uint8)
    tokens = Symbols(alphabet_size=3).encode(Item(content, "symbols", "s"), KEY)
    back, missing = Symbols(alphabet_size=3).decode(received(tokens.values, 3), KEY)
    assert tokens.vocab_size == 3 and back.dtype == np.uint8 and np.array_equal(back, content) and not missing.any()


def test_only_lost_tokens_are_missing():
    """Catches concealed tokens counted as missing, and a lost token that leaks its value."""
    origin = np.array([Origin.RECEIVED, Origin.INFERRED, Origin.CONCEALED, Origin.LOST], np.uint8)
    values = np.array([1, 1, 1, 1], np.int32)
    content, missing = BytesTokenizer().decode(received(values, 256, origin), KEY)
    assert content == b"\x01\x01\x01\x00" and missing.tolist() == [False, False, False, True]
    symbols, missing = Symbols().decode(received(values, 2, origin), KEY)
    assert symbols.tolist() == [1, 1, 1, 0] and missing.tolist() == [False, False, False, True]


def test_vocabulary_is_no_scenario_key():
    """Catches a vocabulary size that a scenario could set against the tokenizer's own."""
    with pytest.raises(ValueError, match="vocab_size"):
        BytesTokenizer(vocab_size=3)


def test_wrong_content_is_refused_with_the_cure():
    """Catches images or text that pass as symbols, and symbols outside the alphabet."""
    with pytest.raises(ValueError, match="use source text or bytes_file"):
        BytesTokenizer().encode(Item(np.zeros(3, np.uint8), "symbols", "s"), KEY)
    for content in (b"abc", np.zeros((2, 2, 3), np.uint8), np.zeros(2, np.int16)):
        with pytest.raises(ValueError, match="use source markov"):
            Symbols().encode(Item(content, "other", "x"), KEY)
    with pytest.raises(ValueError, match="alphabet_size = 2.*got 2"):
        Symbols().encode(Item(np.array([0, 2], np.uint8), "symbols", "s"), KEY)
