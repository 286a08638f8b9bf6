"""Budgets of targets as gates."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from satexport.bundle.gates import Gate, budget_gates, figures, required, verdict
from satexport.bundle.target import Budgets, Target
from satexport.targets import shipped

STEPS: dict[str, Any] = {kind: {"p99_ms": 1e-9} for kind in ("burst", "paused")}
MEASURED = figures(STEPS, {"resident": 1, "transient": None})
BUILT = figures(STEPS, {"device": 1})


@pytest.mark.parametrize("target", shipped(), ids=lambda target: target.name)
def test_budgets_of_every_shipped_target_are_judged_where_they_can_be(target: Target) -> None:
    wanted = {key for key, limit in asdict(target.budgets).items() if limit is not None}
    for found in (MEASURED, BUILT):
        gates = budget_gates(target.budgets, found, "a: ")
        assert {gate.name for gate in gates} == {f"a: {key}" for key in wanted}
        for gate in gates:
            key = gate.name.removeprefix("a: ")
            assert gate.status == ("elsewhere" if key not in found else "skipped" if found[key] is None
                                   else "passed")


def test_a_budget_of_another_command_is_shown_with_the_one_that_judges_it() -> None:
    (gate,) = budget_gates(Budgets(device_mb=1.0), MEASURED)
    assert (gate.status, gate.value) == ("elsewhere", None)
    assert gate.note == "judged on the board where an engine is built"
    (gate,) = budget_gates(Budgets(resident_mb=1.0), BUILT)
    assert gate.note == "judged by `satexport measure`"
    (gate,) = budget_gates(Budgets(transient_mb=1.0), MEASURED)
    assert gate.note == "could not be measured here"


def test_a_budget_that_is_exceeded_fails_with_value_and_limit() -> None:
    (gate,) = budget_gates(Budgets(step_ms=2.0), {"step_ms": 2.5})
    assert (gate.status, gate.value, gate.note) == ("failed", 2.5, "2.5, at most 2")


def test_a_budget_that_is_judged_elsewhere_changes_no_verdict() -> None:
    passed, skipped, failed = (Gate("g", status, None, 0, "") for status in ("passed", "skipped", "failed"))
    (elsewhere,) = budget_gates(Budgets(device_mb=1.0), MEASURED)
    for gates in ([passed], [skipped], [failed], [passed, skipped], []):
        assert verdict([*gates, elsewhere]) == verdict(gates)
    assert required([elsewhere, skipped]) == [elsewhere, failed]
