"""Tables, figures and pages from a results file alone: the same store gives the same bytes, and nothing is hidden."""

import csv
import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text

import reports.html
from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial
from reports.comparability import unequal_uses
from reports.export import write_samples, write_summary_csv, write_trials_csv
from reports.figures import draw_metric, save_figures
from reports.findings import answer, findings, interval_text, number_text, rounded
from reports.html import write_report, write_transmission
from reports.ledgers import ledger_table
from reports.statistics import Estimate
from reports.summary import Summary, point_text, significant, summarise, words
from tests.synthetic_results import ARMS, LOSS_RATES, TEXT, meta, sample, synthetic_store

TEMPLATES = Path(reports.html.__file__).parent / "templates"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = synthetic_store(tmp_path_factory.mktemp("run") / "results.sqlite")
    yield store
    store.close()


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def summary(store: Store) -> Summary:
    return summarise(store)


@pytest.fixture(scope="module")
def page(store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(store, tmp_path_factory.mktemp("page")).read_text(encoding="utf-8")


def test_every_trial_is_a_line_and_what_was_not_measured_is_empty(store: Store, tmp_path: Path) -> None:
    """Catches a missing metric written as 0, and numbers that lose digits on the way."""
    write_trials_csv(store, tmp_path / "trials.csv")
    rows = read_csv(tmp_path / "trials.csv")
    assert len(rows) == len(ARMS) * len(LOSS_RATES) * 40
    assert list(rows[0])[:5] == ["task_id", "arm", "channel.loss_rate", "item", "replicate"]
    assert {row["chrf"] for row in rows} == {""}
    by_address = {(row["task_id"], int(row["item"])): float(row["token_error_rate"]) for row in rows}
    for point in store.points():
        for trial in store.trials(point.task_id):
            numerator, denominator = trial.metrics["token_error_rate"]
            assert by_address[point.task_id, trial.item] == numerator / denominator


def test_the_summary_table_holds_every_interval(store: Store, summary: Summary, tmp_path: Path) -> None:
    """Catches a table that disagrees with the estimates, and one without the unit."""
    write_summary_csv(store, tmp_path / "summary.csv")
    rows = read_csv(tmp_path / "summary.csv")
    assert list(rows[0]) == ["arm", "channel.loss_rate", "metric", "unit", "mean", "ci_low", "ci_high", "num_trials", "task_id"]
    (prior,) = [row for row in rows if (row["arm"], row["channel.loss_rate"], row["metric"])
                == ("n-gram prior", "0.1", "token_error_rate")]
    one = summary.of("n-gram prior")[3].estimate("token_error_rate")
    assert one is not None and one.low is not None and one.high is not None
    assert one.low < one.mean < one.high and prior["num_trials"] == "40"
    assert [float(prior[name]) for name in ("mean", "ci_low", "ci_high")] == [one.mean, one.low, one.high]
    assert {row["unit"] for row in rows if row["metric"] == "bits_per_byte"} == {"bit"}


def test_samples_are_plain_files_and_the_original_is_there_once(store: Store, tmp_path: Path) -> None:
    """Catches text that is decoded on its way to disk, and a copy of the original in every arm."""
    write_samples(store, tmp_path)
    assert (tmp_path / "original" / "item-0.txt").read_bytes() == TEXT.encode("latin-1")
    assert len(list(tmp_path.rglob("*original*"))) == 1
    restored = (tmp_path / "n-gram-prior" / "loss-rate-0.1" / "item-0.txt").read_bytes()
    letters = (tmp_path / "n-gram-prior" / "loss-rate-0.1" / "item-0.origin.txt").read_text(encoding="utf-8")
    assert len(restored) == len(letters) == len(TEXT) and set(letters) <= set("ricl")
    assert all(one == ord(letter) for one, letter, kind in zip(restored, TEXT, letters, strict=True) if kind == "r")


def test_labels_never_share_a_file_or_leave_the_folder(tmp_path: Path) -> None:
    """Catches arms that overwrite one another, or write elsewhere, once their labels become file names."""
    store = Store.create(tmp_path / "results.sqlite", {"sweep": {}})
    labels = ["a/b", "a b", "../../a b", "original", "日本", "語"]
    store.set_plan([Point(i, 0, label, {}, f"t{i}") for i, label in enumerate(labels)], {f"t{i}": {} for i in range(6)}, [])
    sample = {"kind": "bytes", "item": "x", "original": "ab", "restored": "a\0", "origin": [[0, 1], [3, 1]], "lost_packets": "01"}
    store.add([], [(f"t{i}", 0, sample) for i in range(6)])
    write_samples(store, tmp_path / "samples")
    store.close()
    assert len(list((tmp_path / "samples").rglob("item-0.bin"))) == 7
    assert sorted(path.name for path in tmp_path.iterdir() if "results" not in path.name) == ["samples"]


def test_words_name_the_quantity_and_its_unit() -> None:
    """Catches axes labelled with variable names."""
    assert [words(name) for name in ("channel.loss_rate", "channel.esno_db", "channel.mean_burst_packets", "coder.packet_bits",
                                     "psnr_db", "bits_per_token", "decoder.name")] \
        == ["loss rate", "Es/N0 (dB)", "mean burst (packets)", "packet payload (bits)", "PSNR (dB)", "bits per token", "decoder"]
    assert point_text({"channel.loss_rate": 0.1, "channel.esno_db": 3.0}) == "loss rate 0.1, Es/N0 3.0 dB"


def test_a_figure_is_the_same_bytes_every_time(store: Store, summary: Summary, tmp_path: Path) -> None:
    """Catches dates, random identifiers and hash-ordered font subsets: figures under version control must not churn."""
    (tmp_path / "figures").mkdir()
    save_figures(summary, tmp_path / "figures", ["token_error_rate"])
    code = (f"from pathlib import Path; from channel_sim.store import Store; from reports.summary import summarise\n"
            f"from reports.figures import save_figures\n"
            f"save_figures(summarise(Store(Path({str(store.path)!r}))), Path({str(tmp_path)!r}), ['token_error_rate'])")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": "7"}, timeout=60)
    for name in ("token_error_rate.svg", "token_error_rate.pdf"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "figures" / name).read_bytes()


def test_a_figure_fits_a_column_and_can_be_read(summary: Summary) -> None:
    """Catches figures that a journal would send back: too wide, or with text below 6 points."""
    figure = draw_metric(summary, "token_error_rate")
    assert figure.get_size_inches()[0] == 3.5
    assert all(text.get_fontsize() >= 6 for text in figure.findobj(Text) if text.get_text())
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_yscale()) == ("Loss rate", "Token error rate", "log")
    assert draw_metric(summary, "recovered_fraction").axes[0].get_yscale() == "linear"


