"""DiffC of Gaussian vectors: on its closed forms, alike at both ends, and decodable from any prefix, whatever happened to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, norm

from channel_sim import theory
from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.trial import run, send
from channel_sim.types import Item, Origin, Reconstruction
from scenarios.references import reference_curves
from scenarios.scenario import load
from sources.diffusion.diffc import Diffc, Heard
from sources.gaussian import GaussianVector

ROOT = Key(31)
LAW: dict[str, Any] = {"covariance": "autoregressive", "num_dimensions": 24}
RULES = ("ancestral", "flow", "mean")
GOLDEN_SIZES, GOLDEN = [8, 12, 6, 5], "a948b8417b26527f"


def vectors(num: int, **law: Any) -> list[np.ndarray]:
    items = GaussianVector(**law).items(range(num), [ROOT.child("item", i, "source") for i in range(num)])
    return [np.asarray(item.content) for item in items]


def shared(index: int) -> Key:
    return ROOT.child("item", index, "shared")


def received(octets: np.ndarray, lost: Any = ()) -> Reconstruction:
    """The tokens as they come, those at `lost` not at all."""
    origin = np.zeros(octets.size, np.uint8)
    origin[list(lost)] = Origin.LOST
    return Reconstruction(octets.astype(np.int32), origin, np.ones(octets.size, np.float32), 256)


def same(one: Heard, other: Heard) -> bool:
    return np.array_equal(one.sums, other.sums) and np.array_equal(one.variances, other.variances)


@pytest.mark.parametrize("noise", ["isotropic", "optimal"])
def test_distortion_lies_on_the_closed_forms(noise):
    """Catches each reconstruction off its law: wrong weights of steps, noise of the wrong spread, axes not at right angles."""
    diffc = Diffc(**LAW, information_bits=1.0, noise=noise, reconstruction="mean", num_steps=2, search_bits=11)
    spectrum, errors = diffc.axes.spectrum, {rule: [] for rule in RULES}
    for index, x in enumerate(vectors(60, **LAW)):
        heard, _ = diffc.heard_by_sender(x, shared(index))
        for rule in RULES:
            errors[rule].append(float(np.mean((diffc.axes.vector(heard.reconstruction(rule)) - x) ** 2)))
    for rule, of_rule in errors.items():
        expected = theory.diffusion_distortion(spectrum, diffc.remaining_variances(1.0), rule)
        error = np.std(of_rule) / np.sqrt(len(of_rule))
        assert np.mean(of_rule) == pytest.approx(expected, abs=4.5 * error), rule
        assert error < 0.1 * expected, "too few to tell"


@pytest.mark.parametrize("rule", RULES)
def test_what_is_decoded_is_what_is_heard(rule):
    """Catches a tokenizer whose two halves use other reconstructions, or draw other noise."""
    diffc = Diffc(**LAW, reconstruction=rule)
    (x,) = vectors(1, **LAW)
    heard, octets = diffc.heard_by_sender(x, shared(0))
    assert np.array_equal(diffc.encode(Item(x, "vector", "x"), shared(0)).values, octets)
    content, missing = diffc.decode(received(octets), shared(0))
    assert np.array_equal(content, diffc.axes.vector(heard.reconstruction(rule)).astype(np.float32))
    assert not missing.any() and content.dtype == np.float32


def test_flow_is_ahead_of_a_sample_by_what_the_theory_says():
    """Catches a flow that is a mean or a sample: at σ² = .1 it is 2.9 dB ahead, of the same stream."""
    law = {"num_dimensions": 64}
    diffc = Diffc(**law, information_bits=-0.5 * np.log2(0.1), search_bits=12)
    errors = np.zeros(2)
    for index, x in enumerate(vectors(12, **law)):
        heard, _ = diffc.heard_by_sender(x, shared(index))
        for column, rule in enumerate(("ancestral", "flow")):
            errors[column] += np.sum((diffc.axes.vector(heard.reconstruction(rule)) - x) ** 2)
    assert 10 * np.log10(errors[0] / errors[1]) == pytest.approx(2.898, abs=0.5)


def test_streams_stay_as_they_are():
    """Catches a stream of another revision under the number of this one: sizes, and a digest of the bytes."""
    options: list[dict[str, Any]] = [{}, {"num_steps": 5, "noise": "optimal"}, {"coding": "dithered", "noise": "pink"},
                                     {"check_bits": 0, "target_bits": 40}]
    (x,) = vectors(1, **LAW)
    streams = [Diffc(**LAW, **one).encode(Item(x, "vector", "x"), shared(0)).values for one in options]
    assert [one.size for one in streams] == GOLDEN_SIZES
    assert hashlib.sha256(b"".join(one.astype(np.uint8).tobytes() for one in streams)).hexdigest()[:16] == GOLDEN


@pytest.mark.parametrize("coding", ["poisson", "dithered"])
def test_a_stream_of_fewer_bits_is_the_beginning_of_the_whole(coding: str):
    """Catches a stream cut where its last byte still hangs on what follows: 1 in 20 of all lengths, or more."""
    fields: dict[str, Any] = {"coding": coding, "num_steps": 6, "information_bits": 8, "search_bits": 8}
    for number, x in enumerate(vectors(3, **LAW)):
        whole, *cut = (Diffc(**LAW, **fields, target_bits=bits).encode(Item(x, "vector", "x"), shared(number)).values
                       for bits in (None, *range(8, 168, 8)))
        assert [one.size for one in cut] == list(range(1, 21)) and whole.size > 20 + 4
        for one in cut:
            assert np.array_equal(one, whole[:one.size]), one.size


@pytest.mark.parametrize("options", [{}, {"num_steps": 5, "noise": "optimal"}, {"coding": "dithered", "noise": "pink"},
                                     {"check_bits": 0, "target_bits": 40}])
def test_both_ends_hold_the_same_bits(options: dict[str, Any]):
    """Catches ends that drift apart, and streams whose end depends on what comes after: all that was told is heard, bit for bit."""
    diffc = Diffc(**LAW, information_bits=1.5, **options)
    for index, x in enumerate(vectors(6, **LAW)):
        told, octets = diffc.heard_by_sender(x, shared(index))
        assert octets.size and same(diffc.heard(octets, shared(index)), told)
        assert 8 * octets.size <= (diffc.target_bits or 10**6)


def test_what_is_heard_is_x_in_gaussian_noise():
    """Catches z that is no sample of the channel, after several steps: (mean - x) / σ is standard normal, of every component."""
    diffc = Diffc(**LAW, information_bits=1.0, num_steps=3, search_bits=10)
    rows = []
    for index, x in enumerate(vectors(60, **LAW)):
        heard, _ = diffc.heard_by_sender(x, shared(index))
        noise = heard.sums - diffc.axes.components(x) * (1 / heard.variances - 1)
        rows.append(noise / np.sqrt(1 / heard.variances - 1))
    z = np.array(rows)
    assert kstest(z.reshape(-1), norm.cdf).pvalue > 1e-5
    assert np.abs(np.cov(z.T, bias=True) - np.eye(z.shape[1])).max() < 6 / np.sqrt(len(z))
    assert kstest(z.reshape(-1) * 1.3, norm.cdf).pvalue < 1e-3, "the control: noise of a little more must be told apart"


def test_every_prefix_decodes_and_more_is_better():
    """Catches a chunk that is taken before its bytes are whole, and one that is not taken though they are."""
    diffc = Diffc(**LAW, information_bits=2.0, num_steps=4, reconstruction="mean", search_bits=10)
    errors = []
    for index, x in enumerate(vectors(10, **LAW)):
        told, octets = diffc.heard_by_sender(x, shared(index))
        precisions, of_item = [], []
        for length in range(octets.size + 1):
            content, missing = diffc.decode(received(octets, range(length, octets.size)), shared(index))
            of_item.append(float(np.mean((content - x) ** 2)))
            precisions.append(np.sum(-np.log2(diffc.heard(octets[:length], shared(index)).variances)))
            assert missing.all() == (precisions[-1] == 0) and np.all(np.isfinite(content))
        assert np.all(np.diff(precisions) >= 0) and precisions[0] == 0
        assert precisions[-1] == pytest.approx(np.sum(-np.log2(told.variances)))
        errors.append([of_item[len(octets) * part // 4] for part in range(5)])
    assert np.all(np.diff(np.mean(errors, axis=0)) < 0)


def test_what_comes_after_a_lost_packet_changes_nothing():
    """Catches a decoder that reads past a gap, whether it is left open or filled by a prior."""
    diffc = Diffc(**LAW, information_bits=2.0)
    (x,) = vectors(1, **LAW)
    octets = diffc.encode(Item(x, "vector", "x"), shared(0)).values
    other = octets.copy()
    other[6:] = 255 - other[6:]
    first, _ = diffc.decode(received(octets, [5]), shared(0))
    assert np.array_equal(first, diffc.decode(received(other, [5]), shared(0))[0])
    assert np.array_equal(first, diffc.decode(received(octets[:5]), shared(0))[0])
    concealed = received(octets)
    made_up = np.where(np.arange(octets.size) == 5, Origin.CONCEALED, concealed.origin).astype(np.uint8)
    assert np.array_equal(first, diffc.decode(replace(concealed, origin=made_up), shared(0))[0])


def damaged(octets: np.ndarray, kind: str, key: Key) -> np.ndarray:
    if kind == "flipped":
        place = int(key.integers(8 * octets.size // 2, 1)[0])
        return np.packbits(np.unpackbits(octets) ^ (np.arange(8 * octets.size) == place))
    if kind == "reordered":
        return np.concatenate([octets[4:8], octets[:4], octets[8:]])
    return key.integers(256, octets.size).astype(np.uint8)


@pytest.mark.parametrize("kind", ["flipped", "reordered", "foreign"])
def test_damage_is_decoded_up_to_the_step_that_shows_it(kind: str):
    """Catches a hang, a crash and a checksum that is not looked at: what is kept is what the sender held after some step."""
    diffc = Diffc(**LAW, information_bits=2.0, num_steps=4, check_bits=16, search_bits=10)
    kept = []
    for index, x in enumerate(vectors(12, **LAW)):
        _, octets = diffc.heard_by_sender(x, shared(index))
        heard = diffc.heard(damaged(octets, kind, ROOT.child(kind, index)), shared(index))
        told = [diffc.heard(octets[:length], shared(index)) for length in range(octets.size + 1)]
        kept.append(any(same(heard, one) for one in told))
    assert np.mean(kept) >= 0.75  # a number so large that the bytes end before the next checksum is not found out


def test_without_a_checksum_damage_is_taken_as_it_is():
    """The control of the test above: the rest of a damaged stream is then another vector's."""
    diffc = Diffc(**LAW, information_bits=2.0, num_steps=4, check_bits=0)
    (x,) = vectors(1, **LAW)
    told, octets = diffc.heard_by_sender(x, shared(0))
    heard = diffc.heard(damaged(octets, "reordered", ROOT), shared(0))
    error = np.mean((heard.sums * heard.variances - diffc.axes.components(x)) ** 2)
    assert error > 10 * np.mean((told.sums * told.variances - diffc.axes.components(x)) ** 2)


