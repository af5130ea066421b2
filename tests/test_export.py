"""Results as files for other programs: each is opened by the program that it is for, where that is installed."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import scipy.io

from channel_sim.checks import RequestError
from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial
from reports.axes import names_of
from reports.export import FORMATS, export
from reports.findings import answer
from reports.summary import Summary, summarise
from reports.tex import tex
from scenarios.cli import main
from tests.synthetic_results import ARMS, LOSS_RATES, synthetic_store

PARITY = "compress + Reed–Solomon"
ESCAPES = [("a_b 50 % & #1", r"a\_b 50 \% \& \#1"), ("日", "[U+65E5]"), ("λ", r"$\lambda$"), ("é“–”", "é``--''"),
           ("\\", r"\textbackslash{}"), ("ſþ", "[U+017F][U+00FE]")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = synthetic_store(tmp_path_factory.mktemp("run") / "results.sqlite")
    yield store
    store.close()


@pytest.fixture(scope="module")
def summary(store: Store) -> Summary:
    return summarise(store)


def hostile_store(path: Path) -> Store:
    """Labels, sweep values and reasons that hold what TeX, MATLAB and a shell take for their own."""
    labels = ["50 % & $x_1$ #{~^\\}", "日本 α “é” <|>", "../../a\nb", "", 'a "b"']
    store = Store.create(path, {"sweep": {"coder.context": ["in_dep & %", "chained"]}, "question": "\\end{document} 50 %?",
                                "name": "a\nb"})
    points = [Point(a, p, label, {"coder.context": value}, f"t{a}{p}") for a, label in enumerate(labels)
              for p, value in enumerate(["in_dep & %", "chained"])]
    store.set_plan(points, {point.task_id: {} for point in points}, [])
    store.add([Trial(point.task_id, i, 0, {"token_error_rate": (float(i % 2 and point.arm_index), 7.0)}, {"chrf": "50 % & more_"},
                     Ledger().to_dict()) for point in points if point.arm_index != 3 for i in range(5)], [])
    return store


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_the_same_bytes_every_time(store: Store, tmp_path: Path, form: str) -> None:
    """Catches the date that scipy and zip files like to write, and files that are named but not there."""
    first, second = (export(store, form, tmp_path / str(number)) for number in range(2))
    assert first and all(path.is_file() for path in first)
    assert {path.name: path.read_bytes() for path in first} == {path.name: path.read_bytes() for path in second}


def test_arrays_hold_what_the_summary_holds(store: Store, summary: Summary, tmp_path: Path) -> None:
    """Catches pickles, arms or points in another order, 0 for not measured, and sums that are not those of the trials."""
    with np.load(export(store, "npz", tmp_path)[0], allow_pickle=False) as results:
        assert results["arms"].tolist() == list(ARMS) and results["sweep/channel.loss_rate"].tolist() == LOSS_RATES
        for a, arm in enumerate(ARMS):
            for p, row in enumerate(summary.of(arm)):
                one = row.estimate("recovered_fraction")
                mean, high = (results[f"metrics/recovered_fraction/{name}"][a, p] for name in ("mean", "high"))
                assert (mean, high) == (one.mean, one.high) if one else np.isnan(mean) and np.isnan(high)
                here = (results["trials/arm"] == a) & (results["trials/point"] == p)
                wrong, tokens = results["trials/token_error_rate"][here].sum(axis=0)
                assert wrong / tokens == pytest.approx(row.estimates["token_error_rate"].mean, rel=1e-12)
        assert "varying number" in results["metrics/recovered_fraction/note"][-1, 0]
        assert results["references/token_error_rate/values"].tolist() == [LOSS_RATES]


def test_a_mat_file_has_a_struct_an_arm(store: Store, summary: Summary, tmp_path: Path) -> None:
    """Catches fields that MATLAB does not take, which scipy leaves out without a word, and indices that count from 0."""
    path = export(store, "mat", tmp_path)[0]
    results = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["results"]
    assert [arm.label for arm in results.arms] == [*list(ARMS)[:-1], "compress + Reed-Solomon"]  # Octave 7 would cut UTF-8 off
    means = [row.estimates["token_error_rate"].mean for row in summary.of("n-gram prior")]
    assert results.arms[3].token_error_rate.mean.tolist() == means
    assert np.isnan(results.arms[5].recovered_fraction.mean).all()
    assert results.sweep.channel_loss_rate.tolist() == LOSS_RATES
    assert (results.trials.arm.min(), results.trials.arm.max()) == (1, len(ARMS))


@pytest.mark.skipif(not shutil.which("octave-cli"), reason="Octave (octave-cli) is not installed")
def test_octave_opens_the_mat_file(store: Store, summary: Summary, tmp_path: Path) -> None:
    """Catches a file that scipy alone can read, and labels that lose their letters on the way."""
    path = export(store, "mat", tmp_path)[0]
    hostile = hostile_store(tmp_path / "results.sqlite")
    other = export(hostile, "mat", tmp_path / "hostile")[0]
    hostile.close()
    script = (f"load('{path}'); printf('%d %d|', size(results.arms)); printf('%s|', results.arms(6).label); "
              f"printf('%.17g ', results.arms(4).token_error_rate.mean); printf('|'); "
              f"printf('%.17g ', results.sweep.channel_loss_rate); load('{other}'); "
              f"printf('|%s', results.sweep.coder_context{{1}})")
    done = subprocess.run(["octave-cli", "-q", "--no-gui", "--norc", "--eval", script], capture_output=True, timeout=60)
    size, label, means, values, text = done.stdout.decode().split("|")
    assert (size, label, text) == ("1 6", "compress + Reed-Solomon", "in_dep & %")
    assert [float(one) for one in means.split()] == [row.estimates["token_error_rate"].mean for row in summary.of("n-gram prior")]
    assert [float(one) for one in values.split()] == LOSS_RATES


def table_of(path: Path) -> dict[str, list[float]]:
    """Columns of a .dat file by name."""
    names, *lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return dict(zip(names, zip(*[map(float, line) for line in lines], strict=True), strict=True))  # type: ignore[arg-type]


def test_the_data_of_a_tex_figure_reach_the_ends_of_the_intervals(store: Store, summary: Summary, tmp_path: Path) -> None:
    """Catches bars as absolute ends where PGFPlots adds them to the mean, and 'no event' drawn as a rate."""
    export(store, "pgfplots", tmp_path)
    data = table_of(tmp_path / "token_error_rate-1.dat")
    assert list(data["x"]) == LOSS_RATES
    for p, row in enumerate(summary.of("n-gram prior")):
        one = row.estimates["token_error_rate"]
        assert data["arm3"][p] + data["plus3"][p] == pytest.approx(one.high, rel=1e-6)
    limits = [row.estimates["token_error_rate"].method == "upper limit" for row in summary.of(PARITY)]
    assert [np.isnan(mean) for mean in data["arm5"]] == limits == [not np.isnan(limit) for limit in data["limit5"]]
    text = (tmp_path / "token_error_rate.tex").read_text(encoding="utf-8")
    names = names_of(summary, "token_error_rate").values()
    assert all(f"\\addlegendentry{{{tex(name)}}}" in text for name in names) and "$-$41" in text
    assert "$-$41" not in "".join(names_of(summary, "channel_uses_per_sample").values())  # there it is what is compared
    assert "ymode=log" in text and "Reed--Solomon" in text


def test_a_table_holds_means_intervals_and_who_is_best(store: Store, tmp_path: Path) -> None:
    """Catches sweep points that fall off the table, and a winner that is not the one of the findings."""
    export(store, "booktabs", tmp_path)
    text = (tmp_path / "token_error_rate-table.tex").read_text(encoding="utf-8")
    assert all(f"& {value} " in text or f"& {value} &" in text for value in LOSS_RATES)
    assert "below 0.075" in text and text.count("\\textbf") >= len(LOSS_RATES)
    assert "--: not measured" in (tmp_path / "recovered_fraction-table.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize(("raw", "escaped"), ESCAPES)
def test_text_is_no_tex(raw: str, escaped: str) -> None:
    """Catches a label that ends a group, begins a comment, or is not in the fonts."""
    assert tex(raw) == escaped


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="a TeX installation (pdflatex) is not there")
@pytest.mark.parametrize("which", ["usual", "hostile", "panels", "unswept"])
@pytest.mark.parametrize("form", ["pgfplots", "booktabs"])
def test_the_tex_compiles(tmp_path: Path, which: str, form: str) -> None:
    """Catches what no reading of the file shows: undefined commands, a brace too many, text wider than the page."""
    path = tmp_path / "results.sqlite"
    grid: dict[str, list[Any]] = {"channel.loss_rate": [0.1, 0.2], "channel.esno_db": [0, 3]}
    sweeps: dict[str, dict[str, list[Any]]] = {"unswept": {}, "panels": grid}
    store = hostile_store(path) if which == "hostile" else synthetic_store(path, num_items=6, sweep=sweeps.get(which))
    files = [path for path in export(store, form, tmp_path / "out") if "token_error_rate" in path.name and path.suffix == ".tex"]
    store.close()
    (tmp_path / "out" / "paper.tex").write_text("\\documentclass{article}\\usepackage{pgfplots,booktabs}\\pgfplotsset{compat=1.16}"
                                                f"\\begin{{document}}\\input{{{files[0].name}}}The end.\\end{{document}}")
    for name in (files[0].name, "paper.tex"):
        done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name], cwd=tmp_path / "out",
                              capture_output=True, timeout=120)
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0 and "1 page" in said, said[-800:]
        assert name == "paper.tex" or "Overfull" not in said


def test_the_notebook_runs(store: Store, summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                           capsys: pytest.CaptureFixture[str]) -> None:
    """Catches cells that no kernel would run, and a notebook that does not say what the report says."""
    book = json.loads(export(store, "notebook", tmp_path)[0].read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    for cell in book["cells"]:
        is_code = cell["cell_type"] == "code"
        assert set(cell) == {"cell_type", "id", "metadata", "source", *(("execution_count", "outputs") if is_code else ())}
        if is_code:
            exec("".join(cell["source"]), names)
    matplotlib.pyplot.close("all")
    said = capsys.readouterr().out
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    assert answer(summary, "token_error_rate")[0] in "".join(book["cells"][0]["source"])
    assert all(arm in said for arm in ARMS) and f"{summary.rows[0].estimates['token_error_rate'].mean:.4g}" in said
    assert "none less most frequent: 95 % within" in said


def test_what_tex_and_matlab_take_for_their_own_is_exported(tmp_path: Path) -> None:
    """Catches labels that break a file, name a path or fail: every format writes inside its folder."""
    store = hostile_store(tmp_path / "results.sqlite")
    for form in FORMATS:
        for path in export(store, form, tmp_path / "out"):
            assert path.parent == tmp_path / "out" and path.stat().st_size
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir() if "results" not in path.name) == ["out"]


def test_refusals_name_what_is_wrong_and_the_cure(tmp_path: Path) -> None:
    """Catches a traceback, and an empty file where there is nothing to export."""
    store = Store.create(tmp_path / "results.sqlite", {})
    store.set_plan([Point(0, 0, "a", {}, "t")], {"t": {}}, [])
    with pytest.raises(RequestError, match="'xls': must be one of csv, mat, npz, pgfplots, booktabs, notebook"):
        export(store, "xls", tmp_path)
    with pytest.raises(RequestError, match="holds no trial yet; run"):
        export(store, "npz", tmp_path / "out")
    store.close()
    full = synthetic_store(tmp_path / "full.sqlite", num_items=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="file.*cannot be written"):
        export(full, "npz", tmp_path / "file")
    full.close()


def test_the_command_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a command that writes elsewhere than it says, and a wrong format that ends in a traceback."""
    synthetic_store(tmp_path / "results.sqlite", num_items=2).close()
    assert main(["export", str(tmp_path), "--format", "npz"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "export" / "results.npz")]
    assert main(["export", str(tmp_path), "--format", "csv", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "summary.csv").is_file()
    assert main(["export", str(tmp_path), "--format", "xls"]) == 2
    assert main(["export", str(tmp_path / os.devnull.strip("/")), "--format", "csv"]) == 2
