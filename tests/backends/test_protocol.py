"""The protocol of a backend: each backend meets it, and a new one needs only a folder and a line."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.backend import BACKENDS, Backend, find_backend
from satexport.backends.onnxruntime import backend as onnxruntime
from satexport.backends.openvino import backend as openvino
from satexport.backends.tensorrt import backend as tensorrt
from satexport.backends.web import backend as web
from satexport.bundle.folder import open_bundle
from satexport.bundle.places import staged_bundle
from satexport.errors import BundleError, DataError, MissingError, UsageError
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.step import FloatArray
from satexport.tagging.tagger import load
from satexport.targets import find_target, shipped
from tests.backends.compiled import compiled
from tests.backends.evaluator import backend as evaluator
from tests.bundle.copies import copy_of, manifest_of, output_with, reseal
from tests.commands.calls import call
from tests.tiny import FEW, SAT_2S

CHECKED_BY_MYPY: dict[str, Backend] = {
    "onnxruntime": onnxruntime, "openvino": openvino, "tensorrt": tensorrt, "web": web}
MINE: Backend = evaluator
TARGET = """name = "mine"
backend = "evaluator"
precision = "fp32"
[evaluator]
most_streams = 1
[gates]
max_score_difference = 1e-4
map_kept = 0.99
"""


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more backend: besides its folder, it needs only this line."""
    monkeypatch.setitem(BACKENDS, "evaluator", "tests.backends.evaluator.backend")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(TARGET)
    return tmp_path / "mine.toml"


def test_mypy_checks_every_backend_of_the_table_against_the_protocol() -> None:
    assert {name: find_backend(name) for name in BACKENDS} == CHECKED_BY_MYPY


def test_a_shipped_target_asks_its_backend_for_what_it_has() -> None:
    for target in shipped():
        backend = find_backend(target.backend)
        assert target.precision in backend.PRECISIONS
        if target.quantization:
            assert {key: getattr(target.quantization, key) for key in backend.QUANTIZATION} == (
                backend.QUANTIZATION)


@pytest.mark.usefixtures("another")
def test_a_new_backend_makes_a_bundle_that_is_proven_loads_and_hears(
        tiny: Path, tmp_path: Path, target: Path) -> None:
    output = output_with(tiny, tmp_path)
    result = call("bundle", "--target", target, "--output", output, "--no-measure", "--minutes", 0.1)
    assert result.code == 0, result.err
    assert "graph.onnx is finished." in result.out
    path = output / SAT_2S / "mine"
    bundle = open_bundle(path)
    assert (bundle.graph.name, bundle.target.options) == (
        "graph.onnx", {"most_streams": 1, "verbose": 0})
    report = json.loads((path / "reports" / "parity.json").read_bytes())
    assert 0 < report["differences"]["0.1 min of stream"]["largest"] < 1e-4
    audio, (expected, _) = bundle.golden()
    with load(path) as tagger:
        assert isinstance(tagger.step, evaluator.EvaluatorStep)
        stream = tagger.stream()
        np.testing.assert_allclose(stream.feed(audio[:2].reshape(-1)), expected[:2], atol=1e-4)
    with pytest.raises(UsageError, match="was closed: load it again"):
        stream.feed(audio[0])


@pytest.mark.usefixtures("another")
@pytest.mark.parametrize(("now", "then", "words"), [
    ("most_streams = 1", "most_streams = 0", "mine.toml: most_streams is 0, expected a number from 1"),
    ("most_streams = 1", "most = 1", "mine.toml: unknown key 'most'; the keys are most_streams"),
    ('"fp32"', '"bf16"', "mine.toml: precision is 'bf16', expected fp32 or int8 with the backend evaluator"),
    ("[evaluator]", "[openvino]", "mine.toml: unknown key 'openvino'")])
def test_a_new_backend_checks_its_own_table(target: Path, now: str, then: str, words: str) -> None:
    target.write_text(TARGET.replace(now, then))
    with pytest.raises(DataError) as caught:
        find_target(str(target))
    assert words in str(caught.value)


