"""Paths of bundles and reports: never write among the parts of a bundle or over other people's files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from satexport.bundle.contract import ANY
from satexport.bundle.folder import REPORTS, Bundle, bundle_path, holds_bundle, open_bundle
from satexport.errors import BundleError, RunError, UsageError
from satexport.files import check_writable, staged_folder


@contextmanager
def staged_bundle(path: Path) -> Iterator[Path]:
    """Yield a temporary folder with an empty reports/. On success it replaces the bundle at `path`; on
    failure it is deleted. Close all files in it before the end of the block: Windows cannot move a folder
    with open files. Raises `RunError` if `path` exists and is not a bundle, `UsageError` if it is inside
    another bundle. Errors from inside the block name files by their final path."""
    def may_replace(existing: Path) -> bool:
        return existing.is_dir() and (holds_bundle(existing) or not any(existing.iterdir()))

    check_outside(path)
    with staged_folder(path, may_replace) as stage:
        (stage / REPORTS).mkdir()
        yield stage


def check_outside(path: Path, is_report: bool = False) -> None:
    """Raise `UsageError` if a new file or folder would be inside a bundle, which would invalidate it. The
    bundle's reports/ is allowed; the message suggests it for a report."""
    absolute = Path(os.path.realpath(path.parent), path.name)
    for folder in absolute.parents:
        inside = absolute.relative_to(folder).parts
        if not (len(inside) > 1 and inside[0] == REPORTS) and holds_bundle(folder):
            advice = f", such as {folder / REPORTS / path.name}" if is_report else ""
            raise UsageError(f"{path} is inside the bundle {folder}, which must not be modified. "
                             f"Choose another path{advice}.")


def check_places(paths: Sequence[tuple[str, Path]], bundles: Sequence[Path] = ()) -> None:
    """Check the paths of reports, each with the report's name, before the work that takes long.

    Raises `UsageError` if a path cannot be used (a folder, a device, the same file as another report, or a
    part of one of the `bundles`, also through links), `RunError` if it cannot be written.
    """
    taken: dict[str, str] = {}
    parts = [part for bundle in bundles for part in bundle.iterdir() if part.name != REPORTS]
    parts += [bundle / REPORTS / "export.json" for bundle in bundles]  # the export's results: keep them
    for what, path in paths:
        if str(path) == "-":
            raise UsageError(f"-: expected a file name for the {what}; --json prints to standard output.")
        if (os.path.exists(path) and not os.path.isfile(path)) or _is_of_system(path):
            raise UsageError(f"{path} is not a regular file; expected a file name for the {what}.")
        name = os.path.realpath(path).casefold()  # some file systems ignore case
        if other := taken.get(name):
            raise UsageError(f"{other} and the {what} {path} are the same file; expected a file for each. "
                             "Rename one of them.")
        taken[name] = f"the {what} {path}"
        check_outside(path, is_report=True)
        for part in parts:
            if os.path.exists(path) and os.path.exists(part) and path.samefile(part):
                raise UsageError(f"{path} is {part}, which belongs to the bundle. Choose another path for "
                                 f"the {what}.")
        try:
            check_writable(path.parent)
        except RunError as error:
            if path.parent not in [bundle / REPORTS for bundle in bundles]:
                raise
            raise RunError(f"{error.message} Choose another path for the report with --report.") from None


def _is_of_system(path: Path) -> bool:
    """Whether a path is a link of those that Linux makes up, such as /dev/stdout, or leads to one."""
    if not path.is_symlink():
        return False
    return any(Path(where).is_relative_to(system) for where in (os.path.abspath(path), os.readlink(path))
               for system in ("/dev", "/proc"))


def find_export(folder: Path) -> Path:
    """The only fp32 export in an output folder. Raises `UsageError` if there is none, or more than one."""
    exports = sorted(path.parents[1] for path in folder.glob(f"*/*/{REPORTS}/export.json"))
    if len(exports) == 1:
        return exports[0]
    if not exports:
        raise UsageError(f"{folder} contains no export. Create one with --model and --delay, or pass the "
                         "folder that has one with --output DIR.")
    raise UsageError(f"{folder} contains {len(exports)} exports: {', '.join(map(str, exports))}. Select one "
                     "with --from BUNDLE.")


def for_one_stream(bundle: Bundle, folder: Path, notes: list[str]) -> list[Bundle]:
    """The single-stream bundle in an output folder to compare a multi-stream bundle with. Empty if it cannot
    be opened (adds a note), is of another checkpoint, or if `bundle` has one stream or an open number of
    them."""
    contract = bundle.contract
    if contract.options.streams in (1, ANY):
        return []
    single = replace(contract, options=replace(contract.options, streams=1))
    try:
        found = open_bundle(bundle_path(folder, single, bundle.target))
    except BundleError as error:
        notes.append(f"throughput is not compared with one stream: {error}")
        return []
    return [found] if found.contract.checkpoint.sha256 == contract.checkpoint.sha256 else []
