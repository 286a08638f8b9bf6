"""PaSST for every backend: its products become int8, and it is proven like the other families."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.targets import find_target
from tests.models.built import build_for_runtime, build_for_tensorrt, compile_with_rtx
from tests.models.passt.vectors import TINY_16, wave
from tests.tiny import FEW, export

LINEAR = 10  # products: five per block


@pytest.fixture(scope="module")
def passt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export with an embedding of a small PaSST with random weights at 2 s."""
    return export(tmp_path_factory.mktemp("passt"), TINY_16, 2, "random", GraphOptions(embedding="tokens"))


@pytest.mark.parametrize(("target", "package", "limit"), [
    ("cpu-int8", "onnxruntime", 0.06),
    pytest.param("openvino-fp32", "openvino", 1e-4, marks=pytest.mark.long),
    ("openvino-bf16", "openvino", 0.02), ("openvino-int8", "openvino", 0.07)], ids=str)
def test_a_passt_is_built_and_proven_for_a_runtime(
        target: str, package: str, limit: float, passt: Path, quick: tuple[object, ...],
        request: pytest.FixtureRequest) -> None:
    if target == "openvino-bf16":
        request.getfixturevalue("bf16")
    built = build_for_runtime(target, package, limit, passt, wave(10)[0], quick)
    assert built.bundle.int8_layers() == (LINEAR if "int8" in target else 0)


def test_the_tensorrt_graphs_of_a_passt_follow_its_rules_and_compile(
        passt: Path, quick: tuple[object, ...]) -> None:
    compile_with_rtx(build_for_tensorrt(passt, quick))


@pytest.mark.long
@pytest.mark.parametrize(("model", "delay"), [
    ("passt-s10", 10), ("passt-s16", 10), ("passt-s16", 1), ("passt-l", 2), ("passt-s10-stfthop100", 10)])
def test_rtx_compiles_the_graphs_of_the_published_sizes(model: str, delay: int, tmp_path: Path) -> None:
    source = open_bundle(export(tmp_path, model, delay, "random", use_onnxsim=False))
    target = find_target("jetson-orin-nano")
    compile_with_rtx(compile_bundle(source, target, tmp_path, BuildOptions(calibration=FEW)).path)
