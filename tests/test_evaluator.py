"""Evaluators: what a picture is taken for before and after, judged on the measuring side alone, kept with every trial."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.metrics import OF_EVALUATORS, Measurement
from channel_sim.store import Store, StoreConflict, Trial, pack_features
from channel_sim.trial import run, send
from channel_sim.types import Item
from scenarios import runner
from scenarios.merge import merge
from scenarios.scenario import JUDGE, STAGES, components, describe, load, shipped
from sources.images import Images
from sources.models import classifier, weights_file
from sources.models.classifier import ImageClassifierSmall

NOTHING_MISSING = np.zeros((32, 32, 3), bool)
JUDGED = ("task_accuracy", "clean_task_accuracy", "task_agreement")


@cache
def photographs() -> np.ndarray:
    return np.array([one.content for one in Images(size=32, crop="centre").items(range(12), [Key(1)] * 12)])


def pictures(num: int) -> np.ndarray:
    """uint8 [num, 32, 32, 3] that the classifier does not take all for one class."""
    return photographs()[:num]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("stack") / "labelled.npz"
    np.savez(file, images=pictures(12), labels=np.arange(12) % 10)
    return file


def tables(stack: Path, **changes: Any) -> dict[str, Any]:
    return {
        "question": "?", "items": 6, "source": {"name": "images", "path": str(stack)}, "tokenizer": {"name": "pixels"},
        "channel": {"name": "packet_loss", "loss_rate": 0.5}, "coder": {"name": "fixed_length", "packet_bits": 512},
        "evaluator": {"name": "image-classifier-small"},
        "arm": [{"label": "hole"}, {"label": "nothing lost", "channel": {"name": "ideal"}}],
    } | changes


def opinions(several: np.ndarray) -> list[int]:
    """The classes that the shipped network puts pictures into, past the evaluator."""
    weights = weights_file.read(weights_file.FOLDER / "image-classifier-small.safetensors", classifier.FORMAT)[0]
    network = classifier.Network(safetensors.numpy.load(weights))
    return [network.classify(one).label for one in several]


def test_right_and_wrong_are_what_the_network_says_of_either_picture():
    """Catches an accuracy of the original, an agreement with the label, and a clean accuracy of what came out."""
    several = pictures(12)
    said = opinions(several)
    other = next(number for number in range(12) if said[number] != said[0])
    for label in range(10):
        for restored in (0, other):
            book = ImageClassifierSmall().measure(Item(several[0], "image", "x", label), several[restored], NOTHING_MISSING)
            assert book.values["clean_task_accuracy"] == (said[0] == label, 1)
            assert book.values["task_accuracy"] == (said[restored] == label, 1)
            assert book.values["task_agreement"] == (restored == 0, 1)
            assert book.reasons.keys() == {"kid", "kid_of_originals"}


def test_what_cannot_be_decoded_is_of_no_class():
    """Catches mid-grey, or a picture of another shape, that is right by chance; a part of a picture is judged as it is."""
    item = Item(np.full((32, 32, 3), 128, np.uint8), "image", "grey")
    label = opinions(np.asarray(item.content)[None])[0]
    item, judge, part = replace(item, label=label), ImageClassifierSmall(), NOTHING_MISSING.copy()
    part[:, 1:] = True
    grey = np.asarray(item.content)
    for content, missing, right in ((grey, NOTHING_MISSING, 1), (grey, part, 1), (grey, ~NOTHING_MISSING, 0),
                                    (grey[:16], NOTHING_MISSING, 0), (grey[..., :1], NOTHING_MISSING, 0),
                                    (grey.astype(np.float32), NOTHING_MISSING, 0), (b"", np.ones(1, bool), 0)):
        book = judge.measure(item, content, missing)
        assert [book.values[name] for name in JUDGED] == [(right, 1), (1, 1), (right, 1)]
        features = judge.features(item, content)
        assert features is not None and features.dtype == np.float32 and features.shape[0] == 2


def test_what_is_not_its_kind_is_not_measured_and_says_why():
    """Catches pictures of another size or modality that count as wrong, and a label that is left out."""
    judge = ImageClassifierSmall()
    for content in (np.zeros((32, 32, 1), np.uint8), np.zeros((64, 64, 3), np.uint8), b"text", np.zeros(9, np.int16)):
        item = Item(content, "image", "x", 3)
        book = judge.measure(item, content, np.zeros(1, bool))
        assert not book.values and all("32x32 pixels in RGB" in book.reasons[name] for name in (*JUDGED, "kid"))
        assert judge.features(item, content) is None
    unlabelled = judge.measure(Item(pictures(1)[0], "image", "x"), pictures(1)[0], NOTHING_MISSING)
    assert unlabelled.values == {"task_agreement": (1, 1)}
    assert unlabelled.reasons["task_accuracy"] == unlabelled.reasons["clean_task_accuracy"] == "the item has no label"
    with pytest.raises(RequestError, match="label of item 'x' must be a class of the evaluator, 0 to 9, got 10; leave labels out"):
        judge.measure(Item(pictures(1)[0], "image", "x", 10), pictures(1)[0], NOTHING_MISSING)


def test_what_an_evaluator_defines_has_no_reason_any_more():
    """Catches a metric that is both measured and said not to be."""
    book = Measurement({"a": (1, 2)}, {"b": "none", "c": "none"})
    book.update(Measurement({"b": (3, 4)}, {"c": "another", "d": "none"}))
    assert book.values == {"a": (1, 2), "b": (3, 4)} and book.reasons == {"c": "another", "d": "none"}


def test_a_scenario_without_an_evaluator_is_the_task_that_it_was():
    """Catches an optional table that gives every task on file another address: it is no part of what it is not in."""
    for scenario in map(load, shipped()):
        task = scenario.tasks[0]
        if task.chain.evaluator is None:
            parts = {stage: describe(getattr(task.chain, stage), identity=True) for stage in STAGES}
            text = json.dumps({"seed": scenario.seed, **parts}, sort_keys=True, separators=(",", ":"), default=str)
            assert task.task_id == hashlib.sha256(text.encode()).hexdigest() and JUDGE not in task.resolved


def test_the_table_is_the_scenarios_and_changes_the_task(stack: Path):
    """Catches arms that are judged by different rules, a judge that changes numbers but no address, and lost provenance."""
    judged, plain = load(tables(stack)), load(tables(stack, evaluator={}))
    assert [task.resolved[JUDGE]["name"] for task in judged.tasks] == ["image-classifier-small"] * 2
    assert all(one.task_id != other.task_id for one, other in zip(judged.tasks, plain.tasks, strict=True))
    assert list(components(judged.tasks[0].chain)) == [*STAGES, JUDGE] and list(components(plain.tasks[0].chain)) == [*STAGES]
    with pytest.raises(RequestError, match="'hole': evaluator: no such table; all arms are judged alike"):
        load(tables(stack, arm=[{"label": "hole", "evaluator": {"name": "image-classifier-small"}}]))
    with pytest.raises(RequestError, match="did you mean 'image-classifier-small'"):
        load(tables(stack, evaluator={"name": "image-clasifier"}))
    with pytest.raises(RequestError, match="evaluator.path must be weights of a classifier.*channel-sim train classifier"):
        load(tables(stack, evaluator={"name": "image-classifier-small", "path": str(stack)}))


def test_the_command_line_sets_a_key_of_the_evaluator(stack: Path, tmp_path: Path):
    """Catches weights of one's own that only a file can name, or that judge some arms alone, and settings without a word."""
    mine = tmp_path / "mine.safetensors"
    for end in (".safetensors", ".json"):
        mine.with_suffix(end).write_bytes((weights_file.FOLDER / f"image-classifier-small{end}").read_bytes())
    loaded = load(tables(stack), {"evaluator.path": str(mine)})
    assert [task.resolved[JUDGE]["path"] for task in loaded.tasks] == [str(mine)] * 2
    with pytest.raises(RequestError, match="evaluator.pth: no arm has such a key; did you mean 'evaluator.path'"):
        load(tables(stack), {"evaluator.pth": str(mine)})
    with pytest.raises(RequestError, match=r"evaluator.path: the scenario has no evaluator; add \[evaluator\]"):
        load(tables(stack, evaluator={}), {"evaluator.path": str(mine)})
    with pytest.raises(RequestError, match="evaluator.name: missing"):
        load(tables(stack, evaluator={"path": str(mine)}), {"evaluator.path": str(mine)})


