"""Several tokens a cell from the picture to the picture: what a decoder makes of them, against enumeration and by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.trial import Chain, run, send
from channel_sim.types import Evidence, Origin
from decoders.masked_image import MaskedImage
from tests.chains import chain_of, files, untrained_grid, untrained_vq
from tests.grid_models import ExactField, Neighbours
from tests.laws import assert_rate

GRID = (2, 2, 2)
LAW = ExactField()
ESTIMATES = ["mean_pixels", "mean_embedding", "map", "sample"]


def restored(evidence: Evidence, key: Key = Key(1), **fields: Any):
    return MaskedImage(**{"model": LAW, "num_rounds": 100} | fields).restore([evidence], [key])[0]


def lost_at(values, lost, **fields) -> Evidence:
    known = ~np.isin(np.arange(8), lost)
    return Evidence(known, np.where(known, values, 0).astype(np.int32), 3, GRID, **fields)


@pytest.mark.parametrize("lost", [[5], [4, 5], [0, 1, 6, 7], list(range(8))])
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_the_posterior_is_that_of_each_token_given_all_that_arrived(estimate: str, lost: list[int]):
    """Catches tokens of a cell that are mixed up, and places taken for cells; reference: enumeration of all fields."""
    values = np.array([0, 1, 2, 2, 1, 0, 0, 2])
    evidence = lost_at(values, lost)
    found = restored(evidence, estimate=estimate)
    np.testing.assert_allclose(found.posterior, LAW.marginals(np.where(evidence.known, values, -1).reshape(GRID))[lost], atol=1e-4)
    assert np.array_equal(found.values[evidence.known], values[evidence.known]) and found.grid == GRID
    assert np.array_equal(np.flatnonzero(found.origin != Origin.RECEIVED), lost)


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("soft", [2, 3])
def test_a_soft_token_is_law_times_likelihood(estimate: str, soft: int):
    """Catches bits of one token of a cell given to the other, and a soft token that hears its cell's other one not at all."""
    values, llr = np.array([0, 0, 0, 0, 1, 0, 2, 1]), np.zeros((8, 2), np.float32)
    llr[soft] = 0.7, -0.4
    evidence = lost_at(values, [soft], bit_llr=llr)
    likelihood = np.ones((8, 3))
    likelihood[soft] = [1, np.exp(-0.4), np.exp(0.7)]
    message = np.where(evidence.known, values, -1).reshape(GRID)
    found, exact = restored(evidence, estimate=estimate), LAW.marginals(message, likelihood)[soft]
    np.testing.assert_allclose(found.posterior[0], exact, atol=1e-4)
    assert found.origin[soft] == Origin.INFERRED
    message[0, 1, 3 - soft] = (message[0, 1, 3 - soft] + 1) % 3
    assert np.abs(LAW.marginals(message, likelihood)[soft] - exact).max() > 0.05, "the other token of the cell has a say"


AROUND = np.array([0, 1, 0, 0, 0, 0, 1, 2])
"""Tokens that leave open what the second cell is."""


def alike(num_rounds: int) -> int:
    """In how many of 1,000 draws the two tokens of the second cell, which is lost, are equal."""
    evidence = lost_at(AROUND, [2, 3])
    draws = (restored(evidence, Key(2).child(i), estimate="sample", num_rounds=num_rounds).values for i in range(1000))
    return sum(int(values[2] == values[3]) for values in draws)


def test_tokens_of_a_cell_are_drawn_together():
    """Catches a second token drawn without the first of its cell; reference: the joint law by enumeration. Negative control: in one
    round they are drawn apart, and do not fit together.
    """
    fields, weights = LAW.law(GRID)
    fits = np.all((fields == AROUND)[:, [0, 1, 4, 5, 6, 7]], axis=1)
    expected = weights[fits & (fields[:, 2] == fields[:, 3])].sum() / weights[fits].sum()
    assert_rate(alike(2), 1000, expected)
    with pytest.raises(AssertionError):
        assert_rate(alike(1), 1000, expected)


def test_first_tokens_are_drawn_first(monkeypatch):
    """Catches rounds that run through the cells instead of the stages, which no model of residuals is trained for."""
    heard, tables = [], Neighbours._tables
    monkeypatch.setattr(Neighbours, "_tables", lambda model, message, places: (
        heard.append((message.copy(), places)), tables(model, message, places))[1])
    lost = np.repeat(Key(3).uniform(24) < 0.5, 2)
    evidence = Evidence(~lost, np.where(lost, 0, Key(4).integers(5, 48)).astype(np.int32), 5, (4, 6, 2))
    restored(evidence, model=Neighbours(), estimate="sample", num_rounds=2)
    (_, everything), (_, first), (known, second) = heard
    assert np.array_equal(everything, np.flatnonzero(lost)) and not np.any(first % 2) and np.all(second % 2)
    assert sorted([*first, *second]) == everything.tolist() and np.all(known.ravel()[first] >= 0)


