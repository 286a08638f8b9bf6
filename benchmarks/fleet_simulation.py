"""Simulate a fleet of microphones whose chunks are scored in batches, from the times of steps.

Every microphone sends a chunk once per hop, each at its own time (a random phase), and each chunk arrives
late by a random time. A core has one thread and its own microphones, and runs one step after the other:
either a chunk in each, as processes with `stream.feed` do, or batches formed as the batcher `oldest` of
Triton forms them for each instance, to which a microphone belongs as long as it lasts. The same seed and
times give the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from satexport.triton.serving import Serving

PARTITIONS = 4       # cores that are simulated; all cores are alike
SECONDS = 240.0      # of audio of each microphone
MOST_LOAD = 0.95     # of a core; closer to 1 the chunks that wait become more for longer than SECONDS
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


EACH = Batching(most=1)   # a chunk in each step


def batching_of(serving: Serving) -> Batching:
    """How Triton forms batches with a serving table."""
    return Batching(most=serving.max_batch_size, preferred=tuple(serving.preferred_batch_sizes),
                    delay=serving.max_queue_delay_ms / 1000)


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
    load: float       # time of all steps / time; 1 or more: the chunks that wait become ever more
    batch: float      # mean size

    @property
    def is_stable(self) -> bool:
        return self.load < 1


def simulate(load: Load, batching: Batching, times: Times, seed: int = 0) -> Served:
    """Serve the microphones of one core."""
    rng = np.random.default_rng(seed)
    arrive, ends = load.arrivals(rng)
    free, head, busy, batches = 0.0, 0, 0.0, 0
    scored = np.empty_like(arrive)
    draws = rng.integers(0, times.shape[1], arrive.size)
    while head < arrive.size:
        now = max(free, float(arrive[head]))
        while not (size := batching.size(_waiting(arrive, head, now), now - arrive[head])):
            now = _next_moment(arrive, head, batching)
        took = float(times[size, draws[batches]])
        free = now + took
        scored[head:head + size] = free
        head, busy, batches = head + size, busy + took, batches + 1
    counted = ends >= min(WARM_SECONDS, load.seconds / 2)
    p50, p99 = np.percentile((scored - ends)[counted], (50, 99))
    return Served(p50=float(p50), p99=float(p99), load=busy / load.seconds, batch=arrive.size / batches)


def _waiting(arrive: Times, head: int, now: float) -> int:
    return int(np.searchsorted(arrive, now, "right")) - head


def _next_moment(arrive: Times, head: int, batching: Batching) -> float:
    """Return when the chunks from `head` on become a batch: there are enough of them for the smallest
    preferred size, or the oldest has waited long enough."""
    full = head + min(batching.preferred) - 1
    timeout = float(arrive[head]) + batching.delay
    return min(timeout, float(arrive[full])) if full < arrive.size else timeout


def simulate_core(load: Load, batching: Batching, times: Times, seed: int = 0) -> Served:
    """Serve the microphones of one core, and return the mean of several such cores with other phases."""
    parts = [simulate(load, batching, times, seed + number) for number in range(PARTITIONS)]
    return Served(**{name: float(np.mean([getattr(part, name) for part in parts])) for name in
                     ("p50", "p99", "load", "batch")})


def most_microphones(hop: float, batching: Batching, times: Times) -> int:
    """Return how many microphones one core serves in a steady state: with a load of at most MOST_LOAD, and a
    p99 of at most a hop."""
    def is_enough(count: int) -> bool:
        served = simulate_core(Load(microphones=count, hop=hop), batching, times)
        return served.load <= MOST_LOAD and served.p99 <= hop

    return _bisect(is_enough, int(2 * hop / _fastest(times)) + 1)


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


def interpolate(measured: dict[str, list[float]], most: int) -> Times:
    """Return the seconds of a step for each size of batch up to `most`, at 101 quantiles, from measured
    milliseconds by size."""
    sizes = sorted(map(int, measured))
    table = np.array([np.percentile(measured[str(size)], np.arange(101)) for size in sizes]) / 1000
    return np.array([[np.interp(size, sizes, column) for column in table.T] for size in range(most + 1)])