def test_no_point_of_a_sweep_has_a_judge_of_its_own(stack: Path):
    """Catches curves whose points are measured with different rules."""
    with pytest.raises(RequestError, match=r"sweep: 'evaluator.path': all points are judged alike; set it in \[evaluator\]"):
        load(tables(stack, sweep={"evaluator.path": [None]}))


@pytest.mark.parametrize("metric", OF_EVALUATORS)
def test_what_nobody_measures_is_not_asked_for(stack: Path, metric: str):
    """Catches a report without the metrics that it was to show first, and a run that waits for a width that never comes."""
    assert load(tables(stack, show=[metric], stop={"metric": metric, "half_width": 0.1})).show == (metric,)
    why = f"'{metric}' is measured by an evaluator, and the scenario has none; add \\[evaluator\\]"
    for key, asked in (("show", {"show": [metric]}), ("stop.metric", {"stop": {"metric": metric, "half_width": 0.1}})):
        with pytest.raises(RequestError, match=f"{key}: {why}"):
            load(tables(stack, evaluator={}, **asked))


def test_what_is_judged_is_what_came_out_and_nothing_else_changes(stack: Path):
    """Catches a judge that sees the original alone, or whose presence changes what is sent, received or measured beside it."""
    judged, plain = (load(tables(stack, **changes)).tasks[0].chain for changes in ({}, {"evaluator": {}}))
    sent = send(judged, range(6), Key(1))
    with_it, without = run(judged, sent, 0, Key(1)), run(plain, sent, 0, Key(1))
    said = opinions(np.array([one.received.content for one in with_it]))
    clean = opinions(pictures(6))
    for number, (one, other) in enumerate(zip(with_it, without, strict=True)):
        assert one.measurement.values["task_accuracy"] == (said[number] == number, 1)
        assert one.measurement.values["clean_task_accuracy"] == (clean[number] == number, 1)
        assert one.measurement.values["task_agreement"] == (said[number] == clean[number], 1)
        assert one.features is not None and not np.array_equal(*one.features) and other.features is None
        assert {name: pair for name, pair in one.measurement.values.items() if name not in JUDGED} == other.measurement.values
        assert np.array_equal(one.received.content, other.received.content)


