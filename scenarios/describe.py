"""What the results file says of its run: the chain, what it assumes, where it comes from, and how to run it again."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from channel_sim.stages import Channel, Component
from scenarios import catalogue
from scenarios.notes import markers
from scenarios.scenario import Scenario, Task, components
from sources.codecs import library_versions

_PACKAGES = ("channel-sim", "numpy", "scipy", "numba", "constriction", "pillow", "scikit-image", "soundfile", "zstandard", "brotli",
             "pyppmd", "sionna-no-rt", "tensorflow")


def facts(scenario: Scenario, command: str) -> dict[str, Any]:
    """The `meta` of the store: everything a report needs beside the trials."""
    first = [task for task in scenario.tasks if task.point_index == 0]
    components = _components(scenario)
    return {
        "name": scenario.name,
        "question": scenario.question,
        "seed": scenario.seed,
        "items": scenario.items,
        "replicates": scenario.replicates,
        "sweep": scenario.sweep,
        "show": list(scenario.show),
        "markers": markers(scenario),
        "envelopes": scenario.envelopes,
        "scenario_toml": scenario.text,
        "arms": [{"label": task.arm, "chain": _stages(task)} for task in first],
        "assumptions": list(dict.fromkeys(sentence for one in components for sentence in one.assumed())),
        "sources": list(dict.fromkeys(one.source for one in components if one.source)),
        "provenance": provenance(command, _digests(components)),
    }


def channel_law(channel: Channel) -> dict[str, Any]:
    """What a channel says of itself, for the `laws` of the store: of its losses, and under "link" of a radio link."""
    losses, link = channel.loss_law(), channel.link_law()
    return (losses.to_dict() if losses else {}) | ({"link": link.to_dict()} if link else {})


def provenance(command: str, digests: dict[str, str] | None = None) -> dict[str, Any]:
    """Versions, machine, commit, command, and SHA-256 of the data and weights that went in."""
    return {
        "command": command,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
        | library_versions(),
        "device": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "commit": _commit(),
        "digests": digests or {},
    }


def _components(scenario: Scenario) -> list[Component]:
    parts = [part for task in scenario.tasks for part in components(task.chain).values()]
    models = [getattr(part, key, None) for part in parts for key in catalogue.MODEL_KEYS]
    return [*parts, *(model for model in models if isinstance(model, Component))]


def _digests(components: list[Component]) -> dict[str, str]:
    found = {f"{catalogue.name_of(one)} {key}": digest for one in components for key, digest in one.digests().items()}
    return dict(sorted(found.items()))


def _stages(task: Task) -> list[dict[str, Any]]:
    stages = []
    for stage, described in task.resolved.items():
        parameters = {key: value for key, value in described.items() if key not in ("name", "revision")}
        if stage != "receiver" or parameters.get("abstain_below"):
            stages.append({"stage": stage, "name": described["name"], "parameters": parameters})
    return stages


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of the source tree that runs; empty where it is no checkout."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        asked = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
                               capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
