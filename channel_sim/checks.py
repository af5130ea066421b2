"""What is checked once at a door: arrays of a record, and the named error of the outside world."""

from __future__ import annotations

from typing import Any

import numpy as np


class RequestError(ValueError):
    """The request was wrong (file, argument, scenario key): one line that says which, rule, value and cure. Exit status 2."""


def require(condition: bool | np.bool_, message: str) -> None:
    """An invariant of a record that flows through the chain."""
    if not condition:
        raise ValueError(message)


def array(record: Any, name: str, dtype: Any, *, ndim: int | None = None, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Check and freeze the array `name` of a frozen record. The array itself becomes read-only; what others may write is copied."""
    value = np.asarray(getattr(record, name))
    where = f"{type(record).__name__}.{name}"
    require(ndim is None or value.ndim == ndim, f"{where} must have {ndim} dimensions, got shape {value.shape}")
    require(shape is None or value.shape == shape, f"{where} must have shape {shape}, got {value.shape}")
    if value.dtype != dtype:
        castable = np.can_cast(value.dtype, dtype, casting="same_kind") or value.size == 0
        require(castable, f"{where} must be {np.dtype(dtype).name}, got {value.dtype}")
        given, value = value, value.astype(dtype)
        whole = np.issubdtype(dtype, np.floating) or np.array_equal(given, value)  # integers must not wrap
        require(whole, f"the values of {where} must fit {np.dtype(dtype).name}")
    if value.base is not None and not (isinstance(value.base, np.ndarray) and not value.base.flags.writeable):
        value = value.copy()  # a view: its owner could still write
    value.flags.writeable = False
    object.__setattr__(record, name, value)
    return value
