"""The thresholds file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satexport.bundle.folder import labels_sha256
from satexport.bundle.thresholds import (
    OperatingPoint,
    Thresholds,
    read_thresholds,
    threshold_arrays,
    write_thresholds,
)
from satexport.errors import DataError, UsageError

LABELS = ("Dog", "Siren", 'a "quoted" name', "水 \U0001f600 [x].y = 1 # \\")
HEAD = f'schema = 1\nlabels_sha256 = "{labels_sha256(LABELS)}"\n'
SHARE = st.floats(0.01, 1.0)
POINTS = st.builds(
    lambda on, part, f1, clips: OperatingPoint(on=on, off=part and on * part, f1=f1, clips=clips),
    SHARE, st.none() | SHARE, st.none() | SHARE, st.none() | st.integers(0, 9))


@given(st.dictionaries(st.sampled_from(LABELS), POINTS), SHARE)
def test_what_is_written_is_read_again(points: dict[str, OperatingPoint], on: float) -> None:
    thresholds = Thresholds(labels_sha256=labels_sha256(LABELS), on=on, threshold=points,
                            origin={"data": "ESC-50", "folds": ["3"], "clips": 400, "precision": 0.9})
    with tempfile.TemporaryDirectory() as folder:
        write_thresholds(Path(folder, "t.toml"), thresholds)
        assert read_thresholds(Path(folder, "t.toml"), LABELS) == thresholds


def test_a_label_without_an_operating_point_has_the_default(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(HEAD + 'on = 0.6\n[threshold."Dog"]\non = 0.4\noff = 0.3\n[threshold.Siren]\non = 0.7\n',
                    encoding="utf-8")
    found = read_thresholds(file, LABELS)
    points = {"Dog": OperatingPoint(on=0.4, off=0.3), "Siren": OperatingPoint(on=0.7)}
    assert (found.on, found.off, found.threshold) == (0.6, None, points)
    file.write_text(HEAD, encoding="utf-8")
    found = read_thresholds(file, LABELS)
    assert (found.on, found.off, found.threshold) == (0.5, None, {})


def test_an_event_without_a_lower_threshold_ends_below_the_one_at_which_it_begins() -> None:
    on, off = threshold_arrays([OperatingPoint(on=0.4, off=0.0), OperatingPoint(on=0.7)])
    assert on.dtype == np.float32
    assert on.tolist() == pytest.approx([0.4, 0.7])
    assert off.tolist() == [0, on[1]]


@pytest.mark.parametrize(("content", "words"), [
    (HEAD.replace("schema = 1", "schema = 2"), "schema is 2, this version of satexport reads schema 1"),
    (HEAD.replace("= \"", "= \"0"), "is for other labels than the model's 4"),
    (HEAD + "[threshold.Sirene]\non = 0.4", "has no label 'Sirene'; similar ones are 'Siren'. Correct or"),
    (HEAD + "[threshold.Dog]\non = 1.5", "Dog\": on is 1.5, expected a score, more than 0, at most 1"),
    (HEAD + "[threshold.Dog]\non = nan", "Dog\": on is nan, expected a score"),
    (HEAD + "[threshold.Dog]\non = 0.4\noff = 0.5", "Dog\": off is 0.5, expected a score, at most 0.4"),
    (HEAD + "on = 0.4\noff = 0.5", "off is 0.5, expected a score, at most 0.4"),
    (HEAD + "[threshold.Dog]\noff = 0.4", "the key 'on' is missing in [threshold.\"Dog\"]"),
    (HEAD + "[threshold.Dog]\non = 0.4\nup = 1", "unknown key 'up'"),
    (HEAD + "[threshold]\nDog = 0.4", "expected a table [threshold.\"Dog\"]"),
    (HEAD + "threshold = 0.4", "threshold is 0.4, expected a table [threshold]"),
    ("on = ", "is not a readable TOML"), ("", "schema is None")])
def test_a_file_that_does_not_fit_is_refused(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_thresholds(tmp_path / "t.toml", LABELS)
    assert words in error.value.message
    assert str(tmp_path / "t.toml") in error.value.message


def test_a_missing_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file; expected a thresholds file; `satexport thresholds"):
        read_thresholds(tmp_path / "t.toml", LABELS)
