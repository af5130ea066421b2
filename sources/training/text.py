"""Training of text models, from data to a model that ships: what `channel-sim train text` does."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.checks import RequestError
from sources.bpe import vocabulary
from sources.models import fixed_point, masked, neural
from sources.models.masked_network import MaskedArchitecture
from sources.models.recurrent import Architecture
from sources.models.stored import save_weights
from sources.models.trained import forget
from sources.text import read_data
from sources.training.recurrent import Settings, Trainer
from sources.training.schedule import Progress, conduct

_MOST_ROWS = 16


def train_text(config: Path | Settings, data: Path, out: Path, *, resume: bool = False, progress: Progress | None = None) -> str:
    """Train a recurrent text model and return its model card.

    Writes `out` (.safetensors, the integers that run), its settings and learning curve (.json) and its model card (.md) whenever
    the part of the data set aside takes fewer bits than ever before, so the best weights are kept; and a checkpoint (.checkpoint),
    from which `resume` goes on, also after the end with more `updates` or `minutes`. Hours for 40 MB. RequestError where a setting
    is impossible or the data can't be read.
    """
    settings = config if isinstance(config, Settings) else Settings.read(config)
    out = Path(out)
    if out.suffix != ".safetensors":
        raise RequestError(f"--out must end in .safetensors, got {str(out)!r}; its settings and model card are written beside it")
    text = _read(data, settings)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return _Product(settings, text, Path(data).name, out).make(resume, progress)
    except OSError as error:
        raise RequestError(f"--out must be a file that can be written, got {str(out)!r} ({error.strerror})") from error


class _Product:
    """A training and the files that come of it."""

    def __init__(self, settings: Settings, text: bytes, name: str, out: Path) -> None:
        self._out, self._checkpoint = out, out.with_suffix(".checkpoint")
        self._data = {"name": name, "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest(), "licence": settings.licence}
        self._trainer = Trainer(settings, text)

    def make(self, resume: bool, progress: Progress | None) -> str:
        trainer = self._trainer
        if resume:
            trainer.load(self._checkpoint)
        else:
            trainer.measure()
            trainer.save(self._checkpoint)
        conduct(trainer, self._checkpoint, self._export, progress)
        return self._finish()

    def _finish(self) -> str:
        """Export, then measure what was exported, as whoever uses it will load it, and say so in the card."""
        self._export()
        forget()  # what lay there before
        bits = 0.0
        for given, targets in self._trainer.measured():
            for row, values in zip(given, targets):
                real = values < self._trainer.architecture.vocab_size
                if real.any():
                    bits -= float(np.log2(self._probabilities(row, values, real)).sum())
        return self._export(round(bits / sum(map(len, self._trainer.aside)), 5))

    def _probabilities(self, given: np.ndarray, values: np.ndarray, real: np.ndarray) -> np.ndarray:
        """What the model that was exported says of one message's tokens, float64 [real tokens]."""
        values, path = values[real], str(self._out)
        if self._trainer.settings.reads == "past":
            causal = neural.Recurrent(path=path)
            tables, total = causal.tables(causal.start(1), values)[0], 1 << causal.frequency_bits
        else:
            both = masked.Masked(path=path)
            message = np.where(given[1:-1][real] == values, values, -1)
            tables, total = both.frequencies([message], [np.arange(values.size)])[0], 1 << both.frequency_bits
        return tables[np.arange(values.size), values] / total

    def _export(self, integer_bits: float | None = None) -> str:
        """Write the best weights as integers, settings and card; the card."""
        config = self._description(integer_bits)
        form = neural.FORMAT if self._trainer.settings.reads == "past" else masked.FORMAT
        save_weights(self._out, fixed_point.quantise(self._trainer.best), config, form)
        text = card(config)
        self._out.with_suffix(".md").write_text(text, encoding="utf-8")
        return text

    def _description(self, integer_bits: float | None) -> dict[str, Any]:
        trainer, settings = self._trainer, self._trainer.settings
        best = min(trainer.curve, key=lambda one: one.held_out_bits_per_byte)
        return {
            "architecture": trainer.architecture.model_dump(), "tokenizer": self._tokenizer(), "settings": settings.model_dump(),
            "data": self._data, "best": asdict(best), "integer_bits_per_byte": integer_bits,
            "curve": [asdict(one) for one in trainer.curve],
            "versions": {one: version(one) for one in ("channel-sim", "keras", "numpy", "tokenizers")},
        }

    def _tokenizer(self) -> dict[str, str]:
        """The tokenizer's table; a vocabulary of the user's own is copied beside the weights, which mean nothing without it."""
        settings = self._trainer.settings
        if settings.tokenizer == "bytes":
            return {"name": "bytes"}
        table = {"name": "bpe", "vocabulary_sha256": vocabulary(settings.vocabulary).digest}
        if settings.vocabulary is None:
            return table
        beside = self._out.with_name(f"{self._out.stem}-vocabulary.json")
        beside.write_bytes(Path(settings.vocabulary).read_bytes())
        return table | {"vocabulary": beside.name}


