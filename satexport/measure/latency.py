"""Time single steps in turns, in bursts and after pauses, count their CPU time, and summarise both.

`satexport measure`, the board and the benchmarks all use these functions, with the turns of
`satexport.measure.schedule`. Imports only numpy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from satexport.measure.schedule import WARM_UP, Turn
from satexport.remote import RemoteStep
from satexport.step import FloatArray, Step

NOISE_CHUNKS = 4     # different chunks of noise, fed one after the other
NOISE_LEVEL = 0.1    # root mean square: 20 dB below full scale
QUANTILES = tuple(range(0, 101, 5))  # %, of `Latency.quantiles_ms`


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Quantiles of the times of single steps."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    steps: int
    quantiles_ms: tuple[float, ...] | None = None  # at QUANTILES; None: an older report


@dataclass(frozen=True)
class StepLatency:
    """Latency of a step in bursts and after pauses, and the CPU time that it takes after pauses; see
    `satexport.measure.schedule`."""

    burst: Latency
    paused: Latency
    paused_cpu_ms: float   # of a step and the pause after it: user and system time of all threads

    @property
    def slowest_p99_ms(self) -> float:
        """The larger p99 of the two."""
        return max(self.burst.p99_ms, self.paused.p99_ms)


@dataclass(frozen=True)
class TurnTimes:
    """What the steps of a turn took, in seconds."""

    steps: Sequence[float]
    cpu: float              # of all steps and the pauses after them: user and system time of the process


@dataclass
class _Times:
    """Seconds of each step so far."""

    burst: list[float] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    paused_cpu: float = 0.0    # of all paused steps


RunTurn = Callable[[Turn], TurnTimes]


class StepTimer:
    """Times a step. It feeds the step the chunks of `inputs` [chunks, N, ...] one after the other, over and
    over, and carries the cache from step to step."""

    def __init__(self, step: Step, inputs: FloatArray) -> None:
        self._step, self._inputs, self._count = step, inputs, 0
        self._cache: Any = step.initial_cache(len(inputs[0]))

    def run_turn(self, turn: Turn) -> TurnTimes:
        """Run a turn and return its times. Raises the errors of the step.

        CPU time is counted from the first step to the end of the pause after the last one. The runtime's
        threads may spin after a step, that is, use a core while they wait for the next; this counts, too."""
        for _ in range(0 if turn.pause else WARM_UP):
            self.run_step()
        time.sleep(turn.pause)
        cpu, times = self._cpu_seconds(), list[float]()
        while not times or (len(times) < turn.steps and sum(times) < turn.seconds):
            times.append(self.run_step())
            time.sleep(turn.pause)
        return TurnTimes(times, self._cpu_seconds() - cpu)

    def _cpu_seconds(self) -> float:
        """Return the CPU time of the process that runs the step so far."""
        return self._step.cpu_seconds() if isinstance(self._step, RemoteStep) else time.process_time()

    def run_step(self) -> float:
        """Run one step and return its seconds, from the input in host memory to the scores in host memory; of
        a step that another process runs, in the memory of that process."""
        chunk = self._inputs[self._count % len(self._inputs)]
        self._count += 1
        start = time.perf_counter()
        _, self._cache = self._step(chunk, self._cache)
        if isinstance(self._step, RemoteStep):
            return self._step.step_seconds
        return time.perf_counter() - start


def take_turns(runs: Sequence[RunTurn], turns: Sequence[Turn],
               advance: Callable[[], None] = lambda: None) -> list[StepLatency]:
    """Time several steps in turns, A B A B, and return the latency of each. If the machine becomes slower or
    faster meanwhile, this affects all of them alike. Calls `advance` after each turn of each step."""
    times_of_runs = [_Times() for _ in runs]
    for turn in turns:
        for run_turn, times in zip(runs, times_of_runs, strict=True):
            took = run_turn(turn)
            (times.paused if turn.pause else times.burst).extend(took.steps)
            times.paused_cpu += took.cpu if turn.pause else 0
            advance()
    return [StepLatency(summarize(times.burst), summarize(times.paused),
                        times.paused_cpu * 1000 / len(times.paused)) for times in times_of_runs]


def summarize(seconds: Sequence[float]) -> Latency:
    """Return the quantiles of the times of steps, of which there is at least one."""
    in_ms = np.asarray(seconds) * 1000
    median, p90, p99 = np.percentile(in_ms, (50, 90, 99)).tolist()
    return Latency(median_ms=median, p90_ms=p90, p99_ms=p99, steps=len(seconds),
                   quantiles_ms=tuple(np.percentile(in_ms, QUANTILES).tolist()))


def make_noise(*shape: int) -> FloatArray:
    """Return white noise [NOISE_CHUNKS, *shape], float32, at NOISE_LEVEL; the same on every call."""
    noise = np.random.default_rng(0).standard_normal((NOISE_CHUNKS, *shape), np.float32)
    return NOISE_LEVEL * noise
