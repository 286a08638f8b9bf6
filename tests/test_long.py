"""What needs longer than the suite may take: `make test-long`."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.parity import run_parity
from satexport.stream import load
from satexport.variants import VARIANTS
from tests.conftest import export

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("model", "delay"), VARIANTS)
def test_every_variant_stays_within_its_gate_over_ten_minutes(tmp_path: Path, model: str, delay: int) -> None:
    tagger = load(export(tmp_path, model, delay, "random"))
    gates, parts = run_parity(tagger, "synthetic", None, None, None, minutes=10)
    print(f"\n{model} at {delay} s: {parts['differences']}")
    assert gates[0].status == "passed", gates[0].note


def test_the_demo_stays_within_its_gate_over_ten_minutes(demo: Path) -> None:
    gates, parts = run_parity(load(demo), "synthetic", None, None, None, minutes=10)
    print(f"\ndemo: {parts['differences']}")
    assert [gate.status for gate in gates] == ["passed"] * 3
