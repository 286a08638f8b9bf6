"""runtime.zip: the part of satexport that builds, tests and runs engines on a board. Python imports from the
zip file."""

from __future__ import annotations

import zipfile
from pathlib import Path

from satexport.files import PACKAGE_FOLDER

SOURCES = (  # patterns of the files that `satexport.pipeline.board` and `satexport.load` import
    "__init__.py", "errors.py", "facts.py", "files.py", "memory.py", "origin.py", "process.py",
    "remote.py", "step.py", "terminal.py", "version.py",
    "backends/*.py", *(f"backends/tensorrt/{name}.py" for name in (
        "__init__", "backend", "build", "cuda", "engine", "inspect", "settings", "step")),
    "bundle/*.py", "frontends/*.py", "models/__init__.py", "models/claims.py",
    *(f"measure/{name}.py" for name in ("__init__", "budgets", "latency", "records", "schedule")),
    *(f"parity/{name}.py" for name in ("__init__", "differences", "golden", "records")),
    "pipeline/__init__.py", "pipeline/board.py",
    "quantize/__init__.py", "quantize/records.py",
    *(f"report/{name}.py" for name in (
        "__init__", "blocks", "figure", "figures", "paper_blocks", "paper_figures", "paper_records",
        "records", "serialize", "set_figures", "table", "terminal", "terms")),
    *(f"tagging/{name}.py" for name in (
        "__init__", "feed", "samples", "stream", "tagger", "window")),
)
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # of every entry, so that equal content gives equal bytes


def write_runtime(file: Path) -> None:
    """Write a zip file of `SOURCES`. To import from it takes numpy; to build or to run an engine, also the
    board's TensorRT and CUDA."""
    sources = {source for pattern in SOURCES for source in PACKAGE_FOLDER.glob(pattern)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted(sources):
            entry = zipfile.ZipInfo(source.relative_to(PACKAGE_FOLDER.parent).as_posix(), FIXED_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, source.read_bytes())
