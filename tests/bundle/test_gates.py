"""The verdict on gates."""

from __future__ import annotations

from satexport.bundle.gates import Gate, fail_skipped, verdict


def gate(status: str) -> Gate:
    return Gate(name="g", status=status, value=None, limit=0, note="")


PASSED, SKIPPED, FAILED, ELSEWHERE = map(gate, ("passed", "skipped", "failed", "elsewhere"))


def test_a_skipped_gate_is_never_a_pass() -> None:
    assert verdict([PASSED, PASSED]) == "passed"
    assert verdict([PASSED, SKIPPED]) == "skipped"
    assert verdict([SKIPPED, FAILED, PASSED]) == "failed"


def test_a_gate_that_is_checked_elsewhere_does_not_affect_the_verdict() -> None:
    for gates in ([PASSED], [SKIPPED], [FAILED], [PASSED, SKIPPED], []):
        assert verdict([*gates, ELSEWHERE]) == verdict(gates)
    assert fail_skipped([ELSEWHERE, SKIPPED]) == (ELSEWHERE, FAILED)
