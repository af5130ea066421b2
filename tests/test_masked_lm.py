"""Filling in with a masked model: against exact inference, against the model alone, and what a channel may do."""

from __future__ import annotations

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin
from decoders.exact_markov import ExactMarkovDecoder
from decoders.lm_beam import LmBeam
from decoders.masked_lm import MaskedLm
from scenarios import catalogue
from scenarios.scenario import load
from sources.models.markov import ExactMarkov
from sources.models.masked import Masked, TextMaskedSmall
from sources.models.model import MaskedModel
from sources.models.neural import TextSmall
from tests.chains import files
from tests.test_masked import SIZES, log_probabilities, model, trained  # noqa: F401  (model is a fixture)

FLIP = 0.1


class Bridge(MaskedModel):
    """The true law of a symmetric Markov source: of a symbol, given the nearest known one on each side."""

    @property
    def vocab_size(self) -> int:
        return 2

    def frequencies(self, messages, asked):
        return [np.array([self._row(one, place) for place in places], np.int64).reshape(-1, 2)
                for one, places in zip(messages, asked)]

    @staticmethod
    def _row(values, place):
        law = np.ones(2)
        for side in (values[:place][::-1], values[place + 1:]):
            for distance, value in enumerate(side, 1):
                if value >= 0:
                    stay = (1 + (1 - 2 * FLIP) ** distance) / 2
                    law *= np.where(np.arange(2) == value, stay, 1 - stay)
                    break
        zeros = int(np.clip(round(65536 * law[0] / law.sum()), 1, 65535))
        return zeros, 65536 - zeros


def markov(num_symbols, label=0):
    return (np.cumsum(Key(5).child(label).uniform(num_symbols) < FLIP) % 2).astype(np.int32)


def erased(values, lost, vocab_size=2):
    return Evidence(~lost, np.where(lost, 0, values), vocab_size)


def keys(count):
    return [Key(7).child(one) for one in range(count)]


def restored(decoder, *evidence):
    return decoder.restore(list(evidence), keys(len(evidence)))


def test_one_round_with_the_true_law_is_the_exact_posterior():
    """Catches places mixed up between items or within one; reference: forward-backward, which shares no code."""
    values = [markov(400, one) for one in range(6)]
    given = [erased(one, Key(6).child(i).uniform(400) < 0.5) for i, one in enumerate(values)]
    exact = ExactMarkovDecoder(flip_probability=FLIP).restore(given, keys(6))
    for one, two in zip(MaskedLm(model=Bridge(), num_rounds=1).restore(given, keys(6)), exact):
        np.testing.assert_allclose(one.posterior, two.posterior, atol=1e-3)
        np.testing.assert_allclose(one.confidence, two.confidence, atol=1e-3)


def by_hand(lost, values, num_rounds, heard_above):
    """Posterior of one item by the rule of the docstring, with the closed form above, one token at a time."""
    heard = np.where(lost, -1, values)
    for _ in range(num_rounds):
        rows = {place: np.array(Bridge._row(heard, place)) / 65536 for place in np.flatnonzero(lost)}
        for place, row in rows.items():
            heard[place] = row.argmax() if row.max() > heard_above else -1
    return np.array(list(rows.values()))


@pytest.mark.parametrize(("num_rounds", "heard_above"), [(1, 0.5), (2, 0.5), (2, 0.85), (3, 0.7), (50, 0.85), (4, 1)])
def test_what_is_sure_is_heard_in_the_next_round(num_rounds, heard_above):
    """Catches a token that is heard too soon or too late, one round too many, and an item that stops before it has settled."""
    values, lost = markov(60), Key(8).uniform(60) < 0.6
    found, = restored(MaskedLm(model=Bridge(), num_rounds=num_rounds, heard_above=heard_above), erased(values, lost))
    posterior = by_hand(lost, values, num_rounds, heard_above)
    np.testing.assert_allclose(found.posterior, posterior, atol=1e-6)
    np.testing.assert_allclose(found.confidence[lost], posterior.max(axis=1), atol=1e-6)
    assert np.array_equal(found.values[lost], posterior.argmax(axis=1)) and np.array_equal(found.values[~lost], values[~lost])
    assert np.array_equal(found.origin, np.where(lost, Origin.CONCEALED, Origin.RECEIVED))


def test_it_stops_where_nothing_changes():
    """Catches rounds that are paid for and change nothing, and items that are weighed on and on for the sake of others."""
    class Counted(Bridge):
        def frequencies(self, messages, asked):
            counts.append(len(messages))
            return super().frequencies(messages, asked)

    counts = []
    lost = [np.isin(np.arange(60), places) for places in ([30], [10, 40], [])]
    restored(MaskedLm(model=Counted(), num_rounds=50), *(erased(markov(60), one) for one in lost))
    assert counts == [2, 2]  # in the second nothing is new


