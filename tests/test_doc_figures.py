"""The figures of the documentation: each is drawn by `make`, and shown on a page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def drawn(makefile: str) -> set[str]:
    """Names of the figures that the Makefile writes: `scenario:metric`, files named in full, and that of the break-even."""
    runs = set(re.findall(r"\b(\w+):\w+\b", makefile))
    return runs | set(re.findall(r"docs/figures/(\w+)\.svg", makefile)) | set(re.findall(r"benchmarks\.(breakeven)", makefile))


def test_every_figure_is_drawn_by_make_and_none_is_missing():
    """Catches a figure that nobody can draw again, and one that is drawn and not kept."""
    kept = {path.stem for path in (ROOT / "docs" / "figures").glob("*.svg")}
    assert drawn((ROOT / "Makefile").read_text()) == kept


def test_every_figure_is_shown_and_every_shown_figure_is_there():
    """Catches an orphan, and a page with a picture that is not there."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {name for page in pages for name in re.findall(r"figures/(\w+)\.svg\)", page.read_text())}
    assert shown == {path.stem for path in (ROOT / "docs" / "figures").glob("*.svg")}
