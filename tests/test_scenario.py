"""Scenario files: what is left out is filled in, what is wrong is refused by file, key, rule and nearest match."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channel_sim.checks import RequestError
from scenarios import scenario
from scenarios.scenario import load, shipped

TABLES: dict[str, Any] = {
    "question": "?",
    "items": 4,
    "source": {"name": "markov", "flip_probability": 0.2, "num_symbols": 50},
    "channel": {"name": "packet_loss", "loss_rate": 0.1},
    "coder": {"name": "fixed_length", "packet_bits": 1, "header_bits": 0},
    "arm": [{"label": "exact", "decoder": {"name": "exact_markov"}}, {"label": "none"}],
    "sweep": {"channel.loss_rate": [0.1, 0.5]},
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_arms_times_points_are_tasks():
    """Catches lost sweep points and values that reach only the first arm."""
    loaded = load(TABLES)
    assert [(task.arm, task.sweep["channel.loss_rate"]) for task in loaded.tasks] == [
        ("exact", 0.1), ("exact", 0.5), ("none", 0.1), ("none", 0.5)]
    assert [task.chain.channel.loss_rate for task in loaded.tasks] == [0.1, 0.5, 0.1, 0.5]


def test_exact_components_read_the_source():
    """Catches an exact decoder that runs with a default parameter instead of the source's."""
    assert load(TABLES).tasks[0].chain.decoder.flip_probability == 0.2


def test_exact_components_refuse_a_source_without_their_parameter():
    """Catches a silent default where the source cannot tell."""
    for source in ("bernoulli", "hidden_markov"):
        with pytest.raises(RequestError, match=f"flip_probability: exact_markov reads it.*source {source} is not"):
            load(TABLES | {"source": {"name": source}})


def test_symbols_get_the_symbols_tokenizer():
    """Catches a default tokenizer that does not fit the source."""
    assert load(TABLES).tasks[0].chain.tokenizer.vocab_size == 2
    assert load({"question": "?", "arm": [{"label": "a"}]}).tasks[0].chain.tokenizer.vocab_size == 256


def test_an_arm_without_a_name_is_laid_over_the_base_table():
    """Catches arms that lose the base table's keys, and named ones that inherit them."""
    laid = load(TABLES | {"arm": [{"label": "a", "coder": {"header_bits": 7}}]}).tasks[0].chain.coder
    assert (laid.packet_bits, laid.header_bits) == (1, 7)
    named = load(TABLES | {"arm": [{"label": "a", "coder": {"name": "fixed_length", "header_bits": 7}}]}).tasks[0].chain.coder
    assert named.packet_bits == 512


def test_task_id_changes_with_what_changes_a_number_and_with_nothing_else():
    """Catches labels or item counts in the hash, and parameters that are left out of it."""
    base = load(TABLES).tasks[0].task_id
    renamed = TABLES | {"items": 9, "question": "!", "arm": [{"label": "other", "decoder": {"name": "exact_markov"}}]}
    assert load(renamed).tasks[0].task_id == base
    for change in ({"seed": 5}, {"source": TABLES["source"] | {"flip_probability": 0.3}},
                   {"receiver": {"abstain_below": 0.9}}, {"channel": {"name": "packet_loss", "crc": "crc16"}}):
        assert load(TABLES | change).tasks[0].task_id != base


def test_task_id_is_of_the_data_not_of_its_path(tmp_path: Path):
    """Catches results that are lost when a folder is moved, and ones that are kept when a file has changed."""
    ids = []
    for name, content in (("a.txt", b"some text"), ("b.txt", b"some text"), ("c.txt", b"other")):
        (tmp_path / name).write_bytes(content)
        tables = {"question": "?", "source": {"name": "text", "path": str(tmp_path / name)}, "arm": [{"label": "a"}]}
        ids.append(load(tables).tasks[0].task_id)
    assert ids[0] == ids[1] != ids[2]


def test_paths_are_relative_to_the_scenario_file(tmp_path: Path):
    """Catches scenarios that only run from one working directory."""
    (tmp_path / "data.txt").write_text("hello")
    path = write(tmp_path, 'question = "?"\nitems = 1\n[source]\nname = "text"\npath = "data.txt"\n[[arm]]\nlabel = "a"\n')
    assert load(path).tasks[0].chain.source.num_items == 1


TEXTS_AND_PICTURES: dict[str, Any] = {
    "question": "?", "items": 1, "arm": [{"label": "a"}, {"label": "b", "coder": {"packet_bits": 96}}],
    "sweep": {"source": [{"name": "text"}, {"name": "images", "crop": "tile", "size": 16, "label": "photographs"}]},
}


