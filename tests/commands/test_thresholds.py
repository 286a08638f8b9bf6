"""`satexport thresholds` as a user sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.audio.labels import audioset_labels
from satexport.bundle.thresholds import read_thresholds
from tests.bundle.copies import copy_of
from tests.commands.calls import call
from tests.lean import TRAINING, python


def test_thresholds_are_found_on_clips_that_do_not_gate(demo: Path, few_real: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    result = call("thresholds", demo, "--data", few_real, "-o", file)
    assert result.code == 0
    assert "517 labels keep 0.5, because no clip has them: Speech, " in result.err
    found = read_thresholds(file, audioset_labels())
    assert found.origin["folds"] == ["2"]
    assert len(found.threshold) == 10
    assert {point.clips for point in found.threshold.values()} == {2}
    assert "\n# Speech: no clip has it, the default holds\n" in file.read_text("utf-8")
    assert found.on == 0.5
    result = call("thresholds", demo, "--data", few_real, "--folds", "3,4")
    assert (result.code, "fold 4 gates" in result.err) == (2, True)


def test_thresholds_go_to_the_reports_of_the_bundle_and_have_the_precision(
        demo: Path, few_clips: Path, tmp_path: Path) -> None:
    bundle = copy_of(demo, tmp_path)
    assert call("thresholds", bundle, "--data", few_clips, "--precision", "0.95").code == 0
    found = read_thresholds(bundle / "reports" / "thresholds.toml", audioset_labels())
    assert found.threshold
    assert all(point.precision is not None and point.precision >= 0.95 for point in found.threshold.values())


WITHOUT_TORCH = """
import sys
from satexport import load
from satexport.audio.datasets import load_set
from satexport.parity.operating_points import find_thresholds
from satexport.quantize.calibration_set import choosing_set
with load(sys.argv[1]) as tagger:
    print(len(find_thresholds(tagger, load_set(sys.argv[2], tagger.labels)).thresholds.threshold))
"""


def test_thresholds_are_found_without_torch(demo: Path, few_clips: Path) -> None:
    assert python(WITHOUT_TORCH, demo, few_clips, without=TRAINING) == "14\n"


@pytest.mark.parametrize(("options", "code", "words"), [
    (["--data", "synthetic"], 2, "has random weights: its scores mean nothing"),
    (["--data", "nowhere"], 4, "nowhere: does not exist"),
    (["--data", "synthetic", "--folds", "1"], 2, "--data synthetic takes neither --folds nor --map"),
    (["--data", "synthetic", "--map", "map.csv"], 2, "--data synthetic takes neither --folds nor --map"),
    (["--data", "scenes", "--folds", "1"], 2, "--data scenes takes neither --folds nor --map"),
    (["--data", "scenes", "--map", "map.csv"], 2, "--data scenes takes neither --folds nor --map"),
    (["--data", "synthetic", "--precision", "0"], 2, "0.0 is not in the range 0<x<=1"),
    (["--data", "synthetic", "--precision", "nan"], 2, "nan is not in the range 0 to 1"),
    (["--data", "synthetic", "-o", "-"], 2, "expected a file name for the thresholds file"),
    ([], 2, "Missing option '--data'")])
def test_bad_use_is_refused(tiny: Path, options: list[str], code: int, words: str) -> None:
    result = call("thresholds", tiny, *options)
    assert (result.code, words in result.err) == (code, True), result.err