def test_mean_bits_stay_within_the_bound_of_each_chunk():
    """Catches a stream that costs more than its numbers: Σ (I + log2(I + 1) + 5) over chunks, checks and the last byte charged."""
    diffc = Diffc(**LAW, information_bits=1.0, check_bits=0)
    told = [chunk.information_bits for step in diffc.steps for chunk in step]
    assert sum(told) == pytest.approx(24)
    bits = [8 * diffc.heard_by_sender(x, shared(index))[1].size for index, x in enumerate(vectors(20, **LAW))]
    assert np.mean(bits) < sum(one + np.log2(one + 1) + 5 for one in told) + 8


def test_information_of_all_steps_is_what_was_asked_for():
    """Catches chunks that overlap, or leave a component out, and steps that ask one search for too much."""
    for options in ({}, {"num_steps": 7}, {"coding": "dithered"}, {"information_bits": 12.0}, {"search_bits": 6.0}):
        diffc = Diffc(**LAW | {"information_bits": 0.8} | options)
        chunks = [chunk for step in diffc.steps for chunk in step]
        assert sum(chunk.information_bits for chunk in chunks) == pytest.approx(24 * diffc.information_bits)
        assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
        assert max(float(np.log2(chunk.before / chunk.after).max()) / 2 for chunk in chunks) <= 10 + 1e-9


