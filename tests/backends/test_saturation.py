"""CPUs without dot-product instructions: what keeps sums of 8-bit products from saturating there, and what
users are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.backend import remark_on
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.target import OPERATORS, Quantization, Target
from satexport.graph.roles import Graph
from satexport.origin import Cpu
from satexport.parity.golden import golden_scores
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.quantize.calibrate import calibrate
from satexport.quantize.int8 import quantize
from satexport.quantize.observe import Sample
from satexport.quantize.ranges import find_ranges
from satexport.step import FloatArray, Step
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.backends.compiled import compiled
from tests.bundle.copies import graph_of
from tests.commands.calls import call
from tests.machine import need, need_dot_products
from tests.measure.measured import QUICK
from tests.tiny import DEPTH, FEW

ROUNDING = 0.01  # of scores: a value between two int8 levels falls to either; saturation costs 0.06
ATTENTION_7_BITS = Quantization(operators=OPERATORS, weight_bits=7)
Saturate = Callable[[bool], None]


@pytest.fixture(scope="module")
def source(tiny: Path) -> Bundle:
    return open_bundle(tiny)


@pytest.fixture(scope="module")
def fp32(source: Bundle) -> Graph:
    return graph_of(source)


@pytest.fixture(scope="module")
def samples(source: Bundle) -> list[Sample]:
    return calibrate(source, FEW).samples


def scores(step: Step, source: Bundle) -> FloatArray:
    found: FloatArray = golden_scores(StreamBatch(step, source.contract), source.golden()[0])[0]
    return found


def onnxruntime_scores(graph: Graph, source: Bundle, optimized: bool = True) -> FloatArray:
    return scores(OnnxRuntimeStep(graph.model.SerializeToString(), source.contract, source.initial_cache(),
                                  optimized=optimized), source)


def exact_scores(fp32: Graph, wanted: Quantization, samples: list[Sample], source: Bundle) -> FloatArray:
    """Scores of the same int8 values, multiplied as float32, which represents their sums exactly enough."""
    qdq = replace(wanted, scheme="qdq")
    graph = quantize(fp32, qdq, find_ranges(fp32, qdq, samples), ())
    return onnxruntime_scores(graph, source, optimized=False)


@pytest.mark.parametrize("wanted", [
    Quantization(), Quantization(symmetric=True), Quantization(weight_bits=7), ATTENTION_7_BITS],
    ids=["8 bits", "8 bits, symmetric", "7 bits", "7 bits, attention"])
def test_onnxruntime_computes_the_products_of_the_graph_on_any_cpu(
        wanted: Quantization, fp32: Graph, samples: list[Sample], source: Bundle) -> None:
    graph = quantize(fp32, wanted, find_ranges(fp32, wanted, samples), ())
    expected = exact_scores(fp32, wanted, samples, source)
    assert np.abs(onnxruntime_scores(graph, source) - expected).max() < ROUNDING


def test_the_bundle_that_ships_computes_them_too(
        tiny: Path, fp32: Graph, samples: list[Sample], source: Bundle, tmp_path: Path) -> None:
    """Its attention is one node of ONNX Runtime for each block."""
    built = load(compiled(tiny, "cpu-int8", tmp_path))
    assert built.bundle.graph.read_bytes().count(b"QAttention") == DEPTH
    expected = exact_scores(fp32, Quantization(), samples, source)
    assert np.abs(scores(built.step, source) - expected).max() < ROUNDING


@pytest.mark.parametrize("bits", [7, 8])
def test_openvino_computes_the_products_of_the_graph(
        bits: int, fp32: Graph, samples: list[Sample], source: Bundle, tmp_path: Path) -> None:
    need("openvino", "openvino")
    if bits == 8:
        need_dot_products()
    target = find_target("openvino-int8-avx2")
    assert target.quantization
    target = replace(target, quantization=replace(target.quantization, weight_bits=bits))
    built = load(compile_bundle(source, target, tmp_path, BuildOptions(calibration=FEW)).path)
    expected = exact_scores(fp32, Quantization(weight_bits=bits), samples, source)
    assert np.abs(scores(built.step, source) - expected).max() < ROUNDING


@pytest.fixture
def saturate(monkeypatch: pytest.MonkeyPatch) -> Saturate:
    """Makes backends remark as on a CPU that saturates, or that does not."""
    def patch(saturates: bool) -> None:
        cpu = Cpu("An old CPU", [], is_emulated=False, saturates=saturates)
        for backend in ("onnxruntime", "openvino"):
            monkeypatch.setattr(f"satexport.backends.{backend}.backend.read_cpu", lambda: cpu)
    return patch


def changed(name: str, **changes: object) -> Target:
    target = find_target(name)
    assert target.quantization
    return replace(target, quantization=replace(target.quantization, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("target", "words"), [
    (find_target("cpu-int8"), ["the scores are right", "cpu-int8-avx2", "is faster"]),
    (changed("cpu-int8", operators=("linear", "attention")), ["products of attention saturate"]),
    (find_target("openvino-int8"), ["may saturate", "openvino-int8-avx2"]),
    (find_target("openvino-throughput"), ["may saturate", "weight_bits = 7"]),
    (find_target("cpu-int8-avx2"), []), (find_target("openvino-int8-avx2"), []), (find_target("onnx"), []),
    (find_target("openvino-fp32"), []), (find_target("web-int8"), []), (find_target("jetson-orin-nano"), []),
    (replace(find_target("cpu-int8"), machine="another"), []),
    (replace(find_target("cpu-int8"), backend="newer"), [])], ids=lambda value: getattr(value, "name", ""))
def test_a_target_whose_products_saturate_or_are_slow_on_this_cpu_is_remarked_on(
        target: Target, words: Iterable[str], saturate: Saturate) -> None:
    saturate(True)
    remark = remark_on(target)
    assert remark.startswith("An old CPU has no dot-product instructions" if words else "")
    assert bool(remark) == bool(words)
    assert all(word in remark for word in words)
    saturate(False)
    assert remark_on(target) == ""


@pytest.mark.long
def test_every_command_that_uses_such_a_bundle_says_so_once(
        tiny: Path, few_clips: Path, saturate: Saturate, tmp_path: Path) -> None:
    remark = "An old CPU has no dot-product instructions"
    path = tmp_path / tiny.parent.name / "cpu-int8"
    for saturates in (True, False):
        saturate(saturates)
        for command in (
                ("cpu", "--int8", "--from", tiny, "--output", tmp_path, "--minutes", 0.1, "--data", few_clips,
                 "--no-measure"),
                ("run", path, next(few_clips.parent.glob("*.wav"))), ("parity", path, "--golden"),
                ("measure", path, "--no-eager", *QUICK)):
            result = call(*command)
            assert result.code in (0, 1), result.err  # random weights: int8 may cost mAP
            assert result.err.count(remark) == saturates, command[0]
