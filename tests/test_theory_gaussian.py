"""Closed forms of Gaussian diffusion: against published numbers, water-filling by hand, and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from channel_sim import theory
from channel_sim.theory.gaussian import information

SPECTRUM = np.array([9.0, 4.0, 1.0, 0.3, 0.02])
ONE = np.ones(1)
NOISES = ("isotropic", "pink", "ancestral_optimum", "flow_optimum")


def test_one_component_at_the_published_point():
    """Catches a wrong closed form, and variances taken for deviations: σ² = .1 is 1.66096 bits, .2 and .10263."""
    variances = theory.remaining_variances(ONE, 1.66096, "isotropic")
    assert variances == pytest.approx([0.1], rel=1e-5)
    assert theory.diffusion_distortion(ONE, variances, "ancestral") == pytest.approx(0.2, rel=1e-4)
    assert theory.diffusion_distortion(ONE, variances, "flow") == pytest.approx(0.10263, rel=1e-4)
    assert theory.diffusion_distortion(ONE, variances, "mean") == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(("variance", "gain_db"), [(0.1, 2.898), (1.0, 0.0), (1e-12, 3.0103)])
def test_flow_gains_three_decibels_in_the_limit(variance: float, gain_db: float):
    """Catches cancellation in 2 - 2 sqrt(1 - σ²) at high rates, where nothing would be left of it."""
    ratio = (theory.diffusion_distortion(ONE, np.array([variance]), "ancestral")
             / theory.diffusion_distortion(ONE, np.array([variance]), "flow"))
    assert 10 * np.log10(ratio) == pytest.approx(gain_db, abs=1e-3)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("bits", [0.05, 0.39, 3.0, 12.0])
def test_information_is_what_was_asked_for(noise, bits):
    """Catches a search for the noise level that stops early or looks in the wrong place."""
    assert information(theory.remaining_variances(SPECTRUM, bits, noise)) == pytest.approx(bits, rel=1e-9)


@pytest.mark.parametrize("noise", NOISES)
def test_more_bits_are_less_noise_everywhere(noise):
    """Catches levels that are no path of a diffusion: a later step would have to take back what an earlier one told."""
    levels = [theory.remaining_variances(SPECTRUM, bits, noise) for bits in (0, 0.1, 0.5, 1, 2, 4)]
    assert np.all(np.diff(levels, axis=0) <= 1e-12) and np.all(levels[0] == 1)


@pytest.mark.parametrize("level", [0.01, 0.3, 2.0, 5.0])
def test_shannon_and_the_ancestral_optimum_at_half_the_distortion(level: float):
    """Catches wrong water-filling: D(R) by hand at the level, and R_A*(D) = R(D / 2)."""
    told = SPECTRUM > level
    bits = 0.5 * np.log2(SPECTRUM[told] / level).sum() / SPECTRUM.size
    distortion = (told.sum() * level + SPECTRUM[~told].sum()) / SPECTRUM.size
    assert theory.gaussian_distortion(SPECTRUM, bits) == pytest.approx(distortion, rel=1e-9)
    variances = theory.remaining_variances(SPECTRUM, bits, "ancestral_optimum")
    assert theory.diffusion_distortion(SPECTRUM, variances, "ancestral") == pytest.approx(2 * distortion, rel=1e-9)


@pytest.mark.parametrize(("noise", "rule"), [("flow_optimum", "flow"), ("ancestral_optimum", "ancestral")])
@pytest.mark.parametrize("bits", [0.2, 1.0])
def test_optima_are_those_of_brute_force(noise, rule, bits):
    """Catches a condition of optimality that is not one: a general optimiser finds no better noise, and finds this one."""
    variances = theory.remaining_variances(SPECTRUM, bits, noise)
    least = theory.diffusion_distortion(SPECTRUM, variances, rule)

    def distortion(told: np.ndarray) -> float:
        left = np.minimum(4.0 ** -told, 1)
        return float(np.mean(SPECTRUM * (2 * left if rule == "ancestral" else 2 - 2 * np.sqrt(1 - left))))

    found = minimize(distortion, np.full(SPECTRUM.size, bits), method="SLSQP", bounds=[(1e-9, None)] * SPECTRUM.size,
                     constraints={"type": "eq", "fun": lambda told: told.mean() - bits}, options={"ftol": 1e-12, "maxiter": 500})
    assert found.success and found.fun == pytest.approx(least, rel=1e-4) and found.fun > least * (1 - 1e-7)
    for other in NOISES:
        worse = theory.diffusion_distortion(SPECTRUM, theory.remaining_variances(SPECTRUM, bits, other), rule)
        assert worse >= least * (1 - 1e-9)


def test_isotropic_noise_is_the_same_in_every_direction():
    """Catches noise that is told in the units of components: λ σ² / (1 - σ²) is its variance in those of the data."""
    variances = theory.remaining_variances(SPECTRUM, 0.7, "isotropic")
    assert np.ptp(SPECTRUM * variances / (1 - variances)) < 1e-9
    pink = theory.remaining_variances(SPECTRUM, 0.7, "pink")
    assert np.ptp(np.sqrt(SPECTRUM) * pink / (1 - pink)) < 1e-9


@pytest.mark.parametrize(("spectrum", "bits", "noise"), [([], 1, "pink"), ([1.0, 0.0], 1, "pink"), ([1.0], -1, "pink"),
                                                         ([1.0], 1, "red")])
def test_what_has_no_meaning_is_refused(spectrum, bits, noise):
    """Catches a division by zero, or an endless search, instead of an error that says what must hold."""
    with pytest.raises(ValueError, match="must"):
        theory.remaining_variances(np.array(spectrum), bits, noise)