def test_arms_differ_in_marker_and_their_colours_stand_out(summary: Summary) -> None:
    """Catches arms told apart by colour alone, and colours too pale to be seen on white (3:1)."""
    (axis,) = draw_metric(summary, "token_error_rate").axes
    series = [line for line in axis.lines if str(line.get_label()).partition(" (")[0] in ARMS]
    assert len({line.get_marker() for line in series}) == len({line.get_color() for line in series}) == len(ARMS)
    assert all(contrast(to_hex(line.get_color()), "#ffffff") >= 3 for line in series)


def test_limits_are_arrows_and_never_points_at_zero(summary: Summary) -> None:
    """Catches 'no error seen' drawn as an error rate, or left out."""
    (axis,) = draw_metric(summary, "token_error_rate").axes
    limits = [row for row in summary.of("compress + Reed–Solomon")
              if (one := row.estimate("token_error_rate")) and one.method == "upper limit"]
    assert len(limits) == 2 and len([text for text in axis.texts if isinstance(text, Annotation)]) == 2
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.lines])
    assert np.nanmin(drawn) > 0


def test_a_limit_is_an_arrow_alone(tmp_path: Path) -> None:
    """Catches a bar drawn over the arrow where nothing is swept: 'no error in 30 items' would look like an interval."""
    summary = summarise(synthetic_store(tmp_path / "results.sqlite", num_items=30, sweep={}))
    (axis,) = draw_metric(summary, "token_error_rate").axes
    methods = {arm: summary.of(arm)[0].estimates["token_error_rate"].method for arm in ARMS}
    bars = [line for line in axis.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2
            and line.get_ydata()[0] == line.get_ydata()[1]]
    limited = [number for number, method in enumerate(methods.values()) if method.endswith("limit")]
    assert {int(line.get_ydata()[0]) for line in bars} == set(range(len(ARMS))) - set(limited)
    assert len([text for text in axis.texts if isinstance(text, Annotation)]) == len(limited)


