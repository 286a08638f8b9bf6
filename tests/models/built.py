"""Bundles for every backend of the export of a small model with random weights: built, proven, compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx

from satexport.backends.openvino.step import OpenVinoStep
from satexport.backends.tensorrt.build import build_engine
from satexport.backends.tensorrt.rules import find_violations
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.bundle.folder import open_bundle
from satexport.graph.roles import Graph
from satexport.parity.differences import compare_embeddings
from satexport.step import FloatArray, Outputs
from satexport.tagging.tagger import Tagger, load
from satexport.targets import find_target
from tests.commands.calls import call
from tests.machine import need, on_this_cpu

COSINES = {"fp32": 0.999_999, "fp16": 0.9999, "bf16": 0.99, "int8": 0.95}  # precision -> least cosine of an
                                                                           # embedding and PyTorch's
CALIBRATION = """
name = "few"
source = "synthetic"
licence = "made"
clips = 14
samples = 16
stream_seconds = 30
"""


def calibration(export: Path) -> tuple[object, ...]:
    """Return options that make calibration fast."""
    path = export.parents[1] / "few.toml"
    path.write_text(CALIBRATION, "utf-8")
    return "--calibration", path


def bundle_of(export: Path, target: str) -> Path:
    """Return the path of the bundle that a target makes of an export with an embedding."""
    return export.parent / f"{target}{open_bundle(export).contract.options.suffix}"


def build_for_runtime(target: str, package: str, limit: float, export: Path, audio: FloatArray,
                      quick: tuple[object, ...]) -> Tagger:
    """Return the bundle for a target whose runtime is a package. Its scores of the audio and those in its
    report of parity must differ from the export's by less than `limit`, its embeddings point as COSINES says;
    OpenVINO must compute the front end in fp32."""
    need(package, "cpu")
    target = on_this_cpu(target)
    result = call("bundle", "--target", target, "--from", export, "--output", export.parents[1], *quick,
                  "--threads", 2, *(calibration(export) if "int8" in target else ()))
    assert result.code in (0, 1), result.err  # random weights: int8 may cost mAP
    # OpenVINO itself crashes if it compiles some models of width 48 in fp32 for one thread (docs/limits.md)
    built = load(bundle_of(export, target), threads=2)
    expected, found = (Outputs(*tagger.stream().feed(audio, outputs=("scores", "embedding")))
                       for tagger in (load(export), built))
    assert np.abs(found.scores - expected.scores).max() < limit
    least = COSINES[built.bundle.target.precision]
    int8 = built.bundle.target.quantization
    if int8 and int8.weight_bits == 7:  # steps twice as long: four times the squared error, and so 1 - cosine
        least = 1 - 4 * (1 - least)
    embeddings = compare_embeddings(expected, found)
    assert embeddings
    assert embeddings.worst_cosine > least
    report = json.loads((built.bundle.reports / "parity.json").read_text("utf-8"))
    assert report["differences"]["0.1 min of stream"]["largest"] < limit
    assert report["embeddings"]["0.1 min of stream"]["worst_cosine"] > least
    if isinstance(built.step, OpenVinoStep):
        assert list(built.step.executed()["front end"]) == ["f32"]
        if "int8" in target:  # with one thread OpenVINO fuses more products
            alone = load(built.bundle.path, threads=1).step
            assert alone.executed()["products"]["u8"] == built.step.executed()["products"]["u8"]
    return built


def build_for_tensorrt(export: Path, quick: tuple[object, ...]) -> Path:
    """Return the bundle for a Jetson, whose graphs keep TensorRT's rules and are proven."""
    result = call("trt", "--int8", "--from", export, "--output", export.parents[1], *quick,
                  *calibration(export))
    assert result.code in (0, 1), result.err
    path = bundle_of(export, "jetson-orin-nano")
    for precision, largest in (("int8", 0.25), ("fp16", 0.02)):
        model = onnx.load(path / f"{precision}.onnx")
        assert find_violations(Graph(model, open_bundle(path).roles), "10.3") == []
        report = json.loads((path / "reports" / f"parity-onnx-{precision}.json").read_bytes())
        assert report["differences"]["0.1 min of stream"]["largest"] < largest
        assert report["embeddings"]["0.1 min of stream"]["worst_cosine"] > COSINES[precision]
    return path


def compile_with_rtx(bundle: Path) -> None:
    """Let TensorRT for RTX compile both graphs of a bundle for a Jetson, which needs no GPU."""
    trt = need("tensorrt_rtx", "trt")
    settings = TensorRtSettings.of(find_target("rtx"))
    for graph in ("int8.onnx", "fp16.onnx"):
        assert len(build_engine(trt, bundle / graph, settings, ("8.6",))) > 1000
