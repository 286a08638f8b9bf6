"""Compiles the C library that records and blocks all network access."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_network.c")


def compile_fake_network(folder: Path) -> Path:
    """Compile it into a folder, for `LD_PRELOAD`. Raises `LookupError` if that is impossible."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not sys.platform.startswith("linux"):
        raise LookupError("needs Linux and a C compiler (cc or gcc)")
    if set(" :") & set(str(folder)):  # the separator of libraries in LD_PRELOAD
        raise LookupError("needs a temporary folder without a space or colon in its name")
    library = folder / "fake_network.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True
    )
    return library
