"""Randomness with an address: every draw is named by the path of what nature does, never by who watches."""

from __future__ import annotations

import hashlib
from operator import index

import numpy as np

Label = str | int


class Key:
    """One Philox stream, named by a path of labels.

    A key is a 128-bit BLAKE2b digest of its parent's digest and one label, so a child leads back neither to its parent
    nor to its siblings. All draws are prefix-stable: the first m of n draws are the draws of size m.

    >>> Key(1).child("item", 0).uniform(3)[:2].tolist() == Key(1).child("item", 0).uniform(2).tolist()
    True

    Source: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
    """

    __slots__ = ("_digest",)

    def __init__(self, seed: int) -> None:
        self._digest = _digest(b"channel-sim", seed)

    def child(self, *labels: Label) -> Key:
        """The key that `labels` name below this one; `child("a", 1)` is `child("a").child(1)`."""
        key = Key.__new__(Key)
        key._digest = self._digest
        for label in labels:
            key._digest = _digest(key._digest, label)
        return key

    def uniform(self, *shape: int) -> np.ndarray:
        """float64 in [0, 1); shape `shape`, drawn along the first axis."""
        return self._generator().random(shape)

    def normal(self, *shape: int) -> np.ndarray:
        """float64 standard normal; shape `shape`."""
        return self._generator().standard_normal(shape)

    def complex_normal(self, *shape: int) -> np.ndarray:
        """complex128 circularly symmetric, E|x|^2 = 1; prefix-stable because it is drawn as [n, 2]."""
        parts = self._generator().standard_normal((*shape, 2))
        return (parts[..., 0] + 1j * parts[..., 1]) * np.sqrt(0.5)

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """int64, uniform on [0, high)."""
        # scaled uniforms, not Generator.integers: rejection there would make draws depend on the order of calls
        return (self.uniform(*shape) * high).astype(np.int64)

    def seed(self) -> int:
        """A 31-bit integer for a framework that must draw by itself (Sionna's TDL, CDL)."""
        return int.from_bytes(self._digest[:4], "little") & 0x7FFFFFFF

    def _generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._digest, "little")))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"Key({self._digest.hex()[:8]}…)"


def _digest(parent: bytes, label: Label) -> bytes:
    # repr keeps the label 1 apart from the label "1"; an integer of NumPy is the same label as Python's
    plain = str(label) if isinstance(label, str) else int(index(label))
    return hashlib.blake2b(repr(plain).encode(), key=parent, digest_size=16).digest()
