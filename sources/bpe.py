"""Byte-pair encoding: text to a thousand or so tokens and back, lossless for any bytes."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.types import Item, Reconstruction, Tokens
from sources.text import read_data

if TYPE_CHECKING:
    import tokenizers

SHIPPED = Path(__file__).parent / "models" / "weights" / "bpe.json"
LOST = b" "
"""What stands for a lost token: its length is unknown, and a space is the commonest byte of text."""

# A byte is the character of that number (ISO 8859-1), so no byte is outside the alphabet; letters past ASCII are bytes >= 0x80.
_WORDS = (r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z\x80-\xff]+| ?[0-9]+| ?[^ \t\r\n\x0b\x0cA-Za-z0-9\x80-\xff]+"
          r"|[ \t\r\n\x0b\x0c]+(?![^ \t\r\n\x0b\x0c])|[ \t\r\n\x0b\x0c]+")
_PIECE = 1 << 17
_MAX_BYTES_AT_ONCE = 1 << 24


class Bpe(Tokenizer):
    """Byte-pair encoding: a token is a byte or a frequent string of bytes.

    The shipped vocabulary has 1,024 entries, learned from English books and technical prose: about 2.5 bytes a token there.
    Any bytes come back exactly. A lost token is decoded as one space, marked missing; the length of the text may change.

    Source: R. Sennrich, B. Haddow, A. Birch, "Neural machine translation of rare words with subword units", ACL 2016.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "Sennrich, Haddow and Birch, ACL 2016; Hugging Face tokenizers"

    vocabulary: str | None = Field(None, description="a vocabulary from channel-sim train bpe (.json); default: the shipped one")

    @property
    def vocab_size(self) -> int:
        return len(vocabulary(self.vocabulary).strings)

    def encode(self, item: Item, key: Key) -> Tokens:
        if not isinstance(item.content, bytes):
            raise ValueError(f"tokenizer bpe takes sources of bytes, got {item.modality!r} ({item.name}); "
                             "use source text or bytes_file, or another tokenizer")
        return Tokens(vocabulary(self.vocabulary).encode([item.content])[0], self.vocab_size)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[bytes, np.ndarray]:
        """(bytes, missing bool [number of bytes])."""
        strings = vocabulary(self.vocabulary).strings
        parts = [LOST if lost else strings[value] for value, lost in zip(reconstruction.values, reconstruction.lost)]
        return b"".join(parts), np.repeat(reconstruction.lost, [len(part) for part in parts])

    def digests(self) -> dict[str, str]:
        return {"vocabulary": vocabulary(self.vocabulary).digest}

    @property
    def shared_bytes(self) -> int:
        return Path(self.vocabulary or SHIPPED).stat().st_size


class Vocabulary(NamedTuple):
    """A vocabulary in memory: SHA-256 of its file, the bytes of every token, and Hugging Face's encoder."""

    digest: str
    strings: tuple[bytes, ...]
    rules: tokenizers.Tokenizer

    def encode(self, contents: list[bytes]) -> list[np.ndarray]:
        """Token numbers, int32, of each of `contents`."""
        encoded = self.rules.encode_batch_fast([content.decode("latin-1") for content in contents])
        return [np.array(one.ids, np.int32) for one in encoded]

    def decode(self, values: np.ndarray) -> bytes:
        """The bytes that the tokens `values` stand for."""
        return b"".join([self.strings[value] for value in values])


def vocabulary(path: str | None = None) -> Vocabulary:
    """The vocabulary in a file of `train_bpe`, by default the shipped one; RequestError where it is none."""
    file = SHIPPED if path is None else Path(path)
    try:
        return _vocabulary(file, file.stat().st_mtime_ns)
    except OSError as error:
        raise RequestError(f"vocabulary must be a file that can be read, got {str(file)!r} ({error.strerror}); "
                           "make one with channel-sim train bpe") from error


@lru_cache(maxsize=4)
def _vocabulary(file: Path, modified_ns: int) -> Vocabulary:
    text = file.read_bytes()
    try:
        stored = json.loads(text)["model"]
        numbers = {str(name): int(number) for name, number in stored["vocab"].items()}
        names = sorted(numbers, key=numbers.__getitem__)
        strings = tuple(name.encode("latin-1") for name in names)
        rules = _rules(numbers, [(first, second) for first, second in stored["merges"]])
    except Exception as error:  # the library raises Exception itself for a merge of unknown tokens
        raise RequestError(f"vocabulary must be a file from channel-sim train bpe, got {str(file)!r} "
                           f"({type(error).__name__}: {error})") from error
    if sorted(numbers.values()) != list(range(len(names))) or not {bytes([one]) for one in range(256)} <= set(strings):
        raise RequestError(f"vocabulary must number its tokens from 0 and hold all 256 bytes, got {str(file)!r}; "
                           "make one with channel-sim train bpe")
    return Vocabulary(hashlib.sha256(text).hexdigest(), strings, rules)


def _rules(numbers: dict[str, int] | None = None, merges: list[tuple[str, str]] | None = None) -> tokenizers.Tokenizer:
    """Hugging Face's encoder, with nothing in it that could add or drop a byte."""
    from tokenizers import Regex
    from tokenizers import Tokenizer as Rules
    from tokenizers import models, pre_tokenizers

    rules = Rules(models.BPE(vocab=numbers, merges=merges))
    rules.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    return rules


def train_bpe(data: Path, out: Path, *, vocab_size: int = 1024) -> str:
    """Learn a vocabulary of `vocab_size` tokens from a file or a folder, write it to `out` (.json), and say how it does.

    Half a minute for 40 MB. RequestError where the data can't be read or the settings are impossible.
    """
    from tokenizers import trainers

    if not 256 < vocab_size <= 65536:
        raise RequestError(f"--vocab-size must lie in 257 to 65536, got {vocab_size}; the shipped vocabulary has 1024")
    if Path(out).suffix != ".json":
        raise RequestError(f"--out must end in .json, got {str(out)!r}")
    try:
        text = read_data(str(data)).decode("latin-1")
    except RequestError as error:
        raise RequestError(str(error).replace("source.path", "--data")) from error
    rules = _rules()
    alphabet = [chr(number) for number in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    rules.train_from_iterator((text[first:first + _PIECE] for first in range(0, len(text), _PIECE)), trainer)
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(rules.to_str() + "\n", encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--out must be a file that can be written, got {str(out)!r} ({error.strerror})") from error
    sample = text[:_MAX_BYTES_AT_ONCE].encode("latin-1")
    made = vocabulary(str(out))
    return f"{out}: {len(made.strings)} tokens, {len(sample) / made.encode([sample])[0].size:.2f} bytes a token"