def test_sure_evidence_is_heard_in_the_first_round():
    """Catches soft tokens that the first round takes for erased: between two of them the middle is filled at once."""
    llr = np.zeros((3, 1), np.float32)
    llr[[0, 2]] = 9
    found, = restored(MaskedLm(model=Bridge(), num_rounds=1), Evidence(np.zeros(3, bool), np.zeros(3, np.int32), 2, bit_llr=llr))
    assert found.posterior[1, 1] == pytest.approx(0.9**2 / (0.9**2 + 0.1**2), abs=1e-3)


def test_a_soft_token_is_law_times_likelihood(model: Masked):  # noqa: F811
    """Catches bits in the wrong order and evidence that is forgotten; reference: the equations in float64, bit by bit."""
    values = Key(9).integers(300, 12).astype(np.int32)
    known = np.arange(12) != 5
    llr = np.zeros((12, 9), np.float32)
    llr[5] = Key(10).normal(9) * 2
    found, = restored(MaskedLm(model=model), Evidence(known, np.where(known, values, 0), 300, bit_llr=llr))
    law = np.exp(log_probabilities(trained(), np.where(known, values, -1))[5])
    for token in range(300):
        for bit, one in enumerate(f"{token:09b}"):
            law[token] *= 1 / (1 + np.exp(-llr[5, bit] if one == "1" else llr[5, bit]))
    law /= law.sum()
    np.testing.assert_allclose(found.posterior[0], law, atol=0.03)
    assert found.values[5] == law.argmax() and found.origin[5] == Origin.INFERRED
    assert np.abs(found.posterior[0] - np.exp(log_probabilities(trained(), np.where(known, values, -1))[5])).max() > 0.1


def test_company_does_not_show(model: Masked):  # noqa: F811
    """Catches an item whose rounds depend on how many its neighbours need."""
    sizes = (40, 1, 0, 7, 90)
    given = [erased(Key(11).child(i).integers(300, size).astype(np.int32), Key(12).child(i).uniform(size) < 0.4, 300)
             for i, size in enumerate(sizes)]
    together = restored(MaskedLm(model=model), *given)
    for one, evidence in zip(together, given):
        alone, = restored(MaskedLm(model=model), evidence)
        assert np.array_equal(one.values, alone.values) and np.array_equal(one.posterior, alone.posterior)


def soft(llr):
    return Evidence(np.zeros(len(llr), bool), np.zeros(len(llr), np.int32), 300, bit_llr=np.asarray(llr, np.float32))


@pytest.mark.parametrize("evidence", [
    erased(np.zeros(0, np.int32), np.zeros(0, bool), 300), erased(np.zeros(1, np.int32), np.ones(1, bool), 300),
    erased(np.zeros(50, np.int32), np.ones(50, bool), 300), erased(np.arange(50, dtype=np.int32), np.zeros(50, bool), 300),
    soft(np.full((20, 9), 1e4)), soft(np.full((20, 9), -1e4)), soft(np.zeros((20, 9))),
], ids=["empty", "one", "all lost", "nothing lost", "no such token", "all zeros", "soft and silent"])
def test_whatever_arrives_is_restored(evidence: Evidence, model: Masked):  # noqa: F811
    """Catches crashes and posteriors that are no probabilities, also where the bits spell a token that there is not."""
    found, = restored(MaskedLm(model=model, num_rounds=3), evidence)
    assert found.posterior is not None and np.isfinite(found.posterior).all()
    assert np.array_equal(found.values[evidence.known], evidence.values[evidence.known])


def test_bits_that_are_sure_are_believed(model: Masked):  # noqa: F811
    """Catches a prior that overrules a channel which leaves no doubt."""
    values = Key(13).integers(300, 30)
    bits = (values[:, None] >> np.arange(8, -1, -1)) & 1
    found, = restored(MaskedLm(model=model), soft((2 * bits - 1) * 40.0))
    assert np.array_equal(found.values, values) and found.confidence.min() > 0.999


def test_wrong_models_are_refused_with_the_cure(model: Masked):  # noqa: F811
    """Catches a traceback, a model of other tokens, and a causal model where a masked one is needed."""
    lost = erased(np.zeros(4, np.int32), np.ones(4, bool))
    with pytest.raises(RequestError, match="vocab_size 2, got one of 300"):
        restored(MaskedLm(model=model), lost)
    with pytest.raises(RequestError, match="decoder.model must be given"):
        restored(MaskedLm(), lost)
    tables = {"question": "?", "items": 1, "source": {"name": "text", "item_bytes": 64}, "arm": [{"label": "a"}],
              "decoder": {"name": "masked_lm"}}
    with pytest.raises(RequestError, match="no shipped model fits.*tokenizer bytes; name one of text-masked-small"):
        load(tables)
    decoder = load(tables | {"tokenizer": {"name": "bpe"}}).tasks[0].chain.decoder
    assert isinstance(decoder, MaskedLm) and decoder.model == TextMaskedSmall()
    for wrong in ("ngram", str(files() / "tiny.safetensors")):
        with pytest.raises(RequestError, match="no masked_model is called"):
            load(tables | {"decoder": {"name": "masked_lm", "model": wrong}})
    with pytest.raises(RequestError, match="no model is called 'masked'"):
        load(tables | {"decoder": {"name": "lm_beam", "model": str(files() / "tiny-masked.safetensors")}})
    assert SIZES.vocab_size == model.vocab_size