@pytest.mark.parametrize("metric", ["token_error_rate", "recovered_fraction"])
def test_limits_leave_no_line_that_only_some_viewers_hide(metric: str, tmp_path: Path) -> None:
    """Catches lines without opacity, which viewers of SVG may draw as bars, and axes that end before a limit or its arrow."""
    store = one_arm(tmp_path / "results.sqlite", [{metric: (0, 30)}] * 30)
    (axis,) = draw_metric(summarise(store), metric).axes
    assert not any(line.get_alpha() == 0 for line in axis.lines)
    low, high = axis.get_ylim()
    arrows = [text for text in axis.texts if isinstance(text, Annotation)]
    assert len(arrows) == 2 and all(low <= end[1] <= high for arrow in arrows for end in (arrow.xy, arrow.xyann))


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (1e-6, "0.000001"), (0.0005, "0.0005"), (0.05, "0.05"), (1, "1"),
                                             (12.3, "12.3"), (100, "100"), (9999.7, "10,000"), (1.25e6, "1,250,000")])
def test_numbers_are_never_powers_of_ten(value: float, said: str) -> None:
    """Catches '1e+02 %', '1e-06', and a bound that rounds to what it bounds: '1 (above 1)'."""
    assert significant(value, 4) == said and rounded(value, Estimate(value, value, value, 30, "constant")) == said
    for width in (1e-7, 1e-3, 0.2, 50, 2e4):
        shown = interval_text(Estimate(value, value - width, value + width, 30, "bootstrap"))
        assert "e" not in shown and float(shown.split()[0].replace(",", "")) == pytest.approx(value, abs=max(width, 1e-9))
    high = min(1.0, value)
    assert number_text(Estimate(0.0, 0.0, high, 30, "upper limit")) == f"0 (below {significant(high, 2)})"
    low = number_text(Estimate(1.0, 1 - high, 1.0, 30, "lower limit"))
    assert 1 - float(low.removeprefix("1 (above ").removesuffix(")")) == pytest.approx(high, rel=1e-6)


@pytest.mark.parametrize(("num_items", "share"), [(2, "100 %"), (30, "10 %"), (1000, "0.3 %")])
def test_what_may_hide_is_a_share_in_plain_digits(tmp_path: Path, num_items: int, share: str) -> None:
    """Catches 'in up to 1e+02 % of items' where there are few."""
    store = Store.create(tmp_path / "results.sqlite", {"sweep": {}, "arms": [], "show": []})
    store.set_plan([Point(number, 0, arm, {}, arm) for number, arm in enumerate("ab")], {"a": {}, "b": {}}, [])
    store.add([Trial(arm, i, 0, {"token_error_rate": (wrong, 10)}, {}, Ledger().to_dict())
               for arm, wrong in (("a", 0), ("b", 4)) for i in range(num_items)], [])
    assert f"in up to {share} of items" in " ".join(answer(summarise(store), "token_error_rate"))


