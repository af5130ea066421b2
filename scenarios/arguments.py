"""Types of command-line arguments."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def count(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def seconds(text: str) -> float:
    """A time above 0."""
    time = float(text)
    if not time > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return time


def new_file(text: str) -> Path:
    """A file that can be written, known before the work that fills it."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise argparse.ArgumentTypeError(f"{text} cannot be written ({reason}); choose another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written (not permitted); choose another file")
    return path
