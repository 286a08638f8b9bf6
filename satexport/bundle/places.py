"""Where bundles and reports lie: never among the parts of a bundle, never in place of what is not ours."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from satexport.bundle.contract import ANY
from satexport.bundle.folder import REPORTS, Bundle, bundle_path, holds_bundle, open_bundle
from satexport.errors import BundleError, RunError, SatexportError, UsageError
from satexport.files import check_writable, staged_folder


@contextmanager
def staged_bundle(path: Path) -> Iterator[Path]:
    """Give a folder, empty but for reports/, that takes the place of the bundle at `path` as a whole on
    success, and vanishes on failure. No file in it may be open at the end: Windows moves no such folder.
    Raises `RunError` where something else is there already, `UsageError` where the place is inside another
    bundle. An error from inside the block that names a file in the folder names it at `path`."""
    def may_replace(there: Path) -> bool:
        return there.is_dir() and (holds_bundle(there) or not any(there.iterdir()))

    check_outside(path)
    with staged_folder(path, may_replace) as stage:
        (stage / REPORTS).mkdir()
        try:
            yield stage
        except SatexportError as error:
            raise type(error)(*(text.replace(str(stage), str(path)) for text in (error.message, *error.lines))
                              ) from None


def check_outside(place: Path, is_report: bool = False) -> None:
    """Raise `UsageError` where a new file or folder would lie among the parts of a bundle, which is then no
    bundle any more: anywhere below one but in its reports/, which a report is advised to go to."""
    there = Path(os.path.realpath(place.parent), place.name)
    for folder in there.parents:
        inside = there.relative_to(folder).parts
        if not (len(inside) > 1 and inside[0] == REPORTS) and holds_bundle(folder):
            advice = f", such as {folder / REPORTS / place.name}" if is_report else ""
            raise UsageError(f"{place} is inside the bundle {folder}, which is used only as it was made. "
                             f"Choose another place{advice}.")


def check_places(places: Sequence[tuple[str, Path]], bundles: Sequence[Path] = ()) -> None:
    """Check, before work that takes long, the files that its reports go to, each with what it is called.

    Raises `UsageError` where one cannot be a report's: a folder or device, the place of another report or a
    part of one of the `bundles`, by whatever name or link; `RunError` where it cannot be written.
    """
    taken: dict[str, str] = {}
    parts = [part for bundle in bundles for part in bundle.iterdir() if part.name != REPORTS]
    parts += [bundle / REPORTS / "export.json" for bundle in bundles]  # what was proven at its export
    for what, place in places:
        if str(place) == "-":
            raise UsageError(f"-: expected a file's name for the {what}; --json prints on standard output.")
        if os.path.exists(place) and not os.path.isfile(place):
            raise UsageError(f"{place} is no regular file; expected a file's name for the {what}.")
        name = os.path.realpath(place).casefold()  # one file on a disk that does not tell the cases apart
        if other := taken.get(name):
            raise UsageError(f"{other} and the {what} {place} are one file; expected a file for each. Give "
                             "one of them another name or ending.")
        taken[name] = f"the {what} {place}"
        check_outside(place, is_report=True)
        for part in parts:
            if os.path.exists(place) and os.path.exists(part) and place.samefile(part):
                raise UsageError(f"{place} is {part}, which belongs to the bundle. Choose another place for "
                                 f"the {what}.")
        try:
            check_writable(place.parent)
        except RunError as error:
            if place.parent not in [bundle / REPORTS for bundle in bundles]:
                raise
            raise RunError(f"{error.message} Choose another place for the report with --report.") from None


def find_export(folder: Path) -> Path:
    """The one fp32 export in an output folder. Raises `UsageError` where there is none, or several."""
    found = sorted(path.parents[1] for path in folder.glob(f"*/*/{REPORTS}/export.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{folder} holds no export. Say --model and --delay to make one, or --output DIR "
                         "for the folder that has it.")
    raise UsageError(f"{folder} holds {len(found)} exports: {', '.join(map(str, found))}. Say which one with "
                     "--from BUNDLE.")


def for_one_stream(bundle: Bundle, folder: Path, notes: list[str]) -> list[Bundle]:
    """The bundle for one stream in an output folder that a bundle for several is compared with; none, and a
    note, where it cannot be opened."""
    contract = bundle.contract
    if contract.options.streams in (1, ANY):
        return []
    one = replace(contract, options=replace(contract.options, streams=1))
    try:
        found = open_bundle(bundle_path(folder, one, bundle.target))
    except BundleError as error:
        notes.append(f"no throughput against one stream: {error}")
        return []
    return [found] if found.contract.checkpoint.sha256 == contract.checkpoint.sha256 else []
