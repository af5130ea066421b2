"""A Laplace source beside the Gaussian one, isotropic noise: `python -m benchmarks.laplace`.

First both laws by quadrature: what a component tells, what A and F leave of it, what F gains, and the bounds that the information
lies between, Shannon's lower one and R*(D_A / 2) of the Gaussian. Then the Laplace source as it is really coded: bits of the stream
and both distortions, with 95 % intervals over vectors of 256, beside the same quadrature.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.stats import laplace, norm

import scenarios
from channel_sim.theory.laplace import LaplaceInNoise

VARIANCES = (0.9, 0.5, 0.1, 0.03, 0.01)
ITEMS = 24
RULES: tuple[Literal["ancestral", "flow"], ...] = ("ancestral", "flow")
_GRID = 4001


def quadrature() -> None:
    print(f"{'source':<10}{'σ²':>8}{'I':>8}{'D_A':>10}{'D_F':>10}{'gain dB':>9}{'Shannon lower':>15}{'R*(D_A / 2)':>13}")
    for name, law in (("Gaussian", norm), ("Laplace", laplace(scale=0.5**0.5))):
        for variance in VARIANCES:
            told, ancestral, flow = of_one_dimension(law, variance)
            lower = law.entropy() / np.log(2) - 0.5 * np.log2(2 * np.pi * np.e * ancestral / 2)
            print(f"{name:<10}{variance:>8g}{told:>8.4f}{ancestral:>10.6f}{flow:>10.6f}{10 * np.log10(ancestral / flow):>9.3f}"
                  f"{lower:>15.4f}{-0.5 * np.log2(ancestral / 2):>13.4f}")


def of_one_dimension(law: Any, variance: float) -> tuple[float, float, float]:
    """(information in bits, distortion of a sample of p(x | z), of the flow) of a law of unit variance, by sums on a grid.

    In one dimension the flow keeps the order and makes the law of x of that of z, so that it is the map of equal quantiles.
    """
    x, z = np.linspace(-16, 16, 4 * _GRID), np.linspace(-16, 16, _GRID)
    weights = law.pdf(x) * (x[1] - x[0])
    first, second, mass = np.zeros(_GRID), np.zeros(_GRID), np.zeros(_GRID)
    for place, at in enumerate(z):
        near = weights * norm.pdf(at, np.sqrt(1 - variance) * x, np.sqrt(variance))
        mass[place], first[place], second[place] = near.sum(), near @ x, near @ x**2
    step = z[1] - z[0]
    safe = np.maximum(mass, 1e-300)
    told = float(-np.sum(mass * np.log2(safe)) * step - norm.entropy(0, np.sqrt(variance)) / np.log(2))
    below = np.clip(np.cumsum(mass) * step - mass * step / 2, 1e-15, 1 - 1e-15)
    moved = law.ppf(below)
    error = np.sum(second - first**2 / safe) * step
    flow = np.sum(second - 2 * moved * first + moved**2 * mass) * step
    return told, float(2 * error), float(flow)


def coded() -> None:
    results = scenarios.run({
        "question": "What does a Laplace source cost?", "seed": 10, "items": ITEMS, "source": {"name": "laplace_vector"},
        "coder": {"name": "fixed_length", "packet_bits": 65536, "header_bits": 0},
        "tokenizer": {"name": "diffc_laplace", "search_bits": 8},
        "arm": [{"label": rule, "tokenizer": {"reconstruction": rule}} for rule in RULES],
        "sweep": {"tokenizer.noise_variance": list(VARIANCES)}})
    heads = [*(f"{name:>28}{'quadrature':>12}" for name in ("D_A", "D_F")), f"{'gain dB':>16}{'quadrature':>12}"]
    print(f"{'σ²':<7}{'I':>7}{'sent':>16}" + "".join(heads))
    for variance in VARIANCES:
        law = LaplaceInNoise(variance)
        (bits,) = results.find("bits_per_dimension", "flow", noise_variance=variance)
        assert bits.high is not None and bits.low is not None
        print(f"{variance:<7g}{law.information_bits:>7.3f}{f'{bits.mean:.3f} ± {(bits.high - bits.low) / 2:.3f}':>16}", end="")
        for rule in RULES:
            (row,) = results.find("mse", rule, noise_variance=variance)
            print(f"{f'{row.mean:.5f} [{row.low:.5f}, {row.high:.5f}]':>28}{law.distortion(rule):>12.5f}", end="")
        errors = [np.array([one.metrics["mse"] for one in results.trials
                            if one.arm == rule and one.sweep["tokenizer.noise_variance"] == variance]) for rule in RULES]
        print(f"{gain(*errors):>16}{10 * np.log10(law.distortion('ancestral') / law.distortion('flow')):>12.3f}")


def gain(ancestral: np.ndarray, flow: np.ndarray) -> str:
    """10 log10 of the ratio of both means, float64 [vectors] of the same vectors, with half of its 95 % interval."""
    slopes = 10 / np.log(10) * (ancestral / ancestral.mean() - flow / flow.mean())
    return f"{10 * np.log10(ancestral.mean() / flow.mean()):.3f} ± {1.96 * slopes.std(ddof=1) / ancestral.size**0.5:.3f}"


if __name__ == "__main__":
    quadrature()
    print()
    coded()
