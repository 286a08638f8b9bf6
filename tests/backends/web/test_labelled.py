"""What int8 in a browser keeps of the demo's mAP, on real clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.calls import call


@pytest.mark.long
@pytest.mark.parametrize(("bundle", "differs"), [("web_int8", 0.05), ("web_fp32", 1e-4)])
def test_the_demo_in_a_browser_keeps_its_map_on_fold_4_of_esc_10(
        bundle: str, differs: float, shared: Path, chromium: str, request: pytest.FixtureRequest) -> None:
    result = call("parity", request.getfixturevalue(bundle), "--data", shared / "esc10", "--folds", 4,
                  "--minutes", 2, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert {gate["status"] for gate in report["gates"]} == {"passed"}
    clips = report["labelled_set"]
    print(f"{bundle}: mAP {clips['bundle_map']:.4f} of {clips['pytorch_map']:.4f} on {clips['clips']} clips, "
          f"largest difference {clips['differences']['largest']:.1e}")
    assert clips["clips"] == 80
    assert clips["differences"]["largest"] < differs
