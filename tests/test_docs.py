"""All Python in the documentation runs, page by page, and every page can be found from the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from scenarios.cli import main
from scenarios.scenario import load, shipped

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEED_RESULTS = {"exports.md"}
"""Their code reads what commands beside it leave: tests/test_exports_page.py runs both."""


@pytest.mark.parametrize("page", [one for one in PAGES if BLOCK.search(one.read_text(encoding="utf-8"))], ids=lambda one: one.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches names, keys and signatures that a page promises and the code does not have, and claims in it that do not hold."""
    if page.name in NEED_RESULTS:
        return
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, page.name, "exec", dont_inherit=True), names)


def test_pages_link_to_pages_and_headings_that_are_there() -> None:
    """Catches a link into nothing after a page or a heading was renamed."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target, heading in re.findall(r"\]\(((?![a-z]+:)[^)#]*)(?:#([^)]*))?\)", text):
            other = (page.parent / target).resolve() if target else page
            assert other.exists(), f"{page.name}: {target}"
            if heading:
                headings = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
                assert heading in {anchor(one) for one in headings}, f"{page.name}: {target}#{heading}"


def anchor(heading: str) -> str:
    """How a forge names a heading in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_linked_from_the_readme() -> None:
    """Catches a page that nobody finds."""
    linked = set(re.findall(r"\(docs/([\w]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= linked


def test_scenarios_in_the_documentation_can_be_loaded(tmp_path: Path) -> None:
    """Catches keys of a scenario that a page shows and the schema does not have."""
    whole = [text for page in PAGES for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
             if "question" in text and "[[arm]]" in text]
    assert whole
    for text in whole:
        (tmp_path / "scenario.toml").write_text(text, encoding="utf-8")
        assert load(tmp_path / "scenario.toml").tasks


def test_commands_in_the_documentation_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a command, or a shipped scenario, that was renamed."""
    run = [(page.name, match) for page in PAGES for match in
           re.findall(r"(?:^    |`)channel-sim (\S+)(?: ([\w/.]+))?", page.read_text(encoding="utf-8"), re.M)]
    for command in {command.rstrip("`…") for _, (command, _) in run}:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0 and command in capsys.readouterr().out, command
    assert len(run) > 20
    asked = {(name, what) for name, (command, what) in run if command == "run" and re.fullmatch(r"[a-z_]+", what)}
    assert asked and {what for _, what in asked} <= set(shipped())
