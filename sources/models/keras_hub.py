"""Bring your own language model: any causal KerasHub preset on disk, in floating point, for restoration and for ideal rates."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError, require
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.types import Item, Reconstruction, Tokens
from sources.models.model import CausalModel
from sources.text import files_of
from sources.tokenizers import BytesTokenizer


class KerasHub(CausalModel):
    """p(token | the tokens before it) by a causal language model of KerasHub: GPT-2, Llama, Gemma, …, saved with `save_to_preset`.

    Step by step with the preset's own cache, one lane at a time whatever their number, so that lanes have no say in one another.
    After `max_tokens` - 1 tokens it forgets everything and starts again. It starts from the tokenizer's start token, or else its
    end token, or else token 0.

    Tables are rounded from float32 logits, so they are those of one machine and one set of versions. What they code can be decoded
    there and nowhere else for certain: the stream says that, and the encoder decodes it before it lets it go.

    Source: M. Watson et al., KerasHub, 2024, https://keras.io/keras_hub.
    """

    revision: ClassVar[int] = 1
    exact: ClassVar[bool] = False
    assumptions: ClassVar[tuple[str, ...]] = (
        "Model keras_hub computes its coding tables in floating point: both ends are one machine with the same versions of "
        "everything, and every stream was decoded on encoding to see that it comes back.",
    )

    path: str = Field(description="folder of a preset of a causal language model, as save_to_preset of KerasHub leaves it")
    max_tokens: int = Field(256, ge=2, description="tokens that are looked back at, start token included; at most the preset's")

    @property
    def vocab_size(self) -> int:
        return int(self._preset().network.backbone.vocabulary_size)

    @property
    def frequency_bits(self) -> int:
        return 16 if self.vocab_size <= 1024 else 22

    def start(self, num_lanes: int) -> np.ndarray:
        state = np.empty(num_lanes, object)
        state[:] = [self._begun()] * num_lanes
        return state

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        after, network = np.empty_like(state), self._preset().network
        for lane, (before, token) in enumerate(zip(state, np.asarray(tokens), strict=True)):
            known = before if before.position < self.max_tokens else self._begun()
            after[lane] = _stepped(network, known, int(token))
        return after

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        return np.stack([_rounded(lane.logits, self.frequency_bits) for lane in state])

    def log_probabilities(self, state: np.ndarray) -> np.ndarray:
        """As the network gives them; the table that codes has a floor."""
        logits = np.stack([lane.logits for lane in state]).astype(np.float64)
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def tokenizer(self) -> Tokenizer:
        if self._preset().strings is not None:
            return KerasHubTokenizer(path=self.path)
        require(self.vocab_size == 256, "model keras_hub must have a byte-level byte-pair tokenizer in its preset, or 256 tokens "
                f"that are bytes; {self.path!r} has {self.vocab_size}")
        return BytesTokenizer()

    def digests(self) -> dict[str, str]:
        return {"path": _digest(self.path)}

    @property
    def shared_bytes(self) -> int:
        return sum(file.num_bytes for file in files_of(Path(self.path)))

    def coding_digest(self) -> bytes:
        """Of the machine and its versions too: float tables are theirs."""
        versions = [version(name) for name in ("keras", "keras-hub", "tensorflow", "numpy")]
        here = json.dumps([platform.platform(), platform.node(), os.environ.get("KERAS_BACKEND"), versions])
        return hashlib.sha256(super().coding_digest() + here.encode()).digest()

    def _begun(self) -> _Lane:
        self._preset()  # refuses what does not fit
        return _begun(self.path, _digest(self.path), self.max_tokens)

    def _preset(self) -> _Preset:
        preset = _preset(self.path, _digest(self.path))
        longest = getattr(preset.network.backbone, "max_sequence_length", None)
        require(longest is None or self.max_tokens <= longest,
                f"max_tokens must be <= {longest}, as far as the preset {self.path!r} looks, got {self.max_tokens}: lower it")
        return preset


class KerasHubTokenizer(Tokenizer):
    """The byte-level byte-pair tokenizer of a KerasHub preset (GPT-2, OPT, Llama 3, …). Content that it changes is refused.

    A lost token is decoded as one space, marked missing; the length of the text may change.
    """

    revision: ClassVar[int] = 1

    path: str = Field(description="folder of a preset of KerasHub with its tokenizer")

    @property
    def vocab_size(self) -> int:
        return int(_preset(self.path, _digest(self.path)).network.backbone.vocabulary_size)

    def encode(self, item: Item, key: Key) -> Tokens:
        preset = _preset(self.path, _digest(self.path))
        if not isinstance(item.content, bytes):
            raise ValueError(f"tokenizer keras_hub takes sources of bytes, got {item.modality!r} ({item.name})")
        rules = preset.network.preprocessor.tokenizer
        try:
            values = np.array(rules.tokenize(item.content.decode()), np.int32).reshape(-1)
        except UnicodeDecodeError as error:
            raise ValueError(f"tokenizer keras_hub takes UTF-8 text, got {item.name} ({error})") from error
        if b"".join(self._strings()[value] for value in values) != item.content:
            raise ValueError(f"tokenizer keras_hub must give back what it was given, and {item.name} would be changed; "
                             "use tokenizer bytes or bpe")
        return Tokens(values, self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[bytes, np.ndarray]:
        """(bytes, missing bool [number of bytes])."""
        strings = self._strings()
        parts = [b" " if lost else strings[value] for value, lost in zip(reconstruction.values, reconstruction.lost)]
        return b"".join(parts), np.repeat(reconstruction.lost, [len(part) for part in parts])

    def digests(self) -> dict[str, str]:
        return {"path": _digest(self.path)}

    def _strings(self) -> tuple[bytes, ...]:
        strings = _preset(self.path, _digest(self.path)).strings
        if strings is None:
            raise RequestError(f"tokenizer.path must be a preset with a byte-level byte-pair tokenizer, got {self.path!r}")
        return strings


class _Lane(NamedTuple):
    """A message as far as it has come: the network's cache, how many tokens are in it, and float32 [vocab_size] logits."""

    cache: Any
    position: int
    logits: np.ndarray


