"""What cannot work is refused before anything is written: one line, status 2, no new folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.cli import main

HEAD = 'question = "?"\nitems = 2\n[source]\nname = "text"\nitem_bytes = 256\n'


@pytest.mark.parametrize(("tables", "message"), [
    ('[coder]\npacket_bits = 4\n', "packet_bits must be >= 8"),
    ('[coder]\npacket_bits = 99999999999999999999\n', "packet_bits"),
    ('[coder]\nname = "entropy"\npacket_bits = 64\nheader_bits = 0\n', "header_bits must be >="),
    ('[coder]\nname = "entropy"\npacket_bits = 3\n', "packet_bits must hold"),
    ('[coder]\nvocab_size = 2\n', "vocab_size must be"),
    ('[decoder]\nname = "most_frequent"\nsymbol = 300\n', "symbol"),
    ('[decoder]\nname = "exact_markov"\nflip_probability = 0.1\n', "binary symbols"),
    ('[tokenizer]\nname = "symbols"\n', "symbols"),
    ('[channel]\nname = ["packet_loss"]\n', "no channel is called"),
    ('[channel]\nname = { a = 1 }\n', "no channel is called"),
    ('[coder]\nname = "entropy"\nmodel = 3\n', "must be a name, a path or a table"),
    ('[coder]\nname = "entropy"\nmodel = { name = ["ngram"] }\n', "no model is called"),
    ('[channel]\nloss_rate = 0.1\n', "ideal has no such key"),
])
def test_nonsense_is_one_line_and_leaves_nothing(tables: str, message: str, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """Catches tracebacks, and results files of runs that never could begin."""
    scenario = tmp_path / "mine.toml"
    scenario.write_text(HEAD + tables + '[[arm]]\nlabel = "a"\n')
    assert main(["run", str(scenario), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert message in printed and "mine" in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_sweep_that_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches overrides that take the file's shape for granted."""
    scenario = tmp_path / "mine.toml"
    scenario.write_text('question = "?"\nsweep = 3\n[[arm]]\nlabel = "a"\n')
    assert main(["run", str(scenario), "--set", "channel.loss_rate=0.1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_scenario_of_the_same_name_does_not_take_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a plan and report that are replaced by those of a file with the same stem."""
    for folder, source in (("one", "text"), ("two", "bernoulli")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.toml").write_text(f'question = "{folder}"\nitems = 1\n[source]\nname = "{source}"\n'
                                                     '[[arm]]\nlabel = "a"\n')
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "one" / "same.toml"), "--out", str(out)]) == 0
    before = (out / "results.sqlite").read_bytes()
    assert main(["run", str(tmp_path / "two" / "same.toml"), "--out", str(out)]) == 2
    assert "another scenario called 'same'" in capsys.readouterr().err
    assert (out / "results.sqlite").read_bytes() == before


def test_transmit_takes_the_users_file_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a file called python-docs that stands for CPython's documentation."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python-docs").write_text("my own words")
    assert main(["transmit", "python-docs", "--out", "sent", "--set", "channel.loss_rate=0.01"]) == 0
    assert (tmp_path / "sent" / "raw-nothing-restored" / "arrived").stat().st_size == 12


def test_transmit_into_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback where the folder cannot be made."""
    (tmp_path / "mine.txt").write_text("words")
    assert main(["transmit", str(tmp_path / "mine.txt"), "--out", str(tmp_path / "mine.txt")]) == 2
    assert "choose another folder" in capsys.readouterr().err
