"""The reports of a bundle as they are published: only those about this very bundle, and without the paths
of the machine that made them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from satexport.bundle.folder import Bundle
from satexport.errors import DataError
from satexport.files import json_text, read_at_most
from satexport.measure.records import MeasureReport
from satexport.parity.records import ParityReport
from satexport.quantize.records import SensitivityReport
from satexport.report.blocks import describe_stored
from satexport.report.records import ExportReport, Report
from satexport.report.serialize import MAX_BYTES, from_json, to_json

PLACES = ("bundle", "folder", "category_map")  # keys of reports whose values are paths


@dataclass(frozen=True, kw_only=True)
class StoredReport:
    """A report and its file."""

    name: str        # of the file, "parity.json"
    report: Report

    @property
    def text(self) -> str:
        """Its JSON."""
        return json_text(to_json(self.report))


def read_reports(bundle: Bundle) -> tuple[list[StoredReport], list[str]]:
    """Return the reports about a bundle, by file name, and a note on each report that is not published."""
    found, notes = [], []
    for path in sorted(bundle.reports.glob("*.json")):
        try:
            report = _read(path)
        except DataError as error:
            notes.append(f"{error.message} It is left out.")
            continue
        if report is None:
            continue
        if reason := _why_unreadable(report):
            notes.append(f"{path} has impossible values ({reason}): it is damaged. It is left out.")
        elif _is_about(report, bundle):
            found.append(StoredReport(name=path.name, report=report))
        else:
            notes.append(f"{path} is about another bundle, or about this one before it was made again. It "
                         "is left out: make it again.")
    return found, notes


def _read(path: Path) -> Report | None:
    """Return a report without places; None for a JSON file of another kind. Raises `DataError` if it is
    damaged or has another schema."""
    try:
        content = json.loads(read_at_most(path, MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
    if not isinstance(content, Mapping) or "kind" not in content:
        return None
    return from_json(without_places(content), path)


def _why_unreadable(report: Report) -> str:
    """Return why a report whose values have the right types cannot be shown; "" if it can."""
    try:
        describe_stored([report])
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _is_about(report: Report, bundle: Bundle) -> bool:
    """Whether a report is about a bundle as it is now. An export says only which weights it had."""
    if isinstance(report, ParityReport):
        return report.bundle_sha256 == bundle.sha256
    if isinstance(report, MeasureReport):
        return any(entry.bundle_sha256 == bundle.sha256 for entry in report.bundles)
    if isinstance(report, ExportReport):
        return report.checkpoint.sha256 == bundle.contract.checkpoint.sha256
    return isinstance(report, SensitivityReport) and report.variant == bundle.contract.variant


def without_places(content: Any) -> Any:
    """Return the JSON of a report in which each path that it states is only a name, wherever it stands."""
    names = {place: name for place in sorted(set(_find_places(content)), key=len, reverse=True)
             if (name := _last_name(place)).strip(".") and name != place}
    return _replace(content, names) if names else content


def _find_places(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key in PLACES and isinstance(entry, str):
                yield entry
            else:
                yield from _find_places(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _find_places(entry)


def _last_name(place: str) -> str:
    """The last part of a path of any system; it tells nothing more than a path such as "." or "../..". """
    return PureWindowsPath(place).name if "\\" in place else PurePosixPath(place).name


def _replace(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for place, name in names.items():
            value = value.replace(place, name)
        return value
    if isinstance(value, Mapping):
        return {_replace(key, names): _replace(entry, names) for key, entry in value.items()}
    return [_replace(entry, names) for entry in value] if isinstance(value, list) else value
