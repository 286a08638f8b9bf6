"""The Python and the TOML on the pages do what they are said to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.audio.labels import audioset_labels
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.bundle.target import Quantization, Target
from satexport.pipeline.matrix import plan_cases
from satexport.pipeline.matrix_file import read_matrix
from satexport.quantize.calibration_set import find_calibration
from satexport.step import FloatArray
from satexport.tagging.groups import read_groups
from satexport.targets import find_target
from tests.docs.commands import FENCE, PAGES
from tests.docs.places import Kit, put


def blocks(language: str) -> list[tuple[str, str]]:
    """The page and the content of each block of a language."""
    return [(page, fence["content"]) for page, path in PAGES.items()
            for fence in FENCE.finditer(path.read_text("utf-8")) if fence["language"] == language]


@pytest.mark.parametrize(("page", "program"), blocks("python"))
def test_a_python_block_runs(page: str, program: str, audio: FloatArray, tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "import openvino" in program:
        request.getfixturevalue("bf16")
        monkeypatch.chdir(request.getfixturevalue("openvino_demo"))
    else:
        monkeypatch.chdir(tmp_path)
        put(Kit(request), tmp_path, ("build/sat-t-2s/onnx", "build/sat-t-2s/onnx-x8",
                                     "build/sat-t-2s/onnx-embedding-mean"))
        np.savez("both.npz", embedding=np.ones((2, 3), np.float32), file_number=np.array([0, 1]),
                 start=np.zeros(2), end=np.ones(2))
    minute = audio[:5 * 32_000 + 9]
    names: dict[str, Any] = {"samples": minute, "samples_of_eight": np.tile(minute, (8, 1)),
                             "chunks": audio[:96_000].reshape(3, 1, 32_000),
                             "messages": [("attic", minute), ("hall", minute), ("attic", minute)]}
    exec(compile(program, page, "exec"), names)
    if "scores" in program:
        assert np.isfinite(names["scores"]).all()


def toml_blocks() -> dict[str, str]:
    """Each TOML by its first line."""
    return {content.splitlines()[0].split("  ")[0]: content for _, content in blocks("toml")}


@pytest.fixture
def own(tmp_path: Path) -> str:
    """The target on the page about targets."""
    text = toml_blocks()['name = "my-board"']
    (tmp_path / "own.toml").write_text(text)
    assert find_target(str(tmp_path / "own.toml")).name == "my-board"
    return text


def test_these_are_all_toml_blocks() -> None:
    assert sorted(toml_blocks()) == sorted([
        'name = "street"', 'name = "my-board"', 'extends = "jetson-orin-nano"', "[quantization]",
        "[openvino]", "[tensorrt]", '[group."Alarm"]', "[settings]"])


def test_the_matrix_on_the_page_has_as_many_bundles_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").write_text(toml_blocks()["[settings]"], encoding="utf-8")
    names = list(plan_cases(read_matrix(tmp_path / "matrix.toml"), tmp_path))
    assert (len(names), names[-1]) == (12 + 1, "sat-t-2s-demo-int8-dynamic")


def test_the_groups_on_the_page_are_read(tmp_path: Path) -> None:
    (tmp_path / "groups.toml").write_text(toml_blocks()['[group."Alarm"]'])
    assert list(read_groups(tmp_path / "groups.toml", audioset_labels())) == ["Alarm", "Pets"]


def test_the_calibration_set_on_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(toml_blocks()['name = "street"'])
    assert find_calibration(str(tmp_path / "set.toml")).name == "street"


def test_the_target_that_extends_another_one_is_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(toml_blocks()['extends = "jetson-orin-nano"'])
    target = find_target(str(tmp_path / "mine.toml"))
    assert (target.name, TensorRtSettings.of(target).workspace_mb) == ("my-orin", 700)


def test_the_tables_of_a_target_on_the_page_are_read(own: str, tmp_path: Path) -> None:
    def read(text: str) -> Target:
        (tmp_path / "target.toml").write_text(text)
        return find_target(str(tmp_path / "target.toml"))

    tables = toml_blocks()
    int8 = read(own.replace('"fp32"', '"int8"') + tables["[quantization]"]).quantization
    assert int8 == Quantization(ranges="percentile", percentile=99.99, leave_out=("11.fc2", "head"))
    openvino = read(own.replace('"onnxruntime"', '"openvino"') + tables["[openvino]"])
    assert OpenVinoSettings.of(openvino) == OpenVinoSettings(floats="fp32", model_cache=True)
    fp16 = own.replace('"onnxruntime"', '"tensorrt"').replace('precision = "fp32"', 'precision = "fp16"')
    tensorrt = read(fp16 + tables["[tensorrt]"])
    assert TensorRtSettings.of(tensorrt) == TensorRtSettings.of(find_target("jetson-orin-nano"))
