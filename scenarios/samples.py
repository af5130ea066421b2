"""Samples: what one trial sent and what came out, for the eye: text token by token, pictures as pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.trial import Outcome
from channel_sim.types import Origin, Reconstruction, hard_decision

MOST_PIXELS = 256
"""Sides of a picture that are kept; of a larger one the middle."""
_MEASURED = ("psnr_db", "bits_per_pixel")


def sample(outcome: Outcome, tokenizer: Tokenizer, shared: Key) -> dict[str, Any]:
    """A JSON record: `original` and `restored`, and `origin` of the tokens as runs [origin, length]. shared: the item's shared key.

    kind "text", "bytes": a string with a character a byte and token, or, where tokens are of any length, a list of their strings;
                  a lost one stands as what the tokenizer makes of it
    kind "symbols": a digit a token, or numbers with spaces between them
    kind "image": data URIs of PNG files; beside them `arrived`, what the receiver has without any restoring (left out where that
                  is `restored`), `missing`, white where a pixel of it did not arrive, and `measured`, some metrics of the picture
    lost_slots:   slots in the order of the air, as lengths of runs that arrived and were lost in turn, the first may be 0; of
                  packets that are sent again the first transmission; left out where the channel shows no slots
    lost_packets: the coder's packets that were missing after protection, one 0 or 1 each
    """
    card = outcome.delivery.card
    is_picture = outcome.sent.item.modality == "image"
    return (_picture(outcome, tokenizer, shared) if is_picture else _tokens(outcome, tokenizer, shared)) | {
        "item": outcome.sent.item.name,
        "origin": _runs(outcome.received.reconstruction.origin),
        "lost_packets": "".join("1" if lost else "0" for lost in outcome.delivery.reception.lost),
    } | ({"lost_slots": _turns(card.lost)} if card is not None and card.lost is not None else {})


def _tokens(outcome: Outcome, tokenizer: Tokenizer, shared: Key) -> dict[str, Any]:
    item, tokens, restored = outcome.sent.item, outcome.sent.tokens, outcome.received.reconstruction
    kind = item.modality if item.modality in ("text", "bytes") else "symbols"
    if kind != "symbols" and tokens.vocab_size != 256:
        received = np.zeros(tokens.values.size, np.uint8)
        original = _pieces(tokens.values, received, tokenizer, shared)
        if "".join(original).encode("latin-1") == item.content:  # else a token stands for no bytes of its own
            return {"kind": kind, "original": original,
                    "restored": _pieces(restored.values, restored.origin, tokenizer, shared)}
    return {"kind": kind, "original": _characters(tokens.values, tokens.vocab_size),
            "restored": _characters(restored.values, tokens.vocab_size)}


def _pieces(values: np.ndarray, origin: np.ndarray, tokenizer: Tokenizer, shared: Key) -> list[str]:
    """What each token decodes to by itself, a character a byte."""
    lost = origin == Origin.LOST
    pairs = list(zip(values.tolist(), lost.tolist(), strict=True))
    known = {(value, gone): _alone(value, gone, tokenizer, shared) for value, gone in set(pairs)}
    return [known[pair] for pair in pairs]


def _alone(value: int, lost: bool, tokenizer: Tokenizer, shared: Key) -> str:
    origin = Origin.LOST if lost else Origin.RECEIVED
    one = Reconstruction(np.array([value]), np.array([origin], np.uint8), np.array([not lost], np.float32), tokenizer.vocab_size)
    content, _ = tokenizer.decode(one, shared)
    return content.decode("latin-1") if isinstance(content, bytes) else ""


def _picture(outcome: Outcome, tokenizer: Tokenizer, shared: Key) -> dict[str, Any]:
    arrived, missing = tokenizer.decode(hard_decision(outcome.received.evidence), shared)
    sent, restored = outcome.sent.item.content, outcome.received.content
    measured = {metric: outcome.measurement[metric] for metric in _MEASURED}
    record = {"kind": "image", "original": _png(sent), "restored": _png(restored), "missing": _png(255 * missing),
              "measured": {metric: value for metric, value in measured.items() if value is not None}}
    return record | ({} if np.array_equal(arrived, restored) else {"arrived": _png(arrived)})


def _png(picture: Any) -> str:
    """The middle of uint8 [H, W, C], or of [H, W], as a data URI."""
    from PIL import Image  # loaded only where there are pictures

    pixels = np.asarray(picture).astype(np.uint8)
    top, left = (max(0, side - MOST_PIXELS) // 2 for side in pixels.shape[:2])
    pixels = pixels[top:top + MOST_PIXELS, left:left + MOST_PIXELS]
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
