"""How a training goes on: by updates or by the clock, measured and kept now and then, whatever it is that is trained."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from sources.training.checkpoints import ScheduledSettings

Progress = Callable[[int, int], None]


class Scheduled(ABC):
    """A training under way; its clocks include what was spent before a checkpoint."""

    settings: ScheduledSettings
    updates: int

    @abstractmethod
    def update(self) -> None:
        """One update of the weights."""

    @abstractmethod
    def measure(self) -> bool:
        """Add a point to the learning curve; whether it is the best so far, and then kept."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write a checkpoint."""

    def start_clock(self, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        """Count from now on, beside what was spent before."""
        self._seconds, self._cpu_seconds = seconds, cpu_seconds
        self._clock, self._cpu_clock = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far."""
        return self._seconds + time.monotonic() - self._clock

    @property
    def cpu_seconds(self) -> float:
        return self._cpu_seconds + time.process_time() - self._cpu_clock

    @property
    def part_done(self) -> float:
        """How much of the schedule is behind, 0 to 1."""
        if self.settings.minutes is not None:
            return min(1.0, self.seconds / (60 * self.settings.minutes))
        return min(1.0, self.updates / self.settings.updates)

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total) in updates, or in seconds where the clock decides."""
        if self.settings.minutes is None:
            return self.updates, self.settings.updates
        total = round(60 * self.settings.minutes)
        return min(total, round(self.seconds)), total


def conduct(training: Scheduled, checkpoint: Path, export: Callable[[], object], progress: Progress | None) -> None:
    """Update to the end of the schedule; `export` the weights whenever they are the best so far, and write checkpoints."""
    before, total = training.progress
    while training.part_done < 1:
        training.update()
        if progress is not None:
            progress(training.progress[0] - before, total - before)  # what was done before says nothing of the time left
        if training.updates % training.settings.updates_per_checkpoint == 0 or training.part_done >= 1:
            if training.measure():
                export()
            training.save(checkpoint)
