"""Where a prior beats parity, over loss, burst, block length and misjudgement: `python -m benchmarks.breakeven [FILE] [--items N]`.

At equal channel uses, in packets of equal size that meet equal losses:

    prior    packets without parity, whose holes the n-gram fills. Raw bytes, interleaved; or entropy-coded packets that need no
             other, which leave less redundancy in the text the longer they are
    rival    the same text chained through the whole item, the uses that saves spent on Reed-Solomon packets; what they cannot
             repair the same n-gram fills

How much redundancy a prior arm leaves sets the rival's parity, and so the loss rate it is a design for: the highest at which the
code fails in one item of a hundred, in closed form for the packet counts of the text and the mean burst, which the sender knows.
Columns of a panel are the true loss rate in units of it: "twice" is a sender who believed half of the loss, "half" one who believed
twice. A cell holds the byte error rate of prior less rival in percentage points, positive where the rival wins, and the true loss
rate. Brackets: the 95 % interval of the difference, both arms over the same items and losses, each cell by itself, holds 0 or hangs
on fewer than five items. Boxes: the prior wins, among all cells too, by Holm's procedure at 5 % in all. White: no chain of such
bursts has that loss rate, or it is above 0.92.

The text (default: CPython's documentation) is N pieces of 1,024 bytes, spread evenly, cut into items of 1,024, 256 and 64.
Prints every cell with its interval, Holm's p and both arms' rates and uses; writes the figure.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.optimize import brentq

import scenarios
from channel_sim.store import Trial
from channel_sim.theory import mds_failure_probability
from channel_sim.types import Packets, Tokens
from reports.figures import render, style
from reports.findings import is_told_apart
from reports.statistics import Difference, holm, paired_difference
from sources.coder import Entropy
from sources.fixed_length import FixedLength
from sources.models.ngram import NGram
from sources.text import python_docs

PIECE_BYTES = 1024
HEADER_BITS = {64: 24, 256: 24, 1024: 32}
"""By bytes of an item: of a packet that needs no other, which must tell its number, first token and token count."""
BURSTS: tuple[float | None, ...] = (None, 4.0, 12.0)
MISJUDGED = {0.5: "half", 1.0: "as believed", 2**0.5: "√2 times", 2.0: "twice"}
FAILURE = 0.01
SHADES = "PuOr_r"  # sign by hue, told apart by the colour-blind, and by boxes and signs in grey
_DATA = 60  # as many packets as no item has, so that each is one block; of at most 255 rows
METRIC = "token_error_rate"


class Spending(NamedTuple):
    """A prior arm: how it leaves redundancy in what it sends. `air_bits` of a packet, header included, by bytes of an item."""

    label: str
    air_bits: dict[int, int]
    raw: bool = False

    def coder(self, item_bytes: int) -> dict[str, Any]:
        air_bits, header_bits = self.air_bits[item_bytes], HEADER_BITS[item_bytes]
        if self.raw:
            return {"name": "fixed_length", "packet_bits": air_bits, "header_bits": 0, "interleave": True}
        return {"name": "entropy", "packet_bits": air_bits - header_bits, "header_bits": header_bits, "context": "independent"}

    def rival_coder(self, item_bytes: int) -> dict[str, Any]:
        return {"name": "entropy", "packet_bits": self.air_bits[item_bytes], "header_bits": 0, "context": "chained"}


SPENDINGS = (Spending("independent, long packets", {64: 80, 256: 128, 1024: 160}),
             Spending("independent, short packets", {64: 64, 256: 96, 1024: 96}),
             Spending("raw bytes, interleaved", {64: 32, 256: 64, 1024: 64}, raw=True))


class Rival(NamedTuple):
    """The rival's code: `rows` parity and all for every `_DATA` packets; (n, k) of each item; mean channel uses of both arms."""

    rows: int
    codes: list[tuple[int, int]]
    uses: tuple[float, float]

    def loss_rate(self, burst: float | None) -> float:
        """What the code is a design for: it fails in `FAILURE` of the items."""
        kinds, counts = np.unique(self.codes, axis=0, return_counts=True)

        def too_many(loss_rate: float) -> float:
            failures = [mds_failure_probability(int(n), int(k), loss_rate, burst) for n, k in kinds]
            return float(counts @ failures) / len(self.codes) - FAILURE

        return float(brentq(too_many, 1e-6, highest_loss_rate(burst)))


class Cell(NamedTuple):
    """Both arms at one true loss rate. adjusted_p: Holm's, over all cells that were measured (`among_all`)."""

    misjudged: str
    loss_rate: float
    prior: float
    rival: float
    gap: Difference
    uses: tuple[float, float]
    adjusted_p: float = 1.0

    @property
    def decided(self) -> bool:
        """By itself."""
        return not self.gap.note and self.gap.low is not None and self.gap.high is not None and self.gap.low * self.gap.high > 0

    @property
    def prior_wins(self) -> bool:
        """Among all cells."""
        return self.decided and self.gap.mean < 0 and is_told_apart(self.gap, self.adjusted_p)


