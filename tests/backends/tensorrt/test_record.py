"""A bundle's engine and its record, engine.json."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.tensorrt import cuda
from satexport.backends.tensorrt import step as tensorrt
from satexport.backends.tensorrt.step import RECORD
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import BundleError, MissingError, SatexportError
from satexport.files import sha256_of, write_json
from satexport.step import FloatArray
from satexport.tagging.stream import Stream
from satexport.tagging.tagger import Tagger
from tests import ROOT
from tests.backends.tensorrt.fake_tensorrt import FakeTensorRt
from tests.bundle.copies import copy_of
from tests.lean import TRAINING, python

ENGINE = "fp16.engine"


def built(tiny: Path, folder: Path, **changes: object) -> Bundle:
    """A bundle with an engine and its record; None leaves a key out."""
    path = copy_of(tiny, folder)
    bundle = open_bundle(path)
    (path / ENGINE).write_bytes(bundle.graph.read_bytes())
    record = {"engine": ENGINE, "sha256": sha256_of(path / ENGINE), "graph_sha256": sha256_of(bundle.graph),
              "bundle_sha256": bundle.sha256, "tensorrt": "10.3.0", "compute_capability": ["8.7"],
              "precision": "fp32", "executed": {"products": {"fp32": 71}}} | changes
    write_json(path / RECORD, {key: value for key, value in record.items() if value is not None})
    return bundle


def test_a_bundle_with_its_engine_runs_and_tells_its_precisions(
        tiny: Path, trt: FakeTensorRt, tiny_tagger: Tagger, audio: FloatArray, tmp_path: Path) -> None:
    bundle = built(tiny, tmp_path)
    step = tensorrt.load_engine(bundle)
    assert step.executed() == {"products": {"fp32": 71}}
    found = Stream(step, bundle.contract).feed(audio[:96_000])
    np.testing.assert_allclose(found, tiny_tagger.stream().feed(audio[:96_000]), atol=1e-6)
    step.close()


def test_an_engine_for_rtx_may_be_built_for_several_devices(
        tiny: Path, trt: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", trt)
    bundle = built(tiny, tmp_path, module="tensorrt_rtx", compute_capability=["8.6", "8.7"])
    step = tensorrt.load_engine(bundle)
    assert step.executed() == {"products": {"fp32": 71}}
    step.close()


ZEROS = 64 * "0"
FOREIGN: dict[str, tuple[dict[str, object], str]] = {
    "changed": ({"sha256": ZEROS}, f"says its own SHA-256 {ZEROS}, found "),
    "of another graph": ({"graph_sha256": ZEROS}, f"says a graph with the SHA-256 {ZEROS}, found "),
    "of another bundle": ({"bundle_sha256": ZEROS}, f"says a bundle with the SHA-256 {ZEROS}, found "),
    "of another TensorRT": ({"tensorrt": "10.13.3"}, r"says TensorRT 10\.13\.3, found 10\.3\.0\."),
    "of another device": ({"compute_capability": ["11.0"]}, r"says compute capability 11\.0, found 8\.7\."),
    "of other devices": ({"compute_capability": ["8.6", "8.9"]}, r"capability 8\.6 or 8\.9, found 8\.7\."),
    "gone": ({"engine": "int8.engine"}, r"int8\.engine cannot be read \(No such file"),
    "without a key": ({"tensorrt": None}, r"engine\.json is damaged \(KeyError\('tensorrt'\)\)"),
    "with a wrong type": ({"executed": "all of it"}, r"engine\.json is damaged \(executed is 'all of it'\)")}


@pytest.mark.parametrize("case", FOREIGN)
def test_an_engine_that_is_not_this_bundles_on_this_machine_is_refused(
        tiny: Path, trt: FakeTensorRt, tmp_path: Path, case: str) -> None:
    changes, words = FOREIGN[case]
    with pytest.raises(BundleError, match=f"{words}.*Build the engine again on this board") as caught:
        tensorrt.load_engine(built(tiny, tmp_path, **changes))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("text", ["{", "[]", "null", '"text"'])
def test_a_damaged_record_is_refused(tiny: Path, tmp_path: Path, text: str) -> None:
    bundle = built(tiny, tmp_path)
    (bundle.path / RECORD).write_text(text)
    with pytest.raises(BundleError, match=r"engine\.json is damaged .*Build the engine again"):
        tensorrt.load_engine(bundle)


def missing(bundle: Bundle) -> str:
    with pytest.raises(SatexportError) as caught:
        tensorrt.load_engine(bundle)
    assert isinstance(caught.value, MissingError)
    return str(caught.value)


def test_a_bundle_that_has_no_engine_yet_says_how_to_build_it(tiny: Path) -> None:
    words = missing(open_bundle(tiny))
    assert words.startswith(f"{tiny} has no engine yet.")
    assert "./build.sh" in words
    assert f"satexport trt --build {tiny}" in words


def test_a_machine_without_tensorrt_or_cuda_says_what_is_missing(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = built(tiny, tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    words = missing(bundle)
    assert "python3-libnvinfer" in words
    assert "--system-site-packages" in words
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt)
    monkeypatch.setattr(cuda, "LIBRARIES", ("/nowhere/libcudart.so",))
    assert "/nowhere/libcudart.so" in missing(bundle)


def test_the_backend_is_imported_with_numpy_alone() -> None:
    program = ("from satexport.backends.tensorrt import step\n"
               "print(step.PACKAGE, 'tensorrt' in sys.modules)")
    root, lean = str(ROOT), (*TRAINING, "onnxruntime", "openvino", "click", "rich")
    assert python(program, without=lean, PYTHONPATH=root) == "tensorrt False\n"
