"""DiffC of a Laplace source: what is sent is an exact sample, what is made of it lies on quadrature, and any prefix decodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, laplace, norm

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.theory.laplace import LaplaceInNoise
from channel_sim.trial import run, send
from channel_sim.types import Item, Origin, Reconstruction
from scenarios.references import reference_curves
from scenarios.scenario import load
from sources.diffusion.laplace import DiffcLaplace, LaplaceVector

ROOT = Key(77)
SOURCE = laplace(scale=0.5**0.5)
RULES = ("ancestral", "flow", "mean")
LEVELS = (0.9, 0.5, 0.03)


def vectors(num: int, num_dimensions: int = 256) -> list[np.ndarray]:
    items = LaplaceVector(num_dimensions=num_dimensions).items(range(num), [ROOT.child("item", i) for i in range(num)])
    return [np.asarray(item.content) for item in items]


def shared(index: int) -> Key:
    return ROOT.child("shared", index)


def received(octets: np.ndarray, num_arrived: int) -> Reconstruction:
    origin = np.where(np.arange(octets.size) < num_arrived, Origin.RECEIVED, Origin.LOST).astype(np.uint8)
    return Reconstruction(octets.astype(np.int32), origin, np.ones(octets.size, np.float32), 256)


def posterior(y: float, variance: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(x, p(x | y) on that grid, p(y)) by Bayes' rule and a sum."""
    x = np.linspace(-25, 25, 20_001)
    both = SOURCE.pdf(x) * norm.pdf(y, x, np.sqrt(variance / (1 - variance))) * (x[1] - x[0])
    return x, both / both.sum(), float(both.sum())


@pytest.mark.parametrize("variance", LEVELS)
@pytest.mark.parametrize("y", [-3.0, -0.2, 0.0, 0.7, 9.0])
def test_what_y_tells_is_what_bayes_rule_says(variance: float, y: float):
    """Catches a wrong tilt, sides that are exchanged, and tails that underflow: density, mean and quantiles by brute force."""
    law, (x, masses, density) = LaplaceInNoise(variance), posterior(y, variance)
    at = np.array([y])
    assert law.log_density(at)[0] == pytest.approx(np.log(density), abs=1e-5)
    assert law.mean(at)[0] == pytest.approx(masses @ x, abs=1e-5)
    for uniform in (0.01, 0.3, 0.5, 0.99):
        drawn = law.sample(at, np.array([uniform]))[0]
        assert np.sum(masses[x < drawn]) == pytest.approx(uniform, abs=5e-3)
    below = norm.cdf((y - x) / np.sqrt(variance / (1 - variance))) @ SOURCE.pdf(x) * (x[1] - x[0])
    assert SOURCE.cdf(law.flow(at)[0]) == pytest.approx(below, abs=1e-5)


@pytest.mark.parametrize("variance", LEVELS)
def test_no_density_ratio_exceeds_the_bound_and_one_reaches_it(variance: float):
    """Catches a bound that later candidates exceed, which would not be exact, and a loose one, which would search for ever."""
    law = LaplaceInNoise(variance)
    x = np.array([0.0, 0.3, -1.5, 8.0])
    y = np.linspace(-60, 60, 60_001)
    for one, bound in zip(x, law.farthest_ratio(x), strict=True):
        assert np.max(law.log_ratio(y, np.full(y.size, one))) == pytest.approx(bound, abs=1e-4)


@pytest.mark.parametrize("variance", LEVELS)
def test_information_lies_between_the_bounds(variance: float):
    """Catches information that is that of the Gaussian, or in nats: Shannon's lower bound at D_A / 2 <= I <= R*(D_A / 2)."""
    law = LaplaceInNoise(variance)
    half = law.distortion("ancestral") / 2
    lower = SOURCE.entropy() / np.log(2) - 0.5 * np.log2(2 * np.pi * np.e * half)
    assert max(0, lower) < law.information_bits < -0.5 * np.log2(half)
    assert law.information_bits < -0.5 * np.log2(variance), "less than of a Gaussian in as much noise"


def test_flow_comes_near_its_3_db_later_than_of_a_gaussian():
    """Catches quadrature of the wrong law: E (d ln p / dx)² is 2 instead of 1, and the gain of F over A smaller at every rate."""
    missing = {}
    for variance in (0.1, 0.01, 0.001):
        law = LaplaceInNoise(variance)
        gain = 10 * np.log10(law.distortion("ancestral") / law.distortion("flow"))
        of_gaussian = 10 * np.log10(2 * variance / (2 - 2 * np.sqrt(1 - variance)))
        missing[variance] = (3.0103 - gain) / (3.0103 - of_gaussian)
    assert missing[0.1] < missing[0.01] < missing[0.001] < 2 and missing[0.1] > 1.2


