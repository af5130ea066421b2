"""A sweep over names or whole tables: categories side by side in every figure, sentence and export, nothing between them."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Annotation, Text

from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial
from reports.chain import diagram
from reports.differences import gaps
from reports.export import export
from reports.figures import draw_metric
from reports.headline import headline
from reports.html import write_report
from reports.paired_figures import draw_differences
from reports.summary import Summary, summarise
from reports.tradeoff import costs_that_vary, draw_tradeoff, save_tradeoffs
from scenarios.merge import merge
from tests.synthetic_results import ARMS, synthetic_store
from tests.test_headline import METRIC, TWO, meta, results
from tests.test_store_merge import collect

NAMES = ["text", "photographs, grey", "plucked strings", "random bytes", "genome of E. coli (12 Mbit)"]
MIXED: dict[str, Any] = {
    "question": "?", "items": 2, "source": {}, "channel": {"name": "packet_loss", "loss_rate": 0.3},
    "coder": {"name": "fixed_length", "packet_bits": 256},
    "arm": [{"label": "in order"}, {"label": "spread", "coder": {"interleave": True}}],
    "sweep": {"source": [{"name": "text", "item_bytes": 64}, {"name": "markov", "label": "chain"},
                         {"name": "images", "label": "photographs", "crop": "tile", "size": 16, "grey": True}]},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(Store(collect(tmp_path_factory.mktemp("mixed") / "run", **MIXED) / "results.sqlite")) as store:
        yield store


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    path = tmp_path_factory.mktemp("run") / "results.sqlite"
    with closing(synthetic_store(path, num_items=12, sweep={"source": NAMES})) as store:
        return summarise(store)


def overlap(texts: list[Text]) -> bool:
    """Whether two of them lie on each other, along the way they are written."""
    turned = []
    for text in texts:
        box, angle = text.get_window_extent(), np.deg2rad(text.get_rotation())
        turned.append((box.x1 if angle else box.x0, box.x1, text.get_fontsize() / np.sin(angle) if angle else 0.0))
    return any(b[0] < (a[0] + a[2] if a[2] else a[1]) for a, b in zip(turned, turned[1:], strict=False))


@pytest.mark.parametrize("names", [NAMES, NAMES[:2], [f"source number {k}" for k in range(9)], ["in one word:" + "x" * 30, "b"]])
def test_categories_stand_side_by_side_and_can_be_read_in_a_column(tmp_path: Path, names: list[str]) -> None:
    """Catches lines that suggest values between names, arms on one another, and names that overlap, are cut or too small."""
    with closing(synthetic_store(tmp_path / "r.sqlite", num_items=5, sweep={"source": names})) as store:
        summary = summarise(store)
    figure = draw_metric(summary, "bits_per_byte")
    figure.draw_without_rendering()
    (axis,) = figure.axes
    series = [line for line in axis.lines if str(line.get_label()).partition(" (")[0] in ARMS]
    assert len(series) == len(ARMS) and {line.get_linestyle() for line in series} == {"None"}
    places = np.array([line.get_transform().transform(line.get_xydata())[:, 0] for line in series]) * 72 / figure.dpi
    assert np.diff(places.T.ravel()).min() > (2.5 if len(names) > 2 else 8)  # in points; markers are 4 wide
    edges = axis.transData.transform([(k - 0.5, 3) for k in range(len(names) + 1)])[:, 0] * 72 / figure.dpi
    assert np.all((places > edges[:-1]) & (places < edges[1:]))
    labels = axis.get_xticklabels()
    assert ["".join(text.get_text().split()) for text in labels] == ["".join(name.split()) for name in names]
    assert not overlap(labels) and all(text.get_fontsize() >= 6 for text in labels)
    assert all(text.get_window_extent().x0 >= 0 and text.get_window_extent().y0 >= 0 for text in labels)
    below = axis.xaxis.label.get_window_extent()
    assert min(text.get_window_extent().y0 for text in labels) >= below.y1 and axis.get_xlabel() == "Source"
    assert figure.get_size_inches()[0] == (3.5 if len(names) * len(ARMS) <= 40 else 7.16)


def test_references_are_levels_of_their_category(summary: Summary) -> None:
    """Catches a closed form that runs on from one source to the next."""
    (axis,) = draw_metric(summary, METRIC).axes
    (line,) = [line for line in axis.lines if line.get_label() == "nothing restored"]
    ends = np.asarray(line.get_xydata()).reshape(-1, 3, 2)
    assert np.isnan(ends[:, 2]).all() and np.allclose(ends[:, 0, 1], ends[:, 1, 1])
    assert np.allclose(ends[:, :2, 0].mean(axis=1), range(len(NAMES)))


def test_what_no_arm_measured_in_a_category_is_said_there(mixed: Store) -> None:
    """Catches an empty place, which might be a value outside of the axis."""
    (axis,) = draw_metric(summarise(mixed), "psnr_db").axes
    said = {text.get_position()[0] for text in axis.texts if text.get_text() == "not measured"}
    assert said == {0, 1}


def test_differences_stand_beside_one_another_too(summary: Summary) -> None:
    """Catches the joined lines of a numerical axis in the figure against a baseline."""
    figure = draw_differences(summary, METRIC, "none", gaps(summary, METRIC, "none"))
    series = [line for line in figure.axes[0].lines if line.get_label() in ("repeat last", "most frequent")]
    assert len(series) == 2 and {line.get_linestyle() for line in series} == {"None"}
    assert not set(series[0].get_xdata()) & set(series[1].get_xdata())


def test_sentences_know_no_order_of_categories(tmp_path: Path) -> None:
    """Catches 'from A to B' and a lead that changes 'between' two names; points of one outcome are said together."""
    names = ["text", "photographs, grey", "speech"]

    def errors(arm: str, name: str, item: int) -> float:
        return item % 5 + (20 if (arm == "prior") == (name == "photographs, grey") else 0) + (item % 3 if arm == "prior" else 0)

    said = headline(results(tmp_path / "r.sqlite", TWO, errors, sweep={"source": names}), METRIC)
    assert said.startswith("At equal channel uses “prior” beats “parity” in the token error rate at source text and speech (at ")
    assert "; “parity” beats “prior” at source “photographs, grey” (by " in said
    assert "between" not in said and " to photographs" not in said


def test_the_chain_shows_what_follows_the_sweep(mixed: Store, tmp_path: Path) -> None:
    """Catches a diagram of the first point alone: bytes for all sources, where pictures are sent as pixels."""
    tasks = mixed.tasks()
    met = {"in order": [tasks[point.task_id] for point in mixed.points() if point.arm == "in order"]}
    found = diagram(mixed.meta(), met)
    boxes = {stage: cell[0] for stage, cell in zip(found.stages, found.rows[0][1], strict=True) if cell[0]}
    assert (boxes["source"].name, boxes["source"].parameters) == ("text, markov, images", (("swept", "text, chain, photographs"),))
    assert boxes["tokenizer"].name == "bytes, symbols, pixels" and boxes["channel"].name == "packet_loss"
    assert dict(boxes["coder"].parameters)["vocab_size"] == "256, 2"
    page = write_report(mixed, tmp_path).read_text(encoding="utf-8")
    assert "bytes, symbols, pixels" in page and "Source <output for=\"axis-0\">" in page
    assert "photographs" in page and page.count('class="original"') and "data:image/png" in page  # text and pictures on one slider


def test_parts_of_a_sweep_over_tables_are_merged(mixed: Store, tmp_path: Path) -> None:
    """Catches labels that only a whole sweep has, and points that lose their order."""
    tables = MIXED["sweep"]["source"]
    parts = [collect(tmp_path / str(k), **(MIXED | {"sweep": {"source": some}})) for k, some in enumerate((tables[:1], tables[1:]))]
    merge(parts, tmp_path / "whole")
    with closing(Store(tmp_path / "whole" / "results.sqlite")) as whole:
        assert whole.points() == mixed.points() and whole.meta()["sweep"] == mixed.meta()["sweep"]


def test_points_that_have_names_bear_them_over_what_they_cost(tmp_path: Path) -> None:
    """Catches contexts that no reader can tell apart in the figure of quality over cost, and a solid line between them."""
    names = ["independent", "mdc:2", "layered", "chained"]
    summary = results(tmp_path / "r.sqlite", TWO, lambda arm, name, item: 3.0 + item % 4 + names.index(name),
                      sweep={"coder.context": names})
    figure = draw_tradeoff(summary, METRIC, METRIC)  # any two quantities will do
    figure.draw_without_rendering()
    said = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    assert [text.get_text() for text in said] == names and all(text.get_fontsize() >= 6 for text in said)
    assert all(text.get_window_extent().y1 <= figure.bbox.y1 and text.get_window_extent().x1 <= figure.bbox.x1 for text in said)
    assert all(line.is_dashed() for line in figure.axes[0].lines if line.get_label() in TWO)


def test_where_nothing_went_wrong_no_trade_off_is_drawn(tmp_path: Path) -> None:
    """Catches empty axes of errors that nobody made, with the points' names so far outside that nothing else has room."""
    cost = "channel_uses_per_sample"
    path, sweep, methods = tmp_path / "r.sqlite", {"coder": ["gzip", "zstd"]}, {"gzip": 4.0, "zstd": 5.0}
    store = Store.create(path, meta(TWO, sweep, None) | {"show": [METRIC]})
    points = [Point(a, p, arm, {"coder": one}, f"{a}-{p}") for a, arm in enumerate(TWO) for p, one in enumerate(methods)]
    store.set_plan(points, {point.task_id: {} for point in points}, [])
    store.add([Trial(point.task_id, item, 0, {METRIC: (0.0, 100.0), cost: (methods[point.sweep["coder"]], 1.0)}, {},
                     Ledger(channel_uses=100).to_dict()) for point in points for item in range(4)], [])
    with closing(store):
        summary = summarise(store)
    assert save_tradeoffs(summary, tmp_path) == []
    draw_tradeoff(summary, METRIC, cost).draw_without_rendering()  # warns where there is no room for the axes