class _Preset(NamedTuple):
    """What a folder holds: network, the bytes of every token (None: no such tokenizer), and the token that comes first."""

    network: Any
    strings: tuple[bytes, ...] | None
    start: int


@lru_cache(maxsize=1)
def _preset(path: str, digest: str) -> _Preset:
    try:
        import keras_hub
    except ImportError as error:
        raise RequestError(f"model keras_hub needs KerasHub ({error}); pip install 'channel-sim[lm]'") from error
    options = {} if (Path(path) / "preprocessor.json").exists() else {"preprocessor": None}
    try:
        network = keras_hub.models.CausalLM.from_preset(str(Path(path).resolve()), **options)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(f"model.path must be a preset of a causal language model, got {path!r} ({reason})") from error
    if not hasattr(network, "call_with_cache"):
        raise RequestError(f"model.path must be a preset that steps with a cache, got {path!r}, a {type(network).__name__}")
    rules = network.preprocessor.tokenizer if network.preprocessor is not None else None
    starts = [getattr(rules, name, None) for name in ("start_token_id", "end_token_id")]
    start = next((one for one in starts if one is not None), 0)
    return _Preset(network, _strings_of(rules, int(network.backbone.vocabulary_size)), start)


def _strings_of(rules: Any, vocab_size: int) -> tuple[bytes, ...] | None:
    """What each token stands for, in the alphabet of GPT-2, whose characters are bytes; special tokens stand for nothing."""
    if rules is None or not hasattr(rules, "merges"):
        return None
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
    special = {getattr(rules, name, None) for name in ("start_token_id", "end_token_id", "pad_token_id")}
    strings = []
    for token in range(vocab_size):
        name = rules.id_to_token(token) if token < rules.vocabulary_size() and token not in special else ""
        strings.append(bytes(alphabet[letter] for letter in name) if all(letter in alphabet for letter in name) else b"")
    return tuple(strings)


@lru_cache(maxsize=2)
def _begun(path: str, digest: str, max_tokens: int) -> _Lane:
    """A lane that has seen the first token; what else its cache holds is overwritten before it is looked at."""
    preset = _preset(path, digest)
    _, cache = preset.network._build_cache(np.zeros((1, max_tokens), np.int32))
    return _stepped(preset.network, _Lane(cache, 0, np.zeros(0, np.float32)), preset.start)


def _stepped(network: Any, lane: _Lane, token: int) -> _Lane:
    from keras import ops

    logits, _, cache = network.call_with_cache(np.array([[token]], np.int32), lane.cache, lane.position)
    return _Lane(cache, lane.position + 1, ops.convert_to_numpy(logits)[0, 0].astype(np.float32))


def _digest(path: str) -> str:
    folder = Path(path)
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    if not any(file.name == "config.json" for file in files):
        raise RequestError(f"model.path must be the folder of a KerasHub preset, got {path!r}; make one with save_to_preset")
    return _digest_of(tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=4)
def _digest_of(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, size in files:
        digest.update(f"{Path(file).name} {size} ".encode())
        with open(file, "rb") as stream:
            while piece := stream.read(1 << 24):
                digest.update(piece)
    return digest.hexdigest()


def _rounded(logits: np.ndarray, frequency_bits: int) -> np.ndarray:
    """int64 [vocab_size], every entry >= 1, summing to 2^frequency_bits."""
    spare = (1 << frequency_bits) - logits.size
    weights = np.exp(logits.astype(np.float64) - logits.max())
    table = 1 + np.floor(weights / weights.sum() * spare * (1 - 1e-12)).astype(np.int64)
    table[np.argmax(logits)] += (1 << frequency_bits) - table.sum()
    return table
