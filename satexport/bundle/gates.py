"""Gates: conditions that a bundle meets or does not, and the verdict over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One condition and how it came out."""

    name: str
    status: str            # "passed", "failed", "skipped", or "elsewhere": another command judges it
    value: float | None    # None: it was not judged here
    limit: float
    note: str              # one line for people


def fail_skipped(gates: Sequence[Gate]) -> tuple[Gate, ...]:
    """The gates; those that could not be judged have failed."""
    return tuple(replace(gate, status="failed") if gate.status == "skipped" else gate for gate in gates)


def verdict(gates: Sequence[Gate]) -> str:
    """"failed" if any gate failed, "passed" if all that are judged here passed, else "skipped", as are no
    gates at all."""
    states = {gate.status for gate in gates} - {"elsewhere"} or {"skipped"}
    return "failed" if "failed" in states else "skipped" if "skipped" in states else "passed"


def failures(gates: Sequence[Gate]) -> str:
    """What failed and why, in one line; empty if nothing did."""
    return "; ".join(f"{gate.name} failed: {gate.note}" for gate in gates if gate.status == "failed")
