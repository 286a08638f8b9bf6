"""A clock that a test moves on."""

from __future__ import annotations


class Clock:
    """In the place of the module `time`: only steps and pauses make it go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
