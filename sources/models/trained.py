"""What `channel-sim train` makes of networks, read by its path or by the name it ships under."""

from __future__ import annotations

from abc import ABC
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from channel_sim.stages import Tokenizer
from sources.bpe import Bpe
from sources.models.stored import Loaded, Stamp, Stored
from sources.tokenizers import BytesTokenizer


class Trained(Stored, ABC):
    """A model of tokens whose weights lie in a file; its network has a `head`, one row of bits a token."""

    key: ClassVar[str] = "model"
    maker: ClassVar[str] = "channel-sim train text"

    @property
    def vocab_size(self) -> int:
        return len(self.loaded().network.head.bias)

    @property
    def tokens(self) -> dict[str, Any]:
        """The tokens that it was trained on, as the .json beside its weights says."""
        found: dict[str, Any] = self.loaded().config["tokenizer"]
        return found

    def tokenizer(self) -> Tokenizer:
        return _tokenizer(self.tokens, Path(self.stamp().path))

    def digests(self) -> dict[str, str]:
        forget()
        return super().digests()

    def loaded(self) -> Loaded:
        """What the file held when it was last looked at: to ask for its date at every table takes longer than the table."""
        return _last(self)

    @classmethod
    def read(cls, stamp: Stamp) -> Loaded:
        found = super().read(stamp)
        if "tokenizer" not in found.config:
            raise cls._unreadable(stamp.path, KeyError("tokenizer"))
        return found


def forget() -> None:
    """Look at the files again: they may be other ones by now; within a message they had better not be."""
    _last.cache_clear()


@lru_cache(maxsize=4)
def _last(model: Trained) -> Loaded:
    return model.read(model.stamp())


def _tokenizer(tokens: dict[str, Any], file: Path) -> Tokenizer:
    """The tokenizer that the network was trained on; a vocabulary of its own lies beside the weights."""
    vocabulary = tokens.get("vocabulary")
    if tokens["name"] == "bytes":
        return BytesTokenizer()
    return Bpe(vocabulary=str(file.with_name(vocabulary)) if vocabulary else None)
