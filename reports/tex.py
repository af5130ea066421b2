r"""Results for LaTeX: figures that PGFPlots draws from plain tables, and tables in the style of booktabs.

Every .tex file compiles by itself, and is what \input takes in a paper that loads pgfplots or booktabs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from channel_sim.store import Store
from reports.axes import axis_words, categories_of, curves_of, is_geometric, is_log, lowest_shown, names_of, panels_of, places_of
from reports.categories import aside
from reports.files import writing
from reports.findings import findings, limit_text, rounded
from reports.statistics import Estimate
from reports.summary import Summary, describe, summarise, value_text, words

_POINTS_A_BLOCK = 5
_PANEL_POINTS = 207
"""The inside of an axis that is 3.5 inches wide with its labels."""
_COLOURS = ("0072B2", "D55E00", "009E73", "8C3A6E", "111111", "B07A00", "3E9BC9", "6B6B6B")
_MARKS = ("*", "square*", "triangle*", "diamond*", "pentagon*", "x", "+", "asterisk")
_DASHES = ("dashed", "densely dotted", "dashdotted", "loosely dashed")
_ESCAPED = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
            "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
            '"': "''", "−": "$-$", "×": r"$\times$", "±": r"$\pm$", "≤": r"$\le$", "≥": r"$\ge$", "→": r"$\to$",
            "–": "--", "—": "---", "“": "``", "”": "''", "‘": "`", "’": "'", "…": r"\dots{}", "\N{NO-BREAK SPACE}": "~"}
_OPENING = r"""% {what}; written by channel-sim export --format {kind}.
% Compile this file, or \input it in a document that loads {package}.
\ifdefined\{command}\else
\documentclass{{article}}
\usepackage{{{package}}}
{settings}\pagestyle{{empty}}
\begin{{document}}
\def\endstandalone{{\end{{document}}}}
\fi
"""
_TEXT_WIDTH = "\\setlength{\\textwidth}{516pt}\\setlength{\\oddsidemargin}{-24pt}\n"  # of two IEEE columns
_CLOSING = "\\ifdefined\\endstandalone\\expandafter\\endstandalone\\fi\n"


def write_pgfplots(store: Store, folder: Path) -> list[Path]:
    """folder/METRIC.tex and its tables METRIC-1.dat, …, one a panel, for every metric that was measured."""
    summary = summarise(store)
    paths = []
    for metric in summary.metrics:
        panels = panels_of(summary)
        for number, points in enumerate(panels.values(), 1):
            paths.append(_write(folder / f"{metric}-{number}.dat", _data(summary, metric, points)))
        paths.append(_write(folder / f"{metric}.tex", _figure(summary, metric, panels)))
    return paths


def write_booktabs(store: Store, folder: Path) -> list[Path]:
    """folder/METRIC-table.tex for the metrics that the scenario shows: arms by sweep points, the interval below each mean."""
    summary = summarise(store)
    return [_write(folder / f"{metric}-table.tex", _table(summary, metric)) for metric in summary.highlights]


def tex(text: str) -> str:
    r"""Text as LaTeX shows it with its own fonts; a letter that these do not hold as its code point.

    >>> tex("50 % & α_1 日")
    '50 \\% \\& $\\alpha$\\_1 [U+65E5]'
    """
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if letter in _ESCAPED:
        return _ESCAPED[letter]
    words_of = unicodedata.name(letter, "").split()
    if words_of[:3] == ["GREEK", "SMALL", "LETTER"] and len(words_of) == 4 and words_of[3] != "OMICRON":
        return f"$\\{words_of[3].lower().replace('lamda', 'lambda')}$"
    plain = " " <= letter <= "~" or ("À" <= letter <= "ÿ" and letter not in "ÐÞðþ÷")
    return letter if plain else f"[U+{ord(letter):04X}]"


def _figure(summary: Summary, metric: str, panels: dict[str, list[int]]) -> str:
    opening = _OPENING.format(what=f"{metric} of {summary.meta.get('name', 'a run')}".replace("\n", " "), kind="pgfplots",
                              package="pgfplots", command="pgfplotsset", settings="\\pgfplotsset{compat=1.16}\n")
    axes = [line for number, (title, points) in enumerate(panels.items(), 1)
            for line in _axis(summary, metric, title, points, number)]
    lines = ["\\begin{tikzpicture}", *_colours(summary), *axes, "\\end{tikzpicture}", _CLOSING]
    return opening + "\n".join(lines)


def _colours(summary: Summary) -> Iterator[str]:
    for number in range(min(len(summary.arms), len(_COLOURS))):
        yield f"\\definecolor{{arm{number}}}{{HTML}}{{{_COLOURS[number]}}}"


def _axis(summary: Summary, metric: str, title: str, points: list[int], number: int) -> Iterator[str]:
    """One panel below the other; the last one holds the legend."""
    last = number == len(panels_of(summary))
    lines = [rf"name=panel{number}", r"width=3.5in, height=2.4in", r"font=\footnotesize", r"label style={font=\footnotesize}",
             r"tick label style={font=\scriptsize}", r"unbounded coords=jump", rf"title={{{tex(title)}}}" if title else "",
             rf"at={{(panel{number - 1}.below south west)}}, anchor=above north west, yshift=-8pt" if number > 1 else "",
             *_scales(summary, metric, points),
             r"legend style={at={(0.5,-0.25)}, anchor=north, draw=none, font=\scriptsize}, legend cell align=left" if last else ""]
    yield "\\begin{axis}[" + ",\n  ".join(line for line in lines if line) + "]"
    for index, arm in enumerate(summary.arms):
        name = names_of(summary, metric)[arm] if last else ""
        yield from _series(f"{metric}-{number}.dat", metric, index, name, _apart(summary, index))
    by_name = ", only marks, mark=-, mark size=8pt, solid" if categories_of(summary) else ""
    for index, label in enumerate(curves_of(summary, metric)):
        yield (f"\\addplot [black!{70 - 20 * (index % 3)}, {_DASHES[index % 4]}{by_name}] table [x=x, y=reference{index}] "
               f"{{{metric}-{number}.dat}};")
        if last:
            yield f"\\addlegendentry{{{tex(label)}}}"
    yield "\\end{axis}"


def _scales(summary: Summary, metric: str, points: list[int]) -> Iterator[str]:
    yield f"ylabel={{{_axis_tex(metric)}}}"
    yield "xlabel={" + (_axis_tex(summary.sweep_keys[0]) if summary.sweep_keys else "Arm") + "}"
    if is_log(metric) and (lowest := lowest_shown(summary, metric)):
        yield f"ymode=log, ymin={lowest:.3g}"
    if not summary.sweep_keys:
        yield "xtick={" + ",".join(map(str, range(len(summary.arms)))) + "}, x tick label style={rotate=30, anchor=east}"
        yield "xticklabels={" + ",".join(f"{{{tex(arm)}}}" for arm in summary.arms) + "}"
        return
    if names := categories_of(summary):
        yield f"xmin=-0.5, xmax={len(names) - 0.5}, xtick={{{','.join(map(str, range(len(names))))}}}"
        yield f"xticklabels={{{','.join(f'{{{tex(name)}}}' for name in names)}}}, x tick label style={{rotate=30, anchor=east}}"
        return
    values = [summary.points[index].get(summary.sweep_keys[0]) for index in points]
    places = places_of(summary, points)
    at = sorted(set(places.values()))
    if "dB" not in words(summary.sweep_keys[0]) and is_geometric(at):
        yield "xmode=log"
    if len(at) <= 7:
        texts = {places[index]: value_text(value) for index, value in zip(points, values, strict=True)}
        yield "xtick={" + ",".join(f"{place:.10g}" for place in at) + "}, xticklabels={" + ",".join(
            f"{{{tex(texts[place])}}}" for place in at) + "}, minor tick num=0, xminorticks=false"


def _apart(summary: Summary, index: int) -> str:
    """Where points are categories: no line between them, and the arms of each side by side."""
    names = categories_of(summary)
    return f", only marks, xshift={_PANEL_POINTS / len(names) * aside(summary, index):.1f}pt" if names else ""


def _series(data: str, metric: str, index: int, arm: str, apart: str) -> Iterator[str]:
    look = f"arm{index % len(_COLOURS)}, mark={_MARKS[index % len(_MARKS)]}, mark size=1.6pt{apart}"
    bars = "error bars/.cd, y dir=both, y explicit, error mark=none"
    yield f"\\addplot [{look}, {bars}]"
    yield f"  table [x=x, y=arm{index}, y error minus=minus{index}, y error plus=plus{index}] {{{data}}};"
    if arm:
        yield f"\\addlegendentry{{{tex(arm)}}}"
    if is_log(metric):  # no event: the limit, as a triangle that points down
        yield (f"\\addplot [forget plot, only marks, arm{index % len(_COLOURS)}, mark=triangle, mark options={{rotate=180}}, "
               f"mark size=2pt{apart}] table [x=x, y=limit{index}] {{{data}}};")


def _data(summary: Summary, metric: str, points: list[int]) -> str:
    """Columns x, then arm, minus, plus (to the ends of the interval) and limit of every arm, then the references."""
    columns = [f"{name}{index}" for index in range(len(summary.arms)) for name in ("arm", "minus", "plus", "limit")]
    curves = curves_of(summary, metric)
    lines = [f"# {metric}: {' '.join(describe(metric).description.split())}",
             *(f"# arm{index}: {' '.join(arm.split())}" for index, arm in enumerate(summary.arms)),
             *(f"# reference{index}: {' '.join(label.split())}" for index, label in enumerate(curves)),
             " ".join(["x", *columns, *(f"reference{index}" for index in range(len(curves)))])]
    rows = {(row.point.arm, row.point.point_index): row.estimate(metric) for row in summary.rows}
    if not summary.sweep_keys:  # arms side by side
        for place, arm in enumerate(summary.arms):
            cells = [cell for other in summary.arms
                     for cell in _cells(rows.get((other, points[0])) if other == arm else None, metric)]
            lines.append(" ".join([str(place), *cells, *(_number(one.get(points[0])) for one in curves.values())]))
        return "\n".join(lines) + "\n"
    places = places_of(summary, points)
    for point in sorted(points, key=places.__getitem__):
        cells = [cell for arm in summary.arms for cell in _cells(rows.get((arm, point)), metric)]
        lines.append(" ".join([f"{places[point]:.10g}", *cells, *(_number(one.get(point)) for one in curves.values())]))
    return "\n".join(lines) + "\n"


def _cells(one: Estimate | None, metric: str) -> tuple[str, str, str, str]:
    if one is None:
        return ("nan",) * 4
    if one.method == "upper limit" and is_log(metric):
        return "nan", "nan", "nan", _number(one.high)
    minus, plus = (0.0, 0.0) if one.low is None or one.high is None else (one.mean - one.low, one.high - one.mean)
    if is_log(metric) and one.mean - minus <= 0:
        minus = one.mean * (1 - 1e-6)  # an interval down to 0 goes to the lower edge of a log axis
    return _number(one.mean), _number(minus), _number(plus), "nan"


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.8g}"


def _axis_tex(name: str) -> str:
    label = axis_words(name)
    return label if label.startswith("$") else tex(label)


def _table(summary: Summary, metric: str) -> str:
    opening = _OPENING.format(what=f"{metric} of {summary.meta.get('name', 'a run')}".replace("\n", " "), kind="booktabs",
                              package="booktabs", command="toprule", settings=_TEXT_WIDTH)
    best = {one.point_index: one.best for one in findings(summary, metric)} if len(summary.arms) > 1 else {}
    longest = max(map(len, panels_of(summary).values()), default=1)
    columns = -(-longest // -(-longest // _POINTS_A_BLOCK))  # blocks of about equal width
    body = [line for title, points in panels_of(summary).items() for start in range(0, len(points), columns)
            for line in ["\\midrule", *_block(summary, metric, title, points[start:start + columns], columns, best)]]
    direction = {"lower": "lower is better", "higher": "higher is better", "neither": ""}[describe(metric).better]
    caption = [f"{tex(words(metric)[:1].upper() + words(metric)[1:])} ({tex(describe(metric).description)}"
               f"{'; ' + direction if direction else ''}), with 95\\,\\% intervals over {summary.num_items} items."]
    caption += ["Bold: the best mean and those that cannot be told from it."] * bool(best)
    unequal = [tex(name) for arm, name in names_of(summary, metric).items() if name != arm]
    caption += [f"Not at equal cost: {'; '.join(unequal)}."] * bool(unequal)
    caption += ["--: not measured."] * any(row.estimate(metric) is None for row in summary.rows)
    lines = ["\\begin{table*}", "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}\\setlength{\\belowcaptionskip}{4pt}",
             f"\\caption{{{' '.join(caption)}}}", f"\\begin{{tabular}}{{l{'c' * columns}}}", "\\toprule", *body[1:],
             "\\bottomrule", "\\end{tabular}", "\\end{table*}", _CLOSING]
    return opening + "\n".join(lines)


def _block(summary: Summary, metric: str, title: str, points: Sequence[int], columns: int,
           best: dict[int, tuple[str, ...]]) -> Iterator[str]:
    """Some sweep points side by side: the values of the first key, then two lines an arm, the mean and its interval."""
    if title:
        yield f"\\multicolumn{{{columns + 1}}}{{l}}{{{tex(title)}}} \\\\"
    if summary.sweep_keys:
        values = [tex(value_text(summary.points[point].get(summary.sweep_keys[0]))) for point in points]
        yield _line([_axis_tex(summary.sweep_keys[0]), *values], columns)
        yield "\\midrule"
    rows = {(row.point.arm, row.point.point_index): row.estimate(metric) for row in summary.rows}
    for arm in summary.arms:
        found = [rows.get((arm, point)) for point in points]
        bold = [arm in best.get(point, ()) for point in points]
        means = [f"\\textbf{{{tex(_mean(one))}}}" if is_best else tex(_mean(one))
                 for one, is_best in zip(found, bold, strict=True)]
        yield _line([tex(arm), *means], columns)
        below = [f"\\scriptsize {tex(text)}" if (text := _interval(one)) else "" for one in found]
        if any(below):
            yield _line(["", *below], columns) + "[2pt]"


def _line(cells: list[str], columns: int) -> str:
    return " & ".join([*cells, *[""] * (columns + 1 - len(cells))]) + r" \\"


def _mean(one: Estimate | None) -> str:
    if one is None:
        return "–"
    return f"{one.mean:g}" if one.method in ("upper limit", "lower limit") else rounded(one.mean, one)


def _interval(one: Estimate | None) -> str:
    """What stands below a mean: its interval, or the limit where no event or nothing but events was seen; "" for a constant."""
    if one is None or one.low is None or one.high is None or one.method in ("constant", "none"):
        return ""
    if one.method in ("upper limit", "lower limit"):
        return limit_text(one)
    return f"[{rounded(one.low, one)}, {rounded(one.high, one)}]"


def _write(path: Path, text: str) -> Path:
    with writing(path):
        path.write_text(text, encoding="utf-8", newline="\n")
    return path
