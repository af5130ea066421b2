"""Training of the byte n-gram, from data to weights that ship: what `channel-sim train ngram` does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from channel_sim.checks import RequestError
from sources.models import kneser_ney
from sources.models.ngram import NGram, pack, save_weights
from sources.models.trie import Streams
from sources.text import read_data

MAX_ORDER = 8
"""The bytes of a uint64."""
MESSAGE_BYTES = 1024
_CLOSE_ENOUGH = 0.99  # of the size asked for
_NUM_TRIALS = 6
_BYTES_PER_NGRAM = 1.15  # where the search for the size begins
_MEASURED_BYTES = 1 << 20

Progress = Callable[[int, int], None]


def train_ngram(data: Path, out: Path, *, order: int = 8, max_megabytes: float = 6.0, level_ratio: float = 1.3,
                licence: str = "not stated", validation: Path | None = None, progress: Progress | None = None) -> str:
    """Train a byte n-gram on a file or a folder and prune it to `max_megabytes` (10^6 bytes); a minute for 40 MB, on one core.

    Writes `out` (.safetensors), its settings (.json) and its model card (.md), and returns the card. Equal data and settings give
    equal files. `level_ratio` is the step between the counts that can be stored; `validation` is measured for the card, nothing is
    fitted to it. RequestError where the data can't be read or a setting is impossible.
    """
    out = Path(out)
    _check(out, order, max_megabytes, level_ratio)
    text = _read(data)
    report = _Steps(progress)
    streams, packed, taken = fit(np.frombuffer(text, np.uint8), order, max_megabytes, level_ratio, report.step)
    config = {
        "order": order, "ngrams": streams.sizes.tolist(), "contexts": int(streams.rest_codes.size), "level_ratio": level_ratio,
        "discounts": [[round(float(one), 6) for one in three[1:]] for three in taken], "max_megabytes": max_megabytes,
        "data": {"name": Path(data).name, "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest(), "licence": licence},
        "versions": {"channel-sim": version("channel-sim"), "numpy": np.__version__},
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(out, packed, config)
        card = _card(config, len(packed), *_measured(out, text, validation))
        out.with_suffix(".md").write_text(card)
    except OSError as error:
        raise RequestError(f"--out must be a file that can be written, got {str(out)!r} ({error.strerror})") from error
    report.finish()
    return card


def bits_per_byte(model: NGram, text: bytes, message_bytes: int = MESSAGE_BYTES) -> float:
    """Ideal bits a byte of `text` in messages that know nothing of each other, under the integer tables that would code them."""
    values, start, bits = np.frombuffer(text, np.uint8), model.start(1), 0.0
    for first in range(0, values.size, message_bytes):
        message = values[first:first + message_bytes]
        tables, _ = model.tables(start, message)
        bits -= float(np.log2(tables[np.arange(message.size), message] / (1 << model.frequency_bits)).sum())
    return bits / values.size


class _Steps:
    """Progress in steps, of which a search that ends early leaves some out."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done, self._total = progress, 0, 3 + _NUM_TRIALS

    def step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        self._done = self._total - 1
        self.step()


def fit(data: np.ndarray, order: int, max_megabytes: float, level_ratio: float,
        step: Callable[[], None] = lambda: None) -> tuple[Streams, bytes, list[np.ndarray]]:
    """The model with the most n-grams, dearest first, that packs into `max_megabytes`: (streams, packed, discounts)."""
    counted = count(data, order, step)
    return *prune(counted, max_megabytes, level_ratio, step), counted.taken


class Counted(NamedTuple):
    """All n-grams of some data: by length, the discounts taken, what each n-gram is worth, and all these gains, largest first."""

    lengths: list[kneser_ney.Grams]
    taken: list[np.ndarray]
    gains: list[np.ndarray]
    ranked: np.ndarray


