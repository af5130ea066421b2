"""The n-gram: Kneser-Ney against brute force, coding tables, training, and the weights on disk."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.models import kneser_ney
from sources.models.ngram import SHIPPED, NGram
from sources.models.trie import SPREAD, byte_mass, byte_masses, find_contexts, latest_bytes
from sources.training.ngram import bits_per_byte, train_ngram

TEXT = b"the cat sat on the mat; the rat sat on the hat, and that was that. what the cat had, the rat had not: a hat! " * 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> NGram:
    """Order 4 on two lines of text, nothing pruned, counts stored to 1 %."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "text").write_bytes(TEXT)
    train_ngram(folder / "text", folder / "small.safetensors", order=4, level_ratio=1.02)
    return NGram(path=str(folder / "small.safetensors"))


def random_contexts(num_lanes: int, length: int) -> np.ndarray:
    """int32 [num_lanes, length]: pieces of text, some of them the start of a message, and some noise."""
    text = np.frombuffer(TEXT, np.uint8).astype(np.int32)
    contexts = np.stack([text[at:at + length] for at in Key(1).integers(text.size - length, num_lanes)])
    contexts[::5] = Key(2).integers(256, len(contexts[::5]), length)
    for lane in range(0, num_lanes, 7):
        contexts[lane, :lane % (length + 1)] = -1
    return contexts


class BruteForce:
    """Interpolated Kneser-Ney from its definition, with dictionaries, on text taken as a circle."""

    def __init__(self, text: bytes, order: int) -> None:
        circle = text[-order:] + text
        self.counts: list[Counter[bytes]] = [Counter()]
        for length in range(1, order + 1):
            grams = [circle[end - length:end] for end in range(order + 1, len(circle) + 1)]
            longer = {circle[end - length - 1:end] for end in range(order + 1, len(circle) + 1)}
            self.counts.append(Counter(grams) if length == order else Counter(gram[1:] for gram in longer))
        self.plain = [Counter(circle[end - length:end] for end in range(order + 1, len(circle) + 1)) for length in range(order + 1)]

    def probability(self, context: bytes, symbol: int, counts: list[Counter[bytes]] | None = None) -> float:
        counts = counts or self.counts
        length = len(context) + 1
        shorter = self.probability(context[1:], symbol) if context else 1 / 256
        table = counts[length]
        followers = {gram[-1]: number for gram, number in table.items() if gram[:-1] == context}
        if not followers:
            return shorter
        taken = self.discounts(table)
        total = sum(followers.values())
        left = sum(taken[min(number, 3)] for number in followers.values()) / total
        mine = followers.get(symbol, 0)
        return (mine - taken[min(mine, 3)]) / total + left * shorter

    @staticmethod
    def discounts(table: Counter[bytes]) -> list[float]:
        """Chen and Goodman's D1, D2, D3+; 0.75 where the counts of counts give none."""
        having = Counter(table.values())
        taken = [0.0, 0.75, 0.75, 0.75]
        if having[1] and having[2]:
            y = having[1] / (having[1] + 2 * having[2])
            for number in (1, 2, 3):
                if having[number]:
                    estimated = number - (number + 1) * y * having[number + 1] / having[number]
                    taken[number] = estimated if 0 < estimated < number else 0.75
        return taken


def test_probabilities_are_kneser_ney(small: NGram) -> None:
    """Catches wrong continuation counts, discounts, backing off, and contexts read in the wrong direction."""
    reference = BruteForce(TEXT, 4)
    for context in (b"the", b"at ", b"hat", b"e c", b"xth", b"zzz"):
        table = small.frequencies(np.frombuffer(context, np.uint8)[None].astype(np.int32))[0]
        expected = np.array([reference.probability(context, symbol) for symbol in range(256)])
        assert expected.sum() == pytest.approx(1)
        np.testing.assert_allclose(table, 1 + SPREAD * expected, rtol=0.03, atol=1.5)


def test_a_message_starts_with_plain_counts(small: NGram) -> None:
    """Catches continuation counts used for bytes whose context is short because the message has just begun."""
    reference = BruteForce(TEXT, 4)
    for context in (b"", b"t", b"th"):
        state = np.full((1, 3), -1, np.int32)
        state[0, 3 - len(context):] = list(context)
        expected = [reference.probability(context, symbol, reference.plain) for symbol in range(256)]
        np.testing.assert_allclose(small.frequencies(state)[0], 1 + SPREAD * np.array(expected), rtol=0.03, atol=1.5)


