"""A fake CUDA runtime on host memory, compiled for the tests."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_cudart.c")
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def fake_cudart(folder: Path) -> ctypes.CDLL:
    """Compile the fake into a folder; skips the test if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler (cc or gcc) for the fake CUDA runtime")
    path = folder / "libcudart.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, SOURCE], check=True)
    library = ctypes.CDLL(str(path))
    library.fake_enqueue.argtypes = ctypes.c_void_p, KERNEL, ctypes.c_void_p
    library.fake_fail.argtypes = ctypes.c_char_p, ctypes.c_int, ctypes.c_int
    return library
