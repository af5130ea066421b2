"""Synthetic sources against their laws; files against their bytes."""

import hashlib
import math
import os
import pickle

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.synthetic import Bernoulli, HiddenMarkov, Markov
from sources.text import BytesFile, Text, python_docs
from tests.laws import assert_rate

SYNTHETIC = [Bernoulli(probability=0.2), Markov(flip_probability=0.1), HiddenMarkov(flip_probability=0.1, observation_error=0.05)]
NUM_TRIALS = 20_000


def draw(source, num_items=NUM_TRIALS):
    """uint8 [num_items, num_symbols]"""
    keys = [Key(7).child("item", i, "source") for i in range(num_items)]
    return np.stack([item.content for item in source.items(range(num_items), keys)])


@pytest.mark.parametrize("source", SYNTHETIC, ids=lambda s: type(s).__name__)
def test_symbols_are_a_prefix_of_a_longer_item(source):
    """Catches draws that depend on the length of the item."""
    short, long = (type(source)(**(source.model_dump() | {"num_symbols": n})) for n in (7, 100))
    assert np.array_equal(draw(short, 3), draw(long, 3)[:, :7])


@pytest.mark.parametrize("source", SYNTHETIC, ids=lambda s: type(s).__name__)
def test_items_do_not_depend_on_their_neighbours(source):
    """Catches one generator shared by a batch, and a component that can't travel to a worker."""
    keys = [Key(3).child("item", i) for i in range(4)]
    together = source.items(range(4), keys)
    alone = [pickle.loads(pickle.dumps(source)).items([i], [keys[i]])[0] for i in range(4)]
    assert all(np.array_equal(a.content, b.content) and a.name == b.name for a, b in zip(together, alone))
    assert source.num_items is None and together[0].content.dtype == np.uint8 and together[0].modality == "symbols"
    assert not np.array_equal(together[0].content, together[1].content)


@pytest.mark.parametrize("source, symbols", [
    (Bernoulli(), "101001101110110110011001"),
    (Markov(flip_probability=0.3), "111110110100011011101110"),
    (HiddenMarkov(flip_probability=0.3, observation_error=0.2), "110111110100011001111100"),
])
def test_first_symbols_are_what_they_were(source, symbols):
    """Golden: catches draws that change without a new `revision`."""
    (item,) = source.items([0], [Key(1)])
    assert "".join(map(str, item.content[:24])) == symbols and source.revision == 1


def test_bernoulli_symbols_are_one_with_their_probability():
    """Catches a swapped alphabet."""
    ones = draw(Bernoulli(probability=0.2, num_symbols=2))
    for position in (0, 1):
        assert_rate(ones[:, position].sum(), NUM_TRIALS, expected=0.2)
    assert_rate((ones[:, 0] & ones[:, 1]).sum(), NUM_TRIALS, expected=0.04)


@pytest.mark.parametrize("flip_probability", [0.1, 0.8])
def test_markov_is_stationary_and_flips(flip_probability):
    """Catches a fixed first symbol, and a flip probability taken for that of staying."""
    x = draw(Markov(flip_probability=flip_probability, num_symbols=6))
    for position in (0, 5):
        assert_rate(x[:, position].sum(), NUM_TRIALS, expected=0.5)
    for position in (1, 5):
        assert_rate((x[:, position] != x[:, position - 1]).sum(), NUM_TRIALS, expected=flip_probability)
    assert_rate((x[:, 5] != x[:, 2]).sum(), NUM_TRIALS, expected=(1 - (1 - 2 * flip_probability) ** 3) / 2)


def test_hidden_markov_sees_the_chain_through_a_channel():
    """Catches errors drawn with the flips' own numbers, and errors that enter the chain."""
    hidden = draw(Markov(flip_probability=0.1, num_symbols=4))
    seen = draw(HiddenMarkov(flip_probability=0.1, observation_error=0.2, num_symbols=4))
    for position in (0, 3):
        assert_rate((hidden ^ seen)[:, position].sum(), NUM_TRIALS, expected=0.2)
    assert_rate((seen[:, 3] != seen[:, 2]).sum(), NUM_TRIALS, expected=(1 - 0.6 * 0.6 * 0.8) / 2)


