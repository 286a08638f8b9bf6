"""`satexport report`: show the reports in bundles or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option
from satexport.errors import DataError, UsageError

if TYPE_CHECKING:
    from satexport.report.records import Report

ENDINGS = (".md", ".json", ".png")  # of --output


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a file instead of printing: .md, .json, or .png (of one parity or measure report).")
@json_option
def report_command(paths: tuple[Path, ...], markdown: bool, output: Path | None, as_json: bool) -> None:
    """Show the reports of bundles again.

    PATH is a bundle, to show everything in its reports/, or one JSON report.

    \b
    Examples:
      satexport report build/sat-t-2s/onnx
      satexport report build/sat-t-2s/onnx/reports/parity.json --markdown
      satexport report build/sat-t-2s/onnx -o report.md
      satexport report build/sat-t-2s/onnx/reports/measure.json -o measure.png
    """
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
    reports = [report for path in paths for report in _read(path)]
    if output:
        check_places([("report", output)], [path for path in paths if path.is_dir()])
        _write(reports, output)
        return
    blocks = [block for report in reports for block in describe_stored(report)]
    with ignore_closed_pipe():
        if as_json:
            print_json({"reports": [to_json(report) for report in reports]})
        elif markdown:
            click.echo(to_markdown(blocks), nl=False)
        else:
            print_blocks(blocks)


def _read(path: Path) -> list[Report]:
    """Return the report in a file, or those of a bundle. Raises `DataError` if there is none, or one that
    this version does not read."""
    from satexport.bundle.folder import open_bundle
    from satexport.report.serialize import read_file, read_reports

    if not path.is_dir():
        return read_file(path)
    reports = read_reports(folder := open_bundle(path).reports)
    if not reports:
        raise DataError(f"{folder}: has no reports. `satexport parity {path}` and `satexport measure {path}` "
                        "make them.")
    return reports


def _write(reports: Sequence[Report], output: Path) -> None:
    """Write reports into a file, as its ending says."""
    from satexport.errors import requires_extra
    from satexport.files import write_bytes, write_json, write_text
    from satexport.report.blocks import describe_stored
    from satexport.report.markdown import to_markdown
    from satexport.report.pictures import draw, has_picture
    from satexport.report.serialize import to_json

    if output.suffix == ".md":
        write_text(output, to_markdown(block for report in reports for block in describe_stored(report)))
    elif output.suffix == ".json":
        write_json(output, {"reports": [to_json(report) for report in reports]})
    else:
        pictured = [report for report in reports if has_picture(report)]
        if len(pictured) != 1:
            raise UsageError(f"--output {output}: {len(pictured)} of the reports have a picture, expected 1. "
                             "Name the report, such as BUNDLE/reports/measure.json.")
        with requires_extra("measure"):
            content = draw(pictured[0])
        write_bytes(output, content)
