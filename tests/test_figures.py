"""Figures of a metric over the sweep: the same bytes every time, legible in a column, limits and closed forms as what they are."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text

from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial
from reports.export import write_summary_csv, write_trials_csv
from reports.figures import draw_metric, save_figures
from reports.findings import answer
from reports.html import write_report
from reports.summary import Summary, point_text, summarise, words
from scenarios.scenario import read_shipped, shipped
from tests.contrast import contrast
from tests.synthetic_results import ARMS, LOSS_RATES, meta, read_csv, synthetic_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = synthetic_store(tmp_path_factory.mktemp("run") / "results.sqlite")
    yield store
    store.close()


@pytest.fixture(scope="module")
def summary(store: Store) -> Summary:
    return summarise(store)


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


@pytest.mark.parametrize("num_points", [49, 200])
def test_a_long_line_joins_all_points_and_marks_some(num_points: int, tmp_path: Path) -> None:
    """Catches 200 markers on two inches, which hide all below them; points that are left out of the line; and marks of a short one
    that are missing, or that stand at the same points for all arms of a long one."""
    rates, rows = np.linspace(0.01, 0.5, num_points).tolist(), list(range(30))
    with closing(Store.create(tmp_path / "results.sqlite", meta({"channel.loss_rate": rates}))) as store:
        points = [Point(a, p, f"arm {a}", {"channel.loss_rate": rate}, f"{a}-{p}")
                  for a in range(2) for p, rate in enumerate(rates)]
        store.set_plan(points, {point.task_id: {} for point in points}, [])
        store.add([Trial(point.task_id, i, 0, {"recovered_fraction": (i % 7, 10.0)}, {}, {}) for point in points for i in rows])
        summary = summarise(store)
    (axis,) = draw_metric(summary, "recovered_fraction").axes
    arms = [line for line in axis.lines if str(line.get_label()).startswith("arm")]
    bars = [line for line in axis.lines if line not in arms]
    marks = [np.asarray(line.get_xdata())[line.get_markevery()] for line in arms]
    assert [len(line.get_xdata()) for line in arms] == [num_points] * 2 and len(bars) == 2
    for line, marked in zip(bars, marks, strict=True):
        assert np.array_equal(np.asarray(line.get_xdata())[::3], marked) and 25 <= len(marked) <= 49
    assert bool(set(marks[0]) & set(marks[1])) is (num_points == 49)


@pytest.mark.parametrize("metric", ["token_error_rate", "recovered_fraction"])
def test_limits_leave_no_line_that_only_some_viewers_hide(metric: str, tmp_path: Path) -> None:
    """Catches lines without opacity, which viewers of SVG may draw as bars, and axes that end before a limit or its arrow."""
    store = one_arm(tmp_path / "results.sqlite", [{metric: (0, 30)}] * 30)
    (axis,) = draw_metric(summarise(store), metric).axes
    assert not any(line.get_alpha() == 0 for line in axis.lines)
    low, high = axis.get_ylim()
    arrows = [text for text in axis.texts if isinstance(text, Annotation)]
    assert len(arrows) == 2 and all(low <= end[1] <= high for arrow in arrows for end in (arrow.xy, arrow.xyann))


def test_a_limit_of_0_ends_with_its_log_axis(tmp_path: Path) -> None:
    """Catches the arrow of 'every one of three items' (1 − 3/n is 0), which runs to minus infinity, through the legend."""
    figure = draw_metric(summarise(one_arm(tmp_path / "results.sqlite", [{"token_error_rate": (30, 30)}] * 3)), "token_error_rate")
    figure.draw_without_rendering()
    (axis,) = figure.axes
    arrows = [text for text in axis.texts if isinstance(text, Annotation)]
    assert len(arrows) == 2
    for arrow in arrows:
        assert np.all(np.isfinite([*arrow.xy, *arrow.xyann])) and arrow.xyann[1] > 0
        assert arrow.arrow_patch is not None and arrow.arrow_patch.get_clip_box() is not None


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
    assert axis.get_ylabel().split("\n") == ["PSNR of the mean squared error", "(dB)"] and set(axis.lines[0].get_ydata()) == {30.0}
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


def test_a_sweep_is_drawn_by_ratio_only_where_it_is_spaced_so(tmp_path: Path) -> None:
    """Catches ten even steps from 0.05 to 0.7 crowded into the right half of a logarithmic axis."""
    for values, scale in ((LOSS_RATES, "log"), ([0.05, 0.2, 0.35, 0.5, 0.65, 0.8], "linear"), ([0.1, 0.2], "linear")):
        store = synthetic_store(tmp_path / f"{scale}{len(values)}.sqlite", num_items=2, sweep={"channel.loss_rate": values})
        assert draw_metric(summarise(store), "token_error_rate").axes[0].get_xscale() == scale
        store.close()


@pytest.mark.parametrize("name", shipped())
def test_the_axes_of_shipped_scenarios_name_their_units(name: str) -> None:
    """Catches a swept key whose axis says neither what it counts nor in what: 'deadline', 'interleave depth'."""
    pure = {"loss rate", "flip probability", "erasure probability", "probability", "code rate", "sent fraction", "quality"}
    for key, values in read_shipped(name).get("sweep", {}).items():
        text = words(key)
        numbers = all(isinstance(value, int | float) for value in values)
        assert not numbers or text in pure or text.startswith("number of") or text.endswith(")"), key
        assert not key.endswith("_db") or text.endswith(("Es/N0 (dB)", "Eb/N0 (dB)", "SNR (dB)", "K (dB)")), key


def test_limits_of_arms_without_an_event_can_be_told_apart(tmp_path: Path) -> None:
    """Catches hollow markers of several arms on one another: without an event all have the limit 3/n."""
    described = meta({"channel.loss_rate": LOSS_RATES[:2]}) | {"arms": [], "show": []}
    with closing(Store.create(tmp_path / "r.sqlite", described)) as store:
        points = [Point(a, p, f"arm {a}", {"channel.loss_rate": LOSS_RATES[p]}, f"{a}-{p}") for a in range(3) for p in range(2)]
        store.set_plan(points, {point.task_id: {} for point in points}, [])
        store.add([Trial(one.task_id, i, 0, {"token_error_rate": (0.0, 9.0)}, {}, Ledger().to_dict())
                   for one in points for i in range(30)])
        figure = draw_metric(summarise(store), "token_error_rate")
    figure.draw_without_rendering()
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    places = sorted(line.get_transform().transform(line.get_xydata())[0, 0] * 72 / figure.dpi for line in hollow)
    assert len(places) == 6 and min(np.diff(places)) > 2.5
