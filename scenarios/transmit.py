"""A user's own file through a scenario: every arm, what arrived, what was restored, and a page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.metrics import value_of
from channel_sim.stages import Source, Tokenizer
from channel_sim.trial import Chain, Outcome, run, send
from channel_sim.types import Content, hard_decision
from reports.html import write_transmission
from scenarios.rehearsal import rehearse
from scenarios.runner import BLOCK_ITEMS
from scenarios.samples import sample
from scenarios.scenario import Scenario, Task, load
from sources.audio import Sound
from sources.images import Images
from sources.sound_file import wav_bytes

_ITEM_BYTES = 1024
_SHOWN = {
    "text": ("token_error_rate", "lost_token_rate", "recovered_fraction", "word_error_rate", "packet_loss_rate",
             "residual_packet_loss_rate", "bits_per_byte"),
    "image": ("psnr_of_mean_mse_db", "ssim", "undecodable_rate", "lost_token_rate", "packet_loss_rate",
              "residual_packet_loss_rate", "bits_per_pixel", "channel_uses_per_pixel"),
    "sound": ("si_sdr_db", "exact_item_rate", "undecodable_rate", "lost_token_rate", "packet_loss_rate",
              "residual_packet_loss_rate", "channel_uses_per_sample"),
}
_OVER = {"text": "text", "bytes": "text", "image": "image", "sound": "sound"}
"""Modality of a scenario's source -> what of a file it sends: its bytes, or the picture or the sound in it."""


def transmit(file: Path, request: str, out: Path, overrides: dict[str, Any],
             progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Send `file` through every arm of the scenario, at the middle of its sweep, and write what came out; returns the page.

    A scenario over pictures sends the picture, cut to tiles where the scenario's own are; what came out are PNG files. One over
    sounds sends the sound, at the scenario's rate and depth and in pieces as long as its own; what came out are WAV files.
    """
    content = _read(file)
    scenario = _at_one_point(request, overrides, file, content)
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
        _write(folder / f"arrived{file.suffix}", [_arrived(task.chain.tokenizer, one, scenario.seed) for one in outcomes], task)
        _write(folder / f"restored{file.suffix}", [one.received.content for one in outcomes], task)
        samples = [sample(one, task.chain.tokenizer, _shared(one, scenario.seed), task.chain.source) for one in outcomes]
        shown.append({"label": task.arm, "facts": _facts(outcomes, _over(task)), "samples": samples})
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


def _source(file: Path, content: bytes, own: Source) -> dict[str, Any]:
    """The table of a source of this file, in pieces like those of the scenario's own."""
    path = str(file.resolve())  # resolved: a file may be called python-docs
    if isinstance(own, Images):
        return own.model_dump(exclude_none=True) | {"name": "images", "path": path}
    if isinstance(own, Sound):
        return own.model_dump(exclude_none=True) | {"name": "audio", "path": path}
    try:
        content.decode("utf-8")
        name = "text"
    except UnicodeDecodeError:
        name = "bytes_file"
    return {"name": name, "path": path, "item_bytes": getattr(own, "item_bytes", _ITEM_BYTES)}


def _at_one_point(request: str, overrides: dict[str, Any], file: Path, content: bytes) -> Scenario:
    """The scenario with its source replaced, each axis of the sweep fixed at its middle value."""
    scenario = load(request, overrides)
    for task in scenario.tasks:
        if task.chain.source.modality not in _OVER:
            raise RequestError(f"--scenario {request}: arm {task.arm!r} sends {task.chain.source.modality}, neither bytes, "
                               "pictures nor sounds; choose a scenario over text, pictures or sounds")
    middle = {axis: values[len(values) // 2] for axis, values in scenario.sweep.items()}
    return load(request, middle | overrides | {"source": _source(file, content, scenario.tasks[0].chain.source)})


def _over(task: Task) -> str:
    return _OVER[task.chain.source.modality]


def _outcomes(task: Task, seed: int) -> Iterator[Outcome]:
    root, num_items = Key(seed), task.chain.source.num_items or 0
    for first in range(0, num_items, BLOCK_ITEMS):
        indices = range(first, min(first + BLOCK_ITEMS, num_items))
        yield from run(task.chain, send(task.chain, indices, root), 0, root)


def _arrived(tokenizer: Tokenizer, outcome: Outcome, seed: int) -> Content:
    """What the receiver would have without any restoring: hard decisions, the tokenizer's constant where nothing came."""
    return tokenizer.decode(hard_decision(outcome.received.evidence), _shared(outcome, seed))[0]


def _shared(outcome: Outcome, seed: int) -> Key:
    return Key(seed).child("item", outcome.sent.index, "shared")


def _write(path: Path, contents: Sequence[Content], task: Task) -> None:
    if isinstance(task.chain.source, Images):
        whole = task.chain.source.assembled([one for one in contents if isinstance(one, np.ndarray)])
        Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole).save(path.with_suffix(".png"))
    elif isinstance(task.chain.source, Sound):
        samples = np.concatenate([one for one in contents if isinstance(one, np.ndarray)])
        path.with_suffix(".wav").write_bytes(wav_bytes(samples, task.chain.source.rate_of(0)))
    else:
        path.write_bytes(b"".join(one if isinstance(one, bytes) else one.tobytes() for one in contents))


def _facts(outcomes: Sequence[Outcome], over: str) -> dict[str, float | None]:
    facts: dict[str, float | None] = {}
    for metric in _SHOWN[over]:
        pairs = [one.measurement.values[metric] for one in outcomes if metric in one.measurement.values]
        facts[metric] = value_of(metric, *map(float, np.sum(pairs, axis=0))) if pairs else None
    facts["channel_uses"] = float(sum(one.ledger.channel_uses for one in outcomes))
    return facts


def _chain_facts(scenario: Scenario, num_bytes: int) -> dict[str, str]:
    chain: Chain = scenario.tasks[0].chain
    fields = ", ".join(f"{key} = {value}" for key, value in chain.channel.model_dump().items() if value is not None)
    return {"scenario": scenario.name, "bytes": f"{num_bytes:,}", "seed": str(scenario.seed),
            "channel": f"{scenario.tasks[0].resolved['channel']['name']}: {fields}"}


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower() or "arm"
