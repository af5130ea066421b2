"""What a model of one domain is worth in another: `python -m benchmarks.domains DATA_FOLDER [--figure FILE.svg]`.

DATA_FOLDER holds text/train.txt, text/valid.txt and text/books.tsv, which says where a work lies in them; text/wikitext*;
dna/*train* and dna/*valid*. A byte n-gram is trained on an equal number of bytes of each domain, from the beginnings of all its
works; "all texts" on as many bytes in all, a part of each domain but the genome. Tested are works that none of them was trained
on; where a domain is a single work (plays, the Rust book, Wikipedia), its last part.

Prints two matrices, a row for what was trained on and a column for what is sent, of messages of 1,024 bytes: real coded bits per
byte, preamble included, and the share of bytes restored exactly where 10 % are erased, never two in a row; +-1.96 standard errors
over messages.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.calibration import Part, restorations
from benchmarks.concealment import interval, isolated
from channel_sim.types import Tokens
from decoders.ngram import NGramRestorer
from reports.figures import COLUMN_INCHES, render, style
from sources.coder import Entropy
from sources.models.ngram import NGram
from sources.training.ngram import train_ngram
from sources.training.text_lanes import messages

MESSAGE_BYTES = 1024
MEGABYTES = 2.0
ERASURES = 0.1
LAST_PART = 0.2
MIXED = "all texts"
GENOME = "a genome"


class Domain(NamedTuple):
    """Works to train on and works to test on; where no work is left for testing, the last part of those to train on is."""

    train: list[bytes]
    test: list[bytes]

    def parts(self) -> Domain:
        if self.test:
            return self
        whole = b"".join(self.train)
        edge = int((1 - LAST_PART) * len(whole))
        return Domain([whole[:edge]], [whole[edge:]])


def domain_of(work: dict[str, str]) -> str:
    """By where a work in books.tsv comes from."""
    if "PEPs" in work["title"] or "PEPs" in work["source_file"]:
        return "PEPs"
    if work["source_file"].startswith("src/"):
        return "Rust book"
    if "Shakespeare" in work["author"]:
        return "plays"
    return "novels" if work["source_file"].startswith("level1/") else "other books"


def read_domains(folder: Path) -> dict[str, Domain]:
    text, genome = folder / "text", folder / "dna"
    found: dict[str, Domain] = {}
    with open(text / "books.tsv", newline="") as table:
        works = [work for work in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE) if "Comedy" not in work["title"]]
    for work in works:  # without two plays of another age
        first = int(work["offset"])
        content = (text / work["file"]).read_bytes()[first:first + int(work["length"])]
        domain = found.setdefault(domain_of(work), Domain([], []))
        (domain.train if work["file"] == "train.txt" else domain.test).append(content)
    found["Wikipedia"] = Domain([next(text.glob("wikitext*")).read_bytes()], [])
    found[GENOME] = Domain([next(genome.glob("*train*")).read_bytes()], [next(genome.glob("*valid*")).read_bytes()])
    return {name: domain.parts() for name, domain in found.items()}


def evenly(works: list[bytes], num_bytes: int) -> bytes:
    """The beginnings of all works, as much of each as makes `num_bytes` in all."""
    shares, left = [], num_bytes
    for rank, work in enumerate(sorted(works, key=len)):
        shares.append(work[:left // (len(works) - rank)])
        left -= len(shares[-1])
    return b"".join(shares)


def train(texts: dict[str, bytes], folder: Path) -> dict[str, NGram]:
    models = {}
    for number, (name, text) in enumerate(texts.items()):
        data, weights = folder / f"{number}.txt", folder / f"{number}.safetensors"
        data.write_bytes(text)
        train_ngram(data, weights, max_megabytes=MEGABYTES)
        models[name] = NGram(path=str(weights))
    return models


def coded_bits_per_byte(model: NGram, items: list[np.ndarray]) -> tuple[float, float]:
    coded = Entropy(model=model, packet_bits=None, header_bits=0).encode([Tokens(values, 256) for values in items])
    bits = np.array([int(packets.num_bits.sum()) + preamble.num_bits for packets, preamble in coded])
    return interval(bits, np.array([values.size for values in items]))


def restored(model: NGram, items: list[np.ndarray]) -> tuple[float, float]:
    part = Part("", items, isolated(items, ERASURES), 256)
    found = restorations(NGramRestorer(model=model), part)
    right = [int(np.sum((one.values == values)[lost])) for one, values, lost in zip(found, items, part.erased)]
    return interval(np.array(right), np.array([int(lost.sum()) for lost in part.erased]))


def show(title: str, rows: list[str], columns: list[str], cells: np.ndarray, digits: int) -> None:
    """cells: float64 [rows, columns, 2], values and half widths."""
    print(f"{title}; trained on \\ sent\n{'':12s}" + "".join(f"{column:>15s}" for column in columns))
    for row, line in zip(rows, cells):
        print(f"{row:12s}" + "".join(f"{value:{8}.{digits}f} ± {half:.{digits}f}".rjust(15) for value, half in line))


def draw(rows: list[str], columns: list[str], rates: np.ndarray, shares: np.ndarray) -> Figure:
    """Two heat maps with numbers in the cells, darker is better; the best model of a column is in bold."""
    with style():
        figure = Figure(figsize=(2 * COLUMN_INCHES, 0.24 * len(rows) + 1.1))
        left, right = figure.subplots(1, 2, sharey=True)
        _heat_map(left, -rates[..., 0], (-5.0, -1.5), "real bits per byte", columns, "{:.2f}")
        _heat_map(right, 100 * shares[..., 0], (20.0, 100.0), "% of erased bytes restored exactly", columns, "{:.0f}")
        left.set_yticks(range(len(rows)), rows)
        left.set_ylabel("n-gram trained on")
        figure.supxlabel("what is sent", fontsize=8.5)
    return figure


def _heat_map(axis: Axes, merits: np.ndarray, scale: tuple[float, float], title: str, columns: list[str], form: str) -> None:
    axis.imshow(merits, cmap="Blues", aspect="auto", vmin=scale[0], vmax=scale[1])
    for (row, column), merit in np.ndenumerate(merits):
        deep = merit > scale[0] + 0.6 * (scale[1] - scale[0])
        axis.text(column, row, form.format(abs(merit)), ha="center", va="center", fontsize=7, color="white" if deep else "black",
                  fontweight="bold" if merit == merits[:, column].max() else "normal")
    axis.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
    axis.tick_params(length=0)
    axis.set_title(title)
    axis.spines[:].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--messages", type=int, default=40, help="of each domain")
    parser.add_argument("--figure", type=Path, help="where to draw the heat maps, .svg")
    options = parser.parse_args()
    domains = read_domains(options.folder)
    num_bytes = min(sum(map(len, domain.train)) for domain in domains.values())
    texts = {name: evenly(domain.train, num_bytes) for name, domain in domains.items()}
    texts[MIXED] = b"".join(text[:num_bytes // (len(texts) - 1)] for name, text in texts.items() if name != GENOME)
    items = {name: [np.frombuffer(one, np.uint8).astype(np.int32)
                    for one in messages(b"".join(domain.test), MESSAGE_BYTES, options.messages)]
             for name, domain in domains.items()}
    rows, columns = list(texts), list(items)
    print(f"8-grams of {num_bytes:,} bytes each, {MEGABYTES:g} MB at most; {options.messages} messages of {MESSAGE_BYTES} bytes")
    with tempfile.TemporaryDirectory() as folder:
        models = train(texts, Path(folder))
        rates = np.array([[coded_bits_per_byte(models[row], items[column]) for column in columns] for row in rows])
        show("real bits per byte", rows, columns, rates, 2)
        shares = np.array([[restored(models[row], items[column]) for column in columns] for row in rows])
    show(f"% restored of {100 * ERASURES:g} % erased", rows, columns, 100 * shares, 1)
    if options.figure:
        options.figure.write_bytes(render(draw(rows, columns, rates, shares)))


if __name__ == "__main__":
    main()
