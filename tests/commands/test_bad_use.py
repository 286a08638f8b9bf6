"""Mistakes of new users cause a clear error and leave no files."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from satexport.audio.datasets import LabelledSet, load_set
from satexport.errors import GateError
from satexport.parity import protocols
from satexport.pipeline import build as build_module
from satexport.pipeline import export as export_module
from tests.bundle.copies import copy_of
from tests.commands.calls import START, call, start
from tests.machine import PATIENCE, needs_dev_full
from tests.tiny import VIT

ONNX = ("onnx", "--model", VIT, "--checkpoint", "random", "--no-simplify", "--output")

INTERRUPTED = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
"""


# Interrupts and standard output.

@pytest.mark.parametrize("module", ["satexport.commands.group", "click", "satexport.commands.trt"])
def test_an_interrupt_during_imports_exits_like_a_later_one(module: str) -> None:
    process = start("models", before=INTERRUPTED.format(module))
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines() == ["Interrupted; no file was left incomplete."]


@needs_dev_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["onnx", "--help"], ["--version"], ["models"],
                                       ["targets", "--json"]], ids=" ".join)
def test_a_full_standard_output_is_reported_without_a_traceback(
        arguments: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", START, *arguments], stdout=full, stderr=subprocess.PIPE,
                              env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, encoding="utf-8",
                              check=False)
    assert done.returncode == 5
    assert done.stderr == ("Error: cannot write to standard output (No space left on device): the rest of "
                           "the output is lost. Make room on its disk, or redirect it.\n")


# Users' targets.

@pytest.fixture
def write_target(tmp_path: Path) -> Callable[[str], str]:
    """Returns a function that writes a TOML and returns its path."""
    def write(text: str) -> str:
        (tmp_path / "mine.toml").write_text(text)
        return str(tmp_path / "mine.toml")

    return write


@pytest.mark.parametrize(("text", "code", "words"), [
    ('extends = "nothing"', 4, "extends is 'nothing', expected one of arm-linux, cpu-fp32,"),
    ('extends = "mine"', 4, "extends is 'mine', expected one of"),
    ('extends = "./mine.toml"', 4, "extends is './mine.toml', expected one of"),
    ('extends = "../targets/cpu-fp32"', 4, "extends is '../targets/cpu-fp32', expected one of"),
    ('extends = ["cpu-fp32"]', 4, "extends is ['cpu-fp32'], expected one of"),
    ('extends = "cpu-fp32"', 4, "mine.toml: the key 'name' is missing"),
    ('extends = "jetson"\nname = "mine"', 4, "the key 'compute_capability' is missing in [tensorrt]"),
    ('extends = "cpu-fp32"\nname = "mine"\ngates = 5', 4, "gates is 5, expected a table [gates]"),
    ('extends = "cpu-fp32"\nname = "mine"\n[openvino]\nrequests = 2', 4,
     "unknown key 'openvino'; the keys are backend, description, machine, name, precision, threads, "
     "the tables [gates], [budgets], [quantization], [onnxruntime]."),
    ('extends = "cpu-fp32"\nname = "mine"\nprecision = "int8"', 4,
     "expected int8 with a table [quantization]"),
    ('extends = "openvino-int8"\nname = "mine"\n[quantization]\nmethod = "dynamic"', 4,
     "method is 'dynamic', expected \"static\", the only value that the backend openvino supports"),
    ('extends = "cpu-fp32"\nname = "mine"\nbackend = "coreml"', 4,
     "backend is 'coreml', expected onnxruntime or openvino or tensorrt"),
    ("#" * 300_000, 4, "longer than 0.2 MB"), ("", 4, "the key 'backend' is missing")],
    ids=lambda value: str(value)[:30])
def test_an_invalid_user_target_is_explained(
        text: str, code: int, words: str, write_target: Callable[[str], str]) -> None:
    result = call("bundle", "--target", write_target(text))
    assert (result.code, words in result.err) == (code, True), result.err


@pytest.mark.parametrize(("command", "option", "kind"), [
    ("bundle", "--target", "target"), ("cpu", "--target", "target"), ("onnx", "--target", "target")])
def test_a_missing_toml_is_reported_as_a_missing_file(
        command: str, option: str, kind: str, tmp_path: Path) -> None:
    result = call(command, option, tmp_path / "x.toml")
    assert (result.code, f"x.toml: no such file; expected a TOML of a {kind}" in result.err) == (2, True)
    (tmp_path / "x.toml").mkdir()
    result = call(command, option, tmp_path / "x.toml")
    assert (result.code, "x.toml is not a readable TOML: it is a folder" in result.err) == (4, True)


@pytest.mark.parametrize("name", ["../targets/cpu-fp32", "common/jetson", "x" * 5000, "jetson"])
def test_only_shipped_targets_are_found_by_name(name: str) -> None:
    result = call("bundle", "--target", name)
    assert (result.code, "no target" in result.err, "or a FILE.toml" in result.err) == (2, True, True)


def test_the_wrong_command_for_a_target_names_the_right_one() -> None:
    for command in ("onnx", "cpu", "trt"):
        result = call(command, "--model", "sat-t", "--checkpoint", "random", "--target", "openvino-fp32")
        assert (result.code, "satexport bundle --target openvino-fp32`" in result.err) == (2, True)


