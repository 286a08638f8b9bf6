"""Simulate a fleet of microphones whose chunks are scored in batches, from the times of steps.

Every microphone sends a chunk once per hop, each at its own time (a random phase), and each chunk arrives
late by a random time. A core, that is an instance of one thread, runs one batch after the other. The work is
shared in one of two ways: each core has its own microphones and takes whatever waits; or all cores take
batches from one queue, formed as by the batcher `oldest` of Triton. The same seed and times give the same
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

PARTITIONS = 4       # cores that are simulated with microphones of their own; all cores are alike
SECONDS = 240.0      # of audio of each microphone, fewer if MOST_CHUNKS are too few for that
MOST_CHUNKS = 1_000_000
WARM_SECONDS = 20.0  # at the beginning, not counted
LATE_MS = 20.0       # mean of the exponential distribution of how late a chunk arrives
Times = NDArray[np.float64]   # s; of steps: [largest batch + 1, draws], by size


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How chunks that wait are put into batches, as the keys of Triton's `oldest` batcher say."""

    most: int = 64                     # chunks in a batch
    preferred: tuple[int, ...] = ()    # sizes; (): whatever waits is taken at once
    delay: float = 0.0                 # s that the oldest chunk waits for a batch of a preferred size

    def size(self, waiting: int, waited: float) -> int:
        """Return how many of the chunks that wait become a batch now; 0: none yet. `waited` is the time of
        the oldest, in seconds."""
        if fitting := [size for size in self.preferred if size <= waiting]:
            return max(fitting)
        return min(waiting, self.most) if not self.preferred or waited >= self.delay - 1e-9 else 0


OWN = Batching()                                                  # a core with microphones of its own
QUEUE = Batching(preferred=(16, 64), delay=0.02)                  # serving/triton-cpu.toml


@dataclass(frozen=True, kw_only=True)
class Load:
    """What microphones send: a chunk per hop each."""

    microphones: int
    hop: float               # s
    seconds: float = SECONDS
    late: float = LATE_MS / 1000   # s, the mean

    def arrivals(self, rng: np.random.Generator) -> tuple[Times, Times]:
        """Return the times at which chunks arrive, sorted, and the times at which they ended, [chunks], s."""
        phases = rng.uniform(0, self.hop, self.microphones)
        ends = (phases[:, None] + self.hop * np.arange(int(self.seconds / self.hop))).ravel()
        arrive = ends + (rng.exponential(self.late, ends.size) if self.late else 0)
        order = np.argsort(arrive, kind="stable")
        return arrive[order], ends[order]


@dataclass(frozen=True, kw_only=True)
class Served:
    """How a load was served."""

    p50: float        # s from the end of a chunk to its scores
    p99: float
    load: float       # time of all steps / (time * cores); 1 or more: the chunks that wait become ever more
    batch: float      # mean size

    @property
    def is_stable(self) -> bool:
        return self.load < 1


def simulate(load: Load, cores: int, batching: Batching, times: Times, seed: int = 0) -> Served:
    """Serve a load on cores that take batches from one queue."""
    rng = np.random.default_rng(seed)
    arrive, ends = load.arrivals(rng)
    free, head, busy, batches = [0.0] * cores, 0, 0.0, 0
    scored = np.empty_like(arrive)
    draws = rng.integers(0, times.shape[1], arrive.size)
    heapify(free)
    while head < arrive.size:
        now = max(free[0], arrive[head])
        while not (size := batching.size(_waiting(arrive, head, now), now - arrive[head])):
            now = _next_moment(arrive, head, batching)
        took = times[size, draws[batches]]
        heapreplace(free, now + took)
        scored[head:head + size] = now + took
        head, busy, batches = head + size, busy + took, batches + 1
    counted = ends >= min(WARM_SECONDS, load.seconds / 2)
    p50, p99 = np.percentile((scored - ends)[counted], (50, 99))
    return Served(p50=float(p50), p99=float(p99), load=busy / (load.seconds * cores),
                  batch=arrive.size / batches)


def _waiting(arrive: Times, head: int, now: float) -> int:
    return int(np.searchsorted(arrive, now, "right")) - head


def _next_moment(arrive: Times, head: int, batching: Batching) -> float:
    """Return when the chunks from `head` on become a batch: there are enough of them for the smallest
    preferred size, or the oldest has waited long enough."""
    full = head + min(batching.preferred) - 1
    timeout = float(arrive[head]) + batching.delay
    return min(timeout, float(arrive[full])) if full < arrive.size else timeout


def simulate_own(load: Load, times: Times, seed: int = 0) -> Served:
    """Serve a load on one core, and return the mean of several such cores with other phases."""
    parts = [simulate(load, 1, OWN, times, seed + number) for number in range(PARTITIONS)]
    return Served(**{name: float(np.mean([getattr(part, name) for part in parts])) for name in
                     ("p50", "p99", "load", "batch")})


def most_microphones(hop: float, times: Times) -> int:
    """Return how many microphones one core serves with a p99 of at most a hop."""
    def is_enough(count: int) -> bool:
        served = simulate_own(Load(microphones=count, hop=hop), times)
        return served.is_stable and served.p99 < hop

    return _bisect(is_enough, int(2 * hop / _fastest(times)) + 1)


def fewest_cores(microphones: int, hop: float, times: Times) -> int:
    """Return how many cores with one queue serve microphones with a p99 of at most a hop."""
    load = Load(microphones=microphones, hop=hop, seconds=seconds_of(microphones, hop))
    least = math.ceil(microphones / hop * _fastest(times))

    def is_too_few(cores: int) -> bool:
        served = simulate(load, cores, QUEUE, times)
        return not (served.is_stable and served.p99 < hop)

    return _bisect(is_too_few, 4 * least + 4) + 1


def seconds_of(microphones: int, hop: float) -> float:
    """Seconds of audio to simulate of a fleet."""
    return max(WARM_SECONDS * 2, min(SECONDS, MOST_CHUNKS / microphones * hop))


def _fastest(times: Times) -> float:
    """Seconds of a chunk in the size of batch that takes least."""
    return float((times[1:].mean(axis=1) / np.arange(1, len(times))).min())


def _bisect(holds: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to `most` for which a condition holds that no larger one meets; 0 if it
    holds for none."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def interpolate(measured: dict[str, list[float]], most: int = OWN.most) -> Times:
    """Return the seconds of a step for each size of batch up to `most`, at 101 quantiles, from measured
    milliseconds by size."""
    sizes = sorted(map(int, measured))
    table = np.array([np.percentile(measured[str(size)], np.arange(101)) for size in sizes]) / 1000
    return np.array([[np.interp(size, sizes, column) for column in table.T] for size in range(most + 1)])
