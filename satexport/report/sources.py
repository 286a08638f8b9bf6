"""Where stored reports come from: a bundle, a folder of reports, or a file. Imports only numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from satexport.bundle.folder import MANIFEST, Bundle, open_bundle
from satexport.errors import DataError
from satexport.report.records import Report
from satexport.report.serialize import read_file, read_reports


@dataclass(frozen=True, kw_only=True)
class Source:
    """The reports at a path that a user names, in the order in which a bundle gets them."""

    path: Path
    bundle: Bundle | None        # None: a file, or a folder of reports
    reports: tuple[Report, ...]


def read_sources(paths: Sequence[Path]) -> tuple[list[Source], list[DataError]]:
    """Return the reports at each path, and the errors of those in folders that cannot be read. Raises
    `DataError` if a path has none or if no report can be read, `BundleError` if a bundle is damaged."""
    sources: list[Source] = []
    errors: list[DataError] = []
    for path in _once(paths):
        source, unreadable = _read(path)
        sources, errors = [*sources, source], errors + unreadable
    if not any(source.reports for source in sources):
        raise errors[0]
    return sources, errors


def _once(paths: Sequence[Path]) -> list[Path]:
    """The paths without those that name the same file or folder again."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _read(path: Path) -> tuple[Source, list[DataError]]:
    if not path.is_dir():
        return Source(path=path, bundle=None, reports=tuple(read_file(path))), []
    is_bundle = (path / MANIFEST).exists() or not any(path.glob("*.json"))
    bundle = open_bundle(path) if is_bundle else None
    folder = bundle.reports if bundle else path
    readable, unreadable = read_reports(folder)
    if not readable and not unreadable:
        raise DataError(f"{folder}: has no reports. `satexport parity {path}` and `satexport measure {path}` "
                        "make them.")
    return Source(path=path, bundle=bundle, reports=tuple(readable)), unreadable
