"""Weights on disk: a safetensors file, and beside it a .json that says what it is, what made it, and its SHA-256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "weights"
"""Where the shipped weights lie."""


def read(file: Path, form: str) -> tuple[bytes, str, dict[str, Any]]:
    """(weights, their SHA-256, config); a ValueError or OSError says what is wrong with the file."""
    config = read_config(file)
    if config.get("format") != form:
        raise ValueError(f"its .json is not of format {form!r}")
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if config.get("weights_sha256") != digest:
        raise ValueError("the SHA-256 in its .json is that of another file")
    return data, digest, config


def read_config(file: Path) -> dict[str, Any]:
    """What stands beside the weights."""
    config = json.loads(file.with_suffix(".json").read_text())
    if not isinstance(config, dict):
        raise ValueError("its .json is no object")
    return config


def write(file: Path, packed: bytes, form: str, config: dict[str, Any]) -> None:
    """The weights and, beside them, what made them; `config` is completed with format and SHA-256."""
    named = {"format": form, "weights_sha256": hashlib.sha256(packed).hexdigest(), **config}
    file.with_suffix(".json").write_text(json.dumps(named, indent=2) + "\n")
    file.write_bytes(packed)
