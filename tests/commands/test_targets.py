"""`satexport targets` lists every target that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from satexport.targets import shipped
from tests.commands.calls import call
from tests.own_targets import fill


def test_every_target_is_listed_with_its_gates_budgets_and_description(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, monkeypatch)
    result = call("targets")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.out.splitlines()]
    first = [row for row in rows if row and row[0]]
    assert result.code == 0
    assert [row[0] for row in first] == ["any", "any-2", "board"]
    assert first[0][1:] == ["onnxruntime", "fp32", "-", "scores within 0.001", "none", "the one on my desk"]
    cells = [" / ".join(filter(None, column)) for column in zip(*rows[rows.index(first[2]):-2], strict=True)]
    assert cells == ["board", "onnxruntime", "fp32", "2", "scores within 0.001 / mAP kept 1",
                     "step 20 ms / resident 150.5 MB / transient 10 MB", "the one on my desk"]


def test_the_list_of_targets_says_how_to_use_a_target_file() -> None:
    assert "--target FILE.toml" in call("targets").out.splitlines()[-1]


def test_the_list_of_targets_in_json_is_one_document_with_every_key() -> None:
    result = call("targets", "--json")
    assert (result.code, result.err) == (0, "")
    expected = json.dumps({"targets": [target.to_dict() for target in shipped()]})  # a tuple is a list
    assert json.loads(result.out) == json.loads(expected)


def test_a_shipped_target_that_is_damaged_ends_the_list_with_4_and_its_name(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, monkeypatch)
    (tmp_path / "any.toml").write_text("name = 1")
    result = call("targets", "--json")
    assert (result.code, result.out, "any.toml" in result.err) == (4, "", True)
