"""N-gram weights are looked at once a message: not at every table, and not never again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sources.models.ngram import NGram
from sources.training.ngram import train_ngram

TEXTS = b"the cat sat on the mat. " * 40, b"0123456789 " * 80


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_bytes(text)
        train_ngram(tmp_path / f"{number}.txt", tmp_path / f"{number}.safetensors", order=3)
    replace(tmp_path / "model.safetensors", 0)
    return tmp_path / "model.safetensors"


def replace(path: Path, number: int) -> None:
    for suffix in (".safetensors", ".json"):
        path.with_suffix(suffix).write_bytes((path.parent / str(number)).with_suffix(suffix).read_bytes())
    os.utime(path, ns=(number, number))


def test_weights_replaced_between_messages_are_noticed(path: Path) -> None:
    """Catches numbers of the old weights under the digest of the new, in a process that lives through both."""
    model = NGram(path=str(path))
    expected = [NGram(path=str(path.with_stem(number))) for number in "01"]
    for number in (0, 1, 0):
        replace(path, number)
        assert np.array_equal(model.frequencies(model.start(1)), expected[number].frequencies(expected[number].start(1)))
        replace(path, number)
        assert model.digests() == expected[number].digests()
        replace(path, number)
        assert np.array_equal(model.trie().ngrams, expected[number].trie().ngrams)


def test_a_message_is_coded_with_one_model(path: Path) -> None:
    """Catches a message whose end is coded with other weights than its beginning."""
    model = NGram(path=str(path))
    state = model.start(1)
    before = model.frequencies(state)
    replace(path, 1)
    assert np.array_equal(model.frequencies(state), before)


def test_a_table_does_not_ask_the_file_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a call of the operating system a token, which takes ten times as long as the table."""
    model = NGram(path=str(path))
    state = model.start(1)
    monkeypatch.setattr(Path, "stat", None)
    assert model.frequencies(state).sum() == 1 << 16
