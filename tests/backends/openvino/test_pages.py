"""Pages of mapped weights and of code are released after the model was compiled."""

from __future__ import annotations

import _ctypes
import ctypes
import shutil
from pathlib import Path

import numpy as np

from satexport.backends.openvino.pages import release_mapped_pages
from tests.machine import needs_proc


def resident(file: Path, permissions: str = "r--s") -> int:
    """Bytes of the file in memory, of its mapping with these permissions."""
    lines = iter(Path("/proc/self/smaps").read_text("utf-8").splitlines())
    next(line for line in lines if line.endswith(str(file)) and line.split()[1] == permissions)
    return 1024 * int(next(line for line in lines if line.startswith("Rss:")).split()[1])


@needs_proc
def test_pages_of_a_mapped_file_are_given_back_and_come_again(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(range(256)) * 40_000)
    values = np.memmap(file, np.uint8, "r")

    total = int(values.sum(dtype=np.int64))
    assert resident(file) >= len(values)
    with release_mapped_pages(file):
        pass
    assert resident(file) == 0
    with release_mapped_pages(file):
        assert int(values.sum(dtype=np.int64)) == total


@needs_proc
def test_code_in_a_folder_is_given_back_and_runs_again(tmp_path: Path) -> None:
    file = tmp_path / "library.so"
    shutil.copyfile(_ctypes.__file__, file)
    library = ctypes.PyDLL(str(file))
    assert library.PyInit__ctypes is not None
    assert resident(file, "r-xp") > 0
    constants = resident(file, "r--p")
    with release_mapped_pages(tmp_path):
        pass
    assert resident(file, "r-xp") == 0
    assert resident(file, "r--p") == constants
