"""What `channel-sim train` makes of networks, read by its path or by the name it ships under."""

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
from channel_sim.stages import Component, Tokenizer
from sources.bpe import Bpe
from sources.models import weights_file
from sources.models.fixed_point import Weights
from sources.tokenizers import BytesTokenizer


class Loaded(NamedTuple):
    """What a weights file holds; network: whatever the model's `assemble` makes.

    tokens: the tokens it was trained on, as its .json says
    """

    digest: str
    network: Any
    vocab_size: int
    tokens: dict[str, Any]


class Trained(Component, ABC):
    """A model whose weights lie in a file: one that ships, or a user's own.

    form:    the format that the .json beside the weights names
    kind:    what models of that format are called in the catalogue
    shipped: name of the shipped weights; none where a path must be given
    maker:   the command that makes such weights
    """

    form: ClassVar[str]
    kind: ClassVar[str]
    shipped: ClassVar[str] = ""
    maker: ClassVar[str] = "channel-sim train text"

    path: str | None = Field(None, description="trained weights, .safetensors with .json beside; default: the shipped ones")

    @staticmethod
    @abstractmethod
    def assemble(weights: Weights) -> Any:
        """The network, ready to run."""

    @property
    def vocab_size(self) -> int:
        return self.loaded().vocab_size

    def tokenizer(self) -> Tokenizer:
        return _tokenizer(self.loaded().tokens, self._file)

    def digests(self) -> dict[str, str]:
        forget()
        return {"path": self.loaded().digest}

    @property
    def shared_bytes(self) -> int:
        return self._file.stat().st_size

    def loaded(self) -> Loaded:
        if self.path is None and not self.shipped:
            raise RequestError(f"model.path of {self.kind} must be given, got none; make weights with {self.maker}, "
                               "or name a shipped model")
        return _stamped(str(self._file), type(self))

    @property
    def _file(self) -> Path:
        return Path(self.path) if self.path is not None else weights_file.FOLDER / f"{self.shipped}.safetensors"


def forget() -> None:
    """Look at the files again: they may be other ones by now; within a message they had better not be."""
    _stamped.cache_clear()


@lru_cache(maxsize=4)
def _stamped(path: str, model: type[Trained]) -> Loaded:
    """What the file held when it was last looked at: to ask for its date at every table takes longer than the table."""
    file = Path(path)
    try:
        return _load(file, model, file.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RequestError(f"model.path must be weights of a {model.kind} model with their .json beside them, got {path!r} "
                           f"({error}); make them with {model.maker}") from error


@lru_cache(maxsize=4)
def _load(file: Path, model: type[Trained], modified_ns: int) -> Loaded:
    data, digest, config = weights_file.read(file, model.form)
    weights = load(data)
    return Loaded(digest, model.assemble(weights), weights["head"].shape[1], config["tokenizer"])


def _tokenizer(tokens: dict[str, Any], file: Path) -> Tokenizer:
    """The tokenizer that the network was trained on; a vocabulary of its own lies beside the weights."""
    vocabulary = tokens.get("vocabulary")
    if tokens["name"] == "bytes":
        return BytesTokenizer()
    return Bpe(vocabulary=str(file.with_name(vocabulary)) if vocabulary else None)


def save_weights(file: Path, weights: Weights, config: dict[str, Any], form: str) -> None:
    """Write the weights and, beside them, what made them; `config["tokenizer"]` is its table in a scenario."""
    weights_file.write(file, save({name: np.ascontiguousarray(tensor) for name, tensor in weights.items()}), form, config)
