"""Budgets of targets as gates."""

from __future__ import annotations

import platform
from dataclasses import asdict

import pytest

from satexport.bundle.target import Budgets, Target
from satexport.measure.budgets import budget_gates, bundle_figures, engine_figures
from satexport.measure.latency import StepLatency, summarize
from satexport.measure.records import MemoryBytes
from satexport.targets import shipped

LATENCY = StepLatency(burst=summarize([1e-9]), paused=summarize([2e-9]), paused_cpu_ms=2e-6)
MEMORY = MemoryBytes(weights=1, state=1, transient=None, resident=1, device=1)
MEASURED, BUILT = bundle_figures(LATENCY, MEMORY), engine_figures(LATENCY, MEMORY)


@pytest.mark.parametrize("target", shipped(), ids=lambda target: target.name)
def test_budgets_of_every_shipped_target_are_judged_where_they_can_be(target: Target) -> None:
    set_budgets = {key for key, limit in asdict(target.budgets).items() if limit is not None}
    for figures in (MEASURED, BUILT):
        gates = budget_gates(target.budgets, figures, "a: ", platform.machine() if target.machine else "")
        assert {gate.name for gate in gates} == {f"a: {key}" for key in set_budgets}
        for gate in gates:
            key = gate.name.removeprefix("a: ")
            assert gate.status == ("elsewhere" if key not in figures else "skipped" if figures[key] is None
                                   else "passed")


def test_figures_have_the_units_of_the_budgets_and_step_ms_is_the_slower_kind() -> None:
    latency = StepLatency(burst=summarize([0.003]), paused=summarize([0.004]), paused_cpu_ms=4.0)
    memory = MemoryBytes(weights=1, state=2, transient=3_000_000, resident=4_500_000, device=5_000_000)
    assert bundle_figures(latency, memory) == {"step_ms": 4.0, "resident_mb": 4.5, "transient_mb": 3.0}
    assert engine_figures(latency, memory) == {"step_ms": 4.0, "device_mb": 5.0}


def test_a_budget_that_another_command_judges_names_that_command() -> None:
    (gate,) = budget_gates(Budgets(device_mb=1.0), MEASURED)
    assert (gate.status, gate.value) == ("elsewhere", None)
    assert gate.note == "judged on the board when an engine is built"
    (gate,) = budget_gates(Budgets(resident_mb=1.0), BUILT)
    assert gate.note == "judged by `satexport measure`"
    (gate,) = budget_gates(Budgets(transient_mb=1.0), MEASURED)
    assert gate.note == "could not be measured here"


def test_a_budget_for_another_machine_is_not_judged_here() -> None:
    (gate,) = budget_gates(Budgets(step_ms=2.0), {"step_ms": 1.0}, machine="a-machine")
    assert (gate.status, gate.value) == ("elsewhere", None)
    assert gate.note == f"judged on a-machine; this machine is {platform.machine()}"
    (gate,) = budget_gates(Budgets(step_ms=2.0), {"step_ms": 1.0}, machine=platform.machine())
    assert (gate.status, gate.value) == ("passed", 1.0)


def test_a_budget_that_is_exceeded_fails_with_value_and_limit() -> None:
    (gate,) = budget_gates(Budgets(step_ms=2.0), {"step_ms": 2.5})
    assert (gate.status, gate.value, gate.note) == ("failed", 2.5, "2.5, at most 2")