def _read(data: Path, settings: Settings) -> bytes:
    try:
        text = read_data(str(data))
    except RequestError as error:
        raise RequestError(str(error).replace("source.path", "--data")) from error
    if len(text) < 10 * settings.message_bytes:
        raise RequestError(f"--data must hold at least ten messages of {settings.message_bytes:,} bytes, got {len(text):,} bytes "
                           f"in {str(data)!r}; name more data or lower message_bytes")
    return text


def card(config: dict[str, Any]) -> str:
    """The model card of a training, from its .json."""
    data, best, sizes, settings = config["data"], config["best"], config["architecture"], config["settings"]
    masked = "merge" in sizes
    kind, given = ("masked", "all others") if masked else ("recurrent", "all before it")
    architecture = MaskedArchitecture(**sizes) if masked else Architecture(**sizes)
    weights = sum(int(np.prod(shape)) for shape in architecture.shapes().values())
    integer_bits = config["integer_bits_per_byte"]
    measured = f"{best['held_out_bits_per_byte']:.4f} in float32, " + (
        "training goes on" if integer_bits is None else f"{integer_bits:.4f} in the integers that run")
    facts = {
        "what": f"p(token) given {given} in the message; {sizes['vocab_size']:,} tokens, {weights:,} weights in 8 bits",
        "data": f"{data['name']}, {data['bytes']:,} bytes, SHA-256 `{data['sha256']}`",
        "set aside": f"one of {settings['set_aside_every']} blocks of 16 KiB, to choose the best weights by",
        "licence of the data": data["licence"],
        "steps": f"{best['updates']:,} updates of {settings['lanes']} × {settings['window']} tokens, {best['tokens']:,} tokens, "
                 f"seed {settings['seed']}, {best['cpu_seconds']:,.0f} CPU seconds",
        "repeatable": "bit for bit from data, settings and machine" if settings["minutes"] is None
        else "not bit for bit: the schedule went by the clock",
        "surprise of a token given the others, bits per byte" if masked else "ideal bits per byte":
            f"{measured}; independent messages of {settings['message_bytes']:,} bytes of the part set aside",
        "not for": "other languages and binary data, which cost more than 8 bits a byte; what it proposes is plausible, not true",
    }
    rows = [f"| {one['updates']:,} | {one['tokens']:,} | {one['cpu_seconds']:,.0f} | {one['training_bits_per_token']:.3f} | "
            f"{one['held_out_bits_per_byte']:.4f} |" for one in thinned(config["curve"])]
    return "\n".join([
        f"# Model card: {kind} text model, {sizes['hidden']} units over {config['tokenizer']['name']}", "", "| | |", "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()), "", "## Learning curve", "",
        "| updates | tokens | CPU seconds | training, bits a token | set aside, bits a byte |", "|---|---|---|---|---|", *rows, "",
        f"Made by `channel-sim train text` (channel-sim {config['versions']['channel-sim']}, Keras {config['versions']['keras']}); "
        "settings are in its .json.", ""])


def thinned(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some points of a learning curve, first and last among them."""
    places = sorted({round(place) for place in np.linspace(0, len(curve) - 1, min(_MOST_ROWS, len(curve)))})
    return [curve[place] for place in places]
