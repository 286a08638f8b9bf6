"""Generated parts of pages: what a command has measured, between two comments of the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tables import VERSIONS
from satexport.errors import DataError
from satexport.files import write_text


def machine_text(found: dict[str, Any]) -> str:
    """Return the CPU and the versions of a result."""
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in VERSIONS
                         if name in found["versions"])
    return f"{found['cpu']}, {found['cpu_cores']} cores ({' '.join(found['cpu_flags'])}); {versions}"


def write_part(page: Path, begin: str, end: str, folder: Path, render: Callable[[dict[str, Any]], str]
               ) -> None:
    """Write what `render` says about each result in a folder between the lines `begin` and `end` of a page.
    Raises `DataError` if the page lacks them."""
    before, found, rest = page.read_text("utf-8").partition(begin)
    if not found or end not in rest:
        raise DataError(f"{page} lacks the lines {begin} and {end}, between which the figures stand.")
    parts = [render(json.loads(path.read_bytes())) for path in sorted(folder.glob("*.json"))]
    write_text(page, "\n\n".join((f"{before}{begin}", *parts, f"{end}{rest.partition(end)[2]}")))
