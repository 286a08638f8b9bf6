"""The pages of this process' memory: release those that can be read again, put weights on huge pages.

All of it only saves memory or time: if the system refuses, a model is loaded without it. Does nothing on
systems other than Linux."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAPS, PAGEMAP, STATM = "/proc/self/maps", "/proc/self/pagemap", "/proc/self/statm"
SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
COLLAPSE = 25        # MADV_COLLAPSE of madvise(2), since Linux 6.1
PRESENT = 1 << 63    # bit of an entry of /proc/self/pagemap: the page is in memory
IN_USE = np.uint64(0b11 << 62)  # bits: it is in memory or in swap
IN_FILE = np.uint64(1 << 61)    # bit: it is a page of a file, not a changed copy
ENTRY_BYTES = 8      # of such an entry
PIECE = 64           # huge pages whose entries are read at a time
CODE = "r-xp"
Range = tuple[int, int]  # first address, address after the last
_kept_loaded: set[str] = set()  # paths of shared libraries that stay loaded until the process ends
_ignoring_refusals = suppress(OSError, ValueError)  # ValueError: a line or entry of another form


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """A range of addresses of this process, a line of /proc/self/maps (proc(5))."""

    limits: Range
    permissions: str  # "r-xp"
    inode: str        # "0": no file
    name: str         # path of the file, or "[heap]"; "": none


def mappings(names: Iterable[str] = ("",)) -> list[Mapping]:
    """Return the ranges of addresses of this process whose lines contain one of these names, in ascending
    order; [] on a system without /proc."""
    found: list[Mapping] = []
    with _ignoring_refusals, open(MAPS, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not any(name in line for name in names):
                continue
            addresses, permissions, _, _, inode, *name = line.rstrip("\n").split(maxsplit=5)
            start, end = (int(address, 16) for address in addresses.split("-"))
            found.append(Mapping(limits=(start, end), permissions=permissions, inode=inode,
                                 name="".join(name)))
    return found


def mapped_data(file: Path) -> set[Range]:
    """Return the ranges at which this process has mapped a file as data for reading."""
    name = str(file.resolve())  # as the system lists it
    return {found.limits for found in mappings([name]) if (found.name, found.permissions) == (name, "r--s")}


def release(ranges: Iterable[Range]) -> None:
    """Release pages of files that are mapped at these ranges and not written: what is used again is read
    again, from the system's file cache. The caller makes sure that the files stay mapped there meanwhile:
    otherwise this may erase other memory that has got the same address."""
    for limits in ranges:
        _advise(limits, mmap.MADV_DONTNEED)


def release_libraries(folder: Path) -> None:
    """Release the code of the shared libraries that lie directly in this folder, and the tables and constants
    beside it. (Constants that contain addresses are not as in the file; they stay.) From the first call on
    the libraries stay loaded until the process ends, so what is released is always theirs."""
    name = str(folder.resolve())
    for _ in range(2):  # what is listed before a library is kept loaded may be gone
        found = [mapping for mapping in mappings([name]) if os.path.dirname(mapping.name) == name]
        for library in {mapping.name for mapping in found} - _kept_loaded:
            _keep_loaded(library)
    release(mapping.limits for mapping, before, after in zip(found, (None, *found), (*found[1:], None),
                                                             strict=False)
            if mapping.name in _kept_loaded and (
                mapping.permissions == CODE or _is_as_in_file(mapping, before, after)))


def mapped_file_bytes() -> int:
    """Bytes of mapped files, and of memory shared with other processes, that are in this process' memory
    (proc(5), /proc/self/statm; newer kernels count in batches of pages); 0 if the system does not tell."""
    with _ignoring_refusals, open(STATM, encoding="ascii") as file:
        return int(file.read().split()[2]) * mmap.PAGESIZE
    return 0


def trim_heap() -> None:
    """Give memory that was freed back to the system, with malloc_trim(3), which only glibc has."""
    if os.path.exists(MAPS) and hasattr(_libc(), "malloc_trim"):
        _libc().malloc_trim(0)


@contextmanager
def huge_pages() -> Iterator[None]:
    """After the block, move the memory that it allocated and still uses to huge pages.

    Linux puts memory on huge pages by itself only if the machine is set to "always", most are set to
    "madvise". A step reads all weights, and with small pages the addresses of each are looked up again. Only
    huge pages that are entirely in use are made, so the resident size stays the same. Memory from before the
    block stays as it is. Does nothing before Linux 6.1, and on a machine whose setting is "never"."""
    before = _allocated()
    yield
    with _ignoring_refusals:
        if "[never]" not in (SETTINGS / "enabled").read_text("ascii"):
            _collapse(_subtract(_allocated(), before), huge_page_bytes())


def huge_page_bytes() -> int:
    """Size of a huge page: 2 MB if small ones have 4 KB, 32 MB if they have 16 KB (Raspberry Pi 5). Raises
    `OSError` if this system has none."""
    return int((SETTINGS / "hpage_pmd_size").read_text("ascii"))


def _keep_loaded(library: str) -> None:
    """Keep a shared library that is loaded now until the process ends (dlopen(3)). Waits while another thread
    loads or unloads one."""
    with _ignoring_refusals:
        ctypes.CDLL(library, mode=os.RTLD_NOLOAD)  # a handle that is never closed
        _kept_loaded.add(library)


def _is_as_in_file(mapping: Mapping, before: Mapping | None, after: Mapping | None) -> bool:
    """Whether this range has tables or constants of a library as they are in its file: it lies next to the
    code, no page was written, and another range of the library follows. (While a thread is still mapping a
    library, none does.)"""
    if (mapping.permissions != "r--p" or after is None or not _joins(mapping, after)
            or not (after.permissions == CODE
                    or (before is not None and before.permissions == CODE and _joins(before, mapping)))):
        return False
    start, end = (address // mmap.PAGESIZE * ENTRY_BYTES for address in mapping.limits)
    with _ignoring_refusals, open(PAGEMAP, "rb", buffering=0) as pagemap:
        pagemap.seek(start)
        entries = np.frombuffer(pagemap.read(end - start), np.uint64)
        return len(entries) * ENTRY_BYTES == end - start and bool(
            ((entries & IN_USE == 0) | (entries & IN_FILE > 0)).all())
    return False


def _joins(mapping: Mapping, after: Mapping) -> bool:
    """Whether the second range is of the same file as the first and begins where that one ends."""
    return mapping.name == after.name and mapping.limits[1] == after.limits[0]


def _collapse(ranges: Iterable[Range], size: int) -> None:
    """Move the memory in these ranges to huge pages of `size` bytes, if all of such a page is in use."""
    with open(PAGEMAP, "rb", buffering=0) as pagemap:
        for start, end in ranges:
            for address in _find_used(pagemap, start, end, size):
                _advise((address, address + size), COLLAPSE)


def _find_used(pagemap: BinaryIO, start: int, end: int, size: int) -> Iterator[int]:
    """Yield the addresses of huge pages between two addresses that are entirely in use."""
    pages = size // mmap.PAGESIZE
    for first in range(-(-start // size), end // size, PIECE):
        count = min(PIECE, end // size - first)
        pagemap.seek(first * pages * ENTRY_BYTES)
        content = pagemap.read(count * pages * ENTRY_BYTES)  # may be fewer
        count = len(content) // (pages * ENTRY_BYTES)
        entries = np.frombuffer(content, np.uint64, count * pages) if count else np.zeros(0, np.uint64)
        used = (entries >= PRESENT).reshape(-1, pages).all(1)
        yield from ((first + int(number)) * size for number in np.flatnonzero(used))


def _allocated() -> list[Range]:
    """Return the ranges of this process' private memory that is in no file."""
    return [mapping.limits for mapping in mappings() if mapping.inode == "0"
            and mapping.permissions == "rw-p" and mapping.name in ("", "[heap]")]


def _subtract(ranges: Sequence[Range], without: Sequence[Range]) -> Iterator[Range]:
    """Yield the parts of ranges that are not in the others; both are in ascending order. (Linux joins a new
    range and its neighbours, so that either end of a range may be new.)"""
    for start, end in ranges:
        rest = start
        for first, last in without:
            if first < end and last > rest:
                if rest < first:
                    yield rest, first
                rest = last
        if rest < end:
            yield rest, end


def _advise(limits: Range, advice: int) -> None:
    """Call madvise(2), and ignore whether it succeeds."""
    start, end = limits
    _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(advice))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None)
