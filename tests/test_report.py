"""Tables, figures and pages from a results file alone: the same store gives the same bytes, and nothing is hidden."""

import html
import re
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest

import reports.html
from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial
from reports.comparability import unequal_uses
from reports.export import write_samples, write_summary_csv, write_trials_csv
from reports.findings import answer, findings, interval_text, number_text, rounded
from reports.html import write_report, write_transmission
from reports.ledgers import ledger_table
from reports.statistics import Estimate
from reports.summary import Summary, point_text, significant, summarise
from tests.synthetic_results import ARMS, LOSS_RATES, TEXT, meta, read_csv, sample, synthetic_store

TEMPLATES = Path(reports.html.__file__).parent / "templates"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = synthetic_store(tmp_path_factory.mktemp("run") / "results.sqlite")
    yield store
    store.close()


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


def test_points_of_either_sign_have_folders_of_their_own(tmp_path: Path) -> None:
    """Catches samples at -4 dB written over those at 4 dB, and a hyphen for a minus sign in print."""
    assert point_text({"channel.esno_db": -4.0}) == "Es/N0 −4.0 dB"
    with closing(synthetic_store(tmp_path / "r.sqlite", num_items=1, sweep={"channel.esno_db": [-4.0, 4.0]})) as store:
        write_samples(store, tmp_path / "samples")
    assert {path.name for path in (tmp_path / "samples" / "none").iterdir()} == {"Es-N0-4.0-dB", "Es-N0-minus-4.0-dB"}


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
    assert "Nothing has been measured yet." in page


def test_a_transmission_page_shows_every_arm_beside_the_original(tmp_path: Path) -> None:
    """Catches arms that are dropped, a missing value shown as 0, and a page that grows with the file."""
    arms = [{"label": arm, "facts": {"token_error_rate": 0.0125, "recovered_fraction": None, "channel_uses": 4880.0},
             "samples": [sample(arm, 0.2, item) for item in range(300)]} for arm in ARMS]
    path = write_transmission(tmp_path / "transmission.html", "notes & more.txt over quickstart", arms, {"scenario": "quickstart"})
    page = path.read_text(encoding="utf-8")
    assert all(html.escape(arm) in page for arm in ARMS) and "notes &amp; more.txt" in page
    assert "not measured" in page and "4,880" in page and "0.0125" in page
    assert "of 300 pieces of the file are shown" in page and len(page) < 1_000_000 and "Channel uses differ" not in page


def test_a_transmission_page_says_whose_channel_uses_are_not_those_of_the_others(tmp_path: Path) -> None:
    """Catches parity made for the scenario's own items, which with a shorter file is twice what the other arms have."""
    uses = {"silence": 128_024.0, "lines": 128_500.0, "FLAC, parity": 255_528.0}
    arms = [{"label": arm, "facts": {"channel_uses": own}, "samples": [sample("none", 0.2, 0)]} for arm, own in uses.items()]
    page = write_transmission(tmp_path / "transmission.html", "a.wav over sound_loss", arms, {}).read_text(encoding="utf-8")
    (said,) = re.findall(r'<p class="caution">(Channel uses.*?)</p>', page)
    assert "“silence”" in said and "FLAC, parity: +100" in said and "lines" not in said


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
