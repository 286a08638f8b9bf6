"""How engines are built, and how their layers are counted: all that needs no call to TensorRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.backends.tensorrt import engine as tensorrt_engine
from satexport.backends.tensorrt.build import run_trtexec, trtexec_command
from satexport.backends.tensorrt.inspect import precisions
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.errors import MissingError, RunError
from satexport.targets import find_target
from tests.backends.tensorrt.fake_engine import layer

ORIN = find_target("jetson-orin-nano")


def test_precisions_are_told_by_whatever_names_tensorrt_gives_them() -> None:
    assert precisions({"Layers": ["only", "names"]}) == {}
    assert precisions({"Layers": [layer("a", "Float", "BFloat16", "DataType"), layer("b", "Float", "Float16"),
                                  layer("Myelin", "Half", "Half")]}) == {
        "layers": {"bf16": 1, "f16": 1, "fused": 1}}


def test_trtexec_is_told_all_that_an_engine_needs() -> None:
    wanted = TensorRtSettings.of(ORIN)
    for version, strongly in (("10.3.0", True), ("10.16.1", True), ("11.4.1", False)):
        command = trtexec_command("trtexec", Path("a.onnx"), Path("a.engine"), wanted, version,
                                  Path("t.cache"))
        assert ("--stronglyTyped" in command) == strongly
        assert {"--onnx=a.onnx", "--saveEngine=a.engine", "--memPoolSize=workspace:1000M",
                "--noTF32", "--timingCacheFile=t.cache", "--profilingVerbosity=detailed",
                "--skipInference"} <= set(command)
        assert not {"--int8", "--fp16", "--best"} & set(command)


@pytest.mark.parametrize(("script", "words"), [
    ("echo '[E] no kernel'; exit 1", r"exit code 1: \[E\] no kernel"),
    ("exit 3", "it gave no reason"), ("kill -9 $$", "was killed, probably because memory ran out")])
def test_a_trtexec_that_fails_is_quoted(tmp_path: Path, script: str, words: str) -> None:
    program = tmp_path / "trtexec"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(RunError, match=words):
        run_trtexec([str(program)])


def test_trtexec_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be run"):
        run_trtexec([str(tmp_path / "none")])


def test_a_tensorrt_that_does_not_load_is_not_called_missing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingError, match=r"does not load: libnvdla_compiler\.so.*--runtime nvidia"):
        tensorrt_engine.import_tensorrt("tensorrt")
