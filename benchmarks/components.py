"""Where the distortion of DiffC lies: `python -m benchmarks.components [FIGURE]`.

256-dimensional Gaussian vectors with the covariance of 16x16 grey patches, at .39 bits a dimension: the mean squared error of each
principal component, of DiffC-A and DiffC-F with isotropic, pink and optimal noise. Lines are closed forms; markers are measured on
streams that were really coded, means over vectors and over components side by side, with 95 % intervals over the vectors. Prints a
table by groups of components, with the closed form beside it, and each group's share of the information; writes the figure.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from channel_sim.keys import Key
from channel_sim.theory.gaussian import diffusion_distortion
from channel_sim.types import Reconstruction
from reports.figures import COLOURS, MARKERS, add_legend, render, style
from sources.diffusion.diffc import Diffc
from sources.gaussian import GaussianVector

ROOT, ITEMS, BITS = Key(10), 32, 0.39
FIGURE = Path("docs/figures/diffc_components.svg")
EDGES = (0, 1, 4, 16, 64, 256)
MARKED = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
RULES: tuple[Literal["ancestral", "flow"], ...] = ("ancestral", "flow")
NOISES: tuple[Literal["isotropic", "pink", "optimal"], ...] = ("isotropic", "pink", "optimal")


class Series(NamedTuple):
    """closed: float64 [256], mean squared error; squares: float64 [ITEMS, 256], measured; shares: float64 [256] of the bits."""

    rule: str
    noise: str
    closed: np.ndarray
    squares: np.ndarray
    shares: np.ndarray


def measure(diffc: Diffc) -> Series:
    spectrum, left = diffc.axes.spectrum, diffc.remaining_variances(BITS)
    closed = np.array([diffusion_distortion(spectrum[[i]], left[[i]], diffc.reconstruction) for i in range(spectrum.size)])
    keys = [ROOT.child("item", index) for index in range(ITEMS)]
    items = GaussianVector(covariance="patches").items(range(ITEMS), [key.child("source") for key in keys])
    squares = []
    for item, key in zip(items, keys, strict=True):
        sent = diffc.encode(item, key.child("shared")).values
        all_came = Reconstruction(sent, np.zeros(sent.size, np.uint8), np.ones(sent.size, np.float32), diffc.vocab_size)
        made, _ = diffc.decode(all_came, key.child("shared"))
        squares.append(spectrum * diffc.axes.components(made - np.asarray(item.content)) ** 2)
    return Series(diffc.reconstruction, diffc.noise, closed, np.array(squares), -np.log2(left) / -np.log2(left).sum())


def of_group(squares: np.ndarray, group: slice) -> tuple[float, float]:
    """(mean, half of its 95 % interval) of the components of a group, over items."""
    by_item = squares[:, group].mean(axis=1)
    return float(by_item.mean()), float(1.96 * by_item.std(ddof=1) / np.sqrt(ITEMS))


def table(series: list[Series], spectrum: np.ndarray) -> None:
    groups = [slice(*ends) for ends in pairwise(EDGES)]
    print(f"{'mean squared error of a component':<34}" + "".join(f"{f'{one.start + 1} to {one.stop}':>26}" for one in groups))
    print(f"{'variance':<34}" + "".join(f"{spectrum[one].mean():>26.4f}" for one in groups))
    for one in series:
        entries = []
        for group in groups:
            mean, half = of_group(one.squares, group)
            entries.append(f"{f'{mean:.4f} ± {half:.4f} ({one.closed[group].mean():.4f})':>26}")
        print(f"{one.rule + ', ' + one.noise:<34}" + "".join(entries))
        print(f"{'  share of the bits':<34}" + "".join(f"{f'{100 * one.shares[group].sum():.0f} %':>26}" for group in groups))


def draw(series: list[Series], spectrum: np.ndarray) -> Figure:
    """A panel a reconstruction."""
    component, groups = np.arange(1, spectrum.size + 1), [slice(*ends) for ends in pairwise(MARKED)]
    centres = [np.sqrt((group.start + 1) * group.stop) for group in groups]
    with style():
        figure = Figure(figsize=(7.16, 2.9))
        axes = figure.subplots(1, 2, sharey=True)
        for axis, rule in zip(axes, RULES, strict=True):
            axis.plot(component, spectrum, color="#888888", linestyle=(0, (1, 1.2)), label="variance of the component")
            for number, one in enumerate(one for one in series if one.rule == rule):
                means, halves = np.array([of_group(one.squares, group) for group in groups]).T
                axis.plot(component, one.closed, color=COLOURS[number], linewidth=0.9)
                axis.errorbar(centres, means, halves, color=COLOURS[number], marker=MARKERS[number], linestyle="none",
                              elinewidth=0.7, markersize=3.5, label=f"{one.noise} noise")
            axis.set_title({"ancestral": "DiffC-A", "flow": "DiffC-F"}[rule])
            axis.set(xscale="log", yscale="log", xlabel="principal component", ylim=(2e-3, 400))
            axis.xaxis.set_major_locator(FixedLocator([1, 4, 16, 64, 256]))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.grid(axis="y")
        axes[0].set_ylabel("mean squared error")
        add_legend(figure)
    return figure


def main() -> None:
    told: dict[str, Any] = {"covariance": "patches", "information_bits": BITS, "search_bits": 11, "check_bits": 0}
    series = [measure(Diffc(**told, reconstruction=rule, noise=noise)) for rule in RULES for noise in NOISES]
    spectrum = GaussianVector(covariance="patches").axes.spectrum
    table(series, spectrum)
    Path(sys.argv[1] if len(sys.argv) > 1 else FIGURE).write_bytes(render(draw(series, spectrum)))


if __name__ == "__main__":
    main()
