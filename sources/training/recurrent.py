"""Training of the recurrent text models: settings, one update after another, and checkpoints to go on from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from channel_sim.keys import Key
from sources.bpe import vocabulary
from sources.models.masked_network import MaskedArchitecture
from sources.models.recurrent import Architecture
from sources.training.checkpoints import ScheduledSettings, as_array, read_checkpoint, write_checkpoint
from sources.training.schedule import Scheduled
from sources.training.text_lanes import Encode, Lanes, messages, set_aside

_MEASURED_LANES = 32
_MEASURED_MESSAGES = 128


class Settings(ScheduledSettings):
    """Of a text model's training."""

    reads: Literal["past", "both sides"] = Field("past", description="what a token is predicted from: the past, or all others")
    tokenizer: Literal["bpe", "bytes"] = Field("bpe", description="what a token is")
    vocabulary: str | None = Field(None, description="vocabulary of tokenizer bpe; default: the shipped one")
    embedding: int = Field(256, ge=1, le=1040, description="length of a token's vector")
    hidden: int = Field(512, ge=1, le=1040, description="length of the state, of either state where it reads both sides")
    merge: int = Field(512, ge=1, le=1040, description="length of the vector that the two states are merged into")
    lanes: int = Field(64, ge=1, description="messages trained side by side")
    window: int = Field(64, ge=1, description="tokens between two updates, through which errors are propagated back")
    message_bytes: int = Field(1024, ge=1, description="length of a message that starts from nothing")
    learning_rate: float = Field(3e-3, gt=0, description="highest rate of Adam; a cosine takes it to 0")
    updates: int = Field(8000, ge=1, description="updates to train for")
    set_aside_every: int = Field(64, ge=2, description="one of so many blocks of 16 KiB is measured on, not trained on")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of matrix products in training")
    seed: int = Field(1, ge=0, description="of initial weights and order of messages")

    @field_validator("vocabulary", "merge")
    @classmethod
    def _means_something(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        key, needed = {"vocabulary": ("tokenizer", "bpe"), "merge": ("reads", "both sides")}[name]
        if value != cls.model_fields[name].default and info.data.get(key, needed) != needed:
            raise ValueError(f'means nothing with {key} = "{info.data[key]}", got {value}: leave it out, or use {key} = "{needed}"')
        return value

    def architecture(self) -> Architecture:
        """The sizes of the network that these settings train."""
        sizes = {"vocab_size": self.code()[0], "embedding": self.embedding, "hidden": self.hidden}
        return Architecture(**sizes) if self.reads == "past" else MaskedArchitecture(**sizes, merge=self.merge)

    def code(self) -> tuple[int, Encode]:
        """(vocab_size, bytes -> tokens)."""
        if self.tokenizer == "bytes":
            return 256, lambda contents: [np.frombuffer(content, np.uint8).astype(np.int32) for content in contents]
        chosen = vocabulary(self.vocabulary)
        return len(chosen.strings), chosen.encode


@dataclass(frozen=True)
class Point:
    """One point of the learning curve."""

    updates: int
    tokens: int
    cpu_seconds: float
    seconds: float
    training_bits_per_token: float
    held_out_bits_per_byte: float


class Trainer(Scheduled):
    """A training under way: weights, the best so far, optimiser, place in the data, learning curve; a checkpoint holds it all."""

    settings: Settings

    def __init__(self, settings: Settings, text: bytes) -> None:
        import keras

        self.settings = settings
        self.architecture = settings.architecture()
        self.key = key = Key(settings.seed).child("train text")
        training, aside = set_aside(text, settings.set_aside_every)
        self.lanes = Lanes(training, settings.code()[1], self.architecture.start, settings.message_bytes, key, settings.lanes)
        self.aside = messages(aside, settings.message_bytes, _MEASURED_MESSAGES)
        self.model = self.architecture.build(settings.lanes, settings.precision)
        self.best = self.architecture.initial(key.child("weights"))
        for name, value in self.best.items():
            self.model.weight[name].assign(value)
        optimizer = keras.optimizers.Adam(settings.learning_rate, beta_2=0.99, global_clipnorm=settings.clip)
        optimizer.build(self.model.trainable_variables)
        # TensorFlow's graphs beat XLA here on a processor; JAX would run one operation at a time without it
        compiled = keras.backend.backend() == "jax"
        self.model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=compiled)
        self.judge = self.architecture.build(_MEASURED_LANES)
        self.judge.compile(jit_compile=compiled)
        self.updates, self.loss, self.curve = 0, float("nan"), list[Point]()
        self.start_clock()

    def update(self) -> None:
        """One update on the next window of every lane."""
        if not self.updates:
            self.start_clock()
        settings = self.settings
        self.model.optimizer.learning_rate.assign(settings.rate(self.part_done))
        key = self.key.child("update", self.updates)
        given, targets = self.architecture.examples(self.lanes.window(settings.window), key)
        real = targets < self.architecture.vocab_size  # a start token or edge is given, never predicted
        loss = float(self.model.train_on_batch(given, np.where(real, targets, 0), sample_weight=real.astype(np.float32)))
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # until then JAX holds the new weights outside the variables
        bits = loss / np.log(2) / max(float(real.mean()), 1e-9)
        self.loss = bits if not self.updates else 0.98 * self.loss + 0.02 * bits
        self.updates += 1

    def measure(self) -> bool:
        """Add a point to the learning curve, in float32 on the part set aside; whether it is the best so far, and then kept."""
        weights = self.weights()
        for name, value in weights.items():
            self.judge.weight[name].assign(value)
        nats = sum(_nats(self.judge.predict_on_batch(given), targets) for given, targets in self.measured())
        bits = nats / float(np.log(2)) / sum(map(len, self.aside))
        best = all(bits < one.held_out_bits_per_byte for one in self.curve)
        if best:
            self.best = weights
        tokens = self.updates * self.settings.lanes * self.settings.window
        self.curve.append(Point(self.updates, tokens, round(self.cpu_seconds, 1), round(self.seconds, 1), round(self.loss, 4),
                                round(bits, 5)))
        return best

    def measured(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of what is measured on: (given, targets), the same whenever it is measured."""
        # one shape for all batches: another one would be compiled afresh
        encoded = self.lanes.encode(self.aside)
        longest = max(map(len, encoded))
        for first in range(0, len(encoded), _MEASURED_LANES):
            tokens = np.full((_MEASURED_LANES, longest + 2), self.architecture.start, np.int32)
            for row, one in zip(tokens, encoded[first:first + _MEASURED_LANES]):
                row[1:1 + len(one)] = one
            yield self.architecture.examples(tokens, self.key.child("measure", first))

    def weights(self) -> dict[str, np.ndarray]:
        """float32, as in `Architecture.shapes`."""
        return {name: as_array(value) for name, value in self.model.weight.items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint; the last one is replaced only by a whole one."""
        arrays = {f"weight.{name}": value for name, value in self.weights().items()}
        arrays |= {name: as_array(value) for name, value in self.model.state.items()}
        arrays |= {f"best.{name}": value for name, value in self.best.items()}
        arrays |= {f"optimizer.{place}": as_array(one) for place, one in enumerate(self.model.optimizer.variables)}
        arrays |= {"waiting": np.concatenate(self.lanes.waiting), "lengths": np.array([one.size for one in self.lanes.waiting])}
        counters = {"updates": self.updates, "loss": self.loss, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds,
                    "epoch": self.lanes.epoch, "next_piece": self.lanes.next_piece, "curve": [asdict(one) for one in self.curve]}
        write_checkpoint(path, self.settings, arrays, counters)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; RequestError where it is another training's."""
        arrays, counters = read_checkpoint(path, self.settings)
        for name, variable in self.model.weight.items():
            variable.assign(arrays[f"weight.{name}"])
            self.best[name] = arrays[f"best.{name}"]
        for name, variable in self.model.state.items():
            variable.assign(arrays[name])
        for place, variable in enumerate(self.model.optimizer.variables):
            variable.assign(arrays[f"optimizer.{place}"])
        lanes = self.lanes
        waiting = np.split(arrays["waiting"], np.cumsum(arrays["lengths"])[:-1])
        self.lanes = Lanes(lanes.text, lanes.encode, lanes.start, lanes.message_bytes, lanes.key, lanes.num_lanes,
                           counters["epoch"], counters["next_piece"], waiting)
        self.updates, self.loss = counters["updates"], counters["loss"]
        self.curve = [Point(**one) for one in counters["curve"]]
        self.start_clock(counters["seconds"], counters["cpu_seconds"])


def _nats(logits: np.ndarray, targets: np.ndarray) -> float:
    """Sum of -ln p of `targets`, but of those that are no token: starts and what fills up a lane."""
    exact = np.asarray(logits, np.float64)
    exact -= exact.max(axis=2, keepdims=True)
    real = targets < exact.shape[2]
    chosen = np.take_along_axis(exact, np.where(real, targets, 0)[..., None], 2)[..., 0]
    return float(((np.log(np.exp(exact).sum(axis=2)) - chosen) * real).sum())
