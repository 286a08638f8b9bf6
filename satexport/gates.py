"""Gates: conditions that a bundle meets or does not, and the verdict over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Gate:
    """One condition and how it came out."""

    name: str
    status: str            # "passed", "failed" or "skipped"
    value: float | None
    limit: float
    note: str


def required(gates: Sequence[Gate]) -> list[Gate]:
    """The gates, those that could not be judged failed."""
    return [replace(gate, status="failed") if gate.status == "skipped" else gate for gate in gates]


def verdict(gates: Sequence[Gate]) -> str:
    """"failed" where any gate failed, "passed" where all passed, else "skipped"; so is nothing."""
    states = {gate.status for gate in gates} or {"skipped"}
    return "failed" if "failed" in states else "skipped" if "skipped" in states else "passed"


def failures(gates: Sequence[Gate]) -> str:
    """What failed and why, in one line; empty where nothing did."""
    return "; ".join(f"{gate.name} failed: {gate.note}" for gate in gates if gate.status == "failed")
