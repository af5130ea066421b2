"""Memory of what was encoded and decoded: it saves work and never changes a number."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel_sim import memo
from channel_sim.keys import Key
from channel_sim.memo import Memo, MemoFile, attach, identity, key
from channel_sim.stages import Component
from channel_sim.trial import run, send
from channel_sim.types import Tokens
from scenarios.runner import execute, open_store
from scenarios.samples import sample
from scenarios.scenario import load
from sources.coder import Entropy
from sources.models.markov import ExactMarkov
from sources.models.uniform import Uniform
from tests.test_coder import random_tokens, received
from tests.test_entropy import Order2, drawn_from, got, sent

CODERS = [{"name": "entropy", "packet_bits": 24, "context": context, "header_bits": 64}
          for context in ("independent", "chained", "restart:3")]
CHANNELS: list[dict[str, Any]] = [
    {"name": "gilbert_elliott", "loss_rate": 0.2, "mean_burst_packets": 2.0},
    {"name": "bsc", "flip_probability": 0.01},  # wrong bits taken as received: decoders out of step
    {"name": "bsc", "flip_probability": 0.01, "crc": "crc16"},
]
TABLES: dict[str, Any] = {
    "question": "?",
    "items": 4,
    "replicates": 2,
    "source": {"name": "markov", "flip_probability": 0.1, "num_symbols": 200},
    "arm": [{"label": f"{coder['context']}, {number}", "coder": coder, "channel": channel, "decoder": {"name": "exact_markov"}}
            for coder in CODERS for number, channel in enumerate(CHANNELS)],
    "sweep": {"channel.loss_rate": [0.05, 0.2]},
}


def numbers(tables: dict[str, Any] = TABLES) -> list[Any]:
    """All that a sweep puts on file, times left out."""
    scenario, found = load(tables), []
    for task in scenario.tasks:
        for replicate in range(scenario.replicates):
            items = send(task.chain, range(scenario.items), Key(scenario.seed))
            for one in run(task.chain, items, replicate, Key(scenario.seed)):
                shared = Key(scenario.seed).child("item", one.sent.index, "shared")
                shown = sample(one, task.chain.tokenizer, shared)
                found.append((one.measurement.values, one.measurement.reasons, one.ledger.to_dict(), shown))
    return found


def entries(path: Path) -> dict[bytes, bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT key, value FROM entries ORDER BY number"))


def falsify(path: Path) -> None:
    """Put other tokens, with a good checksum, into every entry that a decoder made."""
    file = MemoFile(path, memo.FILE_BYTES)
    for name, entry in entries(path).items():
        value = entry[16:]
        if not value.startswith(b"["):
            file.add({name: (1 - np.frombuffer(value, "<i4")).astype("<i4").tobytes()})
    file.close()


def test_no_number_changes(tmp_path: Path):
    """Catches a key that leaves out what the result depends on: loss, damage, context, padding, item, model."""
    without = numbers()
    for _ in range(2):  # an empty file, then a full one
        with attach(tmp_path / "memo.sqlite") as memory:
            assert numbers() == without
        assert memory.num_hits > 0
    assert memory.num_misses == 0
    with attach(None):
        assert numbers() == without


def test_a_run_is_the_same_with_and_without(tmp_path: Path):
    """Catches a runner that hands its workers another's memo, and a run that goes on from a memo as if from results."""
    def rows(folder: str, **options: Any) -> list[Any]:
        scenario = load(TABLES)
        with closing(open_store(scenario, tmp_path / folder, "test")) as store:
            assert execute(scenario, store, **options).num_failed == 0
            return [(one.task_id, one.item, one.replicate, one.metrics, one.reasons, one.ledger)
                    for task in scenario.tasks for one in store.trials(task.task_id)]

    without, remembering = rows("without", memo=False), rows("with", memo=True, workers=2)
    assert not (tmp_path / "without" / "memo.sqlite").exists() and entries(tmp_path / "with" / "memo.sqlite")
    (tmp_path / "full").mkdir()
    (tmp_path / "with" / "memo.sqlite").rename(tmp_path / "full" / "memo.sqlite")
    assert len(without) > 0 and remembering == without and rows("full", memo=True) == without


def test_a_false_memory_is_seen(tmp_path: Path):
    """The control of the test above: it would notice wrong tokens from the memo."""
    without = numbers()
    with attach(tmp_path / "memo.sqlite"):
        numbers()
    falsify(tmp_path / "memo.sqlite")
    with attach(tmp_path / "memo.sqlite"):
        assert numbers() != without


