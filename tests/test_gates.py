"""Budgets of targets as gates."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from satexport import engine_gates, measure
from satexport.gates import budget_gates
from satexport.targets import Budgets, Target, shipped

STEPS: dict[str, Any] = {kind: {"p99_ms": 1e-9} for kind in ("burst", "paused")}
MEASURED = measure.figures(STEPS | {"memory_bytes": {"resident": 1, "transient": None}})
BUILT = engine_gates.figures(STEPS | {"device_bytes": 1})


@pytest.mark.parametrize("target", shipped(), ids=lambda target: target.name)
def test_budgets_of_every_shipped_target_are_judged_where_they_can_be(target: Target) -> None:
    wanted = {key for key, limit in asdict(target.budgets).items() if limit is not None}
    for figures in (MEASURED, BUILT):
        gates = budget_gates(target.budgets, figures, "a: ")
        assert {gate.name for gate in gates} == {f"a: {key}" for key in wanted}
        for gate in gates:
            judged = figures.get(gate.name.removeprefix("a: ")) is not None
            assert gate.status == ("passed" if judged else "skipped")


def test_a_budget_of_another_command_is_skipped_with_the_one_that_judges_it() -> None:
    (gate,) = budget_gates(Budgets(device_mb=1.0), MEASURED)
    assert (gate.status, gate.value) == ("skipped", None)
    assert gate.note == "not judged here, but on the board where an engine is built"
    (gate,) = budget_gates(Budgets(resident_mb=1.0), BUILT)
    assert gate.note == "not judged here, but by `satexport measure`"
    (gate,) = budget_gates(Budgets(transient_mb=1.0), MEASURED)
    assert gate.note == "could not be measured here"


def test_a_budget_that_is_exceeded_fails_with_value_and_limit() -> None:
    (gate,) = budget_gates(Budgets(step_ms=2.0), {"step_ms": 2.5})
    assert (gate.status, gate.value, gate.note) == ("failed", 2.5, "2.5, at most 2")
