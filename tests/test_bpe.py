"""Byte-pair encoding: lossless for any bytes, and the tokens that the rule prescribes."""

import json
from collections import Counter

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction
from scenarios.catalogue import build
from sources.bpe import SHIPPED, Bpe, train_bpe, vocabulary

KEY = Key(1)
CORPUS = b"the cat sat on the mat; the hat sat on that cat. " * 40


def encoded(content, tokenizer=Bpe()):
    return tokenizer.encode(Item(content, "text", "t"), KEY)


def decoded(values, vocab_size=1024, origin=None, tokenizer=Bpe()):
    origin = np.zeros(len(values), np.uint8) if origin is None else origin
    return tokenizer.decode(Reconstruction(values, origin, np.ones(len(values), np.float32), vocab_size), KEY)


def merged_by_hand(word, ranks):
    """Byte-pair encoding of one word by its definition: the pair of lowest rank first, until none is left."""
    parts = list(word)
    while True:
        ranked = [(ranks[pair], place) for place, pair in enumerate(zip(parts, parts[1:])) if pair in ranks]
        if not ranked:
            return parts
        place = min(ranked)[1]
        parts[place:place + 2] = ["".join(parts[place:place + 2])]


@pytest.mark.parametrize("content", [
    b"", b"\x00", bytes(range(256)), bytes(range(255, -1, -1)), b"\xff\xfe" * 9, b"a" * 70_000,
    b" " * 3000 + b"\n\r\t\x0b\x0c\x85\xa0", "déjà vu — 東京 🎲\r\n".encode(), "\ud7ff\u0130\u00df".encode("utf-16"),
    b"<|endoftext|> [UNK] </w> ##a", b"don't  stop\n\n  it's 12,345.67",
])
def test_any_bytes_come_back(content):
    """Catches a normaliser, an unknown token, special tokens, or a split that drops or changes a byte."""
    tokens = encoded(content)
    assert tokens.vocab_size == Bpe().vocab_size == 1024 and tokens.values.dtype == np.int32
    back, missing = decoded(tokens.values)
    assert back == content and missing.shape == (len(content),) and not missing.any()


def test_random_bytes_and_a_megabyte_come_back():
    """Catches a loss that depends on length or on rare bytes, and an encoder that is quadratic in the length."""
    for length in range(1, 200):
        content = KEY.child("bytes", length).integers(256, length).astype(np.uint8).tobytes()
        assert decoded(encoded(content).values)[0] == content
    mebibyte = KEY.child("mebibyte").integers(256, 1 << 16).astype(np.uint8).tobytes() + b"one more, " * 98_304
    assert decoded(encoded(mebibyte).values)[0] == mebibyte


def test_tokens_are_those_of_the_definition():
    """Catches a vocabulary whose merges are not applied in their order; reference: the definition, in this file."""
    stored = json.loads(SHIPPED.read_text())["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(stored["merges"])}
    for word in (" indistinguishable", " Mississippi", "ough", "aaaaaaa", " \xe9t\xe9", " twenty"):
        expected = [stored["vocab"][part] for part in merged_by_hand(word, ranks)]
        assert encoded(word.encode("latin-1")).values.tolist() == expected


def test_an_item_is_encoded_alone():
    """Catches an encoder whose cache or batch lets one item change another's tokens."""
    contents = [b"one", b" two", b"", b"one two three"]
    together = vocabulary().encode(contents)
    for content, tokens in zip(contents, together):
        assert np.array_equal(encoded(content).values, tokens)


def test_english_is_shortened_as_much_as_promised():
    """Catches a vocabulary of random merges: the docstring says about 2.5 bytes a token of English."""
    text = (b"It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
            b"it was the epoch of belief, it was the epoch of incredulity, it was the season of Light")
    assert 2.2 < len(text) / encoded(text).values.size < 3.2


def test_a_lost_token_is_one_space_and_missing():
    """Catches a lost token that leaks its value, or whose bytes are not marked."""
    values = encoded(b" the cat").values
    origin = np.full(len(values), Origin.RECEIVED, np.uint8)
    origin[0] = Origin.LOST
    content, missing = decoded(values, origin=origin)
    assert content == b" " + b" the cat"[len(vocabulary().strings[values[0]]):]
    assert missing.tolist() == [True] + [False] * (len(content) - 1)
    assert decoded(values[:0])[0] == b""


def test_training_takes_the_most_frequent_pair_first(tmp_path):
    """Catches merges out of order; reference: pairs counted in this file, within words that take their space along."""
    train_bpe(_file(tmp_path, CORPUS), tmp_path / "v.json", vocab_size=280)
    words = "the cat sat on the mat the hat sat on that cat".split()
    pairs = Counter(pair for word in words for pair in zip(" " + word, word))
    first = json.loads((tmp_path / "v.json").read_text())["model"]["merges"][0]
    assert pairs[tuple(first)] == max(pairs.values())


def test_a_users_vocabulary_is_used_by_path(tmp_path):
    """Catches a path that is ignored, and a digest that doesn't tell two vocabularies apart."""
    said = train_bpe(_file(tmp_path, CORPUS), tmp_path / "v.json", vocab_size=270)
    own = build("tokenizers", {"name": "bpe", "vocabulary": str(tmp_path / "v.json")}, "scenario.tokenizer")
    assert "270 tokens" in said and own.vocab_size == 270 and own.digests() != Bpe().digests()
    content = CORPUS + bytes(range(256))
    tokens = encoded(content, own)
    assert decoded(tokens.values, 270, tokenizer=own)[0] == content
    assert np.array_equal(train_twice(tmp_path), tokens.values)


def train_twice(tmp_path):
    train_bpe(_file(tmp_path, CORPUS), tmp_path / "w.json", vocab_size=270)
    return encoded(CORPUS + bytes(range(256)), Bpe(vocabulary=str(tmp_path / "w.json"))).values


@pytest.mark.parametrize("text", [
    "", "{}", "[1]", '{"model": []}', '{"model": {"vocab": {"a": 0}, "merges": []}}',
    '{"model": {"vocab": {"\u0120t": 0}, "merges": []}}',
    '{"model": {"vocab": {"a": 0}, "merges": [["a", "b"]]}}', '{"model": {"vocab": {"a": 1e99}, "merges": []}}',
])
def test_what_is_no_vocabulary_is_refused(tmp_path, text):
    """Catches a file that would lose bytes, and a traceback for a wrong one."""
    (tmp_path / "v.json").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match="vocabulary must .*v.json"):
        vocabulary(str(tmp_path / "v.json"))


def test_impossible_requests_are_refused(tmp_path):
    """Catches settings that would fail deep inside the library."""
    data = _file(tmp_path, CORPUS)
    with pytest.raises(RequestError, match="vocab-size"):
        train_bpe(data, tmp_path / "v.json", vocab_size=256)
    with pytest.raises(RequestError, match="end in .json"):
        train_bpe(data, tmp_path / "v.txt")
    with pytest.raises(RequestError, match="--data"):
        train_bpe(tmp_path / "missing", tmp_path / "v.json")
    with pytest.raises(RequestError, match="can be read.*missing.json"):
        vocabulary(str(tmp_path / "missing.json"))
    with pytest.raises(ValueError, match="use source text or bytes_file"):
        Bpe().encode(Item(np.zeros(3, np.uint8), "symbols", "s"), KEY)


def _file(folder, content):
    (folder / "data.txt").write_bytes(content)
    return folder / "data.txt"