@pytest.mark.parametrize(("model", "words"), [
    ("sat-t-48x3x0", "expected a depth from 1 to 24"), ("sat-t-48x3x999", "expected a depth from 1 to 24"),
    ("vit-t-48x0x2", "expected a width up to 1024"), ("sat-b-0x3", "expected a width up to 1024"),
    ("sat-b-99999x3", "expected a width up to 1024"), ("sat-t-48x3x02", "unknown model 'sat-t-48x3x02'")])
def test_an_invalid_size_lists_the_valid_ones(model: str, words: str, tmp_path: Path) -> None:
    result = call("onnx", "--model", model, "--checkpoint", "random", "--output", tmp_path)
    assert (result.code, words in result.err) == (2, True), result.err


def test_a_bundle_for_a_board_prints_the_next_step(
        tiny: Path, tmp_path: Path, quick: tuple[object, ...]) -> None:
    result = call("bundle", "--target", "jetson-thor", "--from", tiny, "--output", tmp_path, *quick)
    assert (result.code, "Copy " in result.err, "run ./build.sh in it" in result.err) == (0, True, True)

# Folders and files.

@pytest.mark.parametrize("how", [
    KeyboardInterrupt(), GateError("no"), OSError(errno.ENOSPC, "full")], ids=repr)
def test_a_failed_export_leaves_no_folder(
        how: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise how

    monkeypatch.setattr(export_module, "count_operations", fail)
    result = call(*ONNX, tmp_path / "some" / "where")
    assert result.code in (130, 1, 5)
    assert not os.listdir(tmp_path)


def test_a_failed_bundle_leaves_no_folder(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "write_manifest", fail)
    place = tmp_path / "some" / "where"
    result = call("bundle", "--target", "cpu-fp32", "--from", tiny, "--output", place, "--no-measure")
    assert (result.code, os.listdir(tmp_path)) == (130, [])


def test_an_existing_folder_is_kept_when_an_export_fails(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "count_operations", lambda *_: pytest.fail("never mind"))
    (tmp_path / "mine").mkdir()
    with suppress(pytest.fail.Exception):
        call(*ONNX, tmp_path / "mine")
    assert os.listdir(tmp_path) == ["mine"]


def test_a_failed_command_leaves_no_folder_for_its_report(tiny: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nothing.csv"
    result = call("parity", tiny, "--data", missing, "--report", tmp_path / "some" / "r.json")
    assert (result.code, os.listdir(tmp_path)) == (4, [])
    result = call("parity", tiny, "--golden", "--report", tmp_path / "some" / "where" / "r.json")
    assert (result.code, os.listdir(tmp_path / "some" / "where")) == (0, ["r.json"])


@pytest.mark.parametrize("command", ["run", "parity", "measure", "cpu"])
def test_a_file_instead_of_a_bundle_is_reported_as_a_file(command: str, tiny: Path) -> None:
    bundle = ["--from", tiny / "model.onnx"] if command == "cpu" else [tiny / "model.onnx"]
    result = call(command, *bundle, *(["a.wav"] if command == "run" else []))
    assert result.code == 4
    assert "model.onnx: is a file. Expected a bundle, the folder that `satexport onnx` writes" in result.err
    assert f"Pass {tiny}." in result.err


@pytest.mark.parametrize(("command", "more"), [("parity", ["--golden"]), ("measure", [])])
def test_a_read_only_bundle_suggests_another_path_for_reports(
        command: str, more: list[str], tiny: Path, tmp_path: Path) -> None:
    bundle = copy_of(tiny, tmp_path)
    shutil.rmtree(bundle / "reports")
    (bundle / "reports").write_text("prevents writing, as a read-only disk does")
    result = call(command, bundle, *more)
    assert result.code == 5
    assert "cannot be written" in result.err
    assert "Choose another path for the report with --report" in result.err


@pytest.mark.parametrize(("samples", "end"), [(1, "2.0001"), (16, "2.001"), (160, "2.01"), (1600, "2.1")])
def test_the_end_of_a_short_last_chunk_is_printed_correctly(samples: int, end: str, tiny: Path) -> None:
    result = call("run", tiny, "-", stdin=bytes(2 * (32_000 + samples)))
    assert result.out.splitlines()[-1].startswith(f"      2.0 - {end} s")

@pytest.mark.long
def test_the_set_for_the_gates_is_read_once_and_before_the_work(
        demo: Path, tmp_path: Path, few_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    write = build_module._write

    def note_load(*arguments: Any, **options: Any) -> LabelledSet:
        done.append("read")
        return load_set(*arguments, **options)

    def note_write(*arguments: Any) -> object:
        done.append("write")
        return write(*arguments)

    monkeypatch.setattr(protocols, "load_set", note_load)
    monkeypatch.setattr(build_module, "_write", note_write)
    result = call("bundle", "--target", "cpu-fp32", "--from", demo, "--output", tmp_path, "--no-measure",
                  "--minutes", 0.1, "--data", few_clips)
    assert (result.code, done) == (0, ["read", "write"]), result.err
