"""Figures beside those of a metric over the sweep: bursts by length, and quality against what was spent."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from channel_sim.ledger import Ledger
from channel_sim.metrics import CATALOGUE
from channel_sim.store import Curve, Point, Store, Trial
from reports.axes import axis_words
from reports.burst_figures import draw_bursts, save_bursts
from reports.figures import _apart, arm_look, draw_metric, label_axes, lay_out, render
from reports.html import write_report
from reports.summary import Summary, summarise
from reports.tradeoff import costs_that_vary, draw_tradeoff, save_tradeoffs
from tests.synthetic_results import synthetic_store
from tests.test_store_merge import collect

QUALITIES = [10, 30, 60, 90]
COST = "channel_uses_per_sample"


def pictures(path: Path, shown: str = COST) -> Summary:
    """Two arms over a quality that costs more and shows less error; a reference that both could reach."""
    with closing(Store.create(path, {"sweep": {"tokenizer.quality": QUALITIES}, "show": ["psnr_db", shown], "arms": []})) as store:
        points = [Point(a, p, arm, {"tokenizer.quality": one}, f"{a}{p}") for a, arm in enumerate(["codec", "model"])
                  for p, one in enumerate(QUALITIES)]
        store.set_plan(points, {point.task_id: {} for point in points},
                       [Curve(p, "bound", "psnr_db", 40.0 + p, "a book") for p in range(4)])
        for point in points:
            quality = point.sweep["tokenizer.quality"]
            store.add([Trial(point.task_id, i, 0, {"psnr_db": (20 + quality / 10 + point.arm_index + i % 3, 1.0),
                                                   COST: (quality * 10 + i % 5, 100.0), "bits_per_pixel": (quality, 300.0)},
                             {}, Ledger(channel_uses=quality).to_dict())
                       for i in range(20)], [])
        return summarise(store)


def test_no_panel_cuts_what_it_shows(tmp_path: Path) -> None:
    """Catches limits of the first panel on all that share its axis: at ten times the loss rate the arms would stand outside."""
    sweep: dict[str, list[Any]] = {"channel.esno_db": [0, 3], "channel.loss_rate": [0.02, 0.2]}
    with closing(synthetic_store(tmp_path / "r.sqlite", num_items=6, sweep=sweep)) as store:
        summary = summarise(store)
    figure = draw_metric(summary, "token_error_rate")
    least, most = figure.axes[0].get_ylim()
    shown = [one.mean for row in summary.rows if (one := row.estimate("token_error_rate")) and one.mean]
    assert least < min(shown) and max(shown) < most and figure.get_size_inches()[0] == 7.16


@pytest.mark.parametrize("before", ["", "Difference in "])
def test_words_beside_an_axis_are_not_cut(tmp_path: Path, before: str) -> None:
    """Catches 'PSNR of the mean squared error (d' on a panel of usual height, for every metric there is."""
    summary = pictures(tmp_path / "r.sqlite")
    longest = sorted((before + axis_words(metric) for metric in CATALOGUE), key=len)[-12:]
    for words in longest:
        figure, axes = lay_out(summary, ["one", "two", "three"])
        label_axes(figure, axes, "x", words)
        figure.canvas.draw()
        shown = axes[0][0].yaxis.label.get_window_extent()
        assert figure.bbox.y0 <= shown.y0 and shown.y1 <= figure.bbox.y1, words
        assert " ".join(axes[0][0].get_ylabel().split()) == words


def test_quality_is_drawn_over_what_it_cost(tmp_path: Path) -> None:
    """Catches points placed by the sweep instead of by their cost, arms in another order, and a reference at no place."""
    summary = pictures(tmp_path / "r.sqlite")
    assert costs_that_vary(summary) == [COST, "bits_per_pixel"]
    figure = draw_tradeoff(summary, "psnr_db", COST)
    (axis,) = figure.axes
    for arm in summary.arms:
        (line,) = [line for line in axis.lines if line.get_label() == arm]
        rows = summary.of(arm)
        assert list(line.get_xdata()) == [row.estimates[COST].mean for row in rows]
        assert list(line.get_ydata()) == [row.estimates["psnr_db"].mean for row in rows]
    (bound,) = [line for line in axis.lines if line.get_label() == "bound"]
    assert list(bound.get_ydata()) == [40, 41, 42, 43] and bound.is_dashed()
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("Channel uses per sample", "PSNR (dB)")
    assert figure.get_size_inches()[0] == 3.5 and all(text.get_fontsize() >= 6 for text in figure.findobj(Text) if text.get_text())
    names = sorted(path.name for path in save_tradeoffs(summary, tmp_path / "figures"))
    assert names == [f"psnr_db-over-{COST}.{kind}" for kind in ("pdf", "png", "svg")]


def test_the_cost_that_the_scenario_shows_is_the_one_that_is_drawn(tmp_path: Path) -> None:
    """Catches bits per pixel that are asked for and channel uses that are drawn."""
    summary = pictures(tmp_path / "r.sqlite", "bits_per_pixel")
    assert {path.stem for path in save_tradeoffs(summary, tmp_path / "figures")} == {"psnr_db-over-bits_per_pixel"}


def test_where_nothing_more_is_spent_there_is_no_such_figure(tmp_path: Path) -> None:
    """Catches a cloud of points at one cost, drawn as if it were a curve."""
    with closing(synthetic_store(tmp_path / "r.sqlite", num_items=4)) as store:
        assert costs_that_vary(summarise(store)) == [] and save_tradeoffs(summarise(store), tmp_path) == []


def test_bursts_are_those_of_the_card_beside_the_law(tmp_path: Path) -> None:
    """Catches shares that do not add up to 1, a law drawn as if it were measured, and points of the sweep left out."""
    with closing(Store(collect(tmp_path / "run") / "results.sqlite")) as store:
        figure = draw_bursts(store)
        assert figure is not None and len(figure.axes) == 3
        for axis in figure.axes:
            heights = [bar.get_height() for bar in axis.patches]
            (law,) = [line for line in axis.lines if line.get_label() == "the channel's law"]
            assert sum(heights) == pytest.approx(1) and law.get_linestyle() == "None"
            assert heights[0] == pytest.approx(law.get_ydata()[0], abs=0.2)  # Bernoulli losses: most bursts are of one packet
        assert render(figure, "png") == render(draw_bursts(store), "png")  # type: ignore[arg-type]
    with closing(synthetic_store(tmp_path / "r.sqlite", num_items=2, sweep={})) as store:
        assert save_bursts(store, tmp_path) == []


def test_the_page_shows_what_was_spent_and_how_long_losses_lasted(tmp_path: Path) -> None:
    """Catches figures that are files beside the page and not on it, and a gallery of many that is not folded."""
    pictures(tmp_path / "r.sqlite")
    with closing(Store(tmp_path / "r.sqlite")) as store:
        page = write_report(store, tmp_path).read_text(encoding="utf-8")
    assert 'aria-label="PSNR (dB) over channel uses per sample"' in page and "Against what was spent" in page
    assert 'aria-label="bursts"' not in page  # no card is on file
    with closing(Store(collect(tmp_path / "run", items=4) / "results.sqlite")) as store:
        page = write_report(store, tmp_path).read_text(encoding="utf-8")
    assert 'aria-label="bursts"' in page and "Against what was spent" not in page
    assert "<summary>How long losses lasted" in page


def test_no_two_arms_look_alike_and_values_that_are_close_are_not_both_named() -> None:
    """Catches a ninth arm that is drawn as the first, and numbers on an axis that run into one another."""
    looks = {(look["color"], look["marker"]) for look in map(arm_look, range(72))}
    assert len(looks) == 72
    assert _apart([0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]) == [0.0, 0.05, 0.1, 0.2, 0.3, 0.5]
    assert _apart([0.0, 5.0, 10.0]) == [0.0, 5.0, 10.0] and _apart([1.0]) == [1.0]