@pytest.mark.usefixtures("another")
def test_values_that_a_backend_forces_need_not_be_stated(target: Path) -> None:
    target.write_text(TARGET.replace('"fp32"', '"int8"') + "[quantization]\n")
    quantization = find_target(str(target)).quantization
    assert quantization
    assert quantization.scheme == "qdq"


def test_a_bundle_of_a_backend_that_is_not_here_was_made_by_a_newer_version(
        tiny: Path, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(BACKENDS, "evaluator", "tests.backends.evaluator.backend")
        options = BuildOptions(calibration=FEW)
        path = compile_bundle(open_bundle(tiny), find_target(str(target)), tmp_path, options).path
    with pytest.raises(MissingError, match=r"for the backend 'evaluator', made by a newer version; .* runs "
                                           "onnxruntime, openvino, tensorrt"):
        load(path)


def test_options_in_a_bundle_that_its_backend_does_not_know_are_damage(tiny: Path, tmp_path: Path) -> None:
    path = copy_of(tiny, tmp_path)
    manifest = manifest_of(path)
    manifest["target"]["onnxruntime"] = {"turbo": True}
    (path / "bundle.json").write_text(json.dumps(manifest))
    reseal(path)
    with pytest.raises(BundleError, match=r"bundle\.json: onnxruntime is .*turbo.* Make the bundle again"):
        load(path)


def test_a_step_that_was_closed_says_so_and_may_be_closed_again(
        tiny: Path, tmp_path: Path, audio: FloatArray) -> None:
    for path in (tiny, compiled(tiny, "openvino-fp32", tmp_path)):
        tagger = load(path)
        stream = tagger.stream()
        stream.feed(audio[:32_000])
        tagger.close()
        tagger.close()
        for use in (tagger.stream, partial(stream.feed, audio[:32_000]), stream.reset):
            with pytest.raises(UsageError, match="was closed: load it again"):
                use()


# satexport bundle

def test_the_command_makes_the_bundle_of_any_target(
        tiny: Path, tmp_path: Path, quick: tuple[object, ...]) -> None:
    output = output_with(tiny, tmp_path)
    for name, graph in (("cpu-fp32", "model.onnx"), ("jetson-thor", "int8.onnx")):
        result = call("bundle", "--target", name, "--output", output, *quick)
        assert result.code == 0, result.err
        bundle = open_bundle(output / SAT_2S / name)
        assert (bundle.target.name, bundle.graph.name) == (name, graph)


@pytest.mark.parametrize(("arguments", "code", "words"), [
    ((), 2, "Missing option '--target'"),
    (("--target", "nothing"), 2, "no target 'nothing'"),
    (("--target", "onnx"), 2, "is the export itself"),
    (("--target", "openvino-fp32", "--cache-dtype", "fp16"), 2, "OpenVINO, which keeps the cache in fp32"),
    (("--target", "jetson-thor", "--cache-dtype", "int8"), 2, "TensorRT, which keeps the cache in fp32"),
    (("--target", "cpu-fp32", "--ranges", "entropy"), 2, "--ranges applies only to int8"),
    (("--target", "cpu-fp32", "--calibration", "esc50"), 2, "this bundle needs no calibration")])
def test_wrong_use_of_the_command_is_named_and_leaves_nothing(
        tiny: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    output = output_with(tiny, tmp_path)
    result = call("bundle", *arguments, "--output", output)
    assert (result.code, words in result.err) == (code, True), result.err
    assert [path.name for path in (output / SAT_2S).iterdir()] == ["onnx"]


# Where a bundle is made

def test_an_error_from_a_bundle_in_the_making_names_the_place_where_it_will_lie(tmp_path: Path) -> None:
    place = tmp_path / "build" / "mine"

    def fail() -> None:
        with staged_bundle(place) as stage:
            assert stage != place
            raise DataError(f"{stage / 'model.onnx'} is bad.", f"see {stage}")

    with pytest.raises(DataError) as caught:
        fail()
    assert (caught.value.message, caught.value.lines) == (
        f"{place / 'model.onnx'} is bad.", (f"see {place}",))
