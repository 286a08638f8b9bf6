"""Gates on metrics of a labelled set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from satexport.bundle.gates import METRICS, Gate, verdict
from satexport.bundle.target import Gates
from satexport.parity.metric_gates import judge_metrics
from satexport.parity.records import SetParity
from tests.report.records import parity_report

FOUND = parity_report().labelled_set
assert FOUND


def judge(name: str, limit: float, found: SetParity | None = FOUND, why_not: str = "") -> Gate:
    gates = Gates(max_score_difference=1, map_kept=1, metrics={name: limit})
    (gate,) = judge_metrics(gates, found, why_not)
    return gate


@pytest.mark.parametrize(("name", "value", "passing", "failing"), [
    ("map", 0.9108, 0.9, 0.92), ("auc", 0.97, 0.97, 0.98), ("d_prime", 2.6598, 2.6, 2.7),
    ("top1", 0.875, 0.8, 0.9), ("best_f1", 0.88, 0.8, 0.9), ("ece", 0.02, 0.02, 0.01),
    ("segment_f1", 0.8, 0.7, 0.9), ("segment_f1_macro", 0.7, 0.7, 0.9),
    ("onset_f1", 0.3, 0.2, 0.9), ("onset_f1_macro", 0.2, 0.2, 0.9)])
def test_every_metric_can_gate(name: str, value: float, passing: float, failing: float) -> None:
    gate = judge(name, passing)
    assert gate.status == "passed"
    assert gate.value == pytest.approx(value, abs=1e-4)
    assert gate.note.endswith("on fold 4 of ESC-50")
    assert judge(name, failing).status == "failed"
    assert name in METRICS


def test_a_metric_that_cannot_be_judged_is_skipped_and_never_passes() -> None:
    assert FOUND
    gate = judge("auc", 0.1, None, "no set")
    assert (gate.status, gate.note) == ("skipped", "no set")
    gate = judge("segment_f1", 0.1, replace(FOUND, events=None))
    assert (gate.status, "has no strong labels" in gate.note) == ("skipped", True)
    assert verdict([gate]) == "skipped"
    undefined = replace(FOUND.pytorch, auc=float("nan"))
    for name in ("auc", "d_prime"):
        assert judge(name, 0.1, replace(FOUND, pytorch=undefined, bundle=undefined)).status == "skipped"


def test_a_bundle_whose_scores_are_not_finite_fails() -> None:
    assert FOUND
    broken = replace(FOUND.bundle, auc=float("nan"), ece=float("nan"))
    for name in ("auc", "ece", "d_prime"):
        assert judge(name, 0.1, replace(FOUND, bundle=broken)).status == "failed"