def test_real_text_under_the_shipped_model(tmp_path: Path):
    """Catches a trained model whose identity does not tell it apart, and text that comes back changed."""
    tables = {"question": "?", "items": 2, "source": {"name": "text", "item_bytes": 256},
              "channel": {"name": "gilbert_elliott", "mean_burst_packets": 2.0}, "sweep": {"channel.loss_rate": [0.02, 0.3]},
              "arm": [{"label": "independent", "coder": {"name": "entropy", "model": "ngram", "packet_bits": 128}}]}
    without = numbers(tables)
    for _ in range(2):
        with attach(tmp_path / "memo.sqlite"):
            assert numbers(tables) == without


def test_the_encoder_tells_the_decoder_nothing():
    """Catches a memo of decoding that encoding fills: no desynchronisation would ever be seen again."""
    tokens = drawn_from(Order2(), 200)
    coder = Entropy(model=Order2(), packet_bits=64, header_bits=64)
    with attach(None) as memory:
        packets, preamble = sent(coder, tokens)
        assert (memory.num_hits, memory.num_misses) == (0, 1)
        got(coder, received(packets), preamble)
        assert (memory.num_hits, memory.num_misses) == (0, 1 + packets.num_packets)


def test_a_coder_out_of_step_shows():
    """Catches tokens that come from what was sent, or from the other model's memory, where the receiver's model is another."""
    tokens = Tokens(Key(1).integers(256, 100).astype(np.int32), 256)
    ours, theirs = (Entropy(model=model, packet_bits=None) for model in (Uniform(), Order2()))
    with attach(None):
        packets, preamble = sent(ours, tokens)
        assert np.array_equal(got(ours, received(packets), preamble).values, tokens.values)
        astray = got(theirs, received(packets), preamble)
    expected = got(theirs, received(packets), preamble)
    assert np.array_equal(astray.values, expected.values) and np.array_equal(astray.known, expected.known)
    assert not np.array_equal(astray.values, tokens.values)


def test_nothing_is_remembered_unasked():
    """Catches a memo that outlives its `with`, or one that others feel."""
    coder, tokens = Entropy(model=Uniform(vocab_size=5)), random_tokens(50, 5)
    assert memo.current() is None
    with attach(None) as outer:
        with attach(None) as inner:
            sent(coder, tokens)
        assert memo.current() is outer and outer.num_misses == 0 and inner.num_misses == 1
    assert memo.current() is None


def test_padding_is_no_content():
    """Catches packets decoded again because a longer one arrived beside them, though their own bits are the same."""
    coder, tokens = Entropy(model=Order2(), packet_bits=64, header_bits=64), drawn_from(Order2(), 200)
    packets, preamble = sent(coder, tokens)
    narrow, wide = received(packets), received(packets)
    object.__setattr__(wide, "llr", np.pad(wide.llr, ((0, 0), (0, 40)), constant_values=-50))
    with attach(None) as memory:
        got(coder, narrow, preamble)
        assert np.array_equal(got(coder, wide, preamble).values, tokens.values)
    assert memory.num_hits == memory.num_misses == packets.num_packets


class Other(ExactMarkov):
    """Another law with the same fields."""


class Pair(Component):
    """A component of components."""

    both: tuple[Component, ...]


def test_identity_tells_components_apart():
    """Catches results of one model that pass for another's."""
    parts = [ExactMarkov(flip_probability=0.1), ExactMarkov(flip_probability=0.2), Other(flip_probability=0.1), Uniform()]
    different = [*parts, *(Pair(both=(part, Uniform())) for part in parts), Pair(both=(Uniform(),))]
    assert len({identity(one) for one in different}) == len(different)
    assert identity(ExactMarkov(flip_probability=0.1)) == identity(parts[0])


def test_keys_have_seams():
    """Catches parts that run into one another."""
    assert len({key("ab", "c"), key("a", "bc"), key("abc"), key("abc", ""), key()}) == 5
    assert key("a") == key(b"a")


def test_memory_is_bounded():
    """Catches a memo that grows with the sweep, or that drops what is in use."""
    memory = Memo(memory_bytes=10_000)
    for number in range(100):
        memory.put(key(str(number)), bytes(1000))
        assert memory.get(key("0")) is not None
    assert memory._num_bytes <= 10_000 and memory.get(key("1")) is None and memory.get(key("99")) is not None
    memory.put(key("too big"), bytes(20_000))
    assert memory.get(key("too big")) is None


def test_the_file_is_bounded(tmp_path: Path):
    """Catches a disk that fills, and newest entries that are dropped first."""
    path = tmp_path / "memo.sqlite"
    for number in range(100):
        with attach(path, file_bytes=200_000) as memory:
            memory.put(key(str(number)), bytes(10_000))
    assert path.stat().st_size < 300_000
    with attach(path) as memory:
        assert memory.get(key("99")) is not None and memory.get(key("0")) is None


def garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def worn(path: Path) -> None:
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[100::97] ^= 0x55
    path.write_bytes(data.tobytes())


@pytest.mark.parametrize("damage", [garbage, truncated, emptied, worn])
def test_a_damaged_file_is_built_anew(tmp_path: Path, damage: Callable[[Path], None]):
    """Catches a run that a broken cache ends, wrong entries that are believed, and a file that stays broken for ever."""
    path, values = tmp_path / "memo.sqlite", {key(str(number)): bytes([number]) * 500 for number in range(200)}
    with attach(path) as memory:
        for name, value in values.items():
            memory.put(name, value)
    damage(path)
    for _ in range(3):
        with attach(path) as memory:
            for name, value in values.items():
                assert memory.get(name) in (None, value)
                memory.put(name, value)
    with attach(path) as memory:
        assert all(memory.get(name) == value for name, value in values.items())


def test_one_worn_entry_is_computed_anew(tmp_path: Path):
    """Catches a checksum that is not looked at."""
    path = tmp_path / "memo.sqlite"
    with attach(path) as memory:
        memory.put(key("a"), b"right")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entries SET value = CAST(replace(value, ?, ?) AS BLOB)", (b"right", b"wrong"))
        assert connection.execute("SELECT count(*) FROM entries WHERE instr(value, ?)", (b"wrong",)).fetchone() == (1,)
    with attach(path) as memory:
        assert memory.get(key("a")) is None
        memory.put(key("a"), b"right")
    with attach(path) as memory:
        assert memory.get(key("a")) == b"right"


def test_another_programs_file_is_let_alone(tmp_path: Path):
    """Catches a database that is overwritten or removed because of its name."""
    path = tmp_path / "memo.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE entries (precious)")
    before = path.read_bytes()
    with attach(path) as memory:
        memory.put(key("a"), b"a")
        assert memory.get(key("a")) == b"a"
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_had_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a run that its cache ends, or holds up at every entry, because it is locked or its folder is not there."""
    monkeypatch.setattr(memo, "_PATIENCE_SECONDS", 0.2)
    path = tmp_path / "memo.sqlite"
    with attach(path) as memory:
        memory.put(key("a"), b"a")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with attach(path) as memory:
            for number in range(100):
                assert memory.get(key("a")) is None
                memory.put(key("b", str(number)), b"b")
                assert memory.get(key("b", str(number))) == b"b"
        assert time.monotonic() - start < 10  # 20 if each waited
    with attach(path) as memory:
        assert memory.get(key("a")) == b"a"
    for nowhere in (tmp_path / "missing" / "memo.sqlite", tmp_path):
        with attach(nowhere) as memory:
            memory.put(key("a"), b"a")
            assert memory.get(key("a")) == b"a"


def remember(path: Path, worker: int) -> int:
    """Blocks of a worker, some entries its own and some shared; how many were seen wrong."""
    wrong = 0
    for block in range(20):
        with attach(path) as memory:
            for number in range(20):
                for name in (f"shared {number}", f"{worker} {block} {number}"):
                    known = memory.get(key(name))
                    wrong += known not in (None, name.encode())
                    memory.put(key(name), name.encode())
    return wrong


def test_workers_share_a_file(tmp_path: Path):
    """Catches entries lost or mixed up where several processes write, beginning with a file that none of them finds."""
    path = tmp_path / "memo.sqlite"
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        assert sum(pool.map(remember, [path] * 3, range(3))) == 0
    assert len(entries(path)) == 20 + 3 * 20 * 20


def test_a_raise_inside_keeps_what_was_found(tmp_path: Path):
    """Catches a block whose error costs the work before it, or leaves the memo attached."""
    with pytest.raises(KeyError), attach(tmp_path / "memo.sqlite") as memory:
        memory.put(key("a"), b"a")
        raise KeyError
    assert memo.current() is None and len(entries(tmp_path / "memo.sqlite")) == 1


@pytest.mark.parametrize("context", ["independent", "chained", "restart:2"])
@pytest.mark.parametrize("packet_bits", [24, None])
def test_packets_from_memory_are_the_packets(context: str, packet_bits: int | None):
    """Catches packets that lose a bit, a count or the exact ideal rate on their way through the memo."""
    coder = Entropy(model=Order2(), context=context, packet_bits=packet_bits, header_bits=64)
    for num_tokens in (0, 1, 150):
        tokens = drawn_from(Order2(), num_tokens)
        expected, _ = sent(coder, tokens)
        with attach(None):
            for _ in range(2):
                packets, _ = sent(coder, tokens)
                for field, value in vars(expected).items():
                    again = getattr(packets, field)
                    assert np.array_equal(again, value) and getattr(again, "dtype", None) == getattr(value, "dtype", None)
