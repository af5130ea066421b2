"""Small masked models over grids to test coder and decoders with: a cheap one, and a true law by enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np

from sources.models.model import MaskedModel


class Neighbours(MaskedModel):
    """Each token likes to be what known tokens beside it are, along every side of the grid; refuses what the contract forbids."""

    vocab_size: int = 5

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._tables(message, places) for message, places in zip(messages, asked, strict=True)]

    def _tables(self, message: np.ndarray, places: np.ndarray) -> np.ndarray:
        assert message.dtype == np.int32 and np.all(message.ravel()[places] == -1), "a place that is asked about must be unknown"
        tables = np.ones((places.size, self.vocab_size), np.int64)
        for table, place in zip(tables, places, strict=True):
            for beside in neighbours(message.shape, int(place)):
                if message.ravel()[beside] >= 0:
                    table[message.ravel()[beside]] += 20
        return summing_to(tables, 1 << self.frequency_bits)


class ExactField(MaskedModel):
    """A random field of Potts type, p(x) ∝ exp(coupling · equal pairs beside each other + Σ x / 10): its true conditionals, by
    enumeration of all that is unknown. For grids of a few cells.
    """

    vocab_size: int = 3
    coupling: float = 1.0

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [_tables(self, message.shape, message.tobytes())[places] for message, places in zip(messages, asked, strict=True)]

    def marginals(self, message: np.ndarray, likelihood: np.ndarray | None = None) -> np.ndarray:
        """float64 [cells, vocab]: p(token of each cell | message, y), y by its likelihood float64 [cells, vocab]."""
        fields, weights = self.law(message.shape)
        flat = message.ravel()
        weights = weights * np.all((flat < 0) | (fields == flat), axis=1)
        if likelihood is not None:
            weights = weights * np.prod([likelihood[cell, fields[:, cell]] for cell in range(flat.size)], axis=0)
        weights /= weights.sum()
        return np.array([np.bincount(column, weights, self.vocab_size) for column in fields.T])

    def law(self, grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(fields int64 [vocab^cells, cells], their probabilities)."""
        return _law(self, grid)

    def enumerated(self, grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        num = int(np.prod(grid))
        fields = np.array(list(product(range(self.vocab_size), repeat=num)))
        pairs = {tuple(sorted((cell, beside))) for cell in range(num) for beside in neighbours(grid, cell)}
        energy = fields.sum(axis=1) / 10
        for one, other in pairs:
            energy = energy + self.coupling * (fields[:, one] == fields[:, other])
        weights = np.exp(energy)
        return fields, weights / weights.sum()


_law = lru_cache(ExactField.enumerated)


@lru_cache(1 << 12)
def _tables(model: ExactField, grid: tuple[int, ...], message: bytes) -> np.ndarray:
    """int64 [cells, vocab] of a message as bytes: the same few come again and again."""
    law = model.marginals(np.frombuffer(message, np.int32).reshape(grid))
    return summing_to(np.rint(law * (1 << 40)).astype(np.int64) + 1, 1 << model.frequency_bits)


def neighbours(grid: tuple[int, ...], place: int) -> list[int]:
    """The flat places beside one, along every side."""
    cell, found = np.unravel_index(place, grid), list[int]()
    for axis, step in product(range(len(grid)), (-1, 1)):
        beside = [int(at) + (step if own == axis else 0) for own, at in enumerate(cell)]
        if 0 <= beside[axis] < grid[axis]:
            found.append(int(np.ravel_multi_index(beside, grid)))
    return found


def summing_to(weights: np.ndarray, total: int) -> np.ndarray:
    """int64: weights >= 1, scaled to tables of that sum, every entry >= 1; what rounding leaves goes to the largest."""
    tables = 1 + weights * (total - weights.shape[1]) // weights.sum(axis=1, keepdims=True)
    tables[np.arange(len(tables)), tables.argmax(axis=1)] += total - tables.sum(axis=1)
    return tables
