"""The simulation of a fleet of microphones, on loads whose result is known, and the page that it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import fleet, tables
from benchmarks.fleet_simulation import (
    EACH,
    MOST_LOAD,
    Batching,
    Load,
    Times,
    batching_of,
    interpolate,
    most_microphones,
    simulate,
)
from satexport.bundle.folder import open_bundle
from satexport.errors import DataError, UsageError
from satexport.triton.serving import find_serving
from tests.machine import need

HOP = 2.0
ALL = Batching()          # whatever waits
TRITON = Batching(preferred=(16, 64), delay=0.02)


def times(first: float, more: float) -> Times:
    """Seconds of a step: of one chunk, and of each chunk more."""
    return np.array([[first + more * max(0, size - 1)] for size in range(ALL.most + 1)])


def steady(microphones: int, **options: Any) -> Load:
    return Load(microphones=microphones, hop=HOP, late=0.0, **options)


def test_a_single_microphone_waits_for_its_own_step_only() -> None:
    served = simulate(steady(1), ALL, times(0.005, 0.004))
    assert (served.p50, served.p99) == pytest.approx((0.005, 0.005))
    assert served.load == pytest.approx(0.005 / HOP)


def test_a_single_microphone_waits_as_long_as_the_batcher_may_for_others() -> None:
    served = simulate(steady(1), TRITON, times(0.005, 0.004))
    assert served.p50 == pytest.approx(TRITON.delay + 0.005)


def test_few_microphones_wait_as_in_a_queue_with_one_server_and_random_arrivals() -> None:
    """Mean time in an M/D/1 queue: service (1 + load / (2 (1 - load))); periodic arrivals wait less."""
    waits = [simulate(steady(200, seconds=60.0), EACH, times(0.005, 0), seed) for seed in range(5)]
    in_queue = 0.005 * (1 + 0.5 / (2 * 0.5))
    assert np.mean([served.load for served in waits]) == pytest.approx(0.5, rel=0.01)
    assert 0.005 <= np.mean([served.p50 for served in waits]) <= in_queue * 1.2


def test_more_work_than_the_cores_can_do_waits_ever_longer() -> None:
    short, long = (simulate(steady(500, seconds=seconds), EACH, times(0.005, 0))
                   for seconds in (40.0, 80.0))
    assert not short.is_stable
    assert long.p99 == pytest.approx(2 * short.p99, rel=0.05)


def test_batches_form_of_what_waits_while_a_step_runs_and_hold_a_load_that_single_steps_cannot() -> None:
    cheap = times(0.005, 0.001)
    assert not simulate(steady(500), EACH, cheap).is_stable
    served = simulate(steady(500), ALL, cheap)
    assert served.is_stable
    assert served.batch > 1.5


@pytest.mark.parametrize(("waiting", "waited", "size"), [
    (15, 0.0, 0), (15, 0.02, 15), (16, 0.0, 16), (63, 0.01, 16), (64, 0.0, 64), (99, 1.0, 64)])
def test_a_queue_waits_for_a_batch_of_a_preferred_size_or_until_the_delay_is_over(
        waiting: int, waited: float, size: int) -> None:
    assert TRITON.size(waiting, waited) == size


def test_the_batches_of_triton_are_those_of_the_serving_table() -> None:
    serving = find_serving("triton-cpu")
    assert batching_of(serving) == TRITON
    assert batching_of(replace(serving, max_batch_size=32, preferred_batch_sizes=(8,), max_queue_delay_ms=5)
                       ) == Batching(most=32, preferred=(8,), delay=0.005)


def test_the_same_seed_and_times_give_the_same_result() -> None:
    load = Load(microphones=50, hop=HOP, seconds=30.0)
    steps = interpolate({"1": [4.0, 5.0, 9.0], "64": [200.0, 210.0, 300.0]}, 64)
    assert simulate(load, TRITON, steps, 7) == simulate(load, TRITON, steps, 7)
    assert simulate(load, TRITON, steps, 7) != simulate(load, TRITON, steps, 8)


@pytest.mark.parametrize("batching", [EACH, TRITON])
def test_a_core_gets_as_many_microphones_as_keep_its_load_below_the_limit(batching: Batching) -> None:
    steps = times(0.04, 0.04)
    count = most_microphones(HOP, batching, steps)
    assert count == pytest.approx(MOST_LOAD * HOP / 0.04, abs=1)
    assert simulate(Load(microphones=count + 2, hop=HOP), batching, steps).load > MOST_LOAD


def test_a_core_gets_fewer_microphones_if_their_chunks_would_wait_longer_than_a_hop() -> None:
    rare = np.full((2, 50), 0.001)
    rare[:, 0] = 5.0   # seconds, of one step in fifty
    slow = most_microphones(HOP, EACH, rare)
    assert slow < 0.5 * MOST_LOAD * HOP / rare[1].mean()


def test_ten_times_the_microphones_take_ten_times_the_cores_by_both_ways(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "FLEETS", (200, 2000))
    few, many = fleet.simulate_fleets({"hop_seconds": HOP, "state_bytes": 1_000_000, "own_ms": [100.0],
                                       "times_ms": {"1": [90.0], "64": [5120.0]}})
    for way, chunk in (("own", 0.1), ("triton", 0.08)):
        least = 200 * chunk / HOP
        assert least < few[way]["cores"] <= least / MOST_LOAD * 1.3
        assert many[way]["cores"] == pytest.approx(10 * few[way]["cores"], rel=0.2)
        for row in (few, many):
            assert row[way]["load"] <= MOST_LOAD
            assert row[way]["p99"] <= HOP
    assert few["state_gb"] == 0.4  # in two copies


def test_times_between_measured_sizes_are_interpolated() -> None:
    steps = interpolate({"1": [4.0], "2": [6.0], "4": [10.0], "64": [70.0]}, 64)
    assert steps[[1, 2, 3, 4, 64], 50] == pytest.approx([0.004, 0.006, 0.008, 0.01, 0.07])


def test_step_times_are_measured_at_each_size_with_states_that_move_on(tiny_lanes: Path) -> None:
    need("onnxruntime", "cpu")
    found = fleet.measure_steps(open_bundle(tiny_lanes), rounds=2, sizes=(1, 3))
    assert {size: len(values) for size, values in found.items()} == {"1": 2, "3": 2}
    assert min(found["1"]) > 0
    own = fleet.measure_each(open_bundle(tiny_lanes), steps=3)
    assert (len(own), min(own) > 0) == (3, True)


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
