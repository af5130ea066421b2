"""Losses as they were measured: a trace, played to every item from another place of it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.loss_law import LossLaw, trace_law
from channel_sim.losses import PacketLossChannel


class LossTrace(PacketLossChannel):
    """Losses as they were measured, from a text file: one 0 or 1 a packet, 1 = lost, white space ignored.

    The trace is read cyclically from a phase that is drawn uniformly for every item and replicate, so that each slot is
    lost with the trace's own loss rate; at the seam its last slot meets its first. With `cut_slots` every item gets a stretch
    of so many slots that lies wholly inside the trace, from a phase drawn uniformly among those that leave room for it:
    nothing is seen that was not measured, and the slots at the trace's two ends are met less often than the others.
    """

    path: str = Field(description="text file of 0 and 1, one a packet, 1 = lost")
    cut_slots: int | None = Field(None, ge=1, description="slots of an item's stretch inside the trace; none: read cyclically")

    @model_validator(mode="after")
    def _is_a_trace(self) -> Self:
        size = read_trace(self.path).size
        if self.cut_slots is not None and self.cut_slots > size:
            raise ValueError(f"cut_slots must be <= the {size} slots of {self.path!r}, got {self.cut_slots}: lower it, or leave it "
                             "out to read the trace cyclically")
        return self

    def digests(self) -> dict[str, str]:
        return {"path": hashlib.sha256(Path(self.path).read_bytes()).hexdigest()}

    @property
    def loss_rate(self) -> float:
        """Fraction of lost slots in the trace."""
        return float(read_trace(self.path).mean())

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        trace = read_trace(self.path)
        if self.cut_slots is not None and num_packets > self.cut_slots:
            raise RequestError(f"loss_trace: cut_slots must be >= the {num_packets} slots of an item, got {self.cut_slots}: "
                               "raise it, or leave it out to read the trace cyclically")
        num_phases = trace.size if self.cut_slots is None else trace.size - self.cut_slots + 1
        return trace[(int(key.integers(num_phases, 1)[0]) + np.arange(num_packets)) % trace.size]

    def loss_law(self) -> LossLaw:
        """What is counted in the trace, read round; with `cut_slots` it holds but for the ends."""
        return trace_law(read_trace(self.path))


def read_trace(path: str) -> np.ndarray:
    """bool [num_slots]; read again when the file was modified. A file that is no trace is a `ValueError`."""
    try:
        return _read(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(f"path must name a readable loss trace, got {path!r} ({error.strerror}): correct the path") from error


@lru_cache(maxsize=16)
def _read(path: str, modified_ns: int) -> np.ndarray:
    text = b"".join(Path(path).read_bytes().split())
    foreign = sorted(set(text) - set(b"01"))
    if foreign or not text:
        found = f"holds {chr(foreign[0])!r}" if foreign else "is empty"
        raise ValueError(f"path must name a loss trace of 0 and 1 (1 = lost, white space ignored), {path!r} {found}: "
                         "write one digit a packet")
    trace = np.frombuffer(text, np.uint8) == ord("1")
    trace.flags.writeable = False
    return trace
