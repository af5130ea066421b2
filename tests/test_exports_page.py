"""Every command and every line of code in docs/exports.md runs, on results like those of a run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from reports import figures
from scenarios.cli import main
from tests.synthetic_results import synthetic_store

PAGE = Path(__file__).parent.parent / "docs" / "exports.md"


def test_the_page_on_exports_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches commands, options, names of files and of arrays that the page promises and the code does not have."""
    monkeypatch.setattr(figures, "KINDS", ("svg",))
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "tuned"):
        synthetic_store(tmp_path / "results" / name / "results.sqlite", num_items=8, sweep={"channel.loss_rate": [0.1]}).close()
    text = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"^    (channel-sim .*)$", text, re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
    code = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in code:
        exec(block, names)
    assert "n-gram prior" in capsys.readouterr().out
    assert (Path("results/quickstart/differences.csv")).is_file() and Path("results/both/report.html").is_file()
    for form in ("results.npz", "results.mat", "results.ipynb", "trials.csv"):
        assert (Path("results/quickstart/export") / form).is_file()
    assert Path("paper/figures/token_error_rate-1.dat").is_file() and Path("paper/tables/token_error_rate-table.tex").is_file()