def one_arm(path: Path, metrics: list[dict[str, tuple[float, float]]], points: int = 2) -> Store:
    """A store of one arm, the same trials at every point of a sweep over the loss rate."""
    store = Store.create(path, meta({"channel.loss_rate": LOSS_RATES[:points]}) | {"arms": [], "show": []})
    store.set_plan([Point(0, p, "a", {"channel.loss_rate": LOSS_RATES[p]}, f"t{p}") for p in range(points)],
                   {f"t{p}": {} for p in range(points)}, [])
    store.add([Trial(f"t{p}", i, 0, one, {}, Ledger().to_dict()) for p in range(points) for i, one in enumerate(metrics)], [])
    return store


def test_error_rates_above_1_stay_inside_their_axis(tmp_path: Path) -> None:
    """Catches a log axis that ends at 1.3 though words inserted make 2.5 errors a word, and one past 1 for no reason."""
    store = one_arm(tmp_path / "results.sqlite", [
        {"word_error_rate": (20.0 + i % 11, 10.0), "token_error_rate": (9.0 + i % 2, 10.0)} for i in range(40)])
    summary = summarise(store)
    for metric, least, most in (("word_error_rate", 2.5, 4.0), ("token_error_rate", 0.96, 1.3)):
        one = summary.rows[0].estimate(metric)
        assert one is not None and one.high is not None
        top = draw_metric(summary, metric).axes[0].get_ylim()[1]
        assert max(one.high, least) <= top <= most
    store.close()


def test_decibels_of_a_mean_error_are_the_same_everywhere(tmp_path: Path) -> None:
    """Catches a table, a figure or a record that shows the squared error itself."""
    store = one_arm(tmp_path / "results.sqlite", [{"psnr_of_mean_mse_db": (6502.5, 100.0), "exact_item_rate": (0.0, 1.0)}] * 40)
    write_trials_csv(store, tmp_path / "trials.csv")
    write_summary_csv(store, tmp_path / "summary.csv")
    assert {float(row["psnr_of_mean_mse_db"]) for row in read_csv(tmp_path / "trials.csv")} == {30.0}
    rows = [row for row in read_csv(tmp_path / "summary.csv") if row["metric"] == "psnr_of_mean_mse_db"]
    assert {(row["unit"], float(row["mean"]), float(row["ci_low"])) for row in rows} == {("dB", 30.0, 30.0)}
    (axis,) = draw_metric(summarise(store), "psnr_of_mean_mse_db").axes
    assert axis.get_ylabel() == "PSNR of the mean squared error (dB)" and set(axis.lines[0].get_ydata()) == {30.0}
    assert draw_metric(summarise(store), "exact_item_rate").axes[0].get_yscale() == "linear"
    assert "30" in answer(summarise(store), "psnr_of_mean_mse_db")[0]
    store.close()


def test_closed_forms_are_dashed_on_the_same_axes(summary: Summary) -> None:
    """Catches a reference that is missing, or that looks like an arm."""
    (axis,) = draw_metric(summary, "token_error_rate").axes
    (line,) = [line for line in axis.lines if line.get_label() == "nothing restored"]
    assert np.allclose(line.get_xdata(), LOSS_RATES) and np.allclose(line.get_ydata(), LOSS_RATES)
    assert line.is_dashed() and line.get_marker() in ("", "None")


@pytest.mark.parametrize(("sweep", "num_panels"), [
    ({}, 1), ({"coder.context": ["independent", "chained"]}, 1), ({"channel.esno_db": [0, 5, 10]}, 1),
    ({"channel.loss_rate": [0.1, 0.2], "channel.mean_burst_packets": [1.5, 3.0, 6.0]}, 3)])
def test_any_sweep_can_be_drawn_and_reported(tmp_path: Path, sweep: dict[str, list[Any]], num_panels: int) -> None:
    """Catches axes that need numbers, one key, or a sweep at all."""
    store = synthetic_store(tmp_path / "results.sqlite", num_items=3, sweep=sweep)
    figure = draw_metric(summarise(store), "token_error_rate")
    assert sum(axis.get_visible() for axis in figure.axes) == num_panels
    page = write_report(store, tmp_path / "out").read_text(encoding="utf-8")
    store.close()
    assert "Only 3 items: intervals are likely too narrow" in page
    assert (tmp_path / "out" / "figures" / "token_error_rate.pdf").stat().st_size > 1000


