"""Small recurrent networks, each trained for a fixed time on one processor, and what they and others make of short messages.

For comparing networks with each other: a few minutes each, far less than what ships was trained for.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Item
from sources.entropy import encode_lanes
from sources.models import fixed_point, neural, weights_file
from sources.models.model import CausalModel
from sources.models.stored import save_weights
from sources.text import read_data
from sources.training.recurrent import Settings, Trainer
from sources.training.text_lanes import messages

MESSAGE_BYTES = 1024


class _Timed(Trainer):
    """A training whose schedule goes by processor time, so that what else the machine does changes nothing."""

    limit_seconds = 0.0

    @property
    def part_done(self) -> float:
        return min(1.0, self.cpu_seconds / self.limit_seconds)


def trained(out: Path, settings: Settings, data: Path, cpu_seconds: float) -> str:
    """Train to `out` (.safetensors), unless that is there; what it took, in words. The last weights are kept: none are chosen."""
    if not out.exists():
        training = _Timed(settings, read_data(str(data)))
        training.limit_seconds = cpu_seconds
        training.update()  # compiles
        training.start_clock()
        begin = time.monotonic()
        while training.part_done < 1:
            training.update()
        config = {"architecture": training.architecture.model_dump(), "tokenizer": _tokenizer(settings),
                  "settings": settings.model_dump(), "updates": training.updates, "cpu_seconds": round(training.cpu_seconds, 1),
                  "seconds": round(time.monotonic() - begin, 1), "training_bits_per_token": round(training.loss, 4)}
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(out, fixed_point.quantise(training.weights()), config, neural.FORMAT)
    made = weights_file.read_config(out)
    return f"{made['updates']:,} updates in {made['cpu_seconds']:.0f} s of processor time"


def _tokenizer(settings: Settings) -> dict[str, str]:
    if settings.vocabulary is None:
        return {"name": settings.tokenizer}
    return {"name": "bpe", "vocabulary": Path(settings.vocabulary).name}


def coded_bits(model: CausalModel, file: Path, most: int) -> tuple[np.ndarray, int]:
    """(bits float64 [n] of each of at most `most` messages of 1,024 bytes, range-coded alone; their bytes in all)."""
    chosen, tokenizer = messages(file.read_bytes(), MESSAGE_BYTES, most), model.tokenizer()
    tokens = [tokenizer.encode(Item(one, "text", "message"), Key(0)).values for one in chosen]
    return np.array([stream.size for stream in encode_lanes(model, tokens)], float), sum(map(len, chosen))


def rate(bits: np.ndarray, num_bytes: int) -> tuple[float, float]:
    """(bits a byte, half of their 95 % interval over messages)."""
    each = bits / (num_bytes / bits.size)
    return float(each.mean()), float(1.96 * each.std(ddof=1) / bits.size**0.5) if bits.size > 1 else float("nan")
