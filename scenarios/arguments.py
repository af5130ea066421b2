"""Types of command-line arguments."""

from __future__ import annotations

import argparse


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
