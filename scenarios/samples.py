"""Samples: what one trial sent and what came out: text token by token, pictures to be seen, sounds to be heard."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Source, Tokenizer
from channel_sim.trial import Outcome
from channel_sim.types import Origin, Reconstruction, hard_decision
from sources.audio import Sound
from sources.sound_file import wav_bytes

MOST_PIXELS = 256
"""Sides of a picture that are kept; of a larger one the middle."""
MOST_SAMPLES = 32_768
"""Samples of a sound that are kept, from its beginning."""
USUAL_RATE = 16_000
"""Samples a second of a sound whose source does not say."""
_MEASURED = {"image": ("psnr_db", "bits_per_pixel"), "sound": ("si_sdr_db", "bits_per_token")}
_OF_CONTINUATIONS = "sample_bits_per_token"


def sample(outcome: Outcome, tokenizer: Tokenizer, shared: Key, source: Source | None = None) -> dict[str, Any]:
    """A JSON record: `original` and `restored`, and `origin` of the tokens as runs [origin, length].

    shared: the item's shared key; source: which tells how fast a sound is played

    kind "text", "bytes": a string with a character a byte and token, or, where tokens are of any length, a list of their strings;
                  a lost one stands as what the tokenizer makes of it
    kind "symbols": a digit a token, or numbers with spaces between them
    kind "image": data URIs of PNG files; beside them `arrived`, what the receiver has without any restoring (left out where that
                  is `restored`), and `missing`, white where a pixel of it did not arrive
    kind "sound": data URIs of WAV files, of `num_samples` the first `MOST_SAMPLES`; `sample_rate`; `arrived` as of a picture; and
                  `missing`, lengths of runs of samples that arrived and did not, in turn, the first may be 0
    measured:     some metrics of the picture or sound; of what goes on where the end of an item was cut off, of any kind, the bits
                  that it is unlikely by
    lost_slots:   slots in the order of the air, as lengths of runs that arrived and were lost in turn, the first may be 0; of
                  packets that are sent again the first transmission; left out where the channel shows no slots
    lost_packets: the coder's packets that were missing after protection, one 0 or 1 each
    """
    card = outcome.delivery.card
    modality = outcome.sent.item.modality
    if modality in _MEASURED:
        record = _picture(outcome, tokenizer, shared) if modality == "image" else _sound(outcome, tokenizer, shared, source)
    else:
        record = _tokens(outcome, tokenizer, shared)
    metrics = [*_MEASURED.get(modality, ()), *([_OF_CONTINUATIONS] if _goes_on(outcome.received.reconstruction.origin) else [])]
    measured = {metric: value for metric in metrics if (value := outcome.measurement[metric]) is not None}
    return record | ({"measured": measured} if measured else {}) | {
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
    record = {"kind": "image", "original": _png(sent), "restored": _png(restored), "missing": _png(255 * missing)}
    return record | ({} if np.array_equal(arrived, restored) else {"arrived": _png(arrived)})


def _sound(outcome: Outcome, tokenizer: Tokenizer, shared: Key, source: Source | None) -> dict[str, Any]:
    rate = source.rate_of(outcome.sent.index) if isinstance(source, Sound) else USUAL_RATE
    arrived, missing = tokenizer.decode(hard_decision(outcome.received.evidence), shared)
    sent, restored = np.asarray(outcome.sent.item.content), outcome.received.content
    record = {"kind": "sound", "original": _wav(sent, rate), "restored": _wav(restored, rate), "sample_rate": rate,
              "num_samples": sent.size, "missing": _turns(missing[:MOST_SAMPLES])}
    return record | ({} if np.array_equal(arrived, restored) else {"arrived": _wav(arrived, rate)})


def _wav(samples: Any, rate: int) -> str:
    """The beginning of int16 or uint8 [n] as a data URI."""
    return f"data:audio/wav;base64,{base64.b64encode(wav_bytes(np.asarray(samples)[:MOST_SAMPLES], rate)).decode()}"


def _goes_on(origin: np.ndarray) -> bool:
    """Whether what was restored is the end of the item, and all of it."""
    return bool(np.any(origin[-1:] == Origin.CONCEALED)) and not np.any(np.diff((origin == Origin.CONCEALED).astype(np.int8)) < 0)


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