def test_a_sweep_over_whole_tables_replaces_them_and_goes_by_labels():
    """Catches points that keep the base table's keys, labels that reach the component, and a tokenizer that does not follow."""
    loaded = load(TEXTS_AND_PICTURES | {"source": {"name": "bytes_file", "path": "none", "item_bytes": 3}})
    assert loaded.sweep == {"source": ["text", "photographs"]}
    assert [(task.arm, task.sweep, *(type(part).__name__ for part in (task.chain.source, task.chain.tokenizer)),
             task.chain.coder.packet_bits) for task in loaded.tasks] == [
        ("a", {"source": "text"}, "Text", "BytesTokenizer", 512), ("a", {"source": "photographs"}, "Images", "Pixels", 512),
        ("b", {"source": "text"}, "Text", "BytesTokenizer", 96), ("b", {"source": "photographs"}, "Images", "Pixels", 96)]
    assert load({"question": "?", "source": {"name": "text"}, "arm": [{"label": "a"}]}).tasks[0].task_id == loaded.tasks[0].task_id


@pytest.mark.parametrize(("tables", "labels"), [
    ([{"name": "markov"}, {"name": "bernoulli"}], ["markov", "bernoulli"]),
    ([{"name": "markov", "num_symbols": 9}, {"name": "markov"}, {"name": "bernoulli"}],
     ["markov (num_symbols = 9)", "markov", "bernoulli"]),
    ([{"name": "markov", "num_symbols": 9, "flip_probability": 0.2}, {"name": "markov", "num_symbols": 8, "flip_probability": 0.2}],
     ["markov (num_symbols = 9)", "markov (num_symbols = 8)"]),
    ([{"num_symbols": 9}, {"num_symbols": 8, "label": "short"}], ["markov (num_symbols = 9)", "short"]),
])
def test_swept_tables_are_told_apart_by_label_by_name_or_by_the_keys_in_which_they_differ(tables: list[Any], labels: list[str]):
    """Catches points with one name, and keys that all tables share in a label. A nameless table is laid over the base one."""
    assert load(TABLES | {"arm": [{"label": "a"}], "sweep": {"source": tables}}).sweep == {"source": labels}


def test_a_sweep_wins_over_an_arm_by_key_and_by_table():
    """Catches an arm's value that stays at every point, and an arm's other keys that are lost; one rule for both kinds of axis."""
    arms = {"arm": [{"label": "a", "channel": {"loss_rate": 0.9, "crc": "crc16"}}]}
    by_table = [{"name": "packet_loss", "loss_rate": rate} for rate in (0.1, 0.5)]
    for sweep in ({"channel.loss_rate": [0.1, 0.5]}, {"channel": by_table}):
        found = [task.chain.channel for task in load(TABLES | arms | {"sweep": sweep}).tasks]
        assert [(channel.loss_rate, channel.crc) for channel in found] == [(0.1, "crc16"), (0.5, "crc16")]


def test_a_key_can_be_swept_beside_the_table_that_holds_it():
    """Catches a key that reaches none, or is refused, where only some of the tables have it."""
    both = {"sweep": {"channel": [{"name": "packet_loss", "loss_rate": 0.1}, {"name": "bsc"}], "channel.loss_rate": [0.2, 0.3]}}
    found = [getattr(task.chain.channel, "loss_rate", None) for task in load(TABLES | both | {"arm": [{"label": "a"}]}).tasks]
    assert found == [0.2, 0.3, None, None]


def test_the_command_line_names_a_swept_table_by_its_label():
    """Catches --set source=LABEL that sweeps on, or that gives another source than the sweep has under the label."""
    swept = load(TEXTS_AND_PICTURES).tasks[1]
    fixed = load(TEXTS_AND_PICTURES, {"source": "photographs"})
    assert (fixed.sweep, fixed.tasks[0].sweep, fixed.tasks[0].task_id) == ({}, {}, swept.task_id)
    assert load(TEXTS_AND_PICTURES, {"source": {"name": "bernoulli"}}).sweep == {}
    with pytest.raises(RequestError, match="--set source: no table.*'photos'; did you mean 'photographs'"):
        load(TEXTS_AND_PICTURES, {"source": "photos"})


def test_command_line_settings_reach_every_arm_and_replace_an_axis():
    """Catches --set that touches one arm, or leaves the swept values in place."""
    loaded = load(TABLES, {"channel.loss_rate": 0.3, "items": 2})
    assert [task.chain.channel.loss_rate for task in loaded.tasks] == [0.3, 0.3]
    assert (loaded.items, loaded.sweep) == (2, {})


