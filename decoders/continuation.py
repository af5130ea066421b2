"""What a causal model writes after a past: token by token, each drawn given all before it, without a beam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decoders.beam import ITEMS_IN_STEP
from sources.models.fixed_point import one_blas_thread
from sources.models.model import CausalModel


def continued(model: CausalModel, pasts: Sequence[np.ndarray],
              uniforms: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(drawn int32 [m], probabilities float32 [m, vocab_size] that each was drawn by) of each item, m = the size of its uniforms.

    pasts: int32 [n] tokens before the continuation; uniforms: float64 [m]. Exact: the integer tables are what is drawn from.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, np.int32), np.zeros((0, model.vocab_size), np.float32))] * len(pasts)
    asked = [item for item, one in enumerate(uniforms) if one.size]
    # those of like length together: one that is done still waits for the others
    asked.sort(key=lambda item: pasts[item].size + uniforms[item].size)
    for first in range(0, len(asked), ITEMS_IN_STEP):
        together = asked[first:first + ITEMS_IN_STEP]
        with one_blas_thread():
            drawn = _together(model, [pasts[item] for item in together], [uniforms[item] for item in together])
        for item, one in zip(together, drawn, strict=True):
            found[item] = one
    return found


def _together(model: CausalModel, pasts: list[np.ndarray], uniforms: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """A lane of the model for each item, all of them one token at a time."""
    starts = np.array([past.size for past in pasts])
    ends = starts + [one.size for one in uniforms]
    values = np.zeros((len(pasts), int(ends.max())), np.int32)
    for row, past in zip(values, pasts, strict=True):
        row[:past.size] = past
    rows = [np.zeros((one.size, model.vocab_size), np.float32) for one in uniforms]
    state, lanes, total = model.start(len(pasts)), np.arange(len(pasts)), 1 << model.frequency_bits
    for at in range(int(ends.max())):
        drawing = lanes[starts[lanes] <= at]
        if drawing.size:
            tables = model.frequencies(state[starts[lanes] <= at])
            chosen = np.array([uniforms[lane][at - starts[lane]] for lane in drawing])
            values[drawing, at] = (np.cumsum(tables, axis=1) <= (chosen * total).astype(np.int64)[:, None]).sum(axis=1)
            for lane, table in zip(drawing, tables, strict=True):
                rows[lane][at - starts[lane]] = table / total
        going = ends[lanes] > at + 1
        state, lanes = state[going], lanes[going]
        state = model.advance(state, values[lanes, at])
    return [(one[start:end], row) for one, row, start, end in zip(values, rows, starts, ends, strict=True)]
