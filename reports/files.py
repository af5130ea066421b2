"""Where tables, figures and pages meet a disk without room or a folder that may not be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from channel_sim.checks import RequestError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of `path`; what the disk refuses inside is a `RequestError` that names the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RequestError(f"{path}: cannot be written ({error.strerror or error}); the results themselves are kept: "
                           "make room or choose another folder") from error
