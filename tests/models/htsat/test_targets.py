"""HTS-AT for every backend: its products become int8, and it is proven like the other families."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.targets import find_target
from tests.models.built import build_for_runtime, build_for_tensorrt, compile_with_rtx
from tests.models.htsat.vectors import wave
from tests.tiny import FEW, export

MODEL = "htsat-8x1-1-2-2x2-1-1-1"
LINEAR = 4 * 5 + 3  # products: four per block, and one between two stages


@pytest.fixture(scope="module")
def htsat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export with an embedding of a small HTS-AT with random weights at 2 s."""
    return export(tmp_path_factory.mktemp("htsat"), MODEL, 2, "random", GraphOptions(embedding="mean"))


@pytest.mark.parametrize(("target", "package", "limit"), [
    ("cpu-int8", "onnxruntime", 0.1),
    pytest.param("openvino-fp32", "openvino", 1e-4, marks=pytest.mark.long),
    pytest.param("openvino-int8", "openvino", 0.2, marks=pytest.mark.long)], ids=str)
def test_an_htsat_is_built_and_proven_for_a_runtime(
        target: str, package: str, limit: float, htsat: Path, quick: tuple[object, ...]) -> None:
    built = build_for_runtime(target, package, limit, htsat, wave(10)[0], quick)
    assert built.bundle.int8_layers() == (LINEAR if "int8" in target else 0)


def test_the_tensorrt_graphs_of_an_htsat_follow_its_rules_and_compile(
        htsat: Path, quick: tuple[object, ...]) -> None:
    compile_with_rtx(build_for_tensorrt(htsat, quick))


@pytest.mark.long
@pytest.mark.usefixtures("bf16")
def test_an_htsat_is_built_and_proven_in_bf16(htsat: Path, quick: tuple[object, ...]) -> None:
    build_for_runtime("openvino-bf16", "openvino", 0.1, htsat, wave(10)[0], quick)


@pytest.mark.long
@pytest.mark.parametrize("delay", [1, 10])
def test_rtx_compiles_the_graphs_of_the_published_size(delay: int, tmp_path: Path) -> None:
    source = open_bundle(export(tmp_path, "htsat", delay, "random", use_onnxsim=False))
    target = find_target("jetson-orin-nano")
    compile_with_rtx(compile_bundle(source, target, tmp_path, BuildOptions(calibration=FEW)).path)