def test_patches_are_those_of_photographs():
    """Catches a spectrum that is not that of pictures, axes that are not orthogonal, and vectors of another covariance."""
    source = GaussianVector(covariance="patches", num_dimensions=256)
    spectrum, basis = source.axes
    assert spectrum.sum() == pytest.approx(256) and np.all(np.diff(spectrum) <= 0) and spectrum[0] > 160
    assert np.allclose(basis.T @ basis, np.eye(256), atol=1e-10) and np.ptp(basis[:, 0]) < 0.05
    rows = np.array([source.axes.components(x) for x in vectors(40, covariance="patches", num_dimensions=256)])
    assert kstest(rows.reshape(-1), norm.cdf).pvalue > 1e-5
    assert list(source.digests()) and not GaussianVector().digests()


def test_law_and_closed_forms_come_from_the_scenario():
    """Catches a tokenizer that believes in another law than its source, and curves that are drawn where they do not hold."""
    tables = {"question": "?", "source": {"name": "gaussian_vector"} | LAW,
              "tokenizer": {"name": "diffc", "information_bits": 1.0, "noise": "optimal", "reconstruction": "flow"},
              "arm": [{"label": "a"}]}
    scenario = load(tables)
    chain = scenario.tasks[0].chain
    assert isinstance(chain.tokenizer, Diffc) and isinstance(chain.source, GaussianVector)
    assert chain.tokenizer.law == chain.source.law == ("autoregressive", 24, 0.9)
    curves = {curve.label: curve.value for curve in reference_curves(scenario) if curve.metric == "mse"}
    spectrum = chain.source.axes.spectrum
    flow = theory.diffusion_distortion(spectrum, theory.remaining_variances(spectrum, 1.0, "flow_optimum"), "flow")
    assert curves == pytest.approx({"DiffC-F*, closed form": flow, "Shannon's D(R)": theory.gaussian_distortion(spectrum, 1.0)})
    lossy = load(tables | {"channel": {"name": "packet_loss", "loss_rate": 0.1}})
    other = load(tables | {"tokenizer": tables["tokenizer"] | {"correlation": 0.5}})  # type: ignore[operator]
    assert not reference_curves(lossy) and not reference_curves(other)


