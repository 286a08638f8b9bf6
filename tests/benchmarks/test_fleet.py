"""The simulation of a fleet of microphones, on loads whose result is known, and the page that it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import fleet, tables
from benchmarks.fleet_simulation import (
    OWN,
    QUEUE,
    Batching,
    Load,
    Times,
    fewest_cores,
    interpolate,
    most_microphones,
    simulate,
)
from satexport.bundle.folder import open_bundle
from satexport.errors import DataError, UsageError
from tests.machine import need

HOP = 2.0
EACH = Batching(most=1)   # one chunk in a step


def times(first: float, more: float) -> Times:
    """Seconds of a step: of one chunk, and of each chunk more."""
    return np.array([[first + more * max(0, size - 1)] for size in range(OWN.most + 1)])


def steady(microphones: int, **options: Any) -> Load:
    return Load(microphones=microphones, hop=HOP, late=0.0, **options)


def test_a_single_microphone_waits_for_its_own_step_only() -> None:
    served = simulate(steady(1), 1, OWN, times(0.005, 0.004))
    assert (served.p50, served.p99) == pytest.approx((0.005, 0.005))
    assert served.load == pytest.approx(0.005 / HOP)


def test_a_single_microphone_waits_as_long_as_the_batcher_may_for_others() -> None:
    served = simulate(steady(1), 1, QUEUE, times(0.005, 0.004))
    assert served.p50 == pytest.approx(QUEUE.delay + 0.005)


def test_few_microphones_wait_as_in_a_queue_with_one_server_and_random_arrivals() -> None:
    """Mean time in an M/D/1 queue: service (1 + load / (2 (1 - load))); periodic arrivals wait less."""
    waits = [simulate(steady(200, seconds=60.0), 1, EACH, times(0.005, 0), seed) for seed in range(5)]
    in_queue = 0.005 * (1 + 0.5 / (2 * 0.5))
    assert np.mean([served.load for served in waits]) == pytest.approx(0.5, rel=0.01)
    assert 0.005 <= np.mean([served.p50 for served in waits]) <= in_queue * 1.2


def test_more_work_than_the_cores_can_do_waits_ever_longer() -> None:
    short, long = (simulate(steady(500, seconds=seconds), 1, EACH, times(0.005, 0))
                   for seconds in (40.0, 80.0))
    assert not short.is_stable
    assert long.p99 == pytest.approx(2 * short.p99, rel=0.05)


def test_batches_form_of_what_waits_while_a_step_runs_and_hold_a_load_that_single_steps_cannot() -> None:
    cheap = times(0.005, 0.001)
    assert not simulate(steady(500), 1, EACH, cheap).is_stable
    served = simulate(steady(500), 1, OWN, cheap)
    assert served.is_stable
    assert served.batch > 1.5


@pytest.mark.parametrize(("waiting", "waited", "size"), [
    (15, 0.0, 0), (15, 0.02, 15), (16, 0.0, 16), (63, 0.01, 16), (64, 0.0, 64), (99, 1.0, 64)])
def test_a_queue_waits_for_a_batch_of_a_preferred_size_or_until_the_delay_is_over(
        waiting: int, waited: float, size: int) -> None:
    assert QUEUE.size(waiting, waited) == size


def test_two_cores_with_one_queue_serve_twice_as_many_microphones() -> None:
    steps = times(0.005, 0.004)
    one, two = (simulate(steady(400 * cores), cores, QUEUE, steps) for cores in (1, 2))
    assert two.load == pytest.approx(one.load, rel=0.05)


def test_the_same_seed_and_times_give_the_same_result() -> None:
    load = Load(microphones=50, hop=HOP, seconds=30.0)
    steps = interpolate({"1": [4.0, 5.0, 9.0], "64": [200.0, 210.0, 300.0]})
    assert simulate(load, 2, QUEUE, steps, 7) == simulate(load, 2, QUEUE, steps, 7)
    assert simulate(load, 2, QUEUE, steps, 7) != simulate(load, 2, QUEUE, steps, 8)


def test_capacity_is_what_the_fastest_batch_allows() -> None:
    steps = times(0.05, 0.04)  # 64 chunks: 0.04 s each
    count = most_microphones(HOP, steps)
    assert 0.8 * HOP / 0.04 <= count <= HOP / 0.04
    cores = fewest_cores(100, HOP, steps)
    assert 2 <= cores <= 3


def test_times_between_measured_sizes_are_interpolated() -> None:
    steps = interpolate({"1": [4.0], "2": [6.0], "4": [10.0], "64": [70.0]})
    assert steps[[1, 2, 3, 4, 64], 50] == pytest.approx([0.004, 0.006, 0.008, 0.01, 0.07])


def test_step_times_are_measured_at_each_size_with_states_that_move_on(tiny_lanes: Path) -> None:
    need("onnxruntime", "cpu")
    found = fleet.measure_steps(open_bundle(tiny_lanes), rounds=2, sizes=(1, 3))
    assert {size: len(values) for size, values in found.items()} == {"1": 2, "3": 2}
    assert min(found["1"]) > 0


def test_a_bundle_of_another_runtime_is_refused_with_the_command_that_makes_one(tiny_lanes: Path) -> None:
    bundle = open_bundle(tiny_lanes)
    bundle = replace(bundle, target=replace(bundle.target, backend="openvino"))
    with pytest.raises(UsageError, match=r"expected a bundle for any number of streams.*--streams dynamic\."):
        fleet.measure_steps(bundle)


def test_step_times_of_growth_keep_its_quantiles() -> None:
    found = fleet.take_growth("sat-t-2s, cpu-int8")
    stored = tables.read_results(tables.RESULTS / f"{next(iter(found))}.json")
    row = stored["growth"]["sat-t-2s, cpu-int8"]["figures"]["8"]
    draws = next(iter(found.values()))["times_ms"]["8"]
    assert np.percentile(draws, (50, 90, 99)) == pytest.approx(
        [row[f"burst_{name}_ms"] for name in ("median", "p90", "p99")])
    with pytest.raises(UsageError, match="has not measured it on any CPU"):
        fleet.take_growth("sat-q")


def test_the_page_has_the_figures_that_are_stored(tmp_path: Path) -> None:
    page = tmp_path / "serving.md"
    page.write_text(fleet.PAGE.read_text("utf-8"), "utf-8")
    fleet.write_page(page)
    assert page.read_text("utf-8") == fleet.PAGE.read_text("utf-8"), "python -m benchmarks.fleet --write"


def test_a_page_without_a_place_for_the_figures_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "serving.md"
    page.write_text("# Serving\n", "utf-8")
    with pytest.raises(DataError, match="lacks the lines"):
        fleet.write_page(page)
