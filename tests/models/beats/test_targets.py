"""BEATs for every backend: its products become int8, and it is proven like the other families."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.tensorrt.rules import find_violations
from satexport.bundle.folder import open_bundle
from satexport.graph.roles import Graph
from satexport.tagging.tagger import load
from tests.commands.calls import call
from tests.machine import need
from tests.models.beats.vectors import TINY, wave
from tests.tiny import export

PRODUCTS = 14  # six per block, the layer after the patches and the position code


@pytest.fixture(scope="module")
def beats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a small BEATs with random weights at 2 s."""
    return export(tmp_path_factory.mktemp("beats"), TINY, 2, "random")


@pytest.mark.parametrize(("target", "package", "limit"), [
    ("cpu-int8", "onnxruntime", 0.25), ("openvino-fp32", "openvino", 1e-4),
    ("openvino-int8", "openvino", 0.25)], ids=str)
def test_a_beats_is_built_and_proven_for_a_runtime(
        target: str, package: str, limit: float, beats: Path, quick: tuple[object, ...]) -> None:
    need(package, "cpu")
    result = call("bundle", "--target", target, "--from", beats, "--output", beats.parents[1], *quick)
    assert result.code in (0, 1), result.err  # random weights: int8 may cost mAP
    built, audio = load(beats.parent / target), wave(10)[0]
    assert built.bundle.int8_layers() == (PRODUCTS if "int8" in target else 0)
    expected = load(beats).stream().feed(audio)
    assert np.abs(built.stream().feed(audio) - expected).max() < limit
    report = json.loads((beats.parent / target / "reports" / "parity.json").read_text("utf-8"))
    assert report["differences"]["0.1 min of stream"]["largest"] < limit


def test_the_tensorrt_graphs_of_a_beats_follow_its_rules_and_are_proven(
        beats: Path, quick: tuple[object, ...]) -> None:
    result = call("trt", "--int8", "--from", beats, "--output", beats.parents[1], *quick)
    assert result.code in (0, 1), result.err
    path = beats.parent / "jetson-orin-nano"
    for precision, largest in (("int8", 0.25), ("fp16", 0.02)):
        model = onnx.load(path / f"{precision}.onnx")
        assert find_violations(Graph(model, open_bundle(path).roles), "10.3") == []
        report = json.loads((path / "reports" / f"parity-onnx-{precision}.json").read_bytes())
        assert report["differences"]["0.1 min of stream"]["largest"] < largest
