"""The command line as its user meets it: output, files, exit status, and one line for what was wrong."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from channel_sim.checks import RequestError
from scenarios import catalogue
from scenarios.cli import main
from scenarios.scenario import shipped

SMALL = """
question = "Does a prior help?"
seed = 1
items = 3
[source]
name = "text"
item_bytes = 128
[coder]
packet_bits = 64
interleave = true
[channel]
name = "packet_loss"
[[arm]]
label = "none"
[[arm]]
label = "prior"
decoder = { name = "ngram" }
[sweep]
"channel.loss_rate" = [0.1, 0.4]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_run_leaves_what_it_promises(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches missing outputs and a report path that is not where it is said to be."""
    out = tmp_path / "out"
    assert main(["run", str(small), "--out", str(out)]) == 0
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out
    for name in ("results.sqlite", "trials.csv", "summary.csv", "report.html", "figures", "samples"):
        assert (out / name).exists()
    rows = table(out / "trials.csv")
    assert len(rows) == 2 * 2 * 3
    assert {"task_id", "arm", "channel.loss_rate", "item", "replicate", "token_error_rate"} <= set(rows[0])
    summary = table(out / "summary.csv")
    assert {"arm", "metric", "unit", "mean", "ci_low", "ci_high", "num_trials", "task_id"} <= set(summary[0])


def test_run_again_changes_nothing(small: Path, tmp_path: Path):
    """Catches outputs that depend on when they were written."""
    out = tmp_path / "out"
    main(["run", str(small), "--out", str(out)])
    before = {name: (out / name).read_bytes() for name in ("trials.csv", "summary.csv", "report.html")}
    assert main(["run", str(small), "--out", str(out)]) == 0
    assert {name: (out / name).read_bytes() for name in before} == before
    assert main(["report", str(out)]) == 0
    assert {name: (out / name).read_bytes() for name in before} == before


def test_status_says_what_is_missing(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a status that counts trials of other plans."""
    out = tmp_path / "out"
    main(["run", str(small), "--out", str(out)])
    assert main(["status", str(out)]) == 0
    assert "small: complete" in capsys.readouterr().out


def test_list_names_every_component(capsys: pytest.CaptureFixture[str]):
    """Catches components that cannot be found from the command line."""
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for kind, classes in catalogue.CATALOGUE.items():
        if kind != "receivers":
            assert all(f"  {name} " in printed for name in classes)
    assert all(name in printed for name in shipped())


def test_list_does_not_import_tensorflow():
    """Catches a slow start: TensorFlow takes seconds that `list` and `status` do not need."""
    code = ("import sys; from scenarios.cli import main; main(['list']); "
            "sys.exit(any(name.split('.')[0] in ('tensorflow', 'keras', 'sionna', 'matplotlib') for name in sys.modules))")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_transmit_writes_what_arrived_and_what_was_restored(small: Path, tmp_path: Path):
    """Catches files that are cut at item borders, and arms that overwrite one another."""
    mine = tmp_path / "letter.txt"
    mine.write_text("Dear reader, this text is sent in packets, and some of them never arrive. " * 9)
    out = tmp_path / "sent"
    assert main(["transmit", str(mine), "--scenario", str(small), "--out", str(out)]) == 0
    size = mine.stat().st_size
    for arm in ("none", "prior"):
        assert (out / arm / "restored.txt").stat().st_size == (out / arm / "arrived.txt").stat().st_size == size
    arrived, restored = ((out / "prior" / f"{name}.txt").read_bytes() for name in ("arrived", "restored"))
    assert 0 < arrived.count(0) and restored.count(0) < arrived.count(0)
    assert "Dear reader" in (out / "transmission.html").read_text()


def test_transmit_takes_any_bytes(small: Path, tmp_path: Path):
    """Catches files that are not text being refused or mangled."""
    mine = tmp_path / "any.bin"
    mine.write_bytes(bytes(range(256)))
    assert main(["transmit", str(mine), "--scenario", str(small), "--out", str(tmp_path / "sent"),
                 "--set", "channel.loss_rate=0.0"]) == 0
    assert (tmp_path / "sent" / "none" / "arrived.bin").read_bytes() == mine.read_bytes()


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "no-such.toml"], "no such scenario file"),
    (["run", "quickstart", "--set", "channel.loss_rate"], "must be key=value"),
    (["run", "quickstart", "--set", "channel.los_rate=0.1"], "did you mean 'channel.loss_rate'"),
    (["run", "quickstart", "--set", "channel.loss_rate=2"], "loss_rate"),
    (["run", "quickstart", "--items", "1000000"], "has only"),
    (["status", "nowhere"], "no results there"),
    (["report", "nowhere"], "no results there"),
    (["transmit", "nowhere.txt", "--out", "x"], "cannot be read"),
    (["transmit", "setup.cfg", "--scenario", "markov_optimum", "--out", "x"], "symbols, not bytes"),
    (["train", "ngram", "--data", "nowhere"], "nowhere"),
])
def test_a_wrong_request_is_one_line_and_status_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str],
                                                  tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches tracebacks, silent defaults and files written before the request was understood."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.cfg").write_text("[metadata]")
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["setup.cfg"]


def test_an_unknown_command_is_status_2():
    """Catches a parser whose own errors look like failures of the run."""
    with pytest.raises(SystemExit) as caught:
        main(["rum"])
    assert caught.value.code == 2


def test_request_errors_are_value_errors():
    """Catches callers from Python that cannot catch what the command line catches."""
    assert issubclass(RequestError, ValueError)
