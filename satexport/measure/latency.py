"""The one clock: single steps are timed in turns, in bursts and after pauses, and their times summarised.

`satexport measure`, the board and the benchmarks time a step by it, with the turns of
`satexport.measure.schedule`. Imports numpy alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from satexport.measure.schedule import WARM_UP, Turn
from satexport.step import FloatArray, Step

NOISE_CHUNKS = 4     # of noise, fed in turns
NOISE_LEVEL = 0.1    # root mean square: 20 dB under full scale


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Quantiles over the times of single steps."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    steps: int


@dataclass(frozen=True)
class StepLatency:
    """Latency of a step in bursts and after pauses; see `satexport.measure.schedule`."""

    burst: Latency
    paused: Latency

    @property
    def slowest_p99_ms(self) -> float:
        """The p99 of a step, of the slower kind."""
        return max(self.burst.p99_ms, self.paused.p99_ms)


@dataclass
class _Times:
    """Seconds of each step so far."""

    burst: list[float] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)


RunTurn = Callable[[Turn], Sequence[float]]  # seconds of each step of a turn


class StepTimer:
    """A step with one cache, which is carried on from step to step; it is fed the inputs [chunks, N, ...] in
    turns."""

    def __init__(self, step: Step, inputs: FloatArray) -> None:
        self._step, self._inputs, self._count = step, inputs, 0
        self._cache: Any = step.initial_cache(len(inputs[0]))

    def run_turn(self, turn: Turn) -> list[float]:
        """Seconds of each step of a turn. Raises what the step raises."""
        for _ in range(0 if turn.pause else WARM_UP):
            self.run_step()
        times: list[float] = []
        while not times or (len(times) < turn.steps and sum(times) < turn.seconds):
            time.sleep(turn.pause)
            times.append(self.run_step())
        return times

    def run_step(self) -> float:
        """Seconds of one step, from its input in host memory to its scores there."""
        chunk = self._inputs[self._count % len(self._inputs)]
        self._count += 1
        start = time.perf_counter()
        _, self._cache = self._step(chunk, self._cache)
        return time.perf_counter() - start


def take_turns(runs: Sequence[RunTurn], turns: Sequence[Turn],
               advance: Callable[[], None] = lambda: None) -> list[StepLatency]:
    """Latency of each of some steps, which take turns, A B A B: a machine that becomes slower or faster does
    so for all of them. `advance` is called after each turn of each step."""
    measured = [_Times() for _ in runs]
    for turn in turns:
        for run_turn, times in zip(runs, measured, strict=True):
            (times.paused if turn.pause else times.burst).extend(run_turn(turn))
            advance()
    return [StepLatency(summarize(times.burst), summarize(times.paused)) for times in measured]


def summarize(seconds: Sequence[float]) -> Latency:
    """Quantiles over the times of some steps, at least one."""
    median, p90, p99 = np.percentile(np.asarray(seconds) * 1000, (50, 90, 99)).tolist()
    return Latency(median_ms=median, p90_ms=p90, p99_ms=p99, steps=len(seconds))


def make_noise(*shape: int) -> FloatArray:
    """White noise [NOISE_CHUNKS, *shape] at NOISE_LEVEL, the same every time."""
    noise = np.random.default_rng(0).standard_normal((NOISE_CHUNKS, *shape), np.float32)
    return NOISE_LEVEL * noise
