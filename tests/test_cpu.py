"""`satexport cpu` as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from satexport.stream import load
from tests.test_bundle import copy_of
from tests.test_cli import call


@pytest.fixture
def export(demo: Path, tmp_path: Path) -> Path:
    """An output folder that holds the demo's export."""
    (tmp_path / "build" / "sat-t-2s").mkdir(parents=True)
    shutil.copytree(demo, tmp_path / "build" / "sat-t-2s" / "onnx")
    return tmp_path / "build"


def test_int8_of_the_export_in_the_output_folder_is_made_proven_and_says_what_it_is(export: Path) -> None:
    result = call("cpu", "--int8", "--output", export, "--no-measure", "--minutes", 0.2)
    assert result.code == 0, result.err
    path = export / "sat-t-2s" / "cpu-int8"
    assert "real audio is better" in result.err.lower()
    assert "Parity: passed" in result.out
    report = json.loads((path / "parity.json").read_bytes())
    assert report["set"]["bundle_map"] >= 0.99 * report["set"]["pytorch_map"]
    assert next(iter(report["differences"].values()))["largest"] > 1e-5  # it is int8 that was run
    made = json.loads((path / "calibration.json").read_bytes())
    assert made["set"]["name"] == "synthetic"
    assert len(made["int8"]) == 60
    assert load(path).bundle.target.precision == "int8"
    assert (path / "model.onnx").stat().st_size < 0.33 * (export / "sat-t-2s/onnx/model.onnx").stat().st_size
    assert call("parity", path, "--golden").code == 0


def test_real_clips_calibrate_and_others_gate(export: Path, shared: Path) -> None:
    result = call("cpu", "--int8", "--calibration", "esc50", "--data", shared / "esc10", "--output", export,
                  "--no-measure", "--minutes", 0.2)
    assert result.code == 0, result.err
    path = export / "sat-t-2s" / "cpu-int8"
    report = json.loads((path / "parity.json").read_bytes())
    assert report["set"]["clips"] == 80
    assert report["set"]["bundle_map"] >= 0.995 * report["set"]["pytorch_map"]
    assert report["set"]["differences"]["top1_agreement"] >= 0.98
    overlap = call("parity", path, "--data", shared / "esc10", "--folds", "1", "--minutes", 0.2)
    assert overlap.code == 4
    assert "calibrated on; a clip that gates may not be" in overlap.err


@pytest.mark.long
def test_fp32_and_dynamic_are_bundles_of_their_own(export: Path) -> None:
    for option, name in ((["--fp32"], "cpu-fp32"), (["--int8", "dynamic"], "cpu-int8-dynamic")):
        result = call("cpu", *option, "--output", export, "--no-measure", "--minutes", 0.2)
        assert result.code == 0, result.err
        assert load(export / "sat-t-2s" / name).bundle.target.name == name


def test_a_failed_gate_ends_with_1_and_the_bundle_says_where(export: Path, tmp_path: Path) -> None:
    (tmp_path / "strict.toml").write_text('''name = "strict"
backend = "onnxruntime"
precision = "int8"
[quantization]
[gates]
max_score_difference = 1e-7
map_kept = 0.99
''')
    result = call("cpu", "--int8", "--target", tmp_path / "strict.toml", "--output", export, "--no-measure",
                  "--minutes", 0.2)
    assert result.code == 1
    assert "largest score difference" in result.err
    report = json.loads((export / "sat-t-2s" / "strict" / "parity.json").read_bytes())
    assert report["verdict"] == "failed"


@pytest.mark.long
def test_measuring_puts_export_bundle_and_pytorch_in_one_table(
        export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = call("cpu", "--int8", "--output", export, "--minutes", 0.1, "--json", "--threads", 1)
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    names = [row["name"] for row in (*printed["measure"]["bundles"], *printed["measure"]["eager"])]
    assert names == ["sat-t-2s/onnx", "sat-t-2s/cpu-int8", "sat-t-2s/PyTorch eager"]


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["--fp32", "--int8"], 2, "choose one"),
    (["--int8", "half"], 2, "half"),
    (["--int8", "--model", "sat-t", "--from", "x"], 2, "choose one of them"),
    (["--int8", "--from", "nothing"], 4, "no such folder"),
    (["--int8", "--calibration", "nothing"], 2, "no calibration set"),
    (["--int8", "--leave-out", "fc1"], 2, "no layer 'fc1'"),
    (["--int8", "--target", "onnx"], 2, "wants fp32"),
    (["--target", "onnx"], 2, "is the export itself"),
    (["--int8", "--delay", "1"], 2, "say --model, too"),
    (["--int8", "--calibration", "esc50"], 4, "satexport data esc50")])
def test_wrong_use_and_bad_input_are_said_and_leave_nothing(
        export: Path, arguments: list[str], code: int, words: str) -> None:
    result = call("cpu", *arguments, "--output", export)
    assert result.code == code
    assert words in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in (export / "sat-t-2s").iterdir()] == ["onnx"]


def test_none_or_several_exports_are_listed(export: Path, tmp_path: Path, random_vit: Path) -> None:
    empty = call("cpu", "--int8", "--output", tmp_path / "empty")
    assert empty.code == 2
    assert "holds no export" in empty.err
    copy_of(random_vit, export)
    several = call("cpu", "--int8", "--output", export)
    assert several.code == 2
    assert "holds 2 exports" in several.err
