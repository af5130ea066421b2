"""What DiffC costs and gains on sources whose law is known: `python -m benchmarks.diffc [chunks|searches|components|laplace] …`.

chunks:     bits and seconds of a stream over the size of its chunks, and by dithered quantisation
searches:   bits of one chunk over what it tells, by Zipf's law and by one fitted to these very numbers; and the bound
components: distortion by principal component of patches at .39 bits a dimension, three kinds of noise, in closed form
laplace:    a Laplace source beside the Gaussian, by quadrature: what the flow gains, and between which bounds the information lies
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
from scipy.stats import entropy, laplace, norm

from channel_sim.keys import Key
from channel_sim.theory.gaussian import diffusion_distortion
from sources import reverse_channel
from sources.diffc import Diffc
from sources.diffc_stream import cost_bits, symbols_of_number
from sources.gaussian import GaussianVector

ROOT = Key(10)
ITEMS, SEARCHES = 8, 400
_GRID = 4001


def chunks() -> None:
    print(f"{'vectors':<31}{'chunks of':<14}{'bits':>6}{'chunks':>8}{'sent':>9}{'over':>8}{'ms':>8}")
    for covariance, bits, noise in (("identity", 0.39, "isotropic"), ("patches", 0.39, "isotropic"), ("patches", 0.39, "optimal"),
                                    ("patches", 2.0, "optimal")):
        law = {"covariance": covariance, "num_dimensions": 256}
        told = {"information_bits": bits, "noise": noise, "check_bits": 0}
        for size in (8, 11, 14, 16):
            _stream(f"{covariance}, {noise}, {bits:g} bits", f"2^{size}", Diffc(**law, **told, search_bits=size))
        _stream(f"{covariance}, {noise}, {bits:g} bits", "dithered", Diffc(**law, **told, coding="dithered"))


def _stream(vectors: str, size: str, diffc: Diffc) -> None:
    source: dict[str, Any] = {"covariance": diffc.covariance, "num_dimensions": diffc.num_dimensions}
    keys = [ROOT.child("item", index) for index in range(ITEMS)]
    items = GaussianVector(**source).items(range(ITEMS), [key.child("source") for key in keys])
    told = [chunk.information_bits for step in diffc.steps for chunk in step]
    start = process_time()
    octets = [diffc.encode(item, key.child("shared")).values.size for item, key in zip(items, keys, strict=True)]
    milliseconds = 1000 * (process_time() - start) / ITEMS
    sent = 8 * float(np.mean(octets))
    print(f"{vectors:<31}{size:<14}{np.mean(told):>6.2f}{len(told):>8}{sent:>9.0f}{100 * (sent / sum(told) - 1):>7.0f}%"
          f"{milliseconds:>8.0f}")


def searches() -> None:
    print(f"{'dimensions':<12}{'I':>6}{'sent':>8}{'±':>6}{'fitted':>8}{'bound':>8}{'candidates':>12}{'ms':>8}")
    for num_dimensions, bits in ((1, 0.5), (1, 2), (1, 4), (1, 8), (1, 10), (2, 4), (4, 1), (8, 0.5), (40, 0.05)):
        ratio = np.full(num_dimensions, 4.0**-bits)
        told, costs, octaves, drawn, start = num_dimensions * bits, list[float](), list[int](), 0, process_time()
        for trial in range(SEARCHES):
            key = ROOT.child("search", trial)
            choice = reverse_channel.choose(key, np.sqrt(1 - ratio) * key.child("x").normal(num_dimensions), ratio)
            costs.append(cost_bits(symbols_of_number(choice.number, told)))
            octaves.append(choice.number.bit_length() - 1)
            drawn += choice.searched
        fitted = np.mean(octaves) + entropy(np.bincount(octaves), base=2)
        print(f"{num_dimensions:<12}{told:>6.2f}{np.mean(costs):>8.2f}{1.96 * np.std(costs) / SEARCHES**0.5:>6.2f}{fitted:>8.2f}"
              f"{told + np.log2(told + 1) + 5:>8.2f}{drawn / SEARCHES:>12.0f}{1000 * (process_time() - start) / SEARCHES:>8.2f}")


def components() -> None:
    spectrum = GaussianVector(covariance="patches").axes.spectrum
    ranges = [range(0, 1), range(1, 4), range(4, 16), range(16, 64), range(64, 256)]
    print("mean squared error of a component, 256 = all of the variance; share of the bits\n" + f"{'':<34}"
          + "".join(f"{f'{part.start + 1} to {part.stop}':>18}" for part in ranges) + f"{'sum':>9}")
    print(f"{'variance':<34}" + "".join(f"{spectrum[part].mean():>11.4f}{'':>7}" for part in ranges))
    for rule in ("ancestral", "flow"):
        for noise in ("isotropic", "pink", "optimal"):
            diffc = Diffc(covariance="patches", reconstruction=rule, noise=noise)  # type: ignore[arg-type]
            left = diffc.remaining_variances(0.39)
            bits = -0.5 * np.log2(left)
            entries = [f"{diffusion_distortion(spectrum[part], left[part], diffc.reconstruction):>11.4f}"
                       f"{100 * bits[part].sum() / bits.sum():>5.0f} %" for part in ranges]
            whole = 256 * diffusion_distortion(spectrum, left, diffc.reconstruction)
            print(f"{rule + ', ' + noise:<34}" + "".join(entries) + f"{whole:>9.3f}")


def laplace_beside_gaussian() -> None:
    print(f"{'source':<10}{'σ²':>8}{'I':>8}{'D_A':>10}{'D_F':>10}{'gain dB':>9}{'Shannon lower':>15}{'R*(D_A / 2)':>13}")
    for name, law in (("Gaussian", norm), ("Laplace", laplace(scale=0.5**0.5))):
        for variance in (0.9, 0.5, 0.1, 0.03, 0.01):
            told, ancestral, flow = _of_one_dimension(law, variance)
            lower = law.entropy() / np.log(2) - 0.5 * np.log2(2 * np.pi * np.e * ancestral / 2)
            print(f"{name:<10}{variance:>8g}{told:>8.4f}{ancestral:>10.6f}{flow:>10.6f}{10 * np.log10(ancestral / flow):>9.3f}"
                  f"{lower:>15.4f}{-0.5 * np.log2(ancestral / 2):>13.4f}")


def _of_one_dimension(law: Any, variance: float) -> tuple[float, float, float]:
    """(information in bits, distortion of a sample of p(x | z), of the flow) of a law of unit variance, by quadrature.

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


PARTS: dict[str, Callable[[], None]] = {"chunks": chunks, "searches": searches, "components": components,
                                        "laplace": laplace_beside_gaussian}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
        print()