def test_the_answer_names_who_wins_where(summary: Summary) -> None:
    """Catches an answer that follows the order of the arms, or forgets the interval."""
    first, second = answer(summary, "token_error_rate")
    assert first.startswith("At loss rate 0.01 to 0.05, “compress + Reed–Solomon” has the lowest token error rate")
    assert second.startswith("At loss rate 0.1 and 0.2, “n-gram prior” has the lowest token error rate")
    assert re.search(r"ahead of “most frequent” by 0\.\d+ \[0\.\d+, 0\.\d+\]", second)
    assert "highest recovered fraction" in answer(summary, "recovered_fraction")[0]


def test_no_event_is_not_sold_as_certainty(summary: Summary) -> None:
    """Catches 'ahead of all others' on the strength of 40 items without an error."""
    assert "no event in 40 items at loss rate 0.01 and 0.02: rare failures could hide there, in up to 7.5 % of items" \
        in answer(summary, "token_error_rate")[0]


def test_a_sweep_is_drawn_by_ratio_only_where_it_is_spaced_so(tmp_path: Path) -> None:
    """Catches ten even steps from 0.05 to 0.7 crowded into the right half of a logarithmic axis."""
    for values, scale in ((LOSS_RATES, "log"), ([0.05, 0.2, 0.35, 0.5, 0.65, 0.8], "linear"), ([0.1, 0.2], "linear")):
        store = synthetic_store(tmp_path / f"{scale}{len(values)}.sqlite", num_items=2, sweep={"channel.loss_rate": values})
        assert draw_metric(summarise(store), "token_error_rate").axes[0].get_xscale() == scale
        store.close()


def test_ties_are_said_as_ties(summary: Summary) -> None:
    """Catches a winner named by the third digit: the two entropy-coded arms send equal bits, here by construction."""
    (sentence,) = answer(summary, "bits_per_byte")
    both = "“compress, drop lost” and “compress + Reed–Solomon”"
    assert f"{both} cannot be told apart: one of them has the lowest bits per byte" in sentence
    assert all(one.best == ("compress, drop lost", "compress + Reed–Solomon") for one in findings(summary, "bits_per_byte"))


def test_unequal_channel_uses_are_said(summary: Summary) -> None:
    """Catches a comparison at unequal cost that looks fair, and a warning about half a percent."""
    assert unequal_uses(summary) == ["compress, drop lost: −41 %"]


def test_the_ledger_shares_add_up(summary: Summary) -> None:
    """Catches a kind of bits that is charged but not shown."""
    for row in ledger_table(summary).rows:
        assert sum(float(share.removesuffix(" %")) for _, share in row.cells if share) == pytest.approx(100, abs=0.3)


