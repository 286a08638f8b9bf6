"""runtime.zip: the parts of satexport that a board needs, and nothing else."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path, PurePath

import pytest

from satexport.backends.tensorrt.runtime_zip import SOURCES, write_runtime
from satexport.bundle.contract import Contract
from satexport.bundle.folder import MANIFEST, write_manifest
from satexport.files import PACKAGE_FOLDER
from satexport.targets import find_target
from tests.bundle.copies import copy_of, manifest_of
from tests.lean import FILES, TRAINING, python

ALONE = (*TRAINING, *FILES, "onnxruntime", "openvino", "tensorrt", "click", "rich", "matplotlib", "memray")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("runtime") / "runtime.zip"
    write_runtime(file)
    return file


def module(file: str) -> str:
    """The name of a module, from its path below the package's parent."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def sources(runtime: Path) -> dict[str, bytes]:
    """Module -> its source, as in the zip file."""
    with zipfile.ZipFile(runtime) as archive:
        return {module(name): archive.read(name) for name in archive.namelist()}


def test_every_module_in_the_zip_is_imported_with_numpy_alone(runtime: Path) -> None:
    program = """
from importlib import import_module
_, runtime, *modules = sys.argv
for name in modules:
    assert import_module(name).__file__.startswith(runtime), name
"""
    python(program, runtime, *sources(runtime), without=ALONE, PYTHONPATH=str(runtime))


def test_the_board_imports_something_of_every_pattern(runtime: Path, tiny: Path, tmp_path: Path) -> None:
    bundle = copy_of(tiny, tmp_path)
    manifest = manifest_of(bundle)
    (bundle / MANIFEST).unlink()
    write_manifest(bundle, Contract.from_dict(manifest["contract"]), find_target("jetson-orin-nano"),
                   manifest["graph"], manifest["operations"], {})
    program = """
import satexport.pipeline.board
sys.stderr = sys.stdout
assert satexport.pipeline.board.main([sys.argv[1]]) == 3
try:
    satexport.load(sys.argv[1])
except satexport.errors.MissingError as error:
    print(error)
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "satexport"))
"""
    build, run, files = python(program, bundle, without=ALONE, PYTHONPATH=str(runtime)).splitlines()
    assert build.startswith("Error: the package tensorrt is not installed")
    assert "no engine" in run
    imported = [file.partition("runtime.zip/satexport/")[2] for file in files.split()]
    assert [pattern for pattern in SOURCES if not any(
        PurePath(file).match(pattern) and file.count("/") == pattern.count("/") for file in imported)] == []


def test_no_module_in_the_zip_imports_one_that_is_left_out_even_later(runtime: Path) -> None:
    packed = sources(runtime)
    files = (path.relative_to(PACKAGE_FOLDER.parent).as_posix() for path in PACKAGE_FOLDER.rglob("*.py"))
    left_out = set(map(module, files)) - set(packed)
    found = {(importer, name) for importer, text in packed.items()
             for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)
             for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
             if name in left_out}
    assert found == {  # a type, and what writes a build bundle
        ("satexport.backends.backend", "satexport.graph.roles"),
        ("satexport.backends.tensorrt.backend", "satexport.backends.onnxruntime.step"),
        ("satexport.backends.tensorrt.backend", "satexport.backends.tensorrt.write")}


def test_the_zip_has_the_same_bytes_whenever_it_is_written(runtime: Path, tmp_path: Path) -> None:
    write_runtime(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == runtime.read_bytes()
