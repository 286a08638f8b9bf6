"""The workflow for CI: what it runs exists, and its matrix fails on a gate."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from satexport.pipeline.matrix import plan_cases
from satexport.pipeline.matrix_file import read_matrix
from tests import ROOT
from tests.commands.calls import call
from tests.tiny import SAT

yaml = pytest.importorskip("yaml", reason="needs PyYAML, of the group dev")
FOLDER = ROOT / "examples" / "ci"


def workflow() -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load((FOLDER / "bundles.yml").read_text("utf-8"))
    return content


def steps() -> list[dict[str, Any]]:
    (job,) = workflow()["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def command() -> list[str]:
    """The words of the satexport command that the workflow runs."""
    lines = [line for step in steps() for line in step.get("run", "").splitlines()]
    (found,) = [line for line in lines if line.startswith("satexport ")]
    return shlex.split(found)[1:]


def test_it_runs_for_every_pull_request_and_may_only_read() -> None:
    assert "pull_request" in workflow()[True]  # YAML 1.1 reads the key `on` as true
    assert workflow()["permissions"] == {"contents": "read"}


def test_actions_have_the_tag_of_a_version() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+(\.\d+)*", action) for action in used), used


def test_reports_are_kept_also_if_a_gate_fails() -> None:
    (upload,) = [step for step in steps() if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert upload["if"] == "always()"
    paths = upload["with"]["path"].split()
    junit = command()[command().index("--junit") + 1]
    assert {junit, "build/matrix.md", "build/matrix.json"} <= set(paths)


def test_its_matrix_is_of_the_demo() -> None:
    plans = plan_cases(read_matrix(FOLDER / "matrix.toml"), Path("build"))
    assert list(plans) == ["sat-t-2s", "sat-t-2s-int8", "sat-t-2s-dynamic"]
    assert {plan.case.weights for plan in plans.values()} == {"demo"}


@pytest.mark.parametrize("limit", [
    pytest.param("1e-3", id="a gate that passes"), pytest.param("1e-9", id="a gate that fails")])
def test_its_command_fails_on_a_gate(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as written, on a small model and a target of this limit."""
    place = tmp_path / "examples" / "ci" / "matrix.toml"
    place.parent.mkdir(parents=True)
    shutil.copy(ROOT / "targets" / "cpu-fp32.toml", place.with_name("board.toml"))
    board = place.with_name("board.toml")
    board.write_text(re.sub(r"(?m)^max_score_difference = .*", f"max_score_difference = {limit}",
                            board.read_text("utf-8")).replace('name = "cpu-fp32"', 'name = "board"'), "utf-8")
    place.write_text(f'[settings]\nminutes = 0.1\n[[case]]\nmodel = "{SAT}"\ncheckpoint = "random"\n'
                     'target = "board.toml"\n', "utf-8")
    monkeypatch.chdir(tmp_path)
    result = call(*command(), "--no-measure")
    assert result.code == (0 if limit == "1e-3" else 1), result.err
    assert Path("build/bundles.xml").is_file()
    assert ("largest score difference" in result.out) == (result.code == 1)
