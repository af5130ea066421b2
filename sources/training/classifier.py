"""Training of the picture classifier, from labelled pictures to weights that run without Keras: `channel-sim train classifier`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.models import classifier
from sources.models.classifier_network import COLOURS, MID_PIXEL, SIDE, ClassifierArchitecture, centred, folded
from sources.models.stored import save_weights
from sources.training.checkpoints import TrainingSettings, as_array, read_checkpoint, write_checkpoint
from sources.training.schedule import Progress

_MEASURED = 250  # pictures at a time
_MOST_ROWS = 16


class Settings(TrainingSettings):
    """Of a classifier's training."""

    may_change: ClassVar[frozenset[str]] = frozenset({"epochs", "licence"})

    width: int = Field(32, ge=1, le=256, description="channels of the first convolution; the last has four times as many")
    epochs: int = Field(36, ge=1, description="times that every picture is trained on")
    batch: int = Field(128, ge=2, description="pictures of an update")
    learning_rate: float = Field(2e-3, gt=0, description="highest rate of AdamW; a cosine takes it to 0")
    weight_decay: float = Field(0.05, ge=0, description="what AdamW takes off a weight, times the rate")
    warm_up: float = Field(0.1, ge=0, lt=1, description="part of the training in which the rate rises")
    shift_pixels: int = Field(4, ge=0, lt=SIDE, description="most that a picture is shifted, either way")
    set_aside_every: int = Field(11, ge=2, description="one of so many pictures is measured on, to choose the best weights by")
    seed: int = Field(1, ge=0, description="of initial weights, order, shifts and flips")
    licence: str = Field("not stated", description="of the data, for the model card")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures uint8 [n, 32, 32, 3] and their classes int64 [n]."""

    pictures: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: np.ndarray) -> Labelled:
        return Labelled(self.pictures[rows], self.labels[rows])


@dataclass(frozen=True)
class Point:
    """One point of the learning curve."""

    epochs: int
    cpu_seconds: float
    training_loss: float
    held_out_accuracy: float


def train_classifier(config: Path | Settings, data: Path, out: Path, *, resume: bool = False, validation: Path | None = None,
                     progress: Progress | None = None) -> str:
    """Train a classifier of 32x32 pictures and return its model card.

    `data` is an .npz with `images` uint8 [n, 32, 32, 3] and `labels` [n], 0 to classes - 1. Writes `out` (.safetensors, the
    integers that run), its settings and learning curve (.json) and its model card (.md) whenever more of the pictures set aside
    are classified rightly than ever before, and a checkpoint (.checkpoint) an epoch, from which `resume` goes on, with other
    `epochs` if need be. `validation` is measured for the card when all is done, nothing is chosen by it. RequestError
    where a setting is impossible or data unfit.
    """
    settings = config if isinstance(config, Settings) else Settings.read(config)
    out = Path(out)
    if out.suffix != ".safetensors":
        raise RequestError(f"--out must end in .safetensors, got {str(out)!r}; its settings and model card are written beside it")
    training = read_labelled(data, "--data")
    judged = None if validation is None else (Path(validation).name, read_labelled(validation, "--validation"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        product = _Product(settings, training, Path(data), out)
        product.make(resume, progress)
        return product.export(done=True, validation=judged)
    except OSError as error:
        raise RequestError(f"--out must be a file that can be written, got {str(out)!r} ({error.strerror})") from error


def read_labelled(file: Path, key: str) -> Labelled:
    """The pictures and labels in an .npz; RequestError naming `key` where they can't be used."""
    try:
        with np.load(file) as stack:
            pictures, labels = stack["images"], stack["labels"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RequestError(f"{key} must be an .npz with images and labels, got {str(file)!r} ({error}); "
                           "write it with numpy.savez(file, images=..., labels=...)") from error
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (SIDE, SIDE, COLOURS):
        raise RequestError(f"{key}: images must be uint8 [n, {SIDE}, {SIDE}, {COLOURS}], got {pictures.dtype} "
                           f"{list(pictures.shape)} in {str(file)!r}; cut them to size first")
    if labels.shape != pictures.shape[:1] or labels.dtype.kind not in "iu" or np.any(labels < 0):
        raise RequestError(f"{key}: labels must be one integer >= 0 a picture, got {labels.dtype} {list(labels.shape)} "
                           f"in {str(file)!r}; number the classes from 0")
    return Labelled(pictures, labels.astype(np.int64))


def varied(pictures: np.ndarray, key: Key, *, shift_pixels: int) -> np.ndarray:
    """uint8 [n, 32, 32, 3]: each picture shifted by up to `shift_pixels` either way, grey at its edge, half of them flipped."""
    count, margin = len(pictures), shift_pixels
    wide = np.pad(pictures, ((0, 0), (margin, margin), (margin, margin), (0, 0)), constant_values=MID_PIXEL)
    down, right = key.child("shift").integers(2 * margin + 1, count, 2).T[:, :, None] + np.arange(SIDE)
    flipped = key.child("flip").uniform(count) < 0.5
    right[flipped] = right[flipped, ::-1]
    return wide[np.arange(count)[:, None, None], down[:, :, None], right[:, None, :]]


class Trainer:
    """A training under way: weights, the best so far, optimiser, learning curve; a checkpoint holds it all."""

    def __init__(self, settings: Settings, data: Labelled) -> None:
        import keras

        self.settings, self.key = settings, Key(settings.seed).child("train classifier")
        aside = np.arange(len(data)) % settings.set_aside_every == 0
        self.training, self.aside = data.at(~aside), data.at(aside)
        if len(self.training) < settings.batch:
            raise RequestError(f"--data must hold at least a batch of {settings.batch} pictures beside those set aside, got "
                               f"{len(self.training)}; name more data or lower batch")
        self.architecture = ClassifierArchitecture(width=settings.width, classes=int(data.labels.max()) + 1)
        self.model = self.architecture.build()
        self._variables = {one.path: one for one in self.model.variables}
        for name, value in self.architecture.initial(self.key.child("weights")).items():
            self._variables[name].assign(value)
        optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
        optimizer.build(self.model.trainable_variables)
        self.model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        self.updates, self.curve, self.best, self.schedule = 0, list[Point](), self.weights(), [[0, settings.epochs]]
        self._cpu_seconds, self._clock = 0.0, time.process_time()

    @property
    def updates_per_epoch(self) -> int:
        return len(self.training) // self.settings.batch

    @property
    def epochs(self) -> int:
        """Whole epochs so far."""
        return self.updates // self.updates_per_epoch

    def epoch(self) -> Iterator[None]:
        """One update after another on every picture, but for a last batch that is not full; measured and noted at the end."""
        settings, key, epoch = self.settings, self.key.child("epoch", self.epochs), self.epochs
        order, losses = np.argsort(key.child("order").uniform(len(self.training))), []
        for place in range(self.updates_per_epoch):
            done = self.updates / (settings.epochs * self.updates_per_epoch)
            rise = min(1.0, (done + 1e-3) / (settings.warm_up + 1e-3))
            self.model.optimizer.learning_rate.assign(settings.learning_rate * rise * 0.5 * (1 + np.cos(np.pi * done)))
            chosen = self.training.at(order[place * settings.batch:(place + 1) * settings.batch])
            seen = varied(chosen.pictures, key.child("varied", place), shift_pixels=settings.shift_pixels)
            losses.append(float(self.model.train_on_batch(centred(seen), chosen.labels)))
            self.updates += 1
            yield
        self.curve.append(Point(epoch + 1, round(self.cpu_seconds, 1), round(float(np.mean(losses)), 4), self._accuracy()))
        if self.improved:
            self.best = self.weights()

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best so far."""
        return all(one.held_out_accuracy < self.curve[-1].held_out_accuracy for one in self.curve[:-1])

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, that before a checkpoint included."""
        return self._cpu_seconds + time.process_time() - self._clock

    def weights(self) -> dict[str, np.ndarray]:
        """float32, by the paths of Keras."""
        return {name: as_array(one) for name, one in self._variables.items()}

    def save(self, path: Path) -> None:
        arrays = {f"weight.{name}": value for name, value in self.weights().items()}
        arrays |= {f"best.{name}": value for name, value in self.best.items()}
        arrays |= {f"optimizer.{place}": as_array(one) for place, one in enumerate(self.model.optimizer.variables)}
        write_checkpoint(path, self.settings, arrays, {"updates": self.updates, "cpu_seconds": self.cpu_seconds,
                                                       "curve": [asdict(one) for one in self.curve], "schedule": self.schedule})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; RequestError where it is another training's."""
        arrays, counters = read_checkpoint(path, self.settings)
        for name, variable in self._variables.items():
            variable.assign(arrays[f"weight.{name}"])
            self.best[name] = arrays[f"best.{name}"]
        for place, variable in enumerate(self.model.optimizer.variables):
            variable.assign(arrays[f"optimizer.{place}"])
        self.updates, self.curve = counters["updates"], [Point(**one) for one in counters["curve"]]
        self._cpu_seconds, self._clock = counters["cpu_seconds"], time.process_time()
        self.schedule = counters["schedule"]
        if self.schedule[-1][1] != self.settings.epochs:
            self.schedule.append([self.epochs, self.settings.epochs])

    def _accuracy(self) -> float:
        """Of the pictures set aside, in float32."""
        total = len(self.aside)
        # one shape for all batches: another one would be compiled afresh
        whole = centred(self.aside.pictures[np.arange(-(-total // _MEASURED) * _MEASURED) % total])
        logits = [self.model.predict_on_batch(whole[first:first + _MEASURED]) for first in range(0, len(whole), _MEASURED)]
        return float(np.mean(np.concatenate(logits)[:total].argmax(axis=1) == self.aside.labels))


class _Product:
    """A training and the files that come of it."""

    def __init__(self, settings: Settings, data: Labelled, file: Path, out: Path) -> None:
        self._out, self._checkpoint = out, out.with_suffix(".checkpoint")
        self._data = {"name": file.name, "pictures": len(data), "licence": settings.licence,
                      "sha256": hashlib.sha256(data.pictures.tobytes() + data.labels.tobytes()).hexdigest()}
        self._trainer = Trainer(settings, data)

    def make(self, resume: bool, progress: Progress | None) -> None:
        trainer, total = self._trainer, self._trainer.settings.epochs * self._trainer.updates_per_epoch
        if resume:
            trainer.load(self._checkpoint)
        before = trainer.updates
        while trainer.epochs < trainer.settings.epochs:
            for _ in trainer.epoch():
                if progress is not None:
                    progress(trainer.updates - before, total - before)  # what was done before says nothing of the time left
            if trainer.improved:
                self.export()
            trainer.save(self._checkpoint)

    def export(self, *, done: bool = False, validation: tuple[str, Labelled] | None = None) -> str:
        """Write the best weights as integers, settings and card; the card. When `done`, what was exported is measured."""
        trainer = self._trainer
        config: dict[str, Any] = {
            "architecture": trainer.architecture.model_dump(), "settings": trainer.settings.model_dump(), "data": self._data,
            "best": asdict(max(trainer.curve, key=lambda one: one.held_out_accuracy)),
            "curve": [asdict(one) for one in trainer.curve], "schedule": trainer.schedule,
            "versions": {one: version(one) for one in ("channel-sim", "keras", "numpy")}, "measured": [],
        }
        weights = classifier.quantised(folded(trainer.best))
        save_weights(self._out, weights, config, classifier.FORMAT)
        if done:
            network = classifier.Network(weights)
            parts = [("the pictures set aside, by which the best weights were chosen", trainer.aside)]
            if validation:
                parts.append((f"{validation[0]}, on which nothing was trained or chosen", validation[1]))
            config["measured"] = [{"on": name, "pictures": len(part), "accuracy": accuracy(network, part)} for name, part in parts]
            save_weights(self._out, weights, config, classifier.FORMAT)
        text = card(config)
        self._out.with_suffix(".md").write_text(text, encoding="utf-8")
        return text


def accuracy(network: classifier.Network, data: Labelled) -> float:
    """The part of the pictures that the integer network puts into their class."""
    found = np.array([network.classify(picture).label for picture in data.pictures])
    return float(np.mean(found == data.labels))


def card(config: dict[str, Any]) -> str:
    """The model card of a training, from its .json."""
    data, best, settings = config["data"], config["best"], config["settings"]
    architecture = ClassifierArchitecture(**config["architecture"])
    facts = {
        "what": f"class of a {SIDE}x{SIDE} RGB picture, {architecture.classes} classes; {architecture.num_features} features; "
                "five convolutions in integers, 16 bits a weight",
        "data": f"{data['name']}, {data['pictures']:,} pictures, SHA-256 `{data['sha256']}`",
        "set aside": f"one of {settings['set_aside_every']} pictures, to choose the best weights by",
        "licence of the data": data["licence"],
        "steps": f"epoch {best['epochs']} of {settings['epochs']}, {settings['batch']} pictures an update, flipped and shifted by "
                 f"up to {settings['shift_pixels']} pixels, seed {settings['seed']}, {best['cpu_seconds']:,.0f} CPU seconds",
        "repeatable": "bit for bit from data, settings and machine" if len(config["schedule"]) == 1 else
        "not from the settings alone: the schedule's epochs were " + ", ".join(
            f"{epochs} from epoch {start} on" for start, epochs in config["schedule"]),
        "accuracy in float32": f"{best['held_out_accuracy']:.4f} of the pictures set aside",
        **{f"accuracy of the integers on {one['on']}": f"{one['accuracy']:.4f} of {one['pictures']:,}"
           for one in config["measured"]},
        "not for": "any decision about what a picture shows; it tells how far restored pictures have moved from their originals",
    }
    curve = config["curve"]
    places = sorted({round(place) for place in np.linspace(0, len(curve) - 1, min(_MOST_ROWS, len(curve)))})
    rows = [f"| {one['epochs']} | {one['cpu_seconds']:,.0f} | {one['training_loss']:.3f} | {one['held_out_accuracy']:.4f} |"
            for one in (curve[place] for place in places)]
    return "\n".join([
        f"# Model card: picture classifier, {architecture.width} to {architecture.num_features} channels", "", "| | |", "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()), "", "## Learning curve", "",
        "| epochs | CPU seconds | training loss, nats | set aside, accuracy |", "|---|---|---|---|", *rows, "",
        f"Made by `channel-sim train classifier` (channel-sim {config['versions']['channel-sim']}, Keras "
        f"{config['versions']['keras']}); settings are in its .json.", ""])