def test_a_guide_changes_what_is_held_and_not_what_it_weighs():
    """Catches a guide that is counted as evidence: a beam that holds all ways has the exact posterior with it or without."""
    values, lost = markov(200), Key(14).uniform(200) < 0.5
    exact, = ExactMarkovDecoder(flip_probability=FLIP).restore([erased(values, lost)], keys(1))
    for guide in (None, Bridge()):
        found, = restored(LmBeam(model=ExactMarkov(flip_probability=FLIP), beam_width=64, guide=guide), erased(values, lost))
        assert np.abs(found.posterior - exact.posterior).max() < 1e-3


class Oracle(MaskedModel):
    """Sure of one token in each place, right or wrong."""

    sure_of: tuple[int, ...]

    @property
    def vocab_size(self) -> int:
        return 256

    def frequencies(self, messages, asked):
        chosen = [np.array(self.sure_of)[places] for places in asked]
        return [np.where(np.arange(256) == one[:, None], 65536 - 255, 1) for one in chosen]


def test_a_guide_says_what_a_narrow_beam_holds():
    """Catches a guide that is dropped on its way, or read at another place: what it holds, what follows is asked to confirm."""
    prior = catalogue.build("models", {"name": "recurrent", "path": str(files() / "tiny.safetensors")}, "it")
    lost, told = np.arange(30) % 4 == 2, []
    given = erased(np.arange(30, dtype=np.int32), lost, 256)
    for seed in (15, 16):
        guide = Oracle(sure_of=tuple(Key(seed).integers(256, 30).tolist()))
        told.append([restored(LmBeam(model=prior, beam_width=1, guide=one), given)[0].posterior for one in (None, guide)])
    assert np.array_equal(told[0][0], told[1][0]) and np.abs(told[0][1] - told[1][1]).max() > 1e-3
    for _, guided in told:
        assert np.abs(guided - told[0][0]).max() > 1e-3


@pytest.mark.parametrize("key", ["model", "guide"])
def test_weights_that_are_none_are_refused_by_arm_and_key(key):
    """Catches a complaint of some model.path that leaves open which arm's, and of which table."""
    causal = {"name": "masked", "path": str(files() / "tiny.safetensors")}
    for given, told in ((causal, "model.path must be weights of a masked model.*make them with"), (7, "a name, a path or a table")):
        decoder = {"name": "masked_lm" if key == "model" else "lm_beam", key: given}
        with pytest.raises(RequestError, match=f"arm 'a': decoder.{key}: .*{told}"):
            load({"question": "?", "arm": [{"label": "a"}], "decoder": decoder})


def test_ngram_weights_that_are_none_are_refused_by_arm_and_key():
    """Catches files of a model that are looked for only after it was found to fit."""
    coder = {"name": "entropy", "model": {"name": "ngram", "path": "none.safetensors"}}
    with pytest.raises(RequestError, match="arm 'a': coder.model: model.path must be n-gram weights"):
        load({"question": "?", "arm": [{"label": "a"}], "coder": coder})


def test_a_scenario_names_a_guide_by_its_path_and_only_a_masked_one():
    """Catches a guide that only Python can give, a causal model in its place, and one of other tokens."""
    path = str(files() / "tiny-masked.safetensors")
    tables = {"question": "?", "items": 1, "source": {"name": "text", "item_bytes": 64}, "arm": [{"label": "a"}]}
    decoder = load(tables | {"decoder": {"name": "lm_beam", "guide": path}}).tasks[0].chain.decoder
    assert isinstance(decoder, LmBeam) and decoder.guide == Masked(path=path)
    with pytest.raises(RequestError, match="no masked_model is called 'ngram'"):
        load(tables | {"decoder": {"name": "lm_beam", "guide": "ngram"}})
    with pytest.raises(RequestError, match="decoder.guide: masked knows 256 tokens, the tokenizer bpe makes 1024"):
        load(tables | {"tokenizer": {"name": "bpe"}, "decoder": {"name": "lm_beam", "guide": path}})


def test_a_beam_that_names_no_model_is_guided_where_a_guide_is_shipped():
    """Catches the worse of two defaults, a guide for tokens that have none, and one forced on a model that was named."""
    def decoder(tokenizer, **fields):
        tables = {"question": "?", "source": {"name": "text"}, "arm": [{"label": "a"}]}
        return load(tables | {"tokenizer": {"name": tokenizer}, "decoder": {"name": "lm_beam"} | fields}).tasks[0].chain.decoder

    assert decoder("bpe").guide == TextMaskedSmall() and decoder("bpe").model == TextSmall()
    assert decoder("bytes").guide is None and decoder("bpe", model="text-small").guide is None
