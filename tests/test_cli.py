"""The command line as its user meets it: output, files, exit status, and one line for what was wrong."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from channel_sim.checks import RequestError
from channel_sim.trial import run
from reports import html
from scenarios import blocks, catalogue
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


@pytest.fixture
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the notes for a report: its figures take seconds, and other tests look at them."""
    monkeypatch.setattr(html, "write_report",
                        lambda store, out, baseline: (out / "report.html").write_text("\n".join(store.meta().get("notes", []))))


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


@pytest.mark.usefixtures("plain_report")
def test_status_says_what_is_missing(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a status that counts trials of other plans."""
    out = tmp_path / "out"
    main(["run", str(small), "--out", str(out)])
    assert main(["status", str(out)]) == 0
    assert "small: complete" in capsys.readouterr().out


@pytest.mark.usefixtures("plain_report")
def test_a_dry_run_leaves_nothing(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a plan that is run, and an estimate that no time on file supports."""
    out = tmp_path / "out"
    assert main(["run", str(small), "--out", str(out), "--dry-run"]) == 0
    assert not out.exists() and "to run: 12\ntime: no estimate" in capsys.readouterr().out
    assert main(["run", str(small), "--out", str(out), "--items", "1"]) == 0
    assert main(["run", str(small), "--out", str(out), "--dry-run"]) == 0
    assert "4 trials; to run: 8\ntime: about " in capsys.readouterr().out


def failing(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """From now on item 1 ends with `error`."""
    def run_or_fail(chain, sent, *arguments):
        if any(one.index == 1 for one in sent):
            raise error("no such luck")
        return run(chain, sent, *arguments)

    monkeypatch.setattr(blocks, "run", run_or_fail)


@pytest.mark.usefixtures("plain_report")
def test_what_failed_is_one_line_and_status_1(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch):
    """Catches a failure that stops the sweep, one that passes in silence, and one that is never tried again."""
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        failing(patched, ZeroDivisionError)
        assert main(["run", str(small), "--out", str(out)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("channel-sim:")]
    assert said == [f"channel-sim: 4 trials failed, the rest is done; channel-sim status {out} names their errors"]
    assert len(table(out / "trials.csv")) == 8 and "ended with an error" in (out / "report.html").read_text()
    assert main(["status", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "ZeroDivisionError: no such luck" in printed and "small: 4 trials failed; run the same command" in printed
    assert main(["run", str(small), "--out", str(out)]) == 0 and len(table(out / "trials.csv")) == 12
    assert "ended with an error" not in (out / "report.html").read_text()


@pytest.mark.usefixtures("plain_report")
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                         monkeypatch: pytest.MonkeyPatch):
    """Catches a traceback, and finished blocks that are lost."""
    out = tmp_path / "out"
    assert main(["run", str(small), "--out", str(out), "--items", "1"]) == 0
    with monkeypatch.context() as patched:
        failing(patched, KeyboardInterrupt)
        assert main(["run", str(small), "--out", str(out)]) == 1
    assert "channel-sim: interrupted; finished blocks are kept; run the same command to go on\n" in capsys.readouterr().err
    assert main(["status", str(out)]) == 0 and "small: 8 trials missing" in capsys.readouterr().out
    assert main(["run", str(small), "--out", str(out)]) == 0 and len(table(out / "trials.csv")) == 12


@pytest.mark.usefixtures("plain_report")
def test_a_time_limit_is_said_and_the_same_command_goes_on(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a run cut short that looks like a whole one, on the terminal and in the report."""
    out = tmp_path / "out"
    assert main(["run", str(small), "--out", str(out), "--max-seconds", "1e-9"]) == 1
    assert "channel-sim: stopped at the time limit; run the same command to go on\n" in capsys.readouterr().err
    assert "The run ended early (time limit)" in (out / "report.html").read_text()
    assert main(["run", str(small), "--out", str(out), "--max-seconds", "600"]) == 0
    assert len(table(out / "trials.csv")) == 12 and "The run ended early" not in (out / "report.html").read_text()


@pytest.mark.usefixtures("plain_report")
def test_parts_are_merged_into_what_one_run_would_have_left(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches trials lost or doubled on the way, and a merge that leaves no report."""
    for part, rate in (("one", 0.1), ("two", 0.4)):
        assert main(["run", str(small), "--out", str(tmp_path / part), "--set", f'sweep={{"channel.loss_rate" = [{rate}]}}']) == 0
    assert main(["run", str(small), "--out", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "both")]) == 0
    printed = capsys.readouterr().out
    assert f"12 trials added to {tmp_path / 'both'}" in printed and "small: complete (12 trials on file)" in printed
    assert (tmp_path / "both" / "report.html").exists()
    rows = [sorted(tuple(row.items()) for row in table(tmp_path / name / "trials.csv")) for name in ("both", "whole")]
    assert rows[0] == rows[1]


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
    (["run", "quickstart", "--set", "coder.packet_bits=true"], "packet_bits: must be a number, got true"),
    (["train", "bler-table", "--lowest-rate", "2"], "lowest-rate must lie in (0, 0.004], got 2"),
    (["train", "bler-table", "--step-db", "50"], "step_db must lie in (0, 1], got 50"),
    (["run", "text_over_rayleigh", "--set", "channel.block_bits=9000"], "longer packets are cut into several blocks"),
    (["status", "nowhere"], "no results there"),
    (["report", "nowhere"], "no results there"),
    (["merge", "nowhere", "--out", "x"], "no results there"),
    (["transmit", "nowhere.txt", "--out", "x"], "cannot be read"),
    (["transmit", "setup.cfg", "--scenario", "markov_optimum", "--out", "x"], "sends symbols, neither bytes, pictures nor"),
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


@pytest.mark.parametrize(("arguments", "message"), [
    (["rum"], "'rum'"), ([], "COMMAND"), (["run", "quickstart", "--items", "0"], "must be at least 1, got 0"),
    (["train", "bler-table", "--out", "nowhere/t.json"], "nowhere/t.json cannot be written (there is no folder nowhere)"),
    (["train", "bler-table", "--out", "."], "cannot be written (it is a folder)"),
])
def test_a_wrong_command_line_is_one_line_and_status_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    """Catches usage lines around the one that tells, and hours of measuring for a file that cannot be written."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr().err
    assert caught.value.code == 2 and message in printed and printed.startswith("channel-sim: ") and printed.count("\n") == 1


def test_a_trace_of_period_two_is_fitted_and_run(tmp_path: Path, plain_report: None):
    """Catches a fitted scenario that cannot be run: what is lost every second time has a period that interleaving meets."""
    (tmp_path / "trace.txt").write_text("01" * 500)
    assert main(["train", "loss-model", str(tmp_path / "trace.txt"), "--out", str(tmp_path / "fit.toml")]) == 0
    assert main(["run", str(tmp_path / "fit.toml"), "--items", "3", "--out", str(tmp_path / "out")]) == 0


def test_request_errors_are_value_errors():
    """Catches callers from Python that cannot catch what the command line catches."""
    assert issubclass(RequestError, ValueError)
