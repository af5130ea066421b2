"""Models trained on the spot, and sweeps over what lies inside a model's table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from channel_sim.checks import RequestError
from scenarios.scenario import load
from sources.models.ngram import NGram
from sources.models.ngram_of import NGramOf
from sources.text import python_docs
from sources.training.ngram import bits_per_byte, train_ngram

SMALL = NGramOf(train_bytes=30_000, max_megabytes=0.02)


def test_it_is_the_ngram_that_the_command_trains(tmp_path: Path) -> None:
    """Catches other bytes, order or pruning than those of `train ngram`, and a size that is not that of the file."""
    (tmp_path / "text").write_bytes(python_docs()[1 << 16:(1 << 16) + 30_000])
    train_ngram(tmp_path / "text", tmp_path / "one.safetensors", max_megabytes=0.02)
    trained = NGram(path=str(tmp_path / "one.safetensors"))
    values = np.frombuffer(python_docs()[:500], np.uint8)
    assert np.array_equal(SMALL.tables(SMALL.start(1), values)[0], trained.tables(trained.start(1), values)[0])
    assert SMALL.shared_bytes == (tmp_path / "one.safetensors").stat().st_size


def test_what_is_coded_is_not_what_it_was_trained_on() -> None:
    """Catches a training that begins at byte 0: the text that is kept apart costs more than that it was trained on."""
    text = python_docs()
    fresh, known = (bits_per_byte(SMALL, text[first:first + 8192]) for first in (0, 1 << 16))
    assert SMALL.data() == text[1 << 16:(1 << 16) + 30_000]
    assert known < 0.9 * fresh < fresh < 4


def test_a_text_that_is_replaced_is_trained_on_anew(tmp_path: Path) -> None:
    """Catches a model of the text that a file used to hold."""
    file = tmp_path / "text"
    model = NGramOf(path=str(file), skip_bytes=0)
    file.write_bytes(b"abcd" * 100)
    before = model.frequencies(model.start(1))[0]
    file.write_bytes(b"wxyz" * 101)
    after = model.frequencies(model.start(1))[0]
    assert before[ord("a")] > after[ord("a")] and after[ord("w")] > before[ord("w")]


def test_a_text_that_is_too_short_is_refused_by_key() -> None:
    """Catches an empty training."""
    with pytest.raises(RequestError, match=r"skip_bytes must leave at least 8 bytes of 'python-docs', which has .* got 9,000,000"):
        NGramOf(skip_bytes=9_000_000).digests()


def tables(model: object) -> dict[str, object]:
    return {"question": "?", "source": {"name": "text"}, "sweep": {"coder.model.max_megabytes": [0.1, 0.3]},
            "arm": [{"label": "a", "coder": {"name": "entropy", "model": model}},
                    {"label": "b", "coder": {"name": "fixed_length"}}]}


def test_a_sweep_reaches_into_a_model() -> None:
    """Catches a key of a model that is set for all points alike, and arms without it that are changed or refused."""
    tasks = load(tables({"name": "ngram_of", "train_bytes": 9000})).tasks
    sizes = [task.chain.coder.model.max_megabytes for task in tasks if task.arm == "a"]
    assert sizes == [0.1, 0.3] and {task.chain.coder.model.train_bytes for task in tasks if task.arm == "a"} == {9000}
    assert len({task.task_id for task in tasks if task.arm == "b"}) == 1


@pytest.mark.parametrize("key", ["coder.modell.max_megabytes", "coder.model.max_megabyte", "coder.model.order"])
def test_a_key_that_no_arm_has_is_refused(key: str) -> None:
    """Catches a misspelt key of three parts, which would leave all points alike."""
    with pytest.raises(RequestError, match=f"{key}: no arm has such a key"):
        load(tables({"name": "ngram_of"}) | {"sweep": {key: [1]}})