def test_tables_sum_and_have_no_zero() -> None:
    """Catches rounding that loses or invents mass: a coder would desynchronise or meet an impossible byte."""
    model = NGram()
    tables = model.frequencies(random_contexts(2000, model.context_length))
    assert tables.dtype == np.int64 and np.all(tables.sum(axis=1) == 1 << model.frequency_bits) and tables.min() == 1


def test_lanes_do_not_matter() -> None:
    """Catches buffers shared between lanes; step by step and all at once must be one function."""
    model = NGram()
    contexts = random_contexts(64, model.context_length)
    together = model.frequencies(contexts)
    for width in (1, 4):
        apart = [model.frequencies(contexts[at:at + width]) for at in range(0, 64, width)]
        assert np.array_equal(np.concatenate(apart), together)


def test_tables_at_once_are_those_step_by_step() -> None:
    """Catches an encoder that sees another context than the decoder, at the start of a message above all."""
    model, values = NGram(), np.frombuffer(TEXT[:80], np.uint8)
    tables, after = model.tables(model.start(1), values)
    state = model.start(1)
    for table, value in zip(tables, values):
        assert np.array_equal(model.frequencies(state)[0], table)
        state = model.advance(state, np.array([value]))
    assert np.array_equal(state, after)


def test_one_mass_is_that_of_the_table() -> None:
    """Catches a scorer of single bytes that differs from the tables."""
    trie = NGram().trie()
    words, masses = np.zeros(8, np.int64), np.zeros(256, np.int64)
    for context in random_contexts(40, 7):
        found = find_contexts(trie, *latest_bytes(context), words)
        byte_masses(trie, words, *found, masses)
        assert [byte_mass(trie, words, *found, symbol) for symbol in range(256)] == masses.tolist()
        assert 0 <= (1 << 40) - masses.sum() < 1 << 22


def test_shipped_model_predicts_text_not_trained_on() -> None:
    """Catches broken weights: a unigram needs 4.5 bits, a model that learnt less than 3 on other technical prose."""
    from sources.text import python_docs

    assert bits_per_byte(NGram(), python_docs()[:100_000]) < 3.0
    assert SHIPPED.stat().st_size <= 6_000_000


def test_training_is_deterministic(tmp_path: Path) -> None:
    """Catches an order of n-grams or a threshold that depends on the run."""
    (tmp_path / "text").write_bytes(TEXT)
    for name in ("one", "two"):
        train_ngram(tmp_path / "text", tmp_path / f"{name}.safetensors", order=5, max_megabytes=0.002)
    for suffix in (".safetensors", ".json", ".md"):
        assert (tmp_path / "one").with_suffix(suffix).read_bytes() == (tmp_path / "two").with_suffix(suffix).read_bytes()


def test_pruning_keeps_to_the_size_and_degrades_gently(tmp_path: Path) -> None:
    """Catches a size that is missed, and pruning of the n-grams that matter."""
    from sources.text import python_docs

    text = python_docs()
    (tmp_path / "text").write_bytes(text[:200_000])
    bits = {}
    for megabytes in (0.02, 0.08, 1.0):
        file = tmp_path / f"{megabytes}.safetensors"
        train_ngram(tmp_path / "text", file, order=6, max_megabytes=megabytes)
        assert file.stat().st_size <= megabytes * 1e6
        bits[megabytes] = bits_per_byte(NGram(path=str(file)), text[200_000:240_000])
    assert 1.0 < bits[1.0] < bits[0.08] < bits[0.02] < 4.0
    assert bits[0.08] < bits[1.0] + 0.3


def test_pruned_count_is_handed_down() -> None:
    """Catches mass that pruning loses: the shorter n-gram must count all that its pruned longer ones counted."""
    lengths = kneser_ney.count(np.frombuffer(b"abcabdabc", np.uint8), 2)
    everything = [np.ones(grams.keys.size, bool) for grams in lengths]
    nothing = [everything[0], ~everything[1]]
    assert kneser_ney.continuation_counts(lengths, everything)[0].tolist() == [2, 1, 1, 1]  # c and d before a
    assert kneser_ney.continuation_counts(lengths, nothing)[0].tolist() == [3, 3, 2, 1]


