"""Values as they are on file: JSON, written in one way, and read at little cost where there are many short texts."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from channel_sim.card import Card

_ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False)
_DECODE = json.JSONDecoder().raw_decode  # in half the time of `json.loads`, where a text is short
_SHORT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def dump(value: Any) -> str:
    """Equal values are equal texts."""
    return _ENCODER.encode(value)  # ASCII: names of files may hold what is no UTF-8


def dump_short(value: Any) -> str:
    """Without blanks, keys as they come."""
    return _SHORT.encode(value)


def load(text: str) -> Any:
    return _DECODE(text)[0]


@lru_cache(maxsize=1024)
def load_shared(text: str) -> Any:
    """What many trials have in common, decoded once for all of them."""
    return load(text)


@lru_cache(maxsize=1024)
def load_card(text: str) -> Card:
    """Arms that meet the same losses have the same cards."""
    return Card.from_list(load(text))