@pytest.mark.parametrize(("change", "message"), [
    ({"chanel": {}}, "chanel: no such table or key; did you mean 'channel'"),
    ({"arm": []}, "at least one"),
    ({"arm": [{}]}, "label: missing"),
    ({"arm": [{"label": "a"}, {"label": "a"}]}, "used twice"),
    ({"arm": [{"label": "a", "decodr": {}}]}, "decodr: no such table; did you mean 'decoder'"),
    ({"arm": [{"label": "a", "decoder": "none"}]}, "must be a table"),
    ({"channel": {"name": "packet_los"}}, "no channel is called 'packet_los'; did you mean 'packet_loss'"),
    ({"channel": {"name": "packet_loss", "loss_rat": 0.1}}, "loss_rat: packet_loss has no such key; did you mean 'loss_rate'"),
    ({"channel": {"name": "packet_loss", "crc": "crc17"}}, "crc"),
    ({"source": {"name": "markov", "flip_probability": 1.5}}, "flip_probability.*less than 1.*1.5"),
    ({"source": {"name": "markov", "flip_probability": "high"}}, "flip_probability.*valid number.*'high'"),
    ({"items": 0}, "items.*greater than 0"),
    ({"seed": -1}, "seed"),
    ({"show": ["token_eror_rate"]}, "no metric is called 'token_eror_rate'; did you mean 'token_error_rate'"),
    ({"sweep": {"channel.loss_rates": [0.1]}}, "loss_rates: no arm has such a key; did you mean 'channel.loss_rate'"),
    ({"sweep": {"chanel.loss_rate": [0.1]}}, "did you mean 'channel'"),
    ({"sweep": {"channel.loss_rate": []}}, "no values"),
    ({"sweep": {"channel": [0.1]}}, "sweep.'channel': must be tables such as.*got 0.1.*\"channel.KEY\""),
    ({"sweep": {"channel": []}}, "no values"),
    ({"sweep": {"chanel": [{}]}}, "chanel.*did you mean 'channel'"),
    ({"sweep": {"channel": [{"label": 3}]}}, "sweep.'channel': label: must be a text, got 3"),
    ({"sweep": {"channel": [{}, {}]}}, "labels must differ, got 'packet_loss' twice"),
    ({"sweep": {"channel": [{"name": "packet_los"}]}}, "channel.name: no channel.*'packet_los'; did you mean 'packet_loss'"),
    ({"sweep": {"tokenizer": [{"quality": 3}]}}, "tokenizer.name: missing"),
    ({"sweep": {"evaluator": [{"name": "image-classifier-small"}]}}, "judged alike"),
    ({"sweep": {"decoder": [{"name": "none"}]}}, "arm 'exact': decoder.name: must be left out where the sweep is over 'decoder'"),
    ({"coder": {"name": "entropy", "model": "ngrm"}}, "no model is called 'ngrm'; did you mean 'ngram'"),
    ({"coder": {"name": "entropy", "judge": ""}}, "coder.judge.name: no model is called ''"),
    ({"coder": {"name": "entropy", "model": "ngram"}}, "knows 256 tokens"),
    ({"tokenizer": {"name": "diffc_image", "denoiser": {"name": "denoiser", "path": "not there"}}, "sweep": {}},
     "arm 'exact': tokenizer.denoiser: denoiser.path must be weights of a denoiser.*'.*not there'"),
    ({"channel": {"name": "gilbert_elliott", "loss_rate": 0.8, "mean_burst_packets": 1.5}, "sweep": {}},
     "mean_burst_packets must be >= "),
])
def test_what_is_wrong_is_named(change: dict[str, Any], message: str):
    """Catches errors that do not say which key, which rule or what was meant."""
    with pytest.raises(RequestError, match=message) as caught:
        load(TABLES | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [
    ("question = ", "not valid TOML"),
    ("items = 3\n[[arm]]\nlabel='a'", "question"),
    ('question = "?"', "arm"),
])
def test_broken_files_are_named(tmp_path: Path, text: str, message: str):
    """Catches tracebacks on files that are no scenario."""
    with pytest.raises(RequestError, match=f"mine.toml.*{message}"):
        load(write(tmp_path, text))


def test_a_missing_file_offers_the_shipped_ones():
    """Catches an error without its cure."""
    with pytest.raises(RequestError, match="did you mean 'quickstart'"):
        load("quickstrat")


def test_shipped_scenarios_load():
    """Catches a scenario that its own components refuse."""
    assert {"quickstart", "text_over_rayleigh", "markov_optimum", "markov_breakeven"} <= set(shipped())
    for name in shipped():
        assert scenario.load(name).tasks
