"""A clock that a test advances."""

from __future__ import annotations

import time


class Clock:
    """Replaces the module `time`: only steps and pauses advance `perf_counter`. CPU time is the real one,
    which a test can only compare with what its threads have used."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return time.process_time()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
