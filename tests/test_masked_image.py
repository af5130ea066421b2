"""Restoring with a masked model: posteriors against enumeration, draws against the joint law, and what squared errors must be."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin, Reconstruction
from decoders.masked_image import MaskedImage
from tests.grid_models import ExactField, Neighbours
from tests.laws import assert_rate

GRID = (2, 3)
LAW = ExactField()
ESTIMATES = ["mean_pixels", "mean_embedding", "map", "sample"]
AS_EVER = {"mean_pixels": "321aec956f61185c", "mean_embedding": "1c5d9cadd31a0ff0", "map": "e708ee247ec097d6",
           "sample": "40bf5197ab5d6556"}


def decoder(**fields) -> MaskedImage:
    return MaskedImage(**{"model": LAW, "num_rounds": 100} | fields)


def lost_at(values, lost, grid=GRID, vocab_size=3) -> Evidence:
    known = ~np.isin(np.arange(len(values)), lost)
    return Evidence(known, np.where(known, values, 0).astype(np.int32), vocab_size, grid)


def restored(one: MaskedImage, evidence: Evidence, key: Key = Key(1)) -> Reconstruction:
    return one.restore([evidence], [key])[0]


@pytest.mark.parametrize("lost", [[4], [0, 1], [0, 2, 4, 5], list(range(6))])
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_the_posterior_is_that_of_each_token_given_all_that_arrived(estimate: str, lost: list[int]):
    """Catches places mixed up, and a posterior that has heard guesses; reference: enumeration of all fields."""
    values = np.array([0, 1, 2, 2, 1, 0])
    found = restored(decoder(estimate=estimate), lost_at(values, lost))
    message = np.where(np.isin(np.arange(6), lost), -1, values).reshape(GRID)
    exact = LAW.marginals(message)[lost]
    np.testing.assert_allclose(found.posterior, exact, atol=1e-4)
    np.testing.assert_allclose(found.confidence[lost], exact[np.arange(len(lost)), found.values[lost]], atol=1e-4)
    assert np.array_equal(np.flatnonzero(found.origin == Origin.CONCEALED), lost)
    assert (found.blend is None) == (estimate != "mean_embedding") and (found.draws is None) == (estimate != "mean_pixels")
    if estimate == "mean_embedding":
        assert np.array_equal(found.blend, found.posterior)


@pytest.mark.parametrize("high, low", [(0.7, -0.4), (3, -3)], ids=["in doubt", "sure of itself"])
def test_a_soft_token_is_law_times_likelihood(high: float, low: float):
    """Catches bits in the wrong order, and evidence or law that is forgotten, also where the bits alone make sure; reference:
    enumeration with the likelihood in it, of the posterior and of how often a value is drawn.
    """
    values, known = np.array([0, 0, 2, 0, 1, 0]), np.arange(6) != 4  # all beside it disagree with its bits
    llr = np.zeros((6, 2), np.float32)
    llr[4] = high, low
    evidence = Evidence(known, np.where(known, values, 0).astype(np.int32), 3, GRID, bit_llr=llr)
    likelihood = np.ones((6, 3))
    likelihood[4] = [1, np.exp(low), np.exp(high)]
    exact = LAW.marginals(np.where(known, values, -1).reshape(GRID), likelihood)[4]
    for estimate in ESTIMATES:
        found = restored(decoder(estimate=estimate), evidence)
        np.testing.assert_allclose(found.posterior[0], exact, atol=1e-4)
        assert found.origin[4] == Origin.INFERRED
    drawn = [restored(decoder(estimate="sample"), evidence, Key(11).child(i)).values[4] for i in range(2000)]
    assert_rate(drawn.count(2), len(drawn), exact[2])
    assert np.abs(exact - LAW.marginals(np.where(known, values, -1).reshape(GRID))[4]).max() > 0.05
    assert np.abs(exact - likelihood[4] / likelihood[4].sum()).max() > 0.05


def test_a_sure_soft_token_is_heard():
    """Catches soft evidence that helps none but its own token, and a model asked about a place that it hears."""
    llr = np.zeros((6, 2), np.float32)
    llr[3] = 9, -9  # token 2, all but surely
    evidence = Evidence(np.zeros(6, bool), np.zeros(6, np.int32), 3, GRID, bit_llr=llr)
    message = np.where(np.arange(6) == 3, 2, -1).reshape(GRID)
    for estimate in ESTIMATES:
        found = restored(decoder(estimate=estimate), evidence)
        np.testing.assert_allclose(np.delete(found.posterior, 3, axis=0), np.delete(LAW.marginals(message), 3, axis=0), atol=1e-4)
        assert found.values[3] == 2 and found.posterior[3, 2] > 0.999


@cache
def flipped(flip_probability: float, estimate: str) -> tuple[int, int, int, int, float]:
    """(tokens, wrong ones by their bits alone, by the decoder, by the exact posterior, what the decoder says of its own) of fields
    drawn from the law, their bits flipped one by one.
    """
    fields, law = LAW.law(GRID)
    truths = fields[np.searchsorted(np.cumsum(law), Key(12).uniform(500))]
    wrong, said = np.zeros(3, int), 0.0
    for item, values in enumerate(truths):
        bits = np.stack([values >> 1, values & 1], axis=1)
        flips = Key(13).child(item).uniform(12).reshape(6, 2) < flip_probability
        llr = np.where(bits ^ flips, 1, -1) * np.log(1 / flip_probability - 1)
        evidence = Evidence(np.zeros(6, bool), np.zeros(6, np.int32), 3, GRID, bit_llr=llr.astype(np.float32))
        likelihood = np.exp(np.stack([0 * llr[:, 0], llr[:, 1], llr[:, 0]], axis=1))
        exact = LAW.marginals(np.full(GRID, -1), likelihood)
        found = restored(decoder(estimate=estimate), evidence, Key(14).child(item))
        wrong += [int((guess != values).sum()) for guess in (likelihood.argmax(axis=1), found.values, exact.argmax(axis=1))]
        said += float(1 - found.confidence.mean()) * 6
    return truths.size, int(wrong[0]), int(wrong[1]), int(wrong[2]), said


@pytest.mark.parametrize("estimate", ["mean_embedding", "map"])
def test_flipped_bits_are_mended_by_what_stands_around(estimate: str):
    """Catches tokens left at their own flips, or worse than their bits alone; reference: the optimum by enumeration of all fields.
    """
    _, alone, by_model, least = flipped(0.01, estimate)[:4]
    assert least <= by_model < alone
    _, alone, by_model, least = flipped(0.1, estimate)[:4]
    assert by_model - least < 0.25 * (alone - least) and least < 0.9 * alone, "most of what can be gained is"


@pytest.mark.parametrize("estimate", ["mean_embedding", "sample"])
def test_what_is_said_of_flipped_tokens_is_how_many_are_wrong(estimate: str):
    """Catches bits that are counted twice, once by a token and once more by its neighbours, and draws that come too often right or
    too seldom: a draw must be wrong more often than the bits alone here.
    """
    num, alone, wrong, _, said = flipped(0.1, estimate)
    assert_rate(wrong, num, said / num)
    with pytest.raises(AssertionError):
        assert_rate(wrong, num, 0.75 * said / num)
    assert (wrong > alone) == (estimate == "sample")


def test_erasures_are_restored_as_ever():
    """Catches soft evidence that meddles where there is none; regenerate only together with `revision`."""
    found = {}
    for estimate in ESTIMATES:
        digest = hashlib.sha256()
        for item in range(4):
            lost = np.flatnonzero(Key(21).child(item).uniform(63) < 0.2 * (item + 1))
            evidence = lost_at(Key(20).child(item).integers(5, 63), lost, (7, 9), 5)
            one = restored(MaskedImage(model=Neighbours(), estimate=estimate, num_samples=3), evidence, Key(22).child(item))
            for array in (one.values, one.posterior, one.draws):
                digest.update(b"" if array is None else array.tobytes())
        found[estimate] = digest.hexdigest()[:16]
    assert found == AS_EVER


LOST = [0, 1, 2, 4, 5]


@cache
def many_draws(num_rounds: int) -> np.ndarray:
    """[draws, lost tokens], one draw an item key, of five lost tokens beside a known one."""
    one = decoder(estimate="sample", num_rounds=num_rounds)
    evidence = lost_at(np.full(6, 1), LOST)
    return np.array([restored(one, evidence, Key(2).child(i)).values[LOST] for i in range(2000)])


def joint_law() -> tuple[np.ndarray, np.ndarray]:
    fields, weights = LAW.law(GRID)
    fits = fields[:, 3] == 1
    return fields[fits][:, LOST], weights[fits] / weights[fits].sum()


def test_draws_come_as_often_as_the_joint_law_says():
    """Catches draws that are too sure or too even, and tokens that do not fit together; reference: enumeration."""
    fields, law = joint_law()
    drawn = many_draws(100)
    for token in range(3):
        for place in range(5):
            assert_rate((drawn[:, place] == token).sum(), len(drawn), law[fields[:, place] == token].sum())
    assert_rate((drawn[:, 0] == drawn[:, 1]).sum(), len(drawn), law[fields[:, 0] == fields[:, 1]].sum())
    assert_rate(np.all(drawn == drawn[:, :1], axis=1).sum(), len(drawn), law[np.all(fields == fields[:, :1], axis=1)].sum())


def test_negative_control_draws_of_one_round_do_not_fit_together():
    """The test above must tell: drawn apart, tokens have their own laws still, and not the joint one."""
    fields, law = joint_law()
    drawn = many_draws(1)
    assert_rate((drawn[:, 0] == 1).sum(), len(drawn), law[fields[:, 0] == 1].sum())
    with pytest.raises(AssertionError):
        assert_rate(np.all(drawn == drawn[:, :1], axis=1).sum(), len(drawn), law[np.all(fields == fields[:, :1], axis=1)].sum())


@cache
def squared_errors() -> dict[str, np.ndarray]:
    """By estimate: squared error of one-hot vectors, item by item; truths drawn from the law itself, three tokens lost."""
    fields, law = LAW.law(GRID)
    chosen = np.searchsorted(np.cumsum(law), Key(3).uniform(1000))
    lost = [0, 3, 4]
    found: dict[str, list[float]] = {"sample": [], "mean_embedding": [], "mean_pixels": [], "map": []}
    one_hot = np.eye(3)
    for item, values in enumerate(fields[chosen]):
        for estimate in found:
            out = restored(decoder(estimate=estimate, num_samples=4), lost_at(values, lost), Key(4).child(item))
            guess = one_hot[out.values[lost]]
            if out.blend is not None:
                guess = out.blend
            if out.draws is not None:
                guess = one_hot[out.draws].mean(axis=0)
            found[estimate].append(float(np.square(one_hot[values[lost]] - guess).sum()))
    return {name: np.array(errors) for name, errors in found.items()}


def deviation(estimate: str, factor: float) -> float:
    """How many standard errors its squared error is off `factor` times that of the mean, item by item."""
    errors = squared_errors()
    difference = errors[estimate] - factor * errors["mean_embedding"]
    return float(difference.mean() / difference.std() * np.sqrt(difference.size))


def test_a_draw_has_twice_the_squared_error_of_the_mean_and_the_mean_of_four_a_quarter_more():
    """Catches draws from another law than the posterior, and draws that depend on one another; in expectation exact."""
    assert abs(deviation("sample", 2)) < 5 and abs(deviation("mean_pixels", 1 + 1 / 4)) < 5
    assert abs(deviation("sample", 1.7)) > 5 and abs(deviation("mean_pixels", 1.0)) > 5, "the test can tell"
    assert squared_errors()["mean_embedding"].mean() < squared_errors()["map"].mean() < squared_errors()["sample"].mean()


def test_a_map_in_one_round_is_the_mode_of_each_and_in_more_hears_the_surest():
    """Catches rounds that fix the least sure first or hear nothing; reference: the rule by hand with enumerated laws."""
    for item in range(12):
        values, lost = Key(5).child(item).integers(3, 6), np.array([0, 1, 2, 4, 5])
        evidence = lost_at(values, lost)
        message = np.where(evidence.known, values, -1)
        once = restored(decoder(estimate="map", num_rounds=1), evidence)
        assert np.array_equal(once.values[lost], LAW.marginals(message.reshape(GRID))[lost].argmax(axis=1))
        while (message < 0).any():
            law = np.where((message < 0)[:, None], LAW.marginals(message.reshape(GRID)), 0)
            surest = law.max(axis=1).argmax()
            message[surest] = law[surest].argmax()
        assert np.array_equal(restored(decoder(estimate="map"), evidence).values, message)


def test_draws_are_the_same_however_many_and_whatever_the_company():
    """Catches draws that share a stream, so that more of them, other items or other losses change those before."""
    values = Key(6).integers(5, 63)
    evidence = [lost_at(values, np.flatnonzero(Key(7).child(i).uniform(63) < 0.4), (7, 9), 5) for i in range(3)]
    keys = [Key(8).child(i) for i in range(3)]
    one = MaskedImage(model=Neighbours(), estimate="mean_pixels", num_samples=6, num_rounds=4)
    together = one.restore(evidence, keys)
    for i, found in enumerate(together):
        alone = restored(one, evidence[i], keys[i])
        assert np.array_equal(alone.draws, found.draws) and np.array_equal(alone.posterior, found.posterior)
        fewer = restored(one.model_copy(update={"num_samples": 2}), evidence[i], keys[i])
        assert np.array_equal(fewer.draws, found.draws[:2])
        single = restored(one.model_copy(update={"estimate": "sample"}), evidence[i], keys[i])
        assert np.array_equal(single.values[~evidence[i].known], found.draws[0])
    assert not np.array_equal(restored(one, evidence[0], keys[1]).draws, together[0].draws)


def soft(llr) -> Evidence:
    return Evidence(np.zeros(len(llr), bool), np.zeros(len(llr), np.int32), 5, (4, 5), bit_llr=np.asarray(llr, np.float32))


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("evidence", [
    lost_at(np.zeros(0), [], (0, 4), 5), lost_at([3], [0], (1, 1), 5), lost_at(np.zeros(20), range(20), (4, 5), 5),
    lost_at(np.arange(20) % 5, [], (20,), 5), soft(np.full((20, 3), 1e4)), soft(np.zeros((20, 3))), soft(np.full((20, 3), -40)),
], ids=["empty", "one", "all lost", "nothing lost", "no such token", "soft and silent", "sure"])
def test_whatever_arrives_is_restored(evidence: Evidence, estimate: str):
    """Catches crashes and posteriors that are no probabilities, also where the bits spell a token that there is not."""
    found = restored(MaskedImage(model=Neighbours(), estimate=estimate, num_samples=2, num_rounds=3), evidence)
    assert np.isfinite(found.posterior).all() and not found.lost.any()
    assert np.array_equal(found.values[evidence.known], evidence.values[evidence.known])


def test_wrong_models_are_refused_with_the_cure():
    """Catches a traceback where the request is at fault."""
    with pytest.raises(RequestError, match="decoder.model must be given"):
        restored(MaskedImage(), lost_at(np.zeros(6), [1]))
    with pytest.raises(RequestError, match="vocab_size 5, got one of 3"):
        restored(MaskedImage(model=LAW), lost_at(np.zeros(6), [1], vocab_size=5))
