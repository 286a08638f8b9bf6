"""What `satexport cpu` refuses, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.pipeline import build as compile_module
from tests.bundle.copies import copy_of
from tests.commands.calls import call
from tests.tiny import SAT_2S


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["--fp32", "--int8"], 2, "choose one"),
    (["--int8", "half"], 2, "half"),
    (["--int8", "--model", "sat-t", "--from", "x"], 2, "choose one of them"),
    (["--int8", "--from", "nothing"], 4, "no such folder"),
    (["--int8", "--calibration", "nothing"], 2, "no calibration set"),
    (["--int8", "--leave-out", "fc1"], 2, "no layer 'fc1'"),
    (["--int8", "dynamic", "--ranges", "entropy"], 2, "computes ranges at every step"),
    (["--int8", "dynamic", "--calibration", "synthetic"], 2, "this bundle needs no calibration"),
    (["--fp32", "--calibration", "synthetic"], 2, "this bundle needs no calibration"),
    (["--fp32", "--leave-out", "00.fc1"], 2, "--leave-out applies only to int8"),
    (["--fp32", "--sensitivity"], 2, "--sensitivity applies only to int8"),
    (["--int8", "--data", "nothing"], 4, "does not exist"),
    (["--int8", "--folds", "4"], 4, "has no folds"),
    (["--int8", "--target", "onnx"], 2, "target onnx is fp32"),
    (["--target", "onnx"], 2, "is the export itself"),
    (["--int8", "--delay", "1"], 2, "add --model"),
    (["--int8", "--calibration", "esc50"], 4, "satexport data esc50")])
def test_wrong_use_and_bad_input_are_reported_and_leave_nothing_behind(
        export: Path, arguments: list[str], code: int, words: str) -> None:
    result = call("cpu", *arguments, "--output", export)
    assert result.code == code
    assert words in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in (export / SAT_2S).iterdir()] == ["onnx"]


def test_a_target_that_asks_for_what_the_runtime_lacks_ends_with_3(export: Path, tmp_path: Path) -> None:
    (tmp_path / "half.toml").write_text('''name = "half"
backend = "onnxruntime"
precision = "fp16"
[gates]
max_score_difference = 0.01
map_kept = 0.99
''')
    result = call("cpu", "--target", tmp_path / "half.toml", "--output", export)
    words = "has the precision fp16, for which ONNX Runtime has no CPU kernels"
    assert (result.code, words in result.err) == (3, True)


def test_a_bad_gate_set_fails_before_any_work(
        export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "calibrate", None)
    for arguments, code in ((["--leave-out", "fc1"], 2), (["--data", "nothing"], 4), (["--folds", "4"], 4)):
        assert call("cpu", "--int8", *arguments, "--output", export).code == code


def test_no_export_and_several_exports_are_errors(export: Path, tmp_path: Path, random_vit: Path) -> None:
    empty = call("cpu", "--int8", "--output", tmp_path / "empty")
    assert empty.code == 2
    assert "contains no export" in empty.err
    copy_of(random_vit, export)
    several = call("cpu", "--int8", "--output", export)
    assert several.code == 2
    assert "contains 2 exports" in several.err