def test_the_report_is_one_offline_file_and_the_same_every_time(store: Store, page: str, tmp_path: Path) -> None:
    """Catches anything loaded from elsewhere, scripts but its own, unescaped text, dates, and identifiers used twice."""
    assert page == write_report(store, tmp_path).read_text(encoding="utf-8")
    assert len(page) < 2_000_000
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    assert page.count("<script") == page.count(script) == 1
    assert not re.search(r"""@import|fetch\(|XMLHttp|import\(|(src|srcset|action)=|href="(?!#|data:,)|url\((?!#)""", page)
    assert "<b>naïve" not in page and "&lt;b&gt;naïve &amp; 日本&lt;/b&gt;" in page
    parser = Elements()
    parser.feed(page)
    assert parser.open == [] and len(parser.ids) == len(set(parser.ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(parser.ids)


def test_the_report_holds_every_part(page: str) -> None:
    """Catches a part that is silently left out when a template changes."""
    page = page.replace("\N{NO-BREAK SPACE}%", " %")
    for part in ("Is the language model worth more", "At loss rate 0.1 and 0.2, “n-gram prior”", "gilbert_elliott",
                 "swept: 0.01, 0.02, 0.05, 0.1, 0.2", "reed_solomon", "0 (below 0.075)",
                 "not measured: erased packets hold a varying number of tokens", "As the original, token by token",
                 "compress, drop lost: −41 %", "A contiguous hole in text", "The preamble arrives intact", "E. N. Gilbert",
                 "channel-sim run quickstart --out results/quickstart", "fee2d3d"):
        assert html.escape(part, quote=False) in page or html.escape(part) in page, part
    for mark_class in ("i", "c", "cx", "l"):
        assert f'<i class="{mark_class}">' in page
    assert page.count("<svg") > 3


def test_a_label_cannot_inject_markup(tmp_path: Path) -> None:
    """Catches text of a scenario or a file that becomes part of the page."""
    evil = "<script>alert(1)</script> $x_1$"
    store = Store.create(tmp_path / "results.sqlite", meta({}) | {"arms": [], "question": evil, "show": []})
    store.set_plan([Point(0, 0, evil, {}, "t")], {"t": {}}, [])
    store.add([Trial("t", i, 0, {"token_error_rate": (float(i % 3), 5.0)}, {}, Ledger().to_dict()) for i in range(30)],
              [("t", 0, {"kind": "text", "item": evil, "original": evil, "restored": evil, "origin": [[2, len(evil)]],
                         "lost_packets": "0"})])
    page = write_report(store, tmp_path / "out").read_text(encoding="utf-8")
    store.close()
    assert page.count("<script") == 1 and "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_a_run_without_trials_or_samples_still_has_a_page(tmp_path: Path) -> None:
    """Catches a report that fails on a run that was killed early."""
    store = Store.create(tmp_path / "results.sqlite", {})
    store.set_plan([Point(0, 0, "a", {"channel.loss_rate": 0.1}, "t")], {"t": {}}, [])
    page = write_report(store, tmp_path / "out").read_text(encoding="utf-8")
    write_trials_csv(store, tmp_path / "trials.csv")
    write_summary_csv(store, tmp_path / "summary.csv")
    store.close()
    assert "No arm has measured" in page


def test_a_transmission_page_shows_every_arm_beside_the_original(tmp_path: Path) -> None:
    """Catches arms that are dropped, a missing value shown as 0, and a page that grows with the file."""
    arms = [{"label": arm, "facts": {"token_error_rate": 0.0125, "recovered_fraction": None, "channel_uses": 4880.0},
             "samples": [sample(arm, 0.2, item) for item in range(300)]} for arm in ARMS]
    path = write_transmission(tmp_path / "transmission.html", "notes & more.txt over quickstart", arms, {"scenario": "quickstart"})
    page = path.read_text(encoding="utf-8")
    assert all(html.escape(arm) in page for arm in ARMS) and "notes &amp; more.txt" in page
    assert "not measured" in page and "4,880" in page and "0.0125" in page
    assert "of 300 pieces of the file are shown" in page and len(page) < 1_000_000


def test_text_stands_out_from_its_ground() -> None:
    """Catches colours that fail WCAG AA (4.5:1) on white or on their own tint."""
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    named = dict(re.findall(r"--(\w+): (#\w{6})", style))
    pairs = [(named[name], "#ffffff") for name in ("ink", "grey", "right", "wrong", "soft")]
    pairs += [(named["right"], "#e8f0f8"), (named["wrong"], "#fbe8e5"), ("#595959", "#f1f1f1"), ("#595959", "#dcdcdc")]
    assert all(colour in style for pair in pairs for colour in pair if colour != "#ffffff")
    assert all(contrast(*pair) >= 4.5 for pair in pairs)
    assert contrast(named["ink"], "#c9c9c9") >= 3 and "#c9c9c9" in style  # what arrived beside what was lost


def contrast(colour: str, ground: str) -> float:
    """The contrast ratio of two sRGB colours, 1 to 21. Source: W3C, "Web Content Accessibility Guidelines 2.1" (2018)."""
    dark, light = sorted(map(_luminance, (colour, ground)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


class Elements(HTMLParser):
    """Identifiers of a page, and the elements that are never closed."""

    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"
