"""Memory on huge pages, and code that is released."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from satexport.pages import HUGE, SETTING, huge_pages, release_code
from tests.machine import needs_proc

SMAPS = Path("/proc/self/smaps")
SIZE = 8 * HUGE


def sizes_of(array: NDArray[np.uint8]) -> dict[str, int]:
    """Return the sizes, in bytes, that the system lists for the memory that an array is in."""
    address, found, inside = array.ctypes.data + array.size // 2, dict[str, int](), False
    for line in SMAPS.read_text("utf-8", errors="replace").splitlines():
        if limits := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(limits[1], 16) <= address < int(limits[2], 16)
        elif inside and line.endswith(" kB"):
            key, number, _ = line.split()
            found[key.rstrip(":")] = 1024 * int(number)
    return found


def resident_code(folder: Path) -> int:
    """Return the bytes of the code of a folder's libraries in memory."""
    total, inside = 0, False
    for line in SMAPS.read_text("utf-8", errors="replace").splitlines():
        if re.match(r"[0-9a-f]+-", line):
            inside = " r-xp " in line and str(folder) in line
        elif inside and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


@needs_proc
def test_code_that_was_released_is_read_again_when_it_runs() -> None:
    folder = Path(onnxruntime.__file__).parent.resolve() / "capi"
    onnxruntime.get_available_providers()
    before = resident_code(folder)
    release_code(folder)
    released = resident_code(folder)
    assert released < before / 4
    onnxruntime.OrtValue.ortvalue_from_numpy(np.ones(3, np.float32))
    assert released < resident_code(folder) < before


def allocate() -> NDArray[np.uint8]:
    """Allocate memory as C does; numpy itself asks for huge pages."""
    memory = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_DONTFORK)  # so that the system lists it apart from its neighbours
    return np.frombuffer(memory, np.uint8)


@pytest.fixture
def in_use() -> NDArray[np.uint8]:
    """Memory that a block of `huge_pages` has allocated: three quarters of it are in use."""
    if not SETTING.exists() or "[madvise]" not in SETTING.read_text("ascii"):
        pytest.skip("transparent huge pages are not set to madvise here")
    with huge_pages():
        memory = allocate()
        memory[:SIZE * 3 // 4] = 1
        memory[-1] = 1  # the last huge page has one small page in use
    if not sizes_of(memory).get("AnonHugePages"):
        pytest.skip("this kernel makes no huge pages: it is older than 6.1, or has no free ones")
    return memory


def test_memory_in_use_is_on_huge_pages_and_the_rest_stays_unused(in_use: NDArray[np.uint8]) -> None:
    sizes = sizes_of(in_use)
    assert sizes["AnonHugePages"] >= SIZE * 3 // 4 - 2 * HUGE
    assert sizes["Rss"] <= SIZE * 3 // 4 + mmap.PAGESIZE
    assert (in_use[:SIZE * 3 // 4] == 1).all()


def test_memory_from_before_stays_where_it_is() -> None:
    memory = allocate()
    memory[:] = 1
    before = sizes_of(memory)["Rss"], sizes_of(memory).get("AnonHugePages")
    with huge_pages():
        pass
    assert (sizes_of(memory)["Rss"], sizes_of(memory).get("AnonHugePages")) == before


def test_a_machine_that_wants_no_huge_pages_gets_none(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = tmp_path / "enabled"
    setting.write_text("always madvise [never]\n", encoding="ascii")
    monkeypatch.setattr("satexport.pages.SETTING", setting)
    monkeypatch.setattr("satexport.pages._collapse", lambda before: pytest.fail("collapsed"))
    with huge_pages():
        pass
