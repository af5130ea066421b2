"""Placebo models: what is taken away is gone, and everything else is as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Evidence
from decoders.lm_beam import LmBeam
from scenarios.scenario import load
from sources.bpe import vocabulary
from sources.models import weights_file
from sources.models.keras_hub import KerasHub
from sources.models.model import CausalModel
from sources.models.neural import TextByteSmall, TextSmall
from sources.models.ngram import SHIPPED, NGram
from sources.models.placebos import NGramDna, ShuffledContext, Unigram
from sources.models.uniform import Uniform
from sources.text import python_docs
from sources.training.ngram import train_ngram
from tests.test_text_weights import PASSAGE

VALUES = np.frombuffer(PASSAGE, np.uint8).astype(np.int32)


def bits_per_token(model: CausalModel) -> float:
    tables, _ = model.tables(model.start(1), VALUES)
    return float(-np.log2(tables[np.arange(VALUES.size), VALUES] / (1 << model.frequency_bits)).mean())


def test_unigram_is_the_long_run_law(tmp_path: Path):
    """Catches the law of a first token, counts of contexts, and lanes that all write the same.

    A chain that goes from a to b with probability .1 and back with .3 spends 3/4 of its time in a.
    """
    moves, letters = Key(1).child("chain").uniform(40_000), bytearray(b"a")
    for move in moves:
        letters.append(ord("b") if move < (0.1 if letters[-1] == ord("a") else 0.7) else ord("a"))
    (tmp_path / "text.txt").write_bytes(letters)
    train_ngram(tmp_path / "text.txt", tmp_path / "model.safetensors", order=3, level_ratio=1.02)
    model = Unigram(model=NGram(path=str(tmp_path / "model.safetensors")))
    table = model.frequencies(model.start(1))[0] / 65536
    assert table[ord("a")] == pytest.approx(0.75, abs=0.03) and table[ord("b")] == pytest.approx(0.25, abs=0.03)


def test_unigram_of_byte_pair_tokens_costs_about_their_entropy():
    """Catches the law of a message's first token, often the end of a word, which costs two thirds of a bit more."""
    text = python_docs()
    tokens = np.concatenate(vocabulary().encode([text[first:first + 1024] for first in range(0, len(text), 100_000)]))
    model = Unigram(model=TextSmall())
    first, _ = TextSmall().tables(TextSmall().start(1), tokens[:1])
    share = np.bincount(tokens, minlength=1024) / tokens.size
    cost, of_first = (-np.sum(share * np.log2(table / (1 << model.frequency_bits)))
                      for table in (model.frequencies(model.start(1))[0], first[0]))
    assert cost < of_first - 0.3


def test_unigram_hears_no_context():
    """Catches a context that leaks in: the tables of a text are one table."""
    tables, _ = Unigram().tables(Unigram().start(1), VALUES)
    assert np.all(tables == tables[0])


@pytest.mark.parametrize("model", [NGram(), TextByteSmall()], ids=["finite", "recurrent"])
def test_shuffled_context_is_the_model_after_the_same_tokens_in_another_order(model: CausalModel):
    """Catches an order that moves in time, tokens lost or doubled, and tokens before the message taken for token 0."""
    placebo = ShuffledContext(model=model, window_tokens=5)
    order, tables = placebo.order(), placebo.tables(placebo.start(1), VALUES[:12])[0]
    past = [-1] * placebo.context_length
    for table, value in zip(tables, VALUES[:12]):
        heard = [past[place] for place in order]
        if isinstance(model, NGram):
            expected = model.frequencies(np.array([heard], np.int32))[0]
        else:
            state = model.start(1)
            for token in heard:
                state = state if token < 0 else model.advance(state, np.array([token]))
            expected = model.frequencies(state)[0]
        assert np.array_equal(table, expected)
        past = [*past[1:], int(value)]


