"""A target's budgets: which figure each one limits, and the gates that judge them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict

from satexport.bundle.gates import Gate
from satexport.bundle.target import Budgets
from satexport.measure.latency import StepLatency
from satexport.measure.records import MemoryBytes
from satexport.memory import MB

JUDGED_BY = {  # the command that judges each key of a target's [budgets]
    "step_ms": "by `satexport measure`, and on the board when an engine is built",
    "resident_mb": "by `satexport measure`", "transient_mb": "by `satexport measure`",
    "device_mb": "on the board when an engine is built"}
Figures = Mapping[str, float | None]  # ms and MB by budget key; None: could not be measured here


def bundle_figures(latency: StepLatency, memory: MemoryBytes) -> Figures:
    """Return the figures of a bundle that `satexport measure` judges."""
    return {"step_ms": latency.slowest_p99_ms, "resident_mb": _megabytes(memory.resident),
            "transient_mb": _megabytes(memory.transient)}


def engine_figures(latency: StepLatency, memory: MemoryBytes) -> Figures:
    """Return the figures of an engine that the board judges."""
    return {"step_ms": latency.slowest_p99_ms, "device_mb": _megabytes(memory.device)}


def budget_gates(budgets: Budgets, figures: Figures, prefix: str = "", machine: str = "") -> tuple[Gate, ...]:
    """Return a gate for each budget that the target sets, named `prefix` and the budget's key. A gate is
    "skipped" if its figure is None, and "elsewhere" if `figures` lacks it, because another command judges it,
    or if this is not a `machine` of the target."""
    return tuple(_budget_gate(key, limit, figures, prefix, machine)
                 for key, limit in asdict(budgets).items() if limit is not None)


def _budget_gate(key: str, limit: float, figures: Figures, prefix: str, machine: str) -> Gate:
    value = figures.get(key)
    if machine not in ("", platform.machine()):
        value = None
        status, note = "elsewhere", f"judged on {machine}; this machine is {platform.machine()}"
    elif key not in figures:
        status, note = "elsewhere", f"judged {JUDGED_BY[key]}"
    elif value is None:
        status, note = "skipped", "could not be measured here"
    else:
        status, note = "passed" if value <= limit else "failed", f"{value:.4g}, at most {limit:g}"
    return Gate(name=f"{prefix}{key}", status=status, value=value, limit=limit, note=note)


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / MB
