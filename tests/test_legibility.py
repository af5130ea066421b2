"""Every colour of text on the page stands out from the ground it can stand on, computed from the style sheet itself."""

import re
from pathlib import Path

import pytest

import reports.html
from tests.contrast import contrast

STYLE = (Path(reports.html.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
NAMED = dict(re.findall(r"--(\w+): (#\w{6})", STYLE))
WHITE = "#ffffff"


def rules() -> dict[str, str]:
    """Selector -> declarations, of every rule outside of @media."""
    return dict(re.findall(r"([^{}@]+?)\s*\{([^{}]*)\}", STYLE.partition("@media")[0]))


def colours(declarations: str, what: str) -> list[str]:
    """#rrggbb of all colours that a property names; `what` is the property."""
    value = re.search(rf"(?:^|[;\s]){what}:([^;]*)", declarations)
    found = re.findall(r"var\(--(\w+)\)|(#\w{3,6})\b", value[1]) if value else []
    return [NAMED[name] if name else colour if len(colour) == 7 else "#" + "".join(2 * one for one in colour[1:])
            for name, colour in found if not name or name in NAMED]


def test_the_contrast_is_that_of_the_standard() -> None:
    """Catches a ratio upside down or without gamma: black on white is 21, and #767676 the lightest grey that passes 4.5."""
    assert contrast("#000000", WHITE) == pytest.approx(21) and contrast(WHITE, WHITE) == 1
    assert contrast("#767676", WHITE) >= 4.5 > contrast("#777777", WHITE)


def test_text_stands_out_from_its_ground() -> None:
    """Catches a colour of text, of any rule, that fails WCAG AA (4.5:1) on white or on the ground of its own rule."""
    pairs = [(colour, ground, selector) for selector, text in rules().items() for colour in colours(text, "color")
             for ground in [WHITE, *colours(text, "background")]]
    assert len(pairs) > 15 and {"#595959", NAMED["wrong"], NAMED["right"], NAMED["soft"]} <= {pair[0] for pair in pairs}
    assert {"#e8f0f8", "#fbe8e5", "#f1f1f1", "#dcdcdc"} <= {pair[1] for pair in pairs}
    assert [pair for pair in pairs if contrast(*pair[:2]) < 4.5] == []


def test_what_is_drawn_stands_out_from_what_is_beside_it() -> None:
    """Catches marks that fail 3:1: lost slots beside those that arrived, the cursor, the outline of what has the focus."""
    drawn = rules()
    (arrived,), (lost,) = colours(drawn[key(".air rect")], "fill"), colours(drawn[key(".air rect.x")], "fill")
    assert contrast(lost, arrived) >= 3 and contrast(lost, WHITE) >= 3
    assert contrast(NAMED["right"], WHITE) >= 3 and "outline: 2px solid var(--right)" in STYLE


def key(selector: str) -> str:
    return next(one for one in rules() if one.strip() == selector)


def test_the_page_is_light_and_says_so() -> None:
    """Catches a browser in dark mode that makes its own controls dark, or inverts them, on a page that stays white."""
    assert re.search(r":root \{ color-scheme: light;", STYLE) and "prefers-color-scheme" not in STYLE
    assert colours(rules()[key("body")], "background") == [WHITE]