def test_every_byte_value_can_be_learnt(tmp_path: Path) -> None:
    """Catches contexts with all 256 bytes after them, which overflow a byte that counts them."""
    (tmp_path / "noise").write_bytes(Key(3).integers(256, 100_000).astype(np.uint8).tobytes())
    train_ngram(tmp_path / "noise", tmp_path / "noise.safetensors", order=3)
    model = NGram(path=str(tmp_path / "noise.safetensors"))
    assert bits_per_byte(model, Key(4).integers(256, 20_000).astype(np.uint8).tobytes()) == pytest.approx(8.0, abs=0.2)


def test_one_byte_over_and_over(tmp_path: Path) -> None:
    """Catches discounts and quantiser steps that need more than one count to be defined."""
    (tmp_path / "same").write_bytes(b"a" * 50)
    train_ngram(tmp_path / "same", tmp_path / "same.safetensors")
    assert bits_per_byte(NGram(path=str(tmp_path / "same.safetensors")), b"a" * 100) < 0.2


def test_folder_is_its_files_one_after_the_other(tmp_path: Path) -> None:
    """Catches an order of files that depends on the file system."""
    (tmp_path / "data").mkdir()
    for name, part in (("b", TEXT[100:]), ("a", TEXT[:100])):
        (tmp_path / "data" / name).write_bytes(part)
    (tmp_path / "whole").write_bytes(TEXT)
    for name in ("data", "whole"):
        train_ngram(tmp_path / name, tmp_path / f"{name}.safetensors", order=4)
    assert (tmp_path / "data.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("settings, named", [
    ({"order": 9}, "--order"), ({"order": 1}, "--order"), ({"max_megabytes": 0.0}, "--max-megabytes"),
    ({"max_megabytes": 1e-5}, "--max-megabytes"), ({"level_ratio": 1.0}, "level_ratio"),
])
def test_impossible_settings_are_refused(tmp_path: Path, settings: dict[str, float], named: str) -> None:
    """Catches a request that fails without saying which setting, which rule, which value."""
    (tmp_path / "text").write_bytes(TEXT)
    with pytest.raises(RequestError, match=named):
        train_ngram(tmp_path / "text", tmp_path / "out.safetensors", **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("out.*"))


def test_data_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """Catches a traceback where a path is wrong."""
    (tmp_path / "empty").touch()
    for name in ("missing", "empty"):
        with pytest.raises(RequestError, match="--data"):
            train_ngram(tmp_path / name, tmp_path / "out.safetensors")
    (tmp_path / "text").write_bytes(TEXT)
    with pytest.raises(RequestError, match="--out"):
        train_ngram(tmp_path / "text", tmp_path / "out.bin")
    with pytest.raises(RequestError, match="--out"):
        train_ngram(tmp_path / "text", tmp_path / "text" / "out.safetensors")


def test_foreign_weights_are_refused(tmp_path: Path, small: NGram) -> None:
    """Catches numbers made with a file that is no model, or not the one its .json speaks of."""
    assert small.path is not None
    original = Path(small.path)
    copy = tmp_path / "copy.safetensors"

    def refused(data: bytes, config: str | None) -> None:
        copy.write_bytes(data)
        copy.with_suffix(".json").unlink(missing_ok=True)
        if config is not None:
            copy.with_suffix(".json").write_text(config)
        with pytest.raises(RequestError, match="model.path"):
            NGram(path=str(copy)).digests()

    data, config = original.read_bytes(), original.with_suffix(".json").read_text()
    refused(data, None)
    refused(data, "not json")
    refused(data, json.dumps({**json.loads(config), "format": "another"}))
    refused(data[:-1] + b"x", config)
    refused(b"no weights", config)
    with pytest.raises(RequestError, match="model.path"):
        NGram(path=str(tmp_path / "missing.safetensors")).context_length


def test_digest_tells_models_apart(small: NGram) -> None:
    """Catches results of different weights stored under one address."""
    assert len(small.digests()["path"]) == 64 and small.digests() != NGram().digests()


def test_progress_ends() -> None:
    """Catches a bar that never fills or runs backwards."""
    import tempfile

    seen: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text").write_bytes(TEXT)
        train_ngram(Path(folder) / "text", Path(folder) / "out.safetensors", order=3, progress=lambda *done: seen.append(done))
    assert seen[-1][0] == seen[-1][1] and all(before < after for (before, _), (after, _) in pairwise(seen))
