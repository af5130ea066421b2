"""The shipped neural models of text, and any that `channel-sim train text` makes: recurrent, in integers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from channel_sim.checks import RequestError
from channel_sim.stages import Tokenizer
from sources.bpe import Bpe
from sources.models import fixed_point, weights_file
from sources.models.model import CausalModel
from sources.tokenizers import BytesTokenizer

FORMAT = "channel-sim recurrent 1"
MASKED_FORMAT = "channel-sim masked 1"


class Recurrent(CausalModel):
    """p(token | all tokens before it): a gated recurrent network, in integers from end to end.

    Weights are int8, activations fixed-point, nonlinearities tables, coding tables integer quotients: they are the same on every
    machine, for any number of lanes and threads, step by step or over a whole message. The equations are those of the network that
    is trained (`sources.models.recurrent`). Products run as float32 matrix products of small integers, which are exact.

    Source: K. Cho et al., EMNLP 2014, eq. 5 to 8; J. Ballé, D. Minnen, N. Johnston, "Integer networks for data compression with
    latent-variable models", ICLR 2019.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "K. Cho et al., EMNLP 2014; J. Ballé, N. Johnston, D. Minnen, ICLR 2019"
    shipped: ClassVar[str] = ""

    path: str | None = Field(None, description="trained weights, .safetensors with .json beside; default: the shipped ones")

    @property
    def vocab_size(self) -> int:
        return self._weights().vocab_size

    def start(self, num_lanes: int) -> np.ndarray:
        _stamped.cache_clear()  # the file may be another one by now; within a message it had better not be
        before = np.zeros((num_lanes, self._network().hidden), np.int32)
        return self.advance(before, np.full(num_lanes, self.vocab_size))  # the start token comes after the last of the vocabulary

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return fixed_point.step(self._network(), state, tokens)

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        network = self._network()
        return fixed_point.frequencies(fixed_point.logits(network, state), network.exponential, self.frequency_bits)

    def tables(self, state: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # the head, half of the work, in one product instead of one a token
        with fixed_point.one_blas_thread():
            states = np.concatenate([state, fixed_point.run(self._network(), state, np.asarray(values))])
        return self.frequencies(states[:-1]), states[-1:]

    def tokenizer(self) -> Tokenizer:
        return self._weights().tokenizer

    def digests(self) -> dict[str, str]:
        _stamped.cache_clear()
        return {"path": self._weights().digest}

    def _weights(self) -> Loaded:
        if self.path is None and not self.shipped:
            raise RequestError("model.path of recurrent must be given, got none; make weights with channel-sim train text, "
                               "or name a shipped model")
        return _stamped(self.path or str(weights_file.FOLDER / f"{self.shipped}.safetensors"))

    def _network(self) -> fixed_point.Network:
        return self._weights().network


class TextSmall(Recurrent):
    """English text over 1,024 byte-pair tokens; a recurrent network in integers, trained on books and technical prose."""

    shipped: ClassVar[str] = "text-small"


class TextByteSmall(Recurrent):
    """English text byte by byte; a recurrent network in integers, trained on books and technical prose."""

    shipped: ClassVar[str] = "text-byte-small"


class Loaded(NamedTuple):
    """What a weights file holds."""

    digest: str
    network: fixed_point.Network
    vocab_size: int
    tokenizer: Tokenizer


@lru_cache(maxsize=4)
def _stamped(path: str) -> Loaded:
    """What the file held when it was last looked at: to ask for its date at every table takes longer than the table."""
    file = Path(path)
    try:
        return _load(file, file.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RequestError(f"model.path must be weights of a recurrent model with their .json beside them, got {path!r} ({error}); "
                           "make them with channel-sim train text") from error


@lru_cache(maxsize=4)
def _load(file: Path, modified_ns: int) -> Loaded:
    data, digest, config = weights_file.read(file, FORMAT)
    weights = load(data)
    return Loaded(digest, fixed_point.assemble(weights), weights["head"].shape[1], _tokenizer(config, file))


def _tokenizer(config: dict[str, Any], file: Path) -> Tokenizer:
    """The tokenizer that the network was trained on; a vocabulary of its own lies beside the weights."""
    vocabulary = config["tokenizer"].get("vocabulary")
    if config["tokenizer"]["name"] == "bytes":
        return BytesTokenizer()
    return Bpe(vocabulary=str(file.with_name(vocabulary)) if vocabulary else None)


def save_weights(file: Path, weights: fixed_point.Weights, config: dict[str, Any], form: str = FORMAT) -> None:
    """Write the weights and, beside them, what made them; `config["tokenizer"]` is its table in a scenario."""
    weights_file.write(file, save({name: np.ascontiguousarray(tensor) for name, tensor in weights.items()}), form, config)
