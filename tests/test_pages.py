"""Memory on huge pages, and pages that are released."""

from __future__ import annotations

import _ctypes
import ctypes
import mmap
import re
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from satexport import pages
from satexport.pages import (
    CODE,
    huge_page_bytes,
    huge_pages,
    mapped_data,
    mapped_file_bytes,
    mappings,
    release,
    release_libraries,
)
from tests.machine import needs_proc

SMAPS = Path("/proc/self/smaps")


def sizes_at(address: int) -> dict[str, int]:
    """Return the sizes, in bytes, that the system lists for the range that an address is in."""
    found, inside = dict[str, int](), False
    for line in SMAPS.read_text("utf-8", errors="replace").splitlines():
        if limits := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(limits[1], 16) <= address < int(limits[2], 16)
        elif inside and line.endswith(" kB"):
            key, number, _ = line.split()
            found[key.rstrip(":")] = 1024 * int(number)
    return found


def range_of(array: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the limits of the range that an array is in."""
    address = array.ctypes.data
    return next(found.limits for found in mappings() if found.limits[0] <= address < found.limits[1])


def bytes_in_memory(array: NDArray[np.uint8]) -> int:
    """The size of the pages of an array that are in memory; it begins with a page."""
    with open(pages.PAGEMAP, "rb", buffering=0) as pagemap:
        pagemap.seek(array.ctypes.data // mmap.PAGESIZE * pages.ENTRY_BYTES)
        entries = np.frombuffer(pagemap.read(len(array) // mmap.PAGESIZE * pages.ENTRY_BYTES), np.uint64)
    return int((entries >= pages.PRESENT).sum()) * mmap.PAGESIZE


def resident(file: Path, permissions: str = "r--s") -> int:
    """Bytes of the file in memory, of its mapping with these permissions."""
    start = next(found.limits[0] for found in mappings()
                 if (found.name, found.permissions) == (str(file), permissions))
    return sizes_at(start)["Rss"]


@needs_proc
def test_pages_of_a_mapped_file_are_released_and_come_again(tmp_path: Path) -> None:
    file = tmp_path / "weights of a model.bin"
    file.write_bytes(bytes(range(256)) * 40_000)
    values = np.memmap(file, np.uint8, "r")
    total = int(values.sum(dtype=np.int64))
    assert resident(file) >= len(values)
    release(mapped_data(file))
    assert resident(file) == 0
    assert int(values.sum(dtype=np.int64)) == total


@needs_proc
def test_mapped_files_count_when_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(8_000_000))
    values, before = np.memmap(file, np.uint8, "r"), mapped_file_bytes()
    values.sum()
    read = mapped_file_bytes()
    release(mapped_data(file))
    assert read - before > 7_000_000 > mapped_file_bytes() - before


@needs_proc
def test_code_in_a_folder_and_constants_beside_it_are_released_and_can_be_used_again(tmp_path: Path) -> None:
    file = tmp_path / "library.so"
    shutil.copyfile(_ctypes.__file__, file)
    library = ctypes.PyDLL(str(file))
    assert library.PyInit__ctypes is not None
    parts = [found for found in mappings([str(file)]) if found.permissions != "---p"]
    if [part.permissions for part in parts] != ["r--p", "r-xp", "r--p", "r--p", "rw-p"]:
        pytest.skip("this linker has no ranges of tables, code, constants, constants with addresses, data")
    constants = ctypes.string_at(parts[2].limits[0], 100)
    before = [sizes_at(part.limits[0])["Rss"] for part in parts]
    content = ctypes.string_at(parts[3].limits[0], parts[3].limits[1] - parts[3].limits[0])
    assert min(before) > 0
    release_libraries(tmp_path)
    assert [sizes_at(part.limits[0])["Rss"] for part in parts] == [0, 0, 0, *before[3:]]
    assert ctypes.string_at(parts[2].limits[0], 100) == constants
    assert ctypes.string_at(parts[3].limits[0], len(content)) == content
    assert library.PyInit__ctypes is not None


@needs_proc
def test_a_page_of_constants_that_was_written_is_not_released(tmp_path: Path) -> None:
    file = tmp_path / "library.so"
    shutil.copyfile(_ctypes.__file__, file)
    ctypes.PyDLL(str(file))
    tables = mappings([str(file)])[0]
    protect = pages._libc().mprotect
    start, size = ctypes.c_void_p(tables.limits[0]), ctypes.c_size_t(tables.limits[1] - tables.limits[0])
    assert protect(start, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    ctypes.memset(tables.limits[0] + 9, 7, 1)  # padding in the header
    assert protect(start, size, mmap.PROT_READ) == 0
    release_libraries(tmp_path)
    assert ctypes.string_at(tables.limits[0], 10)[:4] == b"\x7fELF"
    assert ctypes.string_at(tables.limits[0], 10)[9] == 7


def test_only_constants_next_to_the_code_of_a_complete_library_count_as_in_the_file() -> None:
    def at(start: int, permissions: str) -> pages.Mapping:
        return pages.Mapping(limits=(start << 12, (start + 1) << 12), permissions=permissions, inode="1",
                             name="library.so")

    constants, code, data = at(5, "r--p"), at(4, CODE), at(6, "rw-p")
    assert not pages._is_as_in_file(constants, code, None), "the rest of a library that is being loaded"
    assert not pages._is_as_in_file(constants, at(4, "r--p"), data), "constants with addresses"
    assert not pages._is_as_in_file(constants, code, at(7, "rw-p")), "another library follows"
    assert not pages._is_as_in_file(at(5, "rw-p"), code, data)


@needs_proc
def test_a_library_whose_code_was_released_stays_where_it_is(tmp_path: Path) -> None:
    """Otherwise its addresses could belong to other memory when they are released, and that would be lost."""
    for name in ("released.so", "other.so"):
        shutil.copyfile(_ctypes.__file__, tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "released.so").rename(tmp_path / "folder" / "released.so")
    libraries = tmp_path / "folder" / "released.so", tmp_path / "other.so"
    handles = [ctypes.PyDLL(str(file))._handle for file in libraries]
    release_libraries(tmp_path / "folder")
    for handle in handles:
        _ctypes.dlclose(handle)
    assert [bool(mappings([str(file)])) for file in libraries] == [True, False]


@needs_proc
def test_code_that_the_system_cannot_keep_is_not_released(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(_ctypes.__file__, tmp_path / "library.so")
    handle = ctypes.PyDLL(str(tmp_path / "library.so"))
    monkeypatch.setattr(pages, "_keep_loaded", lambda library: None)
    monkeypatch.setattr(pages, "_advise", lambda limits, advice: pytest.fail("released"))
    release_libraries(tmp_path)
    assert handle.PyInit__ctypes is not None


def allocate(size: int) -> NDArray[np.uint8]:
    """Allocate memory as C does; numpy itself asks for huge pages."""
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)


@pytest.fixture
def huge() -> int:
    """The size of a huge page on a system that makes some of memory in use."""
    try:
        if "[madvise]" not in (pages.SETTINGS / "enabled").read_text("ascii"):
            pytest.skip("transparent huge pages are not set to madvise here")
        size = huge_page_bytes()
    except OSError:
        pytest.skip("this system has no transparent huge pages")
    memory = allocate(4 * size)
    memory[:] = 1
    if pages._libc().madvise(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(len(memory)),
                             pages.COLLAPSE):
        pytest.skip("this kernel makes no huge pages of memory in use: older than 6.1, or none are free")
    return size


def test_memory_in_use_is_on_huge_pages_and_the_rest_stays_unused(huge: int) -> None:
    with huge_pages():
        memory = allocate(16 * huge)
        before = sizes_at(memory.ctypes.data)
        memory[:len(memory) * 3 // 4] = 1
        memory[-1] = 1  # the last huge page has one small page in use
    after = sizes_at(memory.ctypes.data)
    assert after["AnonHugePages"] - before["AnonHugePages"] >= 10 * huge
    assert bytes_in_memory(memory) <= 12 * huge + 2 * mmap.PAGESIZE
    assert (memory[:len(memory) * 3 // 4] == 1).all()


def test_memory_from_before_stays_as_it_is_also_if_a_new_range_joins_it(huge: int) -> None:
    old = allocate(16 * huge)
    old[:] = 1
    start, on_huge = range_of(old)[0], sizes_at(old.ctypes.data)["AnonHugePages"]
    with huge_pages():
        new = allocate(16 * huge)  # not in use
    if range_of(new) != range_of(old) or range_of(old)[0] >= start:
        pytest.skip("this system puts new memory elsewhere")
    assert sizes_at(old.ctypes.data)["AnonHugePages"] == on_huge


@pytest.mark.parametrize(("ranges", "before", "new"), [
    ([(2, 9)], [(5, 9)], [(2, 5)]),                           # a new range below
    ([(2, 9)], [(2, 5)], [(5, 9)]),                           # and above
    ([(2, 9)], [(3, 4), (6, 7)], [(2, 3), (4, 6), (7, 9)]),   # one that fills gaps
    ([(2, 5), (7, 9)], [(2, 5), (6, 9)], []),                 # less than before
    ([(2, 5), (7, 9)], [], [(2, 5), (7, 9)])])
def test_new_memory_is_what_no_range_had_before(
        ranges: list[pages.Range], before: list[pages.Range], new: list[pages.Range]) -> None:
    assert list(pages._subtract(ranges, before)) == new


def test_entries_of_pages_are_read_in_pieces_and_a_short_read_leaves_the_rest(
        monkeypatch: pytest.MonkeyPatch) -> None:
    size, used = 4 * mmap.PAGESIZE, pages.PRESENT
    entries = np.array([used] * 11 + [0] + [used] * 6, np.uint64)  # the last huge page is not complete
    monkeypatch.setattr(pages, "PIECE", 2)
    limits = mmap.PAGESIZE, 18 * mmap.PAGESIZE
    assert list(pages._find_used(BytesIO(entries.tobytes()), *limits, size)) == [size, 3 * size]
    short = BytesIO(entries.tobytes()[:-20])
    assert list(pages._find_used(short, *limits, size)) == [size]


def test_a_machine_that_wants_no_huge_pages_gets_none(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "enabled").write_text("always madvise [never]\n", encoding="ascii")
    (tmp_path / "hpage_pmd_size").write_text("2097152\n", encoding="ascii")
    monkeypatch.setattr(pages, "SETTINGS", tmp_path)
    monkeypatch.setattr(pages, "_collapse", lambda ranges, size: pytest.fail("collapsed"))
    with huge_pages():
        pass


@pytest.mark.parametrize("size", ["", "a lot"])
def test_a_system_that_tells_less_changes_nothing(
        size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "enabled").write_text("always [madvise] never\n", encoding="ascii")
    (tmp_path / "hpage_pmd_size").write_text(size, encoding="ascii")
    (tmp_path / "maps").write_text("of another form\n", encoding="ascii")
    monkeypatch.setattr(pages, "SETTINGS", tmp_path)
    monkeypatch.setattr(pages, "MAPS", str(tmp_path / "maps"))
    advised: list[pages.Range] = []
    monkeypatch.setattr(pages, "_advise", lambda limits, advice: advised.append(limits))
    with huge_pages():
        pass
    release_libraries(tmp_path)
    assert advised == []
