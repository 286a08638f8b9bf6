"""Timing: which steps count, in which order they run, and what the summary contains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from satexport.measure import latency, schedule
from satexport.measure.latency import StepTimer, TurnTimes, make_noise, summarize, take_turns
from satexport.measure.schedule import Turn, plan_turns
from satexport.measure.worker import Worker
from satexport.step import FloatArray, Outputs, Step
from tests.measure.clock import Clock


class Counting:
    """A step whose cache counts the steps. Step number n takes `seconds(n)`."""

    def __init__(self, clock: Clock, seconds: Callable[[int], float]) -> None:
        self.clock, self.seconds = clock, seconds
        self.inputs: list[FloatArray] = []

    def initial_cache(self, streams: int) -> int:
        return 0

    def __call__(self, x: FloatArray, cache: int) -> tuple[Outputs, int]:
        self.clock.now += self.seconds(cache)
        self.inputs.append(x)
        return Outputs(x), cache + 1

    def silence(self, cache: Any, stream: int) -> Any:
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    return clock


def test_a_turn_ends_after_its_seconds_and_has_at_least_one_step(clock: Clock) -> None:
    for seconds, steps in ((1.0, 3), (0.1, 1), (9.0, 10)):
        timer = StepTimer(Counting(clock, lambda _: 0.4), make_noise(1, 16))
        assert timer.run_turn(Turn(10, seconds, 0.0)).steps == pytest.approx([0.4] * steps)


def test_warm_up_steps_do_not_count_and_paused_turns_have_none(clock: Clock) -> None:
    step = Counting(clock, lambda number: 1.0 + number)
    timer = StepTimer(step, make_noise(1, 16))
    assert timer.run_turn(Turn(2, 1e9, 0.0)).steps == [3.0, 4.0]
    assert timer.run_turn(Turn(1, 1e9, 0.25)).steps == [5.0]  # without its pauses
    assert clock.now == sum((1, 2, 3, 4, 5)) + 0.25 * 2


def test_cpu_time_of_other_threads_in_the_pause_after_a_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []

    def spin() -> None:
        while time.thread_time() < 0.01:
            pass
        used.append(time.thread_time())

    class Spinning(Counting):
        def __call__(self, x: FloatArray, cache: int) -> tuple[Outputs, int]:
            threads.append(threading.Thread(target=spin))
            threads[-1].start()
            return super().__call__(x, cache)

    class Waiting(Clock):
        def sleep(self, seconds: float) -> None:
            for thread in threads:
                thread.join()

    threads: list[threading.Thread] = []
    monkeypatch.setattr(latency, "time", clock := Waiting())
    times = StepTimer(Spinning(clock, lambda _: 0.1), make_noise(1, 16)).run_turn(Turn(3, 1e9, 0.25))
    assert len(used) == 3
    assert times.cpu >= sum(used)


def test_the_cache_is_carried_and_the_chunks_are_fed_in_rotation(clock: Clock) -> None:
    step, noise = Counting(clock, lambda _: 0.1), make_noise(2, 16)
    StepTimer(step, noise).run_turn(Turn(3, 1e9, 0.0))
    assert len(step.inputs) == schedule.WARM_UP + 3
    for number, chunk in enumerate(step.inputs):
        np.testing.assert_array_equal(chunk, noise[number % len(noise)])


def test_steps_take_turns_and_bursts_and_pauses_are_summarised_separately() -> None:
    turns, order = plan_turns(steps=20, pause=0.5), []
    assert turns == [Turn(20, 1.0, 0.0)] * 10 + [Turn(10, 1.0, 0.5)] * 2

    def run(name: str, burst: float, paused: float) -> Callable[[Turn], TurnTimes]:
        def run_turn(turn: Turn) -> TurnTimes:
            order.append(name)
            seconds = paused if turn.pause else burst
            return TurnTimes([seconds] * turn.steps, 3 * seconds * turn.steps)

        return run_turn

    advanced: list[None] = []
    a, b = take_turns([run("a", 0.001, 0.002), run("b", 0.003, 0.004)], turns, lambda: advanced.append(None))
    assert order == ["a", "b"] * 12
    assert len(advanced) == 24
    assert [(one.burst.median_ms, one.burst.steps, one.paused.median_ms, one.paused.steps)
            for one in (a, b)] == [(1.0, 200, 2.0, 20), (3.0, 200, 4.0, 20)]
    assert (a.slowest_p99_ms, b.slowest_p99_ms) == (2.0, 4.0)
    assert (a.paused_cpu_ms, b.paused_cpu_ms) == pytest.approx((6.0, 12.0))


def test_a_summary_has_the_quantiles_in_milliseconds() -> None:
    summary = summarize([number / 1000 for number in range(101)])
    assert (summary.median_ms, summary.p90_ms, summary.p99_ms) == pytest.approx((50, 90, 99))
    assert summary.steps == 101
    assert summary.quantiles_ms == pytest.approx(range(0, 101, 5))


def test_noise_is_the_same_every_time_and_20_db_below_full_scale() -> None:
    noise = make_noise(2, 10_000)
    assert noise.shape == (latency.NOISE_CHUNKS, 2, 10_000)
    assert noise.dtype == np.float32
    np.testing.assert_array_equal(noise, make_noise(2, 10_000))
    assert float(np.sqrt(np.mean(noise ** 2))) == pytest.approx(0.1, rel=0.02)


def test_a_bundle_and_pytorch_are_timed_over_whole_windows(
        random_window: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    class Recording(StepTimer):
        def __init__(self, step: Step, inputs: FloatArray) -> None:
            super().__init__(step, inputs)
            shapes.append(inputs.shape[1:])

    monkeypatch.setattr("satexport.measure.worker.StepTimer", Recording)
    worker = Worker()
    worker.load(str(random_window), threads=1, streams=1, spinning=False, arena=True)
    worker.load_eager(str(random_window), None, torch.get_num_threads())
    assert shapes == [(1, 160_000)] * 2
