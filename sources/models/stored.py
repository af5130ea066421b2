"""Components that are a network in a file: one that ships, or a user's own; read once while the file stays the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from channel_sim.checks import RequestError
from channel_sim.stages import Component
from sources.models import weights_file
from sources.models.fixed_point import Weights


class Loaded(NamedTuple):
    """What a weights file holds; network: whatever the component's `assemble` makes; config: what stands beside the weights."""

    digest: str
    network: Any
    config: dict[str, Any]


class Stamp(NamedTuple):
    """Where weights are, and when they were written: other ones may lie there by now."""

    path: str
    modified_ns: int


class Stored(Component, ABC):
    """A component whose weights lie in one file.

    form:    the format that the .json beside the weights names
    kind:    what the weights are of: a "…"
    key:     what a scenario calls the table that holds `path`
    shipped: name of the shipped weights; none where a path must be given
    maker:   the command that makes such weights
    """

    form: ClassVar[str]
    kind: ClassVar[str]
    key: ClassVar[str]
    shipped: ClassVar[str] = ""
    maker: ClassVar[str]

    path: str | None = Field(None, description="trained weights, .safetensors with .json beside; default: the shipped ones")

    @staticmethod
    @abstractmethod
    def assemble(weights: Weights) -> Any:
        """The network, ready to run."""

    def digests(self) -> dict[str, str]:
        return {"path": self.loaded().digest}

    @property
    def shared_bytes(self) -> int:
        return Path(self.stamp().path).stat().st_size

    def loaded(self) -> Loaded:
        """RequestError where the file is of another kind, or broken."""
        return self.read(self.stamp())

    def stamp(self) -> Stamp:
        if self.path is None and not self.shipped:
            raise RequestError(f"{self.key}.path of a {self.kind} must be given, got none; make weights with {self.maker}, or name "
                               "what ships")
        file = Path(self.path) if self.path is not None else weights_file.FOLDER / f"{self.shipped}.safetensors"
        try:
            return Stamp(str(file), file.stat().st_mtime_ns)
        except OSError as error:
            raise self._unreadable(str(file), error) from error

    @classmethod
    def read(cls, stamp: Stamp) -> Loaded:
        """As `loaded`, of the file as it was when it was stamped."""
        try:
            return _read(cls, stamp)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise cls._unreadable(stamp.path, error) from error

    @classmethod
    def _unreadable(cls, file: str, error: Exception) -> RequestError:
        return RequestError(f"{cls.key}.path must be weights of a {cls.kind} with their .json beside them, got {file!r} ({error}); "
                            f"make them with {cls.maker}")


@lru_cache(maxsize=4)
def _read(component: type[Stored], stamp: Stamp) -> Loaded:
    data, digest, config = weights_file.read(Path(stamp.path), component.form)
    return Loaded(digest, component.assemble(load(data)), config)


def save_weights(file: Path, weights: Weights, config: dict[str, Any], form: str) -> None:
    """Write the weights and, beside them, what made them."""
    weights_file.write(file, save({name: np.ascontiguousarray(tensor) for name, tensor in weights.items()}), form, config)
