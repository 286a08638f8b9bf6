"""The set says which folds are for the gates, and every command with a gate reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from satexport.audio.synthetic import synthetic_clip
from satexport.quantize.calibration_set import CalibrationSet, default_folds, find_calibration
from tests.commands.calls import call
from tests.machine import need

soundfile = need("soundfile", "audio")


@pytest.fixture(scope="module")
def esc50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short sounds in ESC-50 layout, two in fold 1 and two in fold 4."""
    folder = tmp_path_factory.mktemp("esc50")
    (folder / "audio").mkdir()
    (folder / "meta").mkdir()
    lines = ["filename,fold,category"]
    for number, (fold, category) in enumerate([(1, "rain"), (1, "dog"), (4, "dog"), (4, "cat")]):
        sound = synthetic_clip("evaluate", number, rate=16_000)[0][:32_000]
        soundfile.write(folder / "audio" / f"{number}.wav", sound, 16_000)
        lines.append(f"{number}.wav,{fold},{category}")
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines))
    return folder


def test_no_shipped_set_calibrates_or_chooses_on_what_gates() -> None:
    found = find_calibration("esc50")
    assert found.gate_folds == (4,)
    assert not set(found.gate_folds) & {*found.folds, *found.choose_folds}


def test_parity_and_the_bundle_of_a_target_gate_on_the_same_folds(
        demo: Path, esc50: Path, tmp_path: Path) -> None:
    options = "--minutes", 0.1, "--data", esc50
    report = tmp_path / "parity.json"
    call("parity", demo, "--report", report, *options)
    made = call("cpu", "--fp32", "--no-measure", "--from", demo, "--output", tmp_path, "--json", *options)
    for found in (json.loads(report.read_text()), json.loads(made.out)["parity"]):
        assert found["labelled_set"]["origin"]["folds"] == ["4"]
        assert sorted(found["labelled_set"]["bundle"]["classes"]) == ["Cat", "Dog"]
        assert found["gates"][-1]["note"].endswith(f", on fold 4 of {esc50}")
    chosen = call("parity", demo, "--report", report, "--folds", "1,4", *options)
    assert f"on fold 1, 4 of {esc50}" in chosen.out


def test_a_set_of_ones_own_says_which_folds_gate(esc50: Path) -> None:
    mine = CalibrationSet(name="mine", source="esc50", licence="mine", clips=1, samples=16,
                          folds=(4,), gate_folds=(1,))
    assert default_folds(str(esc50)) == [4]
    assert default_folds(str(esc50), mine) == [1]
    assert default_folds("synthetic", mine) is None


def test_a_set_without_the_fold_that_gates_asks_for_one(demo: Path, esc50: Path, tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    lines = (esc50 / "meta" / "esc50.csv").read_text().split("\n")
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(line for line in lines if ",4," not in line))
    found = call("parity", demo, "--report", tmp_path / "r.json", "--data", tmp_path)
    assert found.code == 4
    assert "no clip in fold 4; it has the folds 1: choose with --folds" in found.err
