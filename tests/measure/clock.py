"""A clock that a test advances."""

from __future__ import annotations


class Clock:
    """Replaces the module `time`; only steps and pauses advance it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