REFUSED: list[Callable[[], Any]] = [
    lambda: Diffc(num_dimensions=8).encode(Item(np.zeros(9, np.float32), "vector", "x"), ROOT),
    lambda: Diffc(num_dimensions=8).encode(Item(b"12345678", "bytes", "x"), ROOT),
    lambda: GaussianVector(covariance="patches", num_dimensions=60),
]


@pytest.mark.parametrize("ask", REFUSED)
def test_what_does_not_fit_is_refused(ask: Callable[[], Any]):
    """Catches a broadcast instead of an error."""
    with pytest.raises((RequestError, ValueError), match="num_dimensions"):
        ask()


def test_a_vector_is_measured_a_dimension():
    """Catches a mean over items of means, and rates that leave out headers: from the trial's own bits."""
    chain = load({"question": "?", "source": {"name": "gaussian_vector", "num_dimensions": 8}, "arm": [{"label": "a"}],
                  "tokenizer": {"name": "diffc", "information_bits": 2.0}}).tasks[0].chain
    (outcome,) = run(chain, send(chain, [0], ROOT), 0, ROOT)
    error = np.sum((outcome.received.content.astype(float) - outcome.sent.item.content) ** 2)
    assert outcome.measurement.values["mse"] == pytest.approx((error, 8)) and error < 8
    assert outcome.measurement.values["bits_per_dimension"] == (8 * outcome.sent.tokens.values.size + 32 + 16, 8)
    assert outcome.measurement["sdr_db"] == pytest.approx(-10 * np.log10(error / 8)) and outcome.measurement["psnr_db"] is None
