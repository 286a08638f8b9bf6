"""The gates that a labelled set judges. Imports only numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from satexport.bundle.gates import AT_MOST, EVENT_METRICS, Gate
from satexport.bundle.target import Gates
from satexport.parity.records import SetParity

NO_EVENTS = "the set has no strong labels, which tell when a sound begins and ends"
UNDEFINED = "undefined on this set"


def judge_map(gates: Gates, result: SetParity | None, why_not: str) -> Gate:
    """Judge whether the bundle keeps the target's share of PyTorch's mAP. Without a result the gate is
    skipped, for the reason `why_not`."""
    limit, name = gates.map_kept, "mAP kept"
    if result is None:
        return Gate(name=name, status="skipped", value=None, limit=limit, note=why_not)
    kept = result.bundle_map / result.pytorch_map
    note = f"{result.bundle_map:.4f} of {result.pytorch_map:.4f}, at least {limit:.1%}{_on(result)}"
    return Gate(name=name, status="passed" if kept >= limit else "failed", value=kept, limit=limit, note=note)


def judge_metrics(gates: Gates, result: SetParity | None, why_not: str) -> Iterator[Gate]:
    """Judge the bundle's metrics that the target limits. A gate is skipped without a result, for the reason
    `why_not`; for an event metric, if the set has no strong labels; and if the metric is undefined, which
    shows because PyTorch's is, too. NaN of the bundle alone fails."""
    for name, limit in gates.metrics.items():
        skipped = why_not if result is None else NO_EVENTS if (
            name in EVENT_METRICS and result.events is None) else ""
        if result is None or skipped:
            yield Gate(name=name, status="skipped", value=None, limit=limit, note=skipped)
            continue
        value, reference = _values(result, name)
        if math.isnan(reference):
            yield Gate(name=name, status="skipped", value=None, limit=limit, note=UNDEFINED)
            continue
        passed, word = (value <= limit, "at most") if name in AT_MOST else (value >= limit, "at least")
        yield Gate(name=name, status="passed" if passed else "failed", value=value, limit=limit,
                   note=f"{value:.4f}, {word} {limit:g}{_on(result)}")


def _values(result: SetParity, name: str) -> tuple[float, float]:
    """A metric of the bundle and of PyTorch."""
    record: Any = result.events if name in EVENT_METRICS else result
    return float(getattr(record.bundle, name)), float(getattr(record.pytorch, name))


def _on(result: SetParity) -> str:
    """Return ", on fold 4 of ESC-50" if only some folds of a set gate, else ""."""
    folds: Any = result.origin.get("folds")
    return f", on fold {', '.join(folds)} of {result.name}" if folds else ""
