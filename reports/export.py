"""Results as files for other programs: tables, arrays, figures and tables for LaTeX, a notebook; and what came out of every arm."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.metrics import value_of
from channel_sim.store import Store
from reports.arrays import write_mat, write_npz
from reports.files import writing
from reports.notebook import write_notebook
from reports.pictures import content_of
from reports.summary import Row, Summary, describe, point_text, summarise, value_text
from reports.tex import write_booktabs, write_pgfplots

ORIGIN_LETTERS = "ricl"
"""received, inferred, concealed, lost: one letter a token in the .origin.txt files."""


def export(store: Store, form: str, folder: Path) -> list[Path]:
    """Write the results in one of `FORMATS` into `folder`; returns what was written. Refuses a run without a trial."""
    if form not in FORMATS:
        raise RequestError(f"format {form!r}: must be one of {', '.join(FORMATS)}")
    if not any(row.trials for row in summarise(store).rows):
        raise RequestError(f"{store.path}: holds no trial yet; run its scenario again before it is exported")
    write, name = FORMATS[form]
    return write(store, folder / name)


def write_trials_csv(store: Store, path: Path) -> None:
    """One line a trial: task_id, arm, sweep values, item, replicate, one column a metric; empty where not measured."""
    summary, keys = summarise(store), _sweep_keys(store)
    names = sorted({name for row in summary.rows for name in row.trials.names})
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        file.write(_csv_line(["task_id", "arm", *keys, "item", "replicate", *names]))
        for row in summary.rows:
            file.writelines(_trial_lines(row, keys, names))


def write_summary_csv(store: Store, path: Path) -> None:
    """One line an arm, sweep point and metric: mean and 95 % interval, all empty where not measured."""
    keys = _sweep_keys(store)
    header = ["arm", *keys, "metric", "unit", "mean", "ci_low", "ci_high", "num_trials", "task_id"]
    _write_csv(path, header, _summary_lines(summarise(store), keys))


def write_samples(store: Store, folder: Path) -> None:
    """folder/original/item-3.txt once, and folder/<arm>/<point>/item-3.txt with item-3.origin.txt (one letter a token) beside it.

    Letters: r received, i inferred from soft evidence, c concealed by the prior, l lost (its token stands as the tokenizer's
    constant). Of a picture, item-3.png, there is item-3.arrived.png as well, where restoring has changed it; so of a sound, .wav.
    """
    arms, originals = _names([point.arm for point in store.points()]), dict[int, bytes]()
    for point in store.points():
        where = folder / arms[point.arm] / _name(point_text(point.sweep)) if point.sweep else folder / arms[point.arm]
        for item, sample in store.samples(point.task_id):
            name, original = f"item-{item}{_suffix(sample)}", _content(sample, "original")
            # a sweep over the source changes the item itself: then every point keeps its own
            first = originals.setdefault(item, original) == original
            _write(folder / "original" / name if first else where / f"original-{name}", original)
            _write(where / name, _content(sample, "restored"))
            if "arrived" in sample:
                _write(where / f"item-{item}.arrived{_suffix(sample)}", _content(sample, "arrived"))
            letters = "".join(ORIGIN_LETTERS[origin] * length for origin, length in sample["origin"])
            _write(where / f"item-{item}.origin.txt", letters.encode())


def _csv(store: Store, folder: Path) -> list[Path]:
    write_trials_csv(store, folder / "trials.csv")
    write_summary_csv(store, folder / "summary.csv")
    return [folder / "trials.csv", folder / "summary.csv"]


def _summary_lines(summary: Summary, keys: list[str]) -> Iterator[list[Any]]:
    for row in summary.rows:
        for metric in sorted({*row.estimates, *row.reasons}):
            one = row.estimate(metric)
            numbers = (one.mean, one.low, one.high) if one else (None, None, None)
            yield [row.point.arm, *_sweep(keys, row.point.sweep), metric, describe(metric).unit,
                   *("" if number is None else repr(number) for number in numbers), len(row.trials), row.point.task_id]


def _sweep_keys(store: Store) -> list[str]:
    return list(dict.fromkeys(key for point in store.points() for key in point.sweep))


def _sweep(keys: list[str], sweep: dict[str, Any]) -> list[str]:
    return [value_text(sweep[key]) if key in sweep else "" for key in keys]


def _trial_lines(row: Row, keys: list[str], names: list[str]) -> Iterator[str]:
    """The lines of 100,000 trials take a while: what needs quotes is quoted once, and a column is divided at once."""
    head = _csv_line([row.point.task_id, row.point.arm, *_sweep(keys, row.point.sweep)]).rstrip("\n")
    columns = [map(str, row.trials.items.tolist()), map(str, row.trials.replicates.tolist()),
               *(_values(name, row.trials.pairs(name)) for name in names)]
    return (f"{head},{','.join(cells)}\n" for cells in zip(*columns, strict=True))


def _values(metric: str, pairs: np.ndarray) -> list[str]:
    """`value_of` every trial as text, "" where it was not measured."""
    numerators, denominators = pairs.T
    if not denominators.any():
        return [""] * len(pairs)
    if describe(metric).transform:
        return ["" if (value := value_of(metric, *pair)) is None else repr(value) for pair in pairs.tolist()]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (numerators / denominators).tolist()
    return [repr(ratio) if chance else "" for ratio, chance in zip(ratios, denominators.tolist(), strict=True)]


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _write_csv(path: Path, header: list[str], lines: Iterable[list[Any]]) -> None:
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def _content(sample: dict[str, Any], which: str) -> bytes:
    """Bytes as they were; symbols past a byte as UTF-8; the file in a data URI."""
    if sample["kind"] in ("image", "sound"):
        return content_of(sample[which])
    text = "".join(sample[which])
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _suffix(sample: dict[str, Any]) -> str:
    return {"bytes": ".bin", "image": ".png", "sound": ".wav"}.get(sample["kind"], ".txt")


def _name(label: str) -> str:
    """A label as a file name of any system; the sign of a number stays."""
    label = re.sub(r"(?<!\w)[-−](?=\d)", "minus ", label)
    return re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-.") or "arm"


def _names(labels: Sequence[str]) -> dict[str, str]:
    """Label -> file name, told apart by a number where two labels would share one."""
    names: dict[str, str] = {}
    for label in labels:
        name, number = _name(label), 2
        while label not in names and name.lower() in {taken.lower() for taken in (*names.values(), "original")}:
            name, number = f"{_name(label)}-{number}", number + 1
        names.setdefault(label, name)
    return names


def _write(path: Path, content: bytes) -> None:
    with writing(path):
        path.write_bytes(content)


FORMATS: Mapping[str, tuple[Callable[[Store, Path], list[Path]], str]] = {
    "csv": (_csv, ""), "mat": (write_mat, "results.mat"), "npz": (write_npz, "results.npz"), "pgfplots": (write_pgfplots, ""),
    "booktabs": (write_booktabs, ""), "notebook": (write_notebook, "results.ipynb"),
}
"""Name -> what writes the results in that format and returns the files, and the name of its file; "": several in a folder."""
