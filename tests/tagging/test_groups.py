"""The file of groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.bundle.thresholds import OperatingPoint
from satexport.errors import DataError, UsageError
from satexport.tagging.events import Group
from satexport.tagging.groups import read_groups

LABELS = ("Dog", "Cat", "Siren", "Smoke detector, smoke alarm")


def test_a_group_has_labels_and_perhaps_thresholds(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text('[group."Alarm"]\nlabels = ["Siren", "Smoke detector, smoke alarm"]\n'
                                     '[group.Pet]\nlabels = ["Dog"]\non = 0.4\noff = 0.3\n')
    assert read_groups(tmp_path / "g.toml", LABELS) == {
        "Alarm": Group(labels=("Siren", "Smoke detector, smoke alarm")),
        "Pet": Group(labels=("Dog",), threshold=OperatingPoint(on=0.4, off=0.3))}


@pytest.mark.parametrize(("content", "message"), [
    ('[group.A]\nlabels = ["Sirene"]', "'Sirene', which the model does not have; similar ones are 'Siren'"),
    ('[group.A]\nlabels = ["smoke"]', "similar ones are 'Smoke detector, smoke alarm'"),
    ('[group.A]\nlabels = ["Quux"]', "which the model does not have. Correct"),
    ('[group.A]\nlabels = []', "at least one"), ('[group.A]\nlabels = ["Dog", "Dog"]', "different labels"),
    ('[group.A]\non = 0.4', "'labels' is missing"), ('[group.A]\nlabels = "Dog"', "a list of strings"),
    ('[group.A]\nlabels = ["Dog"]\non = 1.5', "at most 1"),
    ('[group.A]\nlabels = ["Dog"]\noff = 0.5', "which it needs"),
    ('[group.A]\nlabels = ["Dog"]\nmin = 2', "unknown key 'min'"),
    ('[group."a\\tb"]\nlabels = ["Dog"]', "printable"),
    ('[groups.A]\nlabels = ["Dog"]', "expected a TOML of groups"), ("group = 3", "expected a TOML of groups"),
    ("[group]\nA = 3", "expected a TOML of groups"), ("", "expected a TOML of groups"),
    ("[", "is not a readable TOML")])
def test_a_bad_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text(content)
    with pytest.raises(DataError) as caught:
        read_groups(tmp_path / "g.toml", LABELS)
    assert message in str(caught.value)
    assert str(tmp_path / "g.toml") in str(caught.value)


def test_a_file_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_groups(tmp_path / "g.toml", LABELS)
