"""Training on parts drawn from pictures or sounds: shared settings, one update after another, and checkpoints to go on from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.training.checkpoints import ScheduledSettings, as_array, read_checkpoint, write_checkpoint
from sources.training.schedule import Scheduled


class DrawnSettings(ScheduledSettings):
    """Of any training on parts that are drawn from pictures or sounds."""

    halve: bool = Field(True, description="halve pictures of 256 pixels a side or more: it takes JPEG history away")
    set_aside_every: int = Field(20, ge=2, description="one of so many pictures or sounds is measured on, not trained on")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of products in training")
    seed: int = Field(1, ge=0, description="of initial weights and of what is drawn from the data")


class Settings(DrawnSettings):
    """Of a training on square crops of pictures."""

    crop: int = Field(64, ge=4, description="pixels of the side of a crop that is trained on; smaller pictures are taken whole")


@dataclass(frozen=True)
class Point:
    """One point of the learning curve; `held_out` is what the best weights have least of, on the part set aside."""

    updates: int
    cpu_seconds: float
    seconds: float
    training: float
    held_out: float


def training_key(settings: DrawnSettings) -> Key:
    """All that is drawn in a training comes from it."""
    return Key(settings.seed).child("train pictures")


class Trainer(Scheduled):
    """A training under way: weights, the best so far, optimiser, learning curve; a checkpoint holds it all.

    What an update sees follows from the seed and its number alone, so that a training that is resumed is the same training.
    """

    settings: DrawnSettings

    def __init__(self, settings: DrawnSettings, model: Any, initial: Mapping[str, np.ndarray], loss: Any) -> None:
        import keras

        self.settings, self.model, self.key = settings, model, training_key(settings)
        for name, value in initial.items():
            model.weight[name].assign(value)
        optimizer = keras.optimizers.Adam(settings.learning_rate, beta_2=0.99, global_clipnorm=settings.clip)
        optimizer.build(model.trainable_variables)
        # TensorFlow's graphs beat XLA here on a processor; JAX would run one operation at a time without it
        model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
        self.updates, self.loss, self.curve = 0, float("nan"), list[Point]()
        self.best = self.weights()
        self.start_clock()

    @abstractmethod
    def batch(self, key: Key, number: int) -> tuple[np.ndarray, ...]:
        """What update `number` sees: inputs, targets and, perhaps, weights of the targets."""

    @abstractmethod
    def held_out(self) -> float:
        """What is to be as small as possible, on the part set aside, with the weights as they are."""

    def tend(self, number: int) -> None:
        """What is to be done before update `number`."""

    def update(self) -> None:
        self.model.optimizer.learning_rate.assign(self.settings.rate(self.part_done))
        self.tend(self.updates)
        loss = float(self.model.train_on_batch(*self.batch(self.key.child("update", self.updates), self.updates)))
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # until then JAX holds the new weights outside the variables
        self.loss = loss if not self.updates else 0.98 * self.loss + 0.02 * loss
        self.updates += 1

    def measure(self) -> bool:
        """Add a point to the learning curve; whether it is the best so far, and then kept."""
        held_out = self.held_out()
        best = all(held_out < one.held_out for one in self.curve)
        if best:
            self.best = self.weights()
        self.curve.append(Point(self.updates, round(self.cpu_seconds, 1), round(self.seconds, 1), round(self.loss, 5),
                                round(held_out, 5)))
        return best

    def weights(self) -> dict[str, np.ndarray]:
        """float32: what is trained, and the state that goes with it."""
        return {name: as_array(value) for name, value in self._variables().items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        arrays = {f"weight.{name}": value for name, value in self.weights().items()}
        arrays |= {f"best.{name}": value for name, value in self.best.items()}
        arrays |= {f"optimizer.{place}": as_array(one) for place, one in enumerate(self.model.optimizer.variables)}
        counters = {"updates": self.updates, "loss": self.loss, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds,
                    "curve": [asdict(one) for one in self.curve]}
        write_checkpoint(path, self.settings, arrays, counters)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; RequestError where it is another training's."""
        arrays, counters = read_checkpoint(path, self.settings)
        for name, variable in self._variables().items():
            shape = arrays[f"weight.{name}"].shape
            if shape != tuple(variable.shape):
                raise RequestError(f"--resume: {str(path)!r} has {name} of shape {shape}, this version {tuple(variable.shape)}; "
                                   "leave --resume out")
            variable.assign(arrays[f"weight.{name}"])
            self.best[name] = arrays[f"best.{name}"]
        for place, variable in enumerate(self.model.optimizer.variables):
            variable.assign(arrays[f"optimizer.{place}"])
        self.updates, self.loss = counters["updates"], counters["loss"]
        self.curve = [Point(**one) for one in counters["curve"]]
        self.start_clock(counters["seconds"], counters["cpu_seconds"])

    def _variables(self) -> dict[str, Any]:
        return {**self.model.weight, **self.model.state}