class Strip(NamedTuple):
    """One row of a panel."""

    item_bytes: int
    burst: float | None
    spending: Spending
    rival: Rival
    cells: list[Cell]


def encode(coder: dict[str, Any], items: list[Tokens]) -> list[Packets]:
    fields = {key: value for key, value in coder.items() if key != "name"}
    built = FixedLength(**fields) if coder["name"] == "fixed_length" else Entropy(model=NGram(), **fields)
    return [packets for packets, _ in built.encode(items)]


def rival_to(spending: Spending, items: list[Tokens]) -> Rival:
    """The rival whose mean channel uses over `items` come nearest to the prior's."""
    item_bytes = items[0].values.size
    target = float(np.mean([one.num_bits.sum() + one.header_bits * one.num_packets
                            for one in encode(spending.coder(item_bytes), items)]))
    chained = encode(spending.rival_coder(item_bytes), items)
    data = np.array([one.num_packets for one in chained])
    bits = np.array([one.num_bits.sum() for one in chained])
    parity_bits = np.array([8 * -(-int(one.num_bits.max()) // 8) for one in chained])

    def parity(rows: int) -> np.ndarray:
        return -(-data * (rows - _DATA) // _DATA)

    uses = {rows: float(np.mean(bits + parity(rows) * parity_bits)) for rows in range(_DATA, 256)}
    rows = min(uses, key=lambda one: abs(uses[one] - target))
    return Rival(rows, list(zip((data + parity(rows)).tolist(), data.tolist())), (target, uses[rows]))


def highest_loss_rate(burst: float | None) -> float:
    """A chain has no shorter bursts than independent losses of its rate."""
    return 0.92 if burst is None else 1 - 1 / burst


def measure(path: Path, item_bytes: int, spending: Spending, burst: float | None, rival: Rival) -> list[Cell]:
    """The cells of one strip: one scenario of two arms, swept over the true loss rate."""
    designed_for = rival.loss_rate(burst)
    rates = {float(f"{factor * designed_for:.3g}"): text for factor, text in MISJUDGED.items()
             if factor * designed_for <= highest_loss_rate(burst)}
    arms = ({"label": "prior", "coder": spending.coder(item_bytes)},
            {"label": "rival", "coder": spending.rival_coder(item_bytes),
             "protection": {"name": "reed_solomon", "n": rival.rows, "k": _DATA}})
    chain = {} if burst is None else {"mean_burst_packets": burst}
    channel = {"name": "gilbert_elliott" if chain else "packet_loss", "loss_rate": min(rates)} | chain
    results = scenarios.run({
        "question": "Prior or parity?", "items": len(rival.codes), "tokenizer": {"name": "bytes"},
        "source": {"name": "text", "path": str(path), "item_bytes": item_bytes}, "channel": channel, "decoder": {"name": "ngram"},
        "arm": list(arms), "sweep": {"channel.loss_rate": list(rates)}})
    cells = []
    for rate, text in rates.items():
        trials: dict[str, list[Trial]] = {"prior": [], "rival": []}
        for one in (one for one in results.trials if one.sweep["channel.loss_rate"] == rate):
            pair = (item_bytes * float(one.metrics[METRIC] or 0), float(item_bytes))
            trials[one.arm].append(Trial("", one.item, 0, {METRIC: pair}, {}, {}))
        gap = paired_difference(trials["prior"], trials["rival"], METRIC)
        assert gap is not None
        means = {arm: np.mean([one.metrics[METRIC][0] / item_bytes for one in trials[arm]]) for arm in trials}
        uses = [results.find("channel_uses_per_sample", arm, loss_rate=rate)[0].mean or 0 for arm in ("prior", "rival")]
        cells.append(Cell(text, rate, float(means["prior"]), float(means["rival"]), gap, (uses[0], uses[1])))
    return cells


def cut(data: bytes, num_pieces: int, item_bytes: int) -> np.ndarray:
    """int32 [items, item_bytes]: pieces spread evenly over the data, cut into items."""
    starts = np.linspace(0, len(data) - PIECE_BYTES, num_pieces).astype(int)
    pieces = np.frombuffer(b"".join(data[start:start + PIECE_BYTES] for start in starts), np.uint8)
    return pieces.reshape(-1, item_bytes).astype(np.int32)


def strips(data: bytes, num_pieces: int) -> Iterator[Strip]:
    """All rows of all panels, as they are measured."""
    with tempfile.TemporaryDirectory() as folder:
        for item_bytes in HEADER_BITS:
            values = cut(data, num_pieces, item_bytes)
            path = Path(folder) / f"{item_bytes}.txt"
            path.write_bytes(values.astype(np.uint8).tobytes())
            for spending in SPENDINGS:
                rival = rival_to(spending, [Tokens(one, 256) for one in values])
                for burst in BURSTS:
                    yield Strip(item_bytes, burst, spending, rival, measure(path, item_bytes, spending, burst, rival))


def among_all(rows: list[Strip]) -> list[Strip]:
    """The same strips, each cell with its p among the cells of all of them."""
    adjusted = iter(holm([cell.gap.p_value for row in rows for cell in row.cells]))
    return [row._replace(cells=[cell._replace(adjusted_p=next(adjusted)) for cell in row.cells]) for row in rows]


def draw(rows: list[Strip]) -> Figure:
    """Panels: block length across, burst down. Rows of a panel: how the prior arm spends; columns: misjudgement."""
    with style():
        figure = Figure(figsize=(7.16, 5.2))
        axes = figure.subplots(len(BURSTS), len(HEADER_BITS), sharex=True, sharey=True)
        for line, burst in zip(axes, BURSTS, strict=True):
            for axis, item_bytes in zip(line, HEADER_BITS, strict=True):
                _draw_panel(axis, [row for row in rows if (row.item_bytes, row.burst) == (item_bytes, burst)])
                losses = "independent losses" if burst is None else f"mean burst {burst:g} packets"
                axis.set_title(f"{item_bytes:,} bytes, {losses}", fontsize=8)
        for axis in axes[:, 0]:
            axis.set_yticks(range(len(SPENDINGS)), [one.label.replace(", ", ",\n") for one in SPENDINGS], fontsize=7)
        for axis in axes[-1]:
            axis.set_xticks(range(len(MISJUDGED)), MISJUDGED.values(), fontsize=7)
        figure.supxlabel("true loss rate, in units of the loss rate that the sender designed for", fontsize=8.5)
        figure.supylabel("prior arm: where it leaves redundancy", fontsize=8.5)
        shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(-50, 50), SHADES)
        bar = figure.colorbar(shades, ax=axes, aspect=40, pad=0.01, fraction=0.03)
        bar.set_label("byte error rate, prior less rival (percentage points)", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _draw_panel(axis: Axes, rows: list[Strip]) -> None:
    shades, columns = matplotlib.colormaps[SHADES], list(MISJUDGED.values())
    axis.set_xlim(-0.5, len(MISJUDGED) - 0.5)
    axis.set_ylim(-0.5, len(SPENDINGS) - 0.5)
    axis.tick_params(length=0)
    for row in rows:
        for cell in row.cells:
            place = columns.index(cell.misjudged), SPENDINGS.index(row.spending)
            points = 100 * cell.gap.mean
            corner = place[0] - 0.5, place[1] - 0.5
            axis.add_patch(Rectangle(corner, 1, 1, facecolor=shades(0.5 + points / 100), edgecolor="white", linewidth=0.5))
            if cell.prior_wins:
                axis.add_patch(Rectangle((corner[0] + 0.04, corner[1] + 0.04), 0.92, 0.92, fill=False, edgecolor="black",
                                         linewidth=1.4, zorder=3))
            ink = "white" if abs(points) > 30 else "black"
            number = f"{points:+.1f}".replace("-", "−")
            axis.text(*place, f"{number if cell.decided else f'({number})'}\nat {cell.loss_rate:.2g}", ha="center", va="center",
                      fontsize=6.5, color=ink, fontweight="bold" if cell.prior_wins else "normal", linespacing=1.1)


def show(row: Strip) -> None:
    losses = "independent" if row.burst is None else f"burst {row.burst:g}"
    num_sent, num_data = np.mean(row.rival.codes, axis=0)
    print(f"{row.item_bytes} bytes, {losses}, {row.spending.label}: rival ({num_sent:.1f}, {num_data:.1f}) on average, for a loss "
          f"rate of {row.rival.loss_rate(row.burst):.3g}")
    for cell in row.cells:
        note = "" if cell.decided else ", undecided"
        print(f"  {cell.misjudged:12s} loss {cell.loss_rate:.3g}: prior {cell.prior:.4f}, "
              f"rival {cell.rival:.4f}, difference {cell.gap.mean:+.4f} [{cell.gap.low:+.4f}, {cell.gap.high:+.4f}], "
              f"{cell.gap.num_items} items, p {cell.adjusted_p:.2g}{note}; uses a byte {cell.uses[0]:.3f}, {cell.uses[1]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="a text; default: CPython's documentation")
    parser.add_argument("--items", type=int, default=24, help="pieces of 1,024 bytes")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/breakeven.svg"))
    asked = parser.parse_args()
    rows = among_all(list(strips(asked.file.read_bytes() if asked.file else python_docs(), asked.items)))
    for row in rows:
        show(row)
    asked.out.write_bytes(render(draw(rows)))


if __name__ == "__main__":
    main()
