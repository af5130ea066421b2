"""A user's own file through a scenario: every arm, what arrived, what was restored, and a page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.trial import Chain, Outcome, run, send
from channel_sim.types import Content, hard_decision
from reports.html import write_transmission
from scenarios.rehearsal import rehearse
from scenarios.runner import BLOCK_ITEMS
from scenarios.samples import sample
from scenarios.scenario import Scenario, Task, load

_ITEM_BYTES = 1024
_SHOWN = ("token_error_rate", "lost_token_rate", "recovered_fraction", "word_error_rate", "packet_loss_rate",
          "residual_packet_loss_rate", "bits_per_byte")


def transmit(file: Path, request: str, out: Path, overrides: dict[str, Any],
             progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Send `file` through every arm of the scenario, at the middle of its sweep, and write what came out; returns the page."""
    content = _read(file)
    scenario = _at_one_point(request, overrides, _source(file, content))
    rehearse(scenario)
    _make_folder(out)
    shown = []
    num_items = sum(task.chain.source.num_items or 0 for task in scenario.tasks)
    done = 0
    for task in scenario.tasks:
        outcomes = []
        for outcome in _outcomes(task, scenario.seed):
            outcomes.append(outcome)
            done += 1
            progress(done, num_items)
        folder = out / _slug(task.arm)
        _make_folder(folder)
        _write(folder / f"arrived{file.suffix}", [_arrived(task.chain.tokenizer, one, scenario.seed) for one in outcomes])
        _write(folder / f"restored{file.suffix}", [one.received.content for one in outcomes])
        samples = [sample(one, task.chain.tokenizer, _shared(one, scenario.seed)) for one in outcomes]
        shown.append({"label": task.arm, "facts": _facts(outcomes), "samples": samples})
    page = out / "transmission.html"
    write_transmission(page, f"{file.name} over {scenario.name}", shown, _chain_facts(scenario, len(content)))
    return page


def _read(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RequestError(f"{file}: cannot be read ({error.strerror}); give a readable file") from error
    if not content:
        raise RequestError(f"{file}: is empty; there is nothing to send")
    return content


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {folder}: cannot be made ({error.strerror}); choose another folder") from error


def _source(file: Path, content: bytes) -> dict[str, Any]:
    try:
        content.decode("utf-8")
        name = "text"
    except UnicodeDecodeError:
        name = "bytes_file"
    return {"name": name, "path": str(file.resolve())}  # resolved: a file may be called python-docs


def _at_one_point(request: str, overrides: dict[str, Any], source: dict[str, Any]) -> Scenario:
    """The scenario with its source replaced, each axis of the sweep fixed at its middle value."""
    scenario = load(request, overrides)
    for task in scenario.tasks:
        if task.chain.source.modality not in ("text", "bytes"):
            what = {"image": "pictures"}.get(task.chain.source.modality, task.chain.source.modality)
            raise RequestError(f"--scenario {request}: arm {task.arm!r} sends {what}, not bytes; choose a scenario over text")
    middle = {axis: values[len(values) // 2] for axis, values in scenario.sweep.items()}
    source["item_bytes"] = getattr(scenario.tasks[0].chain.source, "item_bytes", _ITEM_BYTES)
    return load(request, middle | overrides | {"source": source})


def _outcomes(task: Task, seed: int) -> Iterator[Outcome]:
    root, num_items = Key(seed), task.chain.source.num_items or 0
    for first in range(0, num_items, BLOCK_ITEMS):
        indices = range(first, min(first + BLOCK_ITEMS, num_items))
        yield from run(task.chain, send(task.chain, indices, root), 0, root)


def _arrived(tokenizer: Tokenizer, outcome: Outcome, seed: int) -> Content:
    """What the receiver would have without any restoring: hard decisions, zero bytes where nothing came."""
    return tokenizer.decode(hard_decision(outcome.received.evidence), _shared(outcome, seed))[0]


def _shared(outcome: Outcome, seed: int) -> Key:
    return Key(seed).child("item", outcome.sent.index, "shared")


def _write(path: Path, contents: Sequence[Content]) -> None:
    path.write_bytes(b"".join(one if isinstance(one, bytes) else one.tobytes() for one in contents))


def _facts(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    facts: dict[str, float | None] = {}
    for metric in _SHOWN:
        pairs = [one.measurement.values[metric] for one in outcomes if metric in one.measurement.values]
        total = np.sum(pairs, axis=0) if pairs else (0, 0)
        facts[metric] = float(total[0] / total[1]) if total[1] else None
    facts["channel_uses"] = float(sum(one.ledger.channel_uses for one in outcomes))
    return facts


def _chain_facts(scenario: Scenario, num_bytes: int) -> dict[str, str]:
    chain: Chain = scenario.tasks[0].chain
    fields = ", ".join(f"{key} = {value}" for key, value in chain.channel.model_dump().items() if value is not None)
    return {"scenario": scenario.name, "bytes": f"{num_bytes:,}", "seed": str(scenario.seed),
            "channel": f"{scenario.tasks[0].resolved['channel']['name']}: {fields}"}


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower() or "arm"