@cache
def weights_of_pairs() -> tuple[str, str]:
    """Of a tokenizer of two tokens a cell, coded alone, and of a masked model of them, as drawn."""
    folder = Path(mkdtemp(prefix="pairs-"))
    tokenizer = untrained_vq(folder / "vq.safetensors", stages=2, alone=True, code_length=48)
    return tokenizer, untrained_grid(folder / "grid.safetensors", tokenizer)


def chain(**stages: Any) -> Chain:
    tokenizer, model = weights_of_pairs()
    for name, stage in stages.items():
        if stage["name"] in ("masked_entropy", "masked_image"):
            stages[name] = {**stage, "model": {"name": "masked_grid", "path": model}}
    source = {"name": "images", "path": str(files() / "tiny.npz")}
    return chain_of({"question": "?", "items": 4, "arm": [{"label": "a"}], "source": source,
                     "tokenizer": {"name": "vq_image", "path": tokenizer}, **stages})


CODED = {"name": "masked_entropy", "num_packets": 5, "rounds": 4}
WHOLE = {"name": "fixed_length", "packet_bits": 72, "vocab_size": 16}
WAYS: dict[str, dict[str, Any]] = {
    "lost packets": {"coder": CODED, "channel": {"name": "packet_loss", "loss_rate": 0.4}},
    "lost halves of cells": {"coder": WHOLE | {"interleave": True}, "channel": {"name": "packet_loss", "loss_rate": 0.4}},
    "flipped bits": {"coder": WHOLE, "channel": {"name": "bsc", "flip_probability": 0.1, "crc": "none", "soft": True}},
    "flipped bits of streams": {"coder": CODED, "channel": {"name": "bsc", "flip_probability": 0.003, "crc": "none", "soft": True}},
}


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("way", WAYS)
def test_whatever_arrives_becomes_a_picture(way: str, estimate: str):
    """Catches shapes that hold for one token a cell, on the way there and back: known tokens stay, posteriors are probabilities,
    the picture is what codes, posterior means of codes stage by stage, or draws decode to.
    """
    one = chain(**WAYS[way], decoder={"name": "masked_image", "estimate": estimate, "num_samples": 2, "num_rounds": 3})
    sent = send(one, range(4), Key(5))
    tokenizer, codes = one.tokenizer, one.tokenizer.network().codes
    unknown = 0
    for outcome in run(one, sent, 0, Key(5)):
        evidence, found = outcome.received.evidence, outcome.received.reconstruction
        content, stage = outcome.received.content, np.arange(found.values.size) % 2
        assert evidence.grid == found.grid == (6, 6, 2) and content.shape == (24, 24, 3)
        assert np.array_equal(found.values[evidence.known], evidence.values[evidence.known]) and not found.lost.any()
        assert np.all(found.posterior >= 0) and np.allclose(found.posterior.sum(axis=1), 1, atol=1e-5)
        restored_places = np.flatnonzero(~evidence.known)
        unknown += restored_places.size
        pictures = []
        for values in found.draws if found.draws is not None else [found.values[restored_places]]:
            vectors = codes[stage, found.values]
            vectors[restored_places] = codes[stage[restored_places], values]
            if found.blend is not None:
                for row, place in zip(found.blend, restored_places, strict=True):
                    vectors[place] = row @ codes[place % 2]
            pictures.append(tokenizer.pixels(vectors.reshape(6, 6, 2, -1).sum(axis=2)))
        assert np.abs(content - np.mean(pictures, axis=0)).max() < 0.502
        if way == "lost packets":
            assert np.array_equal(*evidence.known.reshape(-1, 2).T)
            assert np.array_equal(evidence.values[evidence.known], outcome.sent.tokens.values[evidence.known])
    assert 20 < unknown < 4 * 72 or way == "flipped bits" and unknown == 4 * 72


def test_without_loss_every_token_arrives():
    """Catches a round trip that is exact for single tokens only, of a masked model in integers, from the picture on."""
    one = chain(coder=CODED, channel={"name": "packet_loss", "loss_rate": 0}, decoder={"name": "none"})
    sent = send(one, range(4), Key(5))
    for outcome in run(one, sent, 0, Key(5)):
        assert outcome.received.evidence.known.all()
        assert np.array_equal(outcome.received.reconstruction.values, outcome.sent.tokens.values)