def collect(out: Path, scenario: dict[str, Any]) -> Path:
    with closing(runner.open_store(load(scenario), out, "run")) as store:
        runner.execute(load(scenario), store)
    return out


def kept(folder: Path) -> dict[str, Any]:
    with closing(Store(folder / "results.sqlite")) as store:
        return {task: (*(part.tolist() for part in store.features(task)), list(store.trials(task))) for task in store.tasks()}


def test_features_survive_an_interruption_a_merge_and_a_second_reading(stack: Path, tmp_path: Path):
    """Catches features that are rounded, lost on the way, or of another item; float32 comes back bit for bit."""
    whole = collect(tmp_path / "whole", tables(stack))
    collect(tmp_path / "parts", tables(stack, items=2))
    assert kept(collect(tmp_path / "parts", tables(stack))) == kept(whole)
    first, second = (collect(tmp_path / label, tables(stack, arm=[arm]))
                     for label, arm in (("first", {"label": "hole"}), ("second", tables(stack)["arm"][1])))
    merge([first, second], tmp_path / "both")
    assert kept(tmp_path / "both") == kept(whole)
    expected = run(load(tables(stack)).tasks[0].chain, send(load(tables(stack)).tasks[0].chain, range(6), Key(1)), 0, Key(1))
    with closing(Store(whole / "results.sqlite")) as store:
        items, features = store.features(load(tables(stack)).tasks[0].task_id)
    assert items.tolist() == list(range(6))
    assert features.tobytes() == np.stack([one.features for one in expected if one.features is not None]).tobytes()


def test_other_features_at_an_address_are_a_conflict(tmp_path: Path):
    """Catches two classifiers, or two versions of one, whose features are mixed in one distance."""
    one, other = (pack_features(np.full((2, 3), value, np.float32)) for value in (0.1, 0.2))
    with closing(Store.create(tmp_path / "r.sqlite", {})) as store:
        store.set_plan([], {"t": {}}, [])
        store.add([Trial("t", 0, 0, {}, {}, {}, features=one), Trial("t", 1, 0, {}, {}, {})])
        store.add([Trial("t", 0, 0, {}, {}, {}, features=one)])
        with pytest.raises(StoreConflict, match="two versions of code or machine met"):
            store.add([Trial("t", 0, 0, {}, {}, {}, features=other)])
        with pytest.raises(StoreConflict):
            store.add([Trial("t", 1, 0, {}, {}, {}, features=other)])
        items, features = store.features("t")
        assert items.tolist() == [0] and features.tolist() == np.full((1, 2, 3), 0.1, np.float32).tolist()
        assert store.features("another")[1].shape[0] == 0
