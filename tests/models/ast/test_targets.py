"""AST for every backend: its products become int8, and it is proven like the other families."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.bundle.contract import GraphOptions
from tests.models.ast.vectors import SIZE, wave
from tests.models.built import build_for_runtime, build_for_tensorrt
from tests.tiny import export

MODEL = f"ast-s16-{SIZE}"  # 514 tokens
LINEAR = 10                # products: five per block


@pytest.fixture(scope="module")
def ast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export with an embedding of a small AST with random weights at 2 s."""
    return export(tmp_path_factory.mktemp("ast"), MODEL, 2, "random", GraphOptions(embedding="tokens"))


@pytest.mark.parametrize(("target", "package", "limit"), [
    ("cpu-int8", "onnxruntime", 0.08),
    pytest.param("openvino-fp32", "openvino", 1e-4, marks=pytest.mark.long),
    ("openvino-int8", "openvino", 0.08)], ids=str)
def test_an_ast_is_built_and_proven_for_a_runtime(
        target: str, package: str, limit: float, ast: Path, quick: tuple[object, ...]) -> None:
    built = build_for_runtime(target, package, limit, ast, wave(10)[0], quick)
    assert built.bundle.int8_layers() == (LINEAR if "int8" in target else 0)


def test_the_tensorrt_graphs_of_an_ast_follow_its_rules_and_are_proven(
        ast: Path, quick: tuple[object, ...]) -> None:
    build_for_tensorrt(ast, quick)