@pytest.mark.parametrize("variance", LEVELS)
def test_what_is_sent_is_x_in_gaussian_noise(variance: float):
    """Catches candidates of another law than the ratio is of, and a search that ends too soon; the control is told apart."""
    diffc = DiffcLaplace(noise_variance=variance, search_bits=6)
    noise = np.concatenate([diffc.heard_by_sender(x, shared(i))[0] - x for i, x in enumerate(vectors(6))]) / diffc.law.deviation
    assert kstest(noise, norm.cdf).pvalue > 1e-4
    assert kstest(1.3 * noise, norm.cdf).pvalue < 1e-4, "the control"
    alone = DiffcLaplace(noise_variance=variance, search_bits=4)
    for value in (0.0, 2.5):  # the mode, and a rare value
        told = np.full(256, value)
        assert kstest((alone.heard_by_sender(told, shared(99))[0] - told) / diffc.law.deviation, norm.cdf).pvalue > 1e-4


@pytest.mark.parametrize("variance", [0.5, 0.1])
def test_distortion_lies_on_quadrature_and_bits_within_their_bound(variance: float):
    """Catches each reconstruction off its law, a mean passed for a sample, and streams that cost more than their numbers."""
    made: dict[str, list[np.ndarray]] = {rule: [] for rule in RULES}
    bits, sent = [], vectors(12)
    for index, x in enumerate(sent):
        octets = DiffcLaplace(noise_variance=variance, search_bits=7).encode(Item(x, "vector", "x"), shared(index)).values
        for rule in RULES:
            diffc = DiffcLaplace(noise_variance=variance, reconstruction=rule, search_bits=7)  # type: ignore[arg-type]
            made[rule].append(diffc.decode(received(octets, octets.size), shared(index))[0])
        bits.append(8 * octets.size)
    for rule, of_rule in made.items():
        errors = (np.concatenate(of_rule) - np.concatenate(sent)) ** 2
        expected = LaplaceInNoise(variance).distortion(rule)  # type: ignore[arg-type]
        error = np.std(errors) / np.sqrt(errors.size)
        assert np.mean(errors) == pytest.approx(expected, abs=4.5 * error) and error < 0.05 * expected, rule
        assert (kstest(np.concatenate(of_rule), SOURCE.cdf).pvalue > 1e-3) == (rule != "mean"), rule
    told = [diffc.component_bits * len(chunk) for chunk in diffc.chunks]
    assert sum(told) < np.mean(bits) < sum(one + np.log2(one + 1) + 5 for one in told) + 8


def test_any_prefix_decodes_to_the_components_that_it_tells():
    """Catches ends that differ, a chunk taken before its bytes are whole, and a byte after a gap that is looked at."""
    diffc = DiffcLaplace(num_dimensions=40, noise_variance=0.1)
    (x,) = vectors(1, 40)
    y, octets = diffc.heard_by_sender(x, shared(0))
    assert np.array_equal(diffc.heard(octets, shared(0)), y)
    told = []
    for length in range(octets.size + 1):
        content, missing = diffc.decode(received(octets, length), shared(0))
        told.append(int(np.sum(~missing)))
        whole, _ = diffc.decode(received(octets, octets.size), shared(0))
        assert np.array_equal(content[:told[-1]], whole[:told[-1]]) and not content[told[-1]:].any()
    assert told[0] == 0 and told[-1] == 40 and np.all(np.diff(told) >= 0)
    assert set(told) <= {0, *(chunk.stop for chunk in diffc.chunks)}


@pytest.mark.parametrize("content", [np.zeros(9, np.float32), b"12345678"])
def test_what_does_not_fit_is_refused(content: Any):
    """Catches a broadcast instead of an error."""
    modality = "bytes" if isinstance(content, bytes) else "vector"
    with pytest.raises(RequestError, match="num_dimensions"):
        DiffcLaplace(num_dimensions=8).encode(Item(content, modality, "x"), ROOT)


def test_a_scenario_of_it_runs_and_states_the_quadrature():
    """Catches a tokenizer that believes in another number of dimensions than its source, and curves where something was lost."""
    tables = {"question": "?", "source": {"name": "laplace_vector", "num_dimensions": 64}, "arm": [{"label": "a"}],
              "tokenizer": {"name": "diffc_laplace", "noise_variance": 0.03}}
    scenario = load(tables)
    chain = scenario.tasks[0].chain
    (outcome,) = run(chain, send(chain, [0], ROOT), 0, ROOT)
    curves = {curve.metric: curve.value for curve in reference_curves(scenario)}
    assert curves["mse"] == pytest.approx(0.029810, abs=1e-5)
    assert outcome.measurement["sdr_db"] == pytest.approx(curves["sdr_db"], abs=2.0)
    assert not reference_curves(load(tables | {"channel": {"name": "packet_loss", "loss_rate": 0.1}}))