def test_what_a_source_costs_is_no_price_of_another(mixed: Store) -> None:
    """Catches a figure, and Bjøntegaard differences, that join the quality of text to that of pictures."""
    assert costs_that_vary(summarise(mixed)) == []


@pytest.mark.parametrize("form", ["csv", "mat", "npz", "notebook", "pgfplots", "booktabs"])
def test_every_format_takes_names(mixed: Store, tmp_path: Path, form: str) -> None:
    """Catches a format that needs numbers on its axis."""
    paths = export(mixed, form, tmp_path)
    text = "".join(path.read_text(encoding="utf-8") for path in paths if path.suffix in (".csv", ".tex", ".ipynb"))
    assert all(path.stat().st_size for path in paths)
    assert form not in ("csv", "pgfplots", "booktabs") or all(name in text for name in ("text", "chain", "photographs"))
    if form == "npz":
        with np.load(paths[0]) as file:
            assert list(file["sweep/source"]) == ["text", "chain", "photographs"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="a TeX installation (pdflatex) is not there")
def test_the_tex_of_categories_compiles(mixed: Store, tmp_path: Path) -> None:
    """Catches shifts, marks and names that TeX refuses."""
    export(mixed, "pgfplots", tmp_path)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "token_error_rate.tex"], cwd=tmp_path,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-800:]


def test_the_chain_says_which_key_inside_of_a_model_is_swept() -> None:
    """Catches a box with a copy of the model for each of its sizes, and a swept key that stands at its first value."""
    def coder(size: float) -> dict[str, Any]:
        return {"name": "entropy", "model": {"name": "ngram_of", "megabytes": size, "order": 3}}
    part = {"stage": "coder", "name": "entropy", "parameters": {"model": coder(0.1)["model"]}}
    meta = {"arms": [{"label": "a", "chain": [part]}], "sweep": {"coder.model.megabytes": [0.1, 0.2]}}
    (_, ((box, _),)), = diagram(meta, {"a": [{"coder": coder(size)} for size in (0.1, 0.2)]}).rows
    assert box is not None and box.parameters == (("model", "ngram_of(megabytes=swept: 0.1, 0.2, order=3)"),)
