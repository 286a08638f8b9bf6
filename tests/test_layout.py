"""The layout of tests: each is in the folder of its wing; shared code is in modules that are not tests."""

from __future__ import annotations

import ast
from pathlib import Path

from tests import ROOT

TESTS, PACKAGE = ROOT / "tests", ROOT / "satexport"
FAKES = {"backends/evaluator", "models/tally"}  # a backend and a family that only tests have
NO_WING = {"benchmarks", "docs", "examples"}  # what pages show, what measures, what users copy


def imported_by(path: Path) -> set[str]:
    """The modules that a test module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    return {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def test_no_module_imports_from_a_test_module() -> None:
    found = {(path.name, module) for path in TESTS.rglob("*.py") for module in imported_by(path)
             if module.startswith("tests.") and ".test_" in module}
    assert found == set()


def test_the_test_folders_are_named_like_the_wings() -> None:
    folders = {path.parent.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    wings = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")}
    assert folders - wings - FAKES - NO_WING == set()


ALLOWED = {("backends/tensorrt", "satexport.backends.onnxruntime.step")}  # proves here what a board will run


def test_no_family_and_no_backend_imports_from_another() -> None:
    found = set()
    for kind in ("models", "backends"):
        folders = {path.name for path in (PACKAGE / kind).iterdir() if (path / "__init__.py").is_file()}
        for path in (PACKAGE / kind).glob("*/*.py"):
            others = tuple(f"satexport.{kind}.{name}" for name in folders - {path.parent.name})
            found |= {(f"{kind}/{path.parent.name}", module) for module in imported_by(path)
                      if f"{module}.".startswith(tuple(f"{other}." for other in others))}
    assert found == ALLOWED
