"""A run from Python: the same numbers as the command line, as records, with nothing loaded that is not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import scenarios
from channel_sim.checks import RequestError
from scenarios.cli import main
from tests.test_cli import SMALL, failing, plain_report, table

__all__ = ["plain_report"]
DOCS = Path(__file__).parent.parent / "docs" / "sweeps.md"
TABLES = {"question": "Does a prior help?", "items": 3, "source": {"name": "text", "item_bytes": 128},
          "coder": {"packet_bits": 64, "interleave": True}, "channel": {"name": "packet_loss"},
          "arm": [{"label": "none"}, {"label": "prior", "decoder": {"name": "ngram"}}], "sweep": {"channel.loss_rate": [0.1, 0.4]}}


@pytest.mark.usefixtures("plain_report")
def test_a_run_hands_back_what_the_command_line_writes(tmp_path: Path):
    """Catches records that are not the numbers of the same run in trials.csv and summary.csv."""
    (tmp_path / "small.toml").write_text(SMALL)
    assert main(["run", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out")]) == 0
    results = scenarios.run(tmp_path / "small.toml")
    rows = table(tmp_path / "out" / "trials.csv")
    assert len(rows) == len(results.trials) == 12
    for row, record in zip(rows, results.trials, strict=True):
        assert (row["task_id"], row["arm"], int(row["item"])) == (record.task_id, record.arm, record.item)
        assert {name: float(row[name]) if row[name] else None for name in record.metrics} == record.metrics
    summary = table(tmp_path / "out" / "summary.csv")
    assert [(row["arm"], row["metric"], row["mean"]) for row in summary] == \
        [(one.arm, one.metric, "" if one.mean is None else repr(one.mean)) for one in results.summary]
    assert (results.name, results.num_failed, results.stopped, results.out) == ("small", 0, None, None)


@pytest.mark.usefixtures("plain_report")
def test_out_leaves_the_files_and_is_gone_on_with(tmp_path: Path):
    """Catches a run from Python that leaves other files, or begins anew."""
    first = scenarios.run(TABLES, tmp_path / "out", items=2)
    assert len(first.trials) == 8
    for name in ("results.sqlite", "trials.csv", "summary.csv", "report.html", "samples"):
        assert (tmp_path / "out" / name).exists()
    seen: list[tuple[int, int]] = []
    second = scenarios.run(TABLES, str(tmp_path / "out"), progress=lambda done, total: seen.append((done, total)))
    assert len(second.trials) == 12 and seen[0] == (0, 4) and seen[-1] == (4, 4)
    assert second.out == tmp_path / "out"


def test_without_out_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a results folder in the notebook's directory, and temporary files that stay."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert scenarios.run(TABLES, items=1).trials
    assert list(tmp_path.iterdir()) == []


def test_rows_are_found_by_arm_metric_and_sweep():
    """Catches a look-up that confuses arms or points, and a metric that is silently missing."""
    results = scenarios.run(TABLES, overrides={"replicates": 2})
    assert len(results.find("token_error_rate")) == 4
    (row,) = results.find("token_error_rate", arm="prior", loss_rate=0.4)
    assert (row.arm, row.sweep, row.num_items) == ("prior", {"channel.loss_rate": 0.4}, 3)
    assert row.stop == "3 items, all that were asked for" and row.num_items == 3


def test_what_was_not_measured_is_none_with_a_reason():
    """Catches a 0 or NaN for a metric that this chain does not have."""
    results = scenarios.run(TABLES, items=1)
    (row,) = results.find("block_error_rate", arm="none", loss_rate=0.1)
    assert (row.mean, row.low, row.high, row.num_items, row.method) == (None, None, None, 0, "none") and row.reason
    assert results.trials[0].metrics["block_error_rate"] is None and results.trials[0].reasons["block_error_rate"]


def test_failures_are_handed_back_beside_the_rest(monkeypatch: pytest.MonkeyPatch):
    """Catches one bad item that costs a notebook its whole sweep, and a failure that nobody hears of."""
    failing(monkeypatch, ZeroDivisionError)
    results = scenarios.run(TABLES)
    assert (results.num_failed, len(results.trials)) == (4, 8)
    assert {(one.item, one.error.splitlines()[0]) for one in results.failures} == {(1, "ZeroDivisionError: no such luck")}
    assert all(row.num_items == 2 for row in results.find("token_error_rate"))


def test_pandas_gets_flat_rows(monkeypatch: pytest.MonkeyPatch):
    """Catches columns that hold dictionaries; pandas itself is stood in for, since it is optional."""
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=list))
    results = scenarios.run(TABLES, items=1)
    for which, size in (("summary", len(results.summary)), ("trials", 4)):
        rows = results.to_pandas(which)
        assert len(rows) == size and rows[0]["channel.loss_rate"] == 0.1
        assert not any(isinstance(value, dict) for row in rows for value in row.values())
    assert "token_error_rate" in results.to_pandas("trials")[0]
    with pytest.raises(RequestError, match="'summary' or 'trials'"):
        results.to_pandas("all")


def test_without_pandas_the_cure_is_named(monkeypatch: pytest.MonkeyPatch):
    """Catches a bare ModuleNotFoundError."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RequestError, match="pip install pandas"):
        scenarios.run(TABLES, items=1).to_pandas()


@pytest.mark.parametrize(("request_", "options", "message"), [
    ("no-such", {}, "no such scenario"), (TABLES, {"overrides": {"channel.los_rate": 1}}, "did you mean"),
    (TABLES, {"items": 0}, "items"), (TABLES, {"workers": 0}, "workers must be at least 1"),
    (TABLES, {"max_seconds": 0}, "above 0"), (TABLES, {"items": 10**7}, "has only"),
])
def test_a_wrong_request_is_a_value_error(request_, options, message):
    """Catches a SystemExit or a traceback from within."""
    with pytest.raises(ValueError, match=message):
        scenarios.run(request_, **options)


def test_importing_scenarios_is_light():
    """Catches `import scenarios` that waits for NumPy, pydantic or plotting before anything is asked."""
    code = ("import sys; import scenarios; found = {name.split('.')[0] for name in sys.modules}; "
            "assert not found & {'numpy', 'scipy', 'pydantic', 'matplotlib', 'tensorflow', 'pandas', 'rich'}, found")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_examples_of_the_documentation_run(tmp_path: Path):
    """Catches documentation that promises what the code does not do."""
    examples = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert len(examples) >= 2
    for example in examples:
        (tmp_path / "example.py").write_text(example)
        done = subprocess.run([sys.executable, "-W", "error", "example.py"], cwd=tmp_path, capture_output=True, text=True,
                              check=False, env={**os.environ, "PYTHONPATH": str(DOCS.parent.parent)})
        assert done.returncode == 0, done.stderr
        assert done.stdout
