"""Gates: the conditions that a bundle must meet, and the overall verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

EVENT_METRICS = ("segment_f1", "segment_f1_macro", "onset_f1", "onset_f1_macro")  # need strong labels
AT_MOST = ("ece",)     # metrics whose limit is the largest value; that of the others is the smallest
METRICS = ("map", "auc", "d_prime", "top1", "best_f1", *AT_MOST, *EVENT_METRICS)  # that a target may gate


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A condition and its result."""

    name: str
    status: str            # "passed", "failed", "skipped", or "elsewhere": another command checks it
    value: float | None    # None: not checked here
    limit: float
    note: str              # explanation, one line


def fail_skipped(gates: Sequence[Gate]) -> tuple[Gate, ...]:
    """The gates, with skipped ones marked as failed."""
    return tuple(replace(gate, status="failed") if gate.status == "skipped" else gate for gate in gates)


def verdict(gates: Sequence[Gate]) -> str:
    """"failed" if any gate failed, "passed" if all gates checked here passed, otherwise "skipped", also if
    there are none."""
    states = {gate.status for gate in gates} - {"elsewhere"} or {"skipped"}
    return "failed" if "failed" in states else "skipped" if "skipped" in states else "passed"


def failures(gates: Sequence[Gate]) -> str:
    """The failed gates and the reasons, in one line; empty if none failed."""
    return "; ".join(f"{gate.name} failed: {gate.note}" for gate in gates if gate.status == "failed")
