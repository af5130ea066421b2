"""Several runs in one report and every arm against a baseline: the same items or nothing."""

import csv
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from channel_sim.checks import RequestError
from channel_sim.store import Point, Store, Trial
from reports import figures
from reports.differences import gaps, note, write_differences_csv
from reports.paired_figures import draw_differences
from reports.summary import Summary, summarise
from scenarios.cli import main
from scenarios.compare import compare
from tests.synthetic_results import ARMS, LOSS_RATES, synthetic_store
from tests.test_store_merge import AXIS, TABLES, collect

METRIC = "token_error_rate"
LONGER = {"coder": TABLES["coder"] | {"packet_bits": 5}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs over the same items: "none" is the same task in both, "exact" sends longer packets in the second."""
    folder = tmp_path_factory.mktemp("runs")
    arms = [TABLES["arm"][0] | LONGER, TABLES["arm"][1], {"label": "most frequent", "decoder": {"name": "most_frequent"}}]
    return collect(folder / "short"), collect(folder / "long", arm=arms)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    with closing(synthetic_store(tmp_path_factory.mktemp("run") / "results.sqlite")) as store:
        return summarise(store)


def test_arms_of_several_runs_are_drawn_together(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Catches arms that take each other's place, one arm drawn twice, and numbers that change on the way."""
    compare(runs, tmp_path / "both", "channel-sim report short long")
    with closing(Store(tmp_path / "both" / "results.sqlite")) as store, closing(Store(runs[1] / "results.sqlite")) as alone:
        both, second = summarise(store), summarise(alone)
        assert both.arms == ["exact (short)", "none", "exact (long)", "most frequent"]
        assert [arm["label"] for arm in both.meta["arms"]] == both.arms
        for mine, theirs in zip(both.of("exact (long)"), second.of("exact"), strict=True):
            assert (mine.point.sweep, mine.estimates) == (theirs.point.sweep, theirs.estimates)
        assert both.meta["provenance"]["command"] == "run of short; run of long; channel-sim report short long"
        assert len(store.samples(both.of("most frequent")[0].point.task_id)) > 0
        assert both.meta["name"] == "short and long"


def test_the_command_compares_and_may_do_so_again(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a comparison that cannot be made anew, and a baseline that is not in the page."""
    monkeypatch.setattr(figures, "KINDS", ("svg",))  # saves half the time; that all kinds are written is another test's
    compare(runs, tmp_path, "")
    request = ["report", *map(str, runs), "--out", str(tmp_path), "--baseline", "none"]
    assert main(request) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "exact (long)" in page and "less that of “none”" in page
    rows = list(csv.DictReader((tmp_path / "differences.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["arm"] for row in rows} == {"exact (short)", "exact (long)", "most frequent"}
    assert (tmp_path / "figures" / f"{METRIC}-difference.svg").is_file()
    capsys.readouterr()
    assert main([*request[:-1], "exact"]) == 2
    assert "--baseline 'exact': must be one of the arms 'exact (short)', 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "reason"), [
    ({"seed": 2}, "seed: must agree, got 1 and 2"),
    ({"items": 10}, "items of 'exact' and 'exact' at sweep point 0: must agree, got 12 trials and 10 with 10 in common; finish"),
    ({"sweep": {AXIS: [0.1, 0.3]}}, r"sweep: must agree, got .*0.5.* and "),
    ({"source": {"name": "markov", "flip_probability": 0.2, "num_symbols": 100}}, "source: must agree, got .*0.1.* and .*0.2"),
])
def test_runs_over_other_items_are_refused_with_what_differs(runs: tuple[Path, Path], tmp_path: Path, change: dict[str, Any],
                                                             reason: str) -> None:
    """Catches two populations on the same axes; nothing is written."""
    base = {"seed": 1} if "seed" in change else {}
    first = collect(tmp_path / "first", **base) if base else runs[0]
    other = collect(tmp_path / "other", **change)
    with pytest.raises(RequestError, match=reason):
        compare([first, other], tmp_path / "both", "")
    assert not (tmp_path / "both").exists()


def test_results_of_a_run_are_not_written_over(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Catches hours of results lost to a report, and one run under two names."""
    before = (runs[0] / "results.sqlite").read_bytes()
    with pytest.raises(RequestError, match="holds the results of a run; choose another folder"):
        compare(runs, runs[0], "")
    assert (runs[0] / "results.sqlite").read_bytes() == before
    with pytest.raises(RequestError, match="named twice"):
        compare([runs[0], runs[0]], tmp_path, "")
    with pytest.raises(RequestError, match="no results there"):
        compare([runs[0], tmp_path / "nothing"], tmp_path / "out", "")


def test_differences_are_arm_less_baseline(summary: Summary, tmp_path: Path) -> None:
    """Catches the wrong sign, the ratio of sums of one arm alone, and a missing metric written as 0."""
    write_differences_csv(summary, "most frequent", tmp_path / "d.csv")
    rows = list(csv.DictReader((tmp_path / "d.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["arm", "baseline", "channel.loss_rate", "metric", "difference", "ci_low", "ci_high", "num_items",
                             "p_value", "holm_p"]
    mine = {row["channel.loss_rate"]: row for row in rows if (row["arm"], row["metric"]) == ("n-gram prior", METRIC)}
    base = {row.point.sweep["channel.loss_rate"]: row.estimates[METRIC].mean for row in summary.of("most frequent")}
    for row in summary.of("n-gram prior"):
        rate = row.point.sweep["channel.loss_rate"]
        found = mine[repr(rate)]
        assert float(found["difference"]) == pytest.approx(row.estimates[METRIC].mean - base[rate], rel=1e-9)
        assert float(found["ci_low"]) < float(found["difference"]) < float(found["ci_high"]) < 0
        assert 0 <= float(found["p_value"]) <= float(found["holm_p"]) <= 1
    (missing,) = [row for row in rows if (row["arm"], row["metric"], row["channel.loss_rate"])
                  == ("compress, drop lost", "recovered_fraction", "0.1")]
    assert missing["difference"] == missing["ci_low"] == missing["holm_p"] == ""


def test_other_items_than_the_baseline_are_refused(tmp_path: Path) -> None:
    """Catches an interrupted arm compared over fewer items, and a traceback."""
    with closing(Store.create(tmp_path / "results.sqlite", {"sweep": {}})) as store:
        store.set_plan([Point(a, 0, arm, {}, arm) for a, arm in enumerate("ab")], {"a": {}, "b": {}}, [])
        store.add([Trial(arm, i, 0, {METRIC: (1.0, 2.0)}, {}, {}) for arm, n in (("a", 9), ("b", 8)) for i in range(n)])
        with pytest.raises(RequestError, match="'b' and 'a': a paired difference needs equal items, got 8 and 9"):
            gaps(summarise(store), METRIC, "a")


def test_a_figure_of_differences_tells_sure_from_unsure(summary: Summary) -> None:
    """Catches markers that are filled whatever the test says, a baseline that is not the line at 0, and text below 6 points."""
    found = [replace(gap, is_told_apart=number % 3 > 0) for number, gap in enumerate(gaps(summary, METRIC, "repeat last"))]
    figure = draw_differences(summary, METRIC, "repeat last", found)
    (axis,) = figure.axes
    told = [gap for gap in found if gap.is_told_apart]
    assert 0 < len(told) < len(found) == (len(ARMS) - 1) * len(LOSS_RATES)
    single = [line for line in axis.lines if len(line.get_xdata()) == 1]
    assert len(single) == len(found)
    assert sum(line.get_markerfacecolor() == "white" for line in single) == len(found) - len(told)
    (zero,) = [line for line in axis.lines if line.get_label() == "repeat last (baseline)"]
    assert set(zero.get_ydata()) == {0} and axis.get_ylabel() == "Difference in token error rate"
    assert figure.get_size_inches()[0] == 3.5 and all(text.get_fontsize() >= 6 for text in figure.findobj(Text) if text.get_text())
    assert f"Of {len(found)} comparisons {len(told)} (filled markers)" in note(found, METRIC, "repeat last")


def test_differences_without_a_sweep_are_lines(tmp_path: Path) -> None:
    """Catches a figure that needs a sweep."""
    with closing(synthetic_store(tmp_path / "results.sqlite", num_items=20, sweep={})) as store:
        one = summarise(store)
        (axis,) = draw_differences(one, METRIC, "none", gaps(one, METRIC, "none")).axes
    assert [label.get_text() for label in axis.get_yticklabels()][0] == "none (baseline)"
    assert np.isclose(axis.get_xlim()[0], min(axis.get_xlim())) and axis.get_xlabel() == "Difference in token error rate"
