"""Gates: conditions that a bundle meets or does not, and the verdict over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satexport.bundle.target import Budgets

MB = 1e6  # bytes
JUDGED = {  # where each key of a target's [budgets] is judged
    "step_ms": "by `satexport measure`, and on the board where an engine is built",
    "resident_mb": "by `satexport measure`", "transient_mb": "by `satexport measure`",
    "device_mb": "on the board where an engine is built"}


@dataclass(frozen=True)
class Gate:
    """One condition and how it came out."""

    name: str
    status: str            # "passed", "failed", "skipped", or "elsewhere": another command judges it
    value: float | None
    limit: float
    note: str


def figures(steps: Mapping[str, Any], memory: Mapping[str, float | None]) -> dict[str, float | None]:
    """What was found that a target may have a budget for, by the budgets' keys, ms and MB: of steps in a
    burst and after pauses, and of memory by its kind, bytes. None: could not be measured here."""
    return {"step_ms": max(steps[kind]["p99_ms"] for kind in ("burst", "paused")),
            **{f"{kind}_mb": count and count / MB for kind, count in memory.items()}}


def budget_gates(budgets: Budgets, figures: Mapping[str, float | None], of: str = "") -> list[Gate]:
    """A target's budgets as gates over `figures`; `of` begins their names. One whose figure is None is
    skipped, one that has none is judged elsewhere."""
    gates = []
    for key, limit in asdict(budgets).items():
        if limit is None:
            continue
        name, value = f"{of}{key}", figures.get(key)
        if key not in figures:
            gates.append(Gate(name, "elsewhere", None, limit, f"judged {JUDGED[key]}"))
        elif value is None:
            gates.append(Gate(name, "skipped", None, limit, "could not be measured here"))
        else:
            gates.append(Gate(name, "passed" if value <= limit else "failed", value, limit,
                              f"{value:.4g}, at most {limit:g}"))
    return gates


def required(gates: Sequence[Gate]) -> list[Gate]:
    """The gates, those that could not be judged failed."""
    return [replace(gate, status="failed") if gate.status == "skipped" else gate for gate in gates]


def verdict(gates: Sequence[Gate]) -> str:
    """"failed" where any gate failed, "passed" where all that are judged here passed, else "skipped"; so is
    nothing."""
    states = {gate.status for gate in gates} - {"elsewhere"} or {"skipped"}
    return "failed" if "failed" in states else "skipped" if "skipped" in states else "passed"


def failures(gates: Sequence[Gate]) -> str:
    """What failed and why, in one line; empty where nothing did."""
    return "; ".join(f"{gate.name} failed: {gate.note}" for gate in gates if gate.status == "failed")