def count(data: np.ndarray, order: int, step: Callable[[], None] = lambda: None) -> Counted:
    """What models of every size are pruned from: uint8 [n], counted once."""
    lengths = kneser_ney.count(data, order)
    step()
    counts = kneser_ney.continuation_counts(lengths)
    taken = [kneser_ney.discounts(one) for one in counts]
    gains = kneser_ney.gains(lengths, [kneser_ney.estimate(*one) for one in zip(lengths, counts, taken)])
    ranked = np.sort(np.concatenate(gains))[::-1]
    step()
    return Counted(lengths, taken, gains, ranked)


def prune(counted: Counted, max_megabytes: float, level_ratio: float, step: Callable[[], None]) -> tuple[Streams, bytes]:
    """The model with the most n-grams that packs into `max_megabytes`: (streams, packed)."""
    limit, most, best = max_megabytes * 1e6, counted.ranked.size, None
    wanted = min(most, int(limit / _BYTES_PER_NGRAM))
    for _ in range(_NUM_TRIALS):
        kept = [one >= counted.ranked[wanted - 1] for one in counted.gains]
        streams = kneser_ney.quantise(counted.lengths, kept, counted.taken, level_ratio)
        packed = pack(streams)
        step()
        if len(packed) <= limit and (best is None or len(packed) > len(best[1])):
            best = streams, packed
        if _CLOSE_ENOUGH * limit <= len(packed) <= limit or (wanted == most and best):
            break
        wanted = max(1, min(most, int(wanted * (1 + _CLOSE_ENOUGH) / 2 * limit / len(packed))))
    if best is None:
        raise RequestError(f"--max-megabytes must hold at least some n-grams of the data, got {max_megabytes:g}; give more")
    return best


def _check(out: Path, order: int, max_megabytes: float, level_ratio: float) -> None:
    if not 2 <= order <= MAX_ORDER:
        raise RequestError(f"--order must lie in 2 to {MAX_ORDER}, got {order}; an n-gram has to fit 64 bits")
    if not max_megabytes > 0:
        raise RequestError(f"--max-megabytes must be > 0, got {max_megabytes:g}; the shipped model has 6")
    if not 1 < level_ratio <= 4:
        raise RequestError(f"level_ratio must be > 1 and <= 4, got {level_ratio:g}; the shipped model has 1.3")
    if out.suffix != ".safetensors":
        raise RequestError(f"--out must end in .safetensors, got {str(out)!r}; its settings and model card are written beside it")


def _read(data: Path) -> bytes:
    try:
        text = read_data(str(data))
    except RequestError as error:
        raise RequestError(str(error).replace("source.path", "--data")) from error
    if len(text) < MAX_ORDER:
        raise RequestError(f"--data must hold at least {MAX_ORDER} bytes, got {len(text)} in {str(data)!r}; name more data")
    return text


def _card(config: dict[str, Any], num_bytes: int, where: str, bits: float) -> str:
    data = config["data"]
    return f"""# Model card: byte {config['order']}-gram

| | |
|---|---|
| what | p(byte) given the {config['order'] - 1} bytes before it: modified Kneser-Ney, interpolated, pruned by relative entropy |
| data | {data['name']}, {data['bytes']:,} bytes, SHA-256 `{data['sha256']}` |
| licence of the data | {data['licence']} |
| steps | one count of all n-grams, pruning to {config['max_megabytes']:g} MB, counts in steps of {config['level_ratio']:g} |
| size | {sum(config['ngrams']):,} n-grams in {config['contexts']:,} contexts, {num_bytes:,} bytes |
| ideal bits per byte | {bits:.3f}, independent messages of {MESSAGE_BYTES:,} bytes, {where} |
| not for | other languages, markup and binary data, which cost up to 16 bits a byte; what it proposes is plausible, not true |

Made by `channel-sim train ngram` (channel-sim {config['versions']['channel-sim']}); settings and discounts are in its .json.
"""


def _measured(weights: Path, text: bytes, validation: Path | None) -> tuple[str, float]:
    """What the card says of the bits per byte, and the number."""
    model = NGram(path=str(weights))
    if validation is not None:
        return f"on {Path(validation).name}, which was not trained on", bits_per_byte(model, _read(validation))
    return "on the first MiB of the training data, so lower than on other data", bits_per_byte(model, text[:_MEASURED_BYTES])
