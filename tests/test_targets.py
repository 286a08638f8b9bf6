"""Targets: which TOML is accepted, and in which words another one is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from satexport.backends import BACKENDS
from satexport.errors import DataError, UsageError
from satexport.targets import FOLDER, Gates, Target, find_target

MINE = """
name = "my-board"
backend = "onnxruntime"
precision = "fp32"
threads = 2

[gates]
max_score_difference = 1e-3
map_kept = 1
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_target_is_named_like_its_file_and_has_a_backend(path: Path) -> None:
    target = find_target(path.stem)
    assert target.name == path.stem
    assert target.backend in BACKENDS
    assert target.gates.max_score_difference > 0
    assert 0.9 < target.gates.map_kept <= 1


def test_the_target_of_the_export_ships_and_holds_the_gate_of_the_design() -> None:
    assert find_target("onnx").gates.max_score_difference == 1e-4


def test_a_target_of_ones_own_is_read_by_path(tmp_path: Path) -> None:
    target = find_target(write(tmp_path, MINE))
    assert target == Target("my-board", "onnxruntime", "fp32", Gates(1e-3, 1), threads=2)


def test_threads_may_be_left_to_the_runtime(tmp_path: Path) -> None:
    assert find_target(write(tmp_path, MINE.replace("threads = 2", ""))).threads == 0


def test_an_unknown_name_is_wrong_use_and_lists_those_that_ship() -> None:
    with pytest.raises(UsageError, match=r"no target 'jetson-9'; there are .*onnx"):
        find_target("jetson-9")


def test_a_path_to_nothing_is_wrong_use() -> None:
    with pytest.raises(UsageError, match=r"no target 'gone\.toml'"):
        find_target("gone.toml")


@pytest.mark.parametrize(("now", "then", "words"), [
    ("threads = 2", "treads = 2", "unknown key 'treads'; the keys are .*threads"),
    ("map_kept = 1", "map_kept = 1\nmAP = 1", "unknown key 'mAP'"),
    ('precision = "fp32"', "", "lacks the key 'precision'"),
    ("map_kept = 1", "", "lacks the key 'map_kept'"),
    ("threads = 2", 'threads = "2"', "threads is '2', expected int"),
    ("threads = 2", "threads = true", "threads is True, expected int"),
    ("threads = 2", "threads = 0.5", "threads is 0.5, expected int"),
    ('precision = "fp32"', "precision = 32", "precision is 32, expected str"),
    ("max_score_difference = 1e-3", 'max_score_difference = "small"', "is 'small', expected float"),
    ("[gates]", "[[gates]]", r"gates is .*expected a table"),
    ("[gates]", "[gates", "no readable TOML"),
    ('name = "my-board"', 'name = "../../home"', r"name is '\.\./\.\./home'"),
    ('name = "my-board"', 'name = ".."', r"name is '\.\.'"),
    ('name = "my-board"', 'name = ""', "name is ''"),
])
def test_a_wrong_key_or_value_is_named_with_its_file(now: str, then: str, words: str,
                                                     tmp_path: Path) -> None:
    assert now in MINE
    with pytest.raises(DataError, match=f"mine.toml.*{words}"):
        find_target(write(tmp_path, MINE.replace(now, then)))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 9], ids=["not utf-8", "zeros"])
def test_a_file_that_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(content)
    with pytest.raises(DataError, match="no readable TOML"):
        find_target(str(tmp_path / "binary.toml"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(DataError, match="no readable TOML"):
        find_target(str(tmp_path / "folder.toml"))


def test_a_target_comes_back_from_a_bundle_as_it_was() -> None:
    target = find_target("onnx")
    assert Target.from_dict(json.loads(json.dumps(target.to_dict())), Path("bundle.json")) == target


@pytest.mark.parametrize(("line", "words"), [
    ("threads = -3", "threads is -3, expected 0 to 256"),
    ("threads = 99999999999", "expected 0 to 256"),
    ('backend = "onnxruntim"', "expected onnxruntime"),
    ("[gates]\nmax_score_difference = inf", "max_score_difference is inf"),
    ("[gates]\nmap_kept = -1", "map_kept is -1"),
    ("[gates]\nmap_kept = 1.5", "map_kept is 1.5, expected more than 0, at most 1")])
def test_values_that_cannot_be_meant_are_refused(tmp_path: Path, line: str, words: str) -> None:
    key = line.rsplit("\n", maxsplit=1)[-1].split(" =", maxsplit=1)[0]
    lines = [f"{line.rsplit(chr(10), maxsplit=1)[-1]}" if kept.startswith(f"{key} =") else kept
             for kept in (FOLDER / "onnx.toml").read_text().splitlines()]
    (tmp_path / "own.toml").write_text("\n".join(lines))
    with pytest.raises(DataError, match=re.escape(words)):
        find_target(str(tmp_path / "own.toml"))


def test_the_target_in_the_readme_is_one(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "own.toml").write_text(example)
    assert find_target(str(tmp_path / "own.toml")).name == "my-board"
