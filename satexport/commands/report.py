"""`satexport report`: show the reports in bundles or files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option
from satexport.errors import DataError, UsageError

if TYPE_CHECKING:
    from satexport.report.records import Report
    from satexport.report.table import Block

ENDINGS = (".md", ".json", ".png")  # of --output


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a file instead of printing: .md, .json, or .png (of one parity or measure report).")
@json_option
def report_command(paths: tuple[Path, ...], markdown: bool, output: Path | None, as_json: bool) -> None:
    """Show stored reports.

    PATH is a bundle, to show everything in its reports/, a folder of reports, or one JSON report.

    \b
    Examples:
      satexport report build/sat-t-2s/onnx
      satexport report build/sat-t-2s/onnx/reports/parity.json --markdown
      satexport report build/sat-t-2s/onnx -o report.md
      satexport report build/sat-t-2s/onnx/reports/measure.json -o measure.png
    """
    from satexport.bundle.folder import MANIFEST
    from satexport.bundle.places import check_places
    from satexport.report.blocks import describe_stored
    from satexport.report.markdown import to_markdown
    from satexport.report.serialize import to_json
    from satexport.report.terminal import print_blocks

    if sum((markdown, as_json, output is not None)) > 1:
        raise UsageError("--markdown, --json and --output: choose one of them.")
    if output and output.suffix not in ENDINGS:
        raise UsageError(f"--output {output}: the name ends in {output.suffix or 'nothing'}; expected one of "
                         f"{', '.join(ENDINGS)}.")
    reports, errors = _read(paths)
    with _damage_is_bad_input():
        blocks = describe_stored(reports)
    if output:
        if any(output.resolve() == path.resolve() for path in paths):
            raise UsageError(f"--output {output} is a report to show: choose another file.")
        check_places([("report", output)], [path for path in paths if (path / MANIFEST).exists()])
        with _damage_is_bad_input():
            write_reports(reports, blocks, output)
    else:
        with ignore_closed_pipe():
            if as_json:
                print_json({"reports": [to_json(report) for report in reports]})
            elif markdown:
                click.echo(to_markdown(blocks), nl=False)
            else:
                print_blocks(blocks)
    if errors:
        raise DataError("\n".join(error.message for error in errors))


def _read(paths: Sequence[Path]) -> tuple[list[Report], list[DataError]]:
    """Return the reports in files, bundles and folders of reports, and the errors of those in folders that
    cannot be read. Raises `DataError` if a file has none, or if no report can be read."""
    from satexport.bundle.folder import MANIFEST, open_bundle
    from satexport.report.serialize import read_file, read_reports

    reports: list[Report] = []
    errors: list[DataError] = []
    for path in paths:
        if not path.is_dir():
            reports += read_file(path)
            continue
        is_bundle = (path / MANIFEST).exists() or not any(path.glob("*.json"))
        folder = open_bundle(path).reports if is_bundle else path
        readable, unreadable = read_reports(folder)
        if not readable and not unreadable:
            raise DataError(f"{folder}: has no reports. `satexport parity {path}` and `satexport measure "
                            f"{path}` make them.")
        reports, errors = reports + readable, errors + unreadable
    if not reports:
        raise errors[0]
    return reports, errors


@contextmanager
def _damage_is_bad_input() -> Iterator[None]:
    """Raise `DataError` if the values of a report, which have the right types, cannot be shown."""
    try:
        yield
    except (ArithmeticError, KeyError, ValueError) as error:
        raise DataError(f"a report has impossible values ({type(error).__name__}: {error}): it is damaged. "
                        "Make it again.") from None


def write_reports(reports: Sequence[Report], blocks: Sequence[Block], output: Path) -> None:
    """Write reports, whose blocks are given, into a file, as its ending says."""
    from satexport.errors import requires_extra
    from satexport.files import write_bytes, write_json, write_text
    from satexport.report.markdown import to_markdown
    from satexport.report.pictures import draw, has_picture
    from satexport.report.serialize import to_json

    if output.suffix == ".md":
        write_text(output, to_markdown(blocks))
    elif output.suffix == ".json":
        write_json(output, {"reports": [to_json(report) for report in reports]})
    else:
        pictured = [report for report in reports if has_picture(report)]
        if len(pictured) != 1:
            raise UsageError(f"--output {output}: {len(pictured)} of the reports have a picture, expected 1. "
                             "Name the file of one that `satexport parity` or `satexport measure` wrote.")
        with requires_extra("measure"):
            content = draw(pictured[0])
        write_bytes(output, content)
