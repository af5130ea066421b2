"""Samples: what one trial sent and what came out, token by token, for the eye."""

from __future__ import annotations

from typing import Any

import numpy as np

from channel_sim.trial import Outcome


def sample(outcome: Outcome) -> dict[str, Any]:
    """A JSON record: one character a token in `original` and `restored`; `origin` as runs [origin, length].

    lost_slots:   slots in the order of the air, as lengths of runs that arrived and were lost in turn, the first may be 0; of
                  packets that are sent again the first transmission; left out where the channel shows no slots
    lost_packets: the coder's packets that were missing after protection, one 0 or 1 each
    """
    vocab_size = outcome.sent.tokens.vocab_size
    modality = outcome.sent.item.modality
    card = outcome.delivery.card
    return {
        "kind": modality if modality in ("text", "bytes") else "symbols",
        "item": outcome.sent.item.name,
        "original": _characters(outcome.sent.tokens.values, vocab_size),
        "restored": _characters(outcome.received.reconstruction.values, vocab_size),
        "origin": _runs(outcome.received.reconstruction.origin),
        "lost_packets": "".join("1" if lost else "0" for lost in outcome.delivery.reception.lost),
    } | ({"lost_slots": _turns(card.lost)} if card is not None and card.lost is not None else {})


def _turns(lost: np.ndarray) -> list[int]:
    """Lengths of runs of False and True in turn, False first."""
    changes = np.flatnonzero(np.diff(lost.astype(np.int8), prepend=0)).tolist()
    return np.diff([0, *changes, lost.size]).tolist()


def _characters(values: np.ndarray, vocab_size: int) -> str:
    if vocab_size == 256:
        return values.astype(np.uint8).tobytes().decode("latin-1")
    return "".join(map(str, values)) if vocab_size <= 10 else " ".join(map(str, values))


def _runs(origin: np.ndarray) -> list[list[int]]:
    starts = np.flatnonzero(np.diff(origin, prepend=-1))
    lengths = np.diff(starts, append=origin.size)
    return [[int(origin[start]), int(length)] for start, length in zip(starts, lengths, strict=True)]