@pytest.mark.parametrize("window_tokens", [2, 3, 4, 5, 6, 7, 8, 9, 33, 64])
def test_no_token_of_a_shuffled_context_stays_in_its_place(window_tokens: int):
    """Catches an order that leaves the newest token, most of what a model knows, where it was, and one that only moves words."""
    order = ShuffledContext(model=TextByteSmall(), window_tokens=window_tokens).order()
    assert np.array_equal(np.sort(order), np.arange(window_tokens)) and not np.any(order == np.arange(window_tokens))
    assert np.sum(np.diff(order) == 1) <= max(1, window_tokens // 10)


def test_negative_control_a_model_without_context_has_none_to_shuffle():
    """Shuffling must change nothing but the context."""
    values = VALUES[:20]
    plain, shuffled = Unigram(), ShuffledContext(model=Unigram())
    assert np.array_equal(plain.tables(plain.start(1), values)[0], shuffled.tables(shuffled.start(1), values)[0])


def test_a_placebo_costs_more_bits_and_restores_less_than_its_model():
    """Catches a placebo that works: English costs the n-gram less than 3 bits, letters alone more than 4, nothing known 8."""
    lost = np.arange(VALUES.size) % 10 == 5
    evidence = Evidence(~lost, np.where(lost, 0, VALUES), 256)
    models = {"ngram": NGram(), "shuffled": ShuffledContext(), "unigram": Unigram(), "dna": NGramDna(), "uniform": Uniform()}
    bits = {name: bits_per_token(model) for name, model in models.items()}
    right = {name: np.mean((LmBeam(model=model).restore([evidence], [Key(0)])[0].values == VALUES)[lost])
             for name, model in models.items()}
    assert bits["ngram"] < 3 and 4 < bits["unigram"] < 5 and bits["shuffled"] > bits["ngram"] + 1
    assert bits["uniform"] == pytest.approx(8) and bits["dna"] > 8
    assert right["ngram"] > 0.7 and max(right[name] for name in models if name != "ngram") < 0.35


def test_the_placebo_of_a_tokenizer_is_that_of_its_model():
    """Catches a placebo over bytes in a chain of byte-pair tokens, and a placebo of a placebo refused."""
    tables = {"question": "?", "items": 1, "tokenizer": {"name": "bpe"}, "source": {"name": "text"},
              "arm": [{"label": "a", "decoder": {"name": "lm_beam", "model": "unigram"}},
                      {"label": "b", "decoder": {"name": "lm_beam", "model": {"name": "shuffled_context", "model": "unigram"}}}]}
    first, second = [task.chain.decoder.model for task in load(tables).tasks]
    assert first == Unigram(model=TextSmall()) and second == ShuffledContext(model=first)


def test_a_placebo_is_known_by_what_its_model_is_and_not_by_where_it_lies(tmp_path: Path):
    """Catches results of other weights taken for these, and a compressed file that no moved weights decode."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(SHIPPED.with_suffix(suffix), tmp_path / f"moved{suffix}")
    here, moved = Unigram(), Unigram(model=NGram(path=str(tmp_path / "moved.safetensors")))
    assert here.coding_digest() == moved.coding_digest()
    assert len({model.coding_digest() for model in (here, Unigram(model=NGramDna()), ShuffledContext(), NGram())}) == 4


def test_a_model_whose_tables_round_differently_is_refused():
    """Catches tables of floating point coded as if they were exact."""
    with pytest.raises(ValueError, match="model.*tables are integers, got KerasHub"):
        Unigram(model=KerasHub(path="preset"))


def test_the_card_of_the_dna_model_is_of_its_weights():
    """Catches weights replaced without their card, and a gene that costs more than the 2 bits of knowing nothing."""
    config = json.loads((weights_file.FOLDER / "ngram-dna.json").read_text())
    card = (weights_file.FOLDER / "ngram-dna.md").read_text()
    assert config["data"]["sha256"] in card and "1.948" in card and NGramDna().digests() == {"path": config["weights_sha256"]}
    gene = b"ATGAAACGCATTAGCACCACCATTACCACCACCATCACCATTACCACAGGTAACGGTGCGGGCTGA"  # thrL of E. coli, a relative
    values = np.frombuffer(gene, np.uint8)
    tables, _ = NGramDna().tables(NGramDna().start(1), values)
    assert -np.log2(tables[np.arange(values.size), values] / 65536).mean() < 2
