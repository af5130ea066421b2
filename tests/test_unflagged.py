"""Bytes that arrive wrong and look right: what a stated reliability and a prior make of them, through the whole chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from channel_sim.trial import run, send
from tests.chains import ROOT, chain_of

ITEMS = 8


def byte_error_rate(channel: dict[str, Any], decoder: str) -> float:
    """Of whole chains over the same 1,024-byte items and noise."""
    chain = chain_of({"question": "?", "items": ITEMS, "arm": [{"label": "a"}], "source": {"name": "text", "item_bytes": 1024},
                      "channel": channel, "coder": {"name": "fixed_length", "packet_bits": 8192, "header_bits": 0},
                      "decoder": {"name": decoder}})
    counts = [one.measurement.values["byte_error_rate"] for one in run(chain, send(chain, range(ITEMS), ROOT), 0, ROOT)]
    wrong, sent = np.sum([count for count in counts if count is not None], axis=0)
    return float(wrong / sent)


@pytest.fixture(scope="module")
def unrestored() -> float:
    return byte_error_rate({"name": "bsc", "flip_probability": 0.02}, "none")


def test_every_eighth_byte_is_wrong(unrestored: float) -> None:
    """Catches flips that a chain repairs or flags by itself: 1 - .98^8 = .149, here 8,192 bytes."""
    assert unrestored == pytest.approx(1 - 0.98**8, abs=0.02)
    assert byte_error_rate({"name": "bsc", "flip_probability": 0.02}, "ngram") == unrestored  # certain bits leave no question


@pytest.mark.parametrize("stated", [None, 0.01, 0.04])
def test_a_prior_corrects_what_nothing_flags(unrestored: float, stated: float | None) -> None:
    """Catches a reliability that is not heard by the decoder, and one that works only if it is exactly right."""
    channel = {"name": "bsc", "flip_probability": 0.02, "soft": True}
    if stated is not None:
        channel["stated_flip_probability"] = stated
    assert byte_error_rate(channel, "ngram") < unrestored / 8


def test_an_uncoded_link_without_crc_is_corrected() -> None:
    """Catches LLRs of a link that do not reach the prior when no CRC says which packets are wrong."""
    link = {"name": "coded_link", "code": "uncoded", "modulation": "bpsk", "esno_db": 2.0, "crc": "none",
            "on_crc_failure": "deliver"}
    assert byte_error_rate(link, "ngram") < byte_error_rate(link, "none") / 8