def test_impossible_parameters_are_refused():
    """Catches probabilities outside [0, 1], chains that never or always flip, empty items, unknown keys."""
    for make in (lambda: Bernoulli(probability=1.1), lambda: Markov(flip_probability=0), lambda: Markov(num_symbols=0), BytesFile,
                 lambda: HiddenMarkov(observation_error=-0.1), lambda: Text(item_bytes=0), lambda: Text(bytes=3)):
        with pytest.raises(ValueError):
            make()


def test_python_docs_are_the_default_text():
    """Catches a default that needs a file, and topics in the order of a dictionary."""
    source = Text(item_bytes=100)
    assert source.path == "python-docs" and source.modality == "text"
    assert source.num_items == math.ceil(len(python_docs()) / 100) > 1000
    item = source.items([2], [Key(1)])[0]
    assert item.name == "python-docs[200:300]" and item.content == python_docs()[200:300] and item.modality == "text"
    assert source.digests() == {"path": hashlib.sha256(python_docs()).hexdigest()}


@pytest.mark.parametrize("num_bytes, num_items", [(1, 1), (7, 1), (8, 2), (14, 2), (15, 3)])
def test_items_tile_the_file(tmp_path, num_bytes, num_items):
    """Catches a tail that is dropped and a tail that is counted but empty."""
    data = bytes(range(num_bytes))
    (tmp_path / "data.bin").write_bytes(data)
    source = BytesFile(path=str(tmp_path / "data.bin"), item_bytes=7)
    items = source.items(range(source.num_items), [Key(i) for i in range(source.num_items)])
    assert source.num_items == num_items and b"".join(item.content for item in items) == data
    assert items[-1].name == f"data.bin[{7 * (num_items - 1)}:{num_bytes}]" and items[-1].modality == "bytes"


def test_items_of_any_length_begin_at_the_same_places(tmp_path):
    """Catches a spacing counted in items, and items that end where the next one begins."""
    (tmp_path / "data").write_bytes(bytes(range(100)))
    short, long = (BytesFile(path=str(tmp_path / "data"), item_bytes=size, spacing_bytes=30) for size in (4, 40))
    assert short.num_items == long.num_items == 4
    for index, (one, other) in enumerate(zip(short.items(range(4), []), long.items(range(4), []), strict=True)):
        assert one.content == bytes(range(30 * index, 30 * index + 4)) == other.content[:4]
        assert len(other.content) == min(40, 100 - 30 * index)


def test_folder_is_its_files_in_order(tmp_path):
    """Catches the order of the disk, files below folders left out, and separators slipped in between."""
    (tmp_path / "b").mkdir()
    for name, content in (("c", b"3"), ("b/z", b"2"), ("a", b"1"), ("b/empty", b"")):
        (tmp_path / name).write_bytes(content)
    assert Text(path=str(tmp_path)).items([0], [Key(1)])[0].content == b"123"


def test_changed_file_is_read_again(tmp_path):
    """Catches a cache that outlives the file, in the data and in its digest."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"one")
    source = Text(path=str(path))
    before = source.digests()
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert source.items([0], [Key(1)])[0].content == b"two" and source.digests() != before


def test_item_past_the_end_names_how_many_there_are(tmp_path):
    """Catches silent empty items and Python's negative indices."""
    (tmp_path / "f").write_bytes(b"abc")
    source = Text(path=str(tmp_path / "f"), item_bytes=2)
    for index in (2, -1):
        with pytest.raises(RequestError, match="there are 2 items"):
            source.items([index], [Key(1)])


@pytest.mark.parametrize("name, rule", [("missing", "can be read"), ("empty", "at least one byte"), ("folder", "at least one byte"),
                                        ("pipe", "neither a regular file"), ("a\0b", "can be read")])
def test_bad_path_is_named_with_rule_and_cure(tmp_path, name, rule):
    """Catches tracebacks for what a user can mistype, and a hang on a pipe."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for use in (lambda s: s.num_items, lambda s: s.digests(), lambda s: s.items([0], [Key(1)])):
        with pytest.raises(RequestError, match=f"source.path must .*{rule}") as caught:
            use(BytesFile(path=str(tmp_path / name)))
        assert ";" in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_file_is_named(tmp_path, monkeypatch):
    """Catches a permission error that ends in a traceback."""
    path = tmp_path / "secret"
    path.write_bytes(b"x")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(RequestError, match="Permission denied.*permissions"):
        Text(path=str(path)).digests()
