"""What all trainings share: settings in a TOML file, and checkpoints to go on from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from channel_sim.checks import RequestError


class TrainingSettings(BaseModel):
    """What a configuration file (TOML) may say; every key has a default.

    may_change: settings that a resumed training may have another value of
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    may_change: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings in a TOML file; RequestError with the key that is wrong."""
        try:
            return cls(**tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise RequestError(f"--config must be a file that can be read, got {str(path)!r} ({error.strerror})") from error
        except tomllib.TOMLDecodeError as error:
            raise RequestError(f"--config must be TOML, got {str(path)!r} ({error})") from error
        except ValidationError as error:
            first = error.errors()[0]
            key, rule = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            raise RequestError(f"{path}: {key}: {rule}; keys are {', '.join(cls.model_fields)}") from error


class ScheduledSettings(TrainingSettings):
    """Of a training by Adam, whose rate rises to its highest and falls to 0 along a cosine, over updates or by the clock."""

    may_change: ClassVar[frozenset[str]] = frozenset({"minutes", "updates", "learning_rate", "updates_per_checkpoint", "licence"})

    learning_rate: float = Field(1e-3, gt=0, description="highest rate of Adam; a cosine takes it to 0")
    warm_up: float = Field(0.02, ge=0, lt=1, description="part of the training in which the rate rises")
    clip: float = Field(1.0, gt=0, description="largest norm of a gradient")
    updates: int = Field(10_000, ge=1, description="updates to train for")
    minutes: float | None = Field(None, gt=0, description="end the schedule by the clock instead; not repeatable bit for bit")
    updates_per_checkpoint: int = Field(250, ge=1, description="updates between measurements on the part set aside")
    licence: str = Field("not stated", description="of the data, for the model card")

    def rate(self, part_done: float) -> float:
        """The rate of Adam after a part of the schedule, 0 to 1."""
        rise = min(1.0, (part_done + 1e-3) / (self.warm_up + 1e-3))
        return float(self.learning_rate * rise * 0.5 * (1 + np.cos(np.pi * part_done)))


def write_checkpoint(path: Path, settings: TrainingSettings, arrays: dict[str, np.ndarray], counters: dict[str, Any]) -> None:
    """Write a checkpoint; the last one is replaced only by a whole one."""
    fresh = path.with_suffix(".new")
    save_file(arrays, fresh, {"counters": json.dumps(counters | {"settings": settings.model_dump()})})
    fresh.replace(path)


def read_checkpoint(path: Path, settings: TrainingSettings) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, counters) as they were written; RequestError where it is another training's."""
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            counters = json.loads(file.metadata()["counters"])
        earlier = type(settings)(**counters["settings"])  # which lacks what settings have got since
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"--resume: no checkpoint can be read from {str(path)!r} ({error}); leave --resume out") from error
    before, now = (one.model_dump(exclude=set(settings.may_change)) for one in (earlier, settings))
    if before != now:
        changed = ", ".join(key for key in now if now[key] != before[key])
        raise RequestError(f"--resume: {str(path)!r} was trained with another {changed}; put it back, or leave --resume out")
    return arrays, counters


def as_array(variable: Any) -> np.ndarray:
    """A contiguous copy of what a framework holds."""
    from keras import ops

    return np.array(ops.convert_to_numpy(ops.copy(variable)), order="C")
