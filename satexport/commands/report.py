"""`satexport report`: show the reports in bundles or files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option
from satexport.errors import DataError, UsageError, requires_extra
from satexport.files import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from satexport.report.records import Report
    from satexport.report.sources import Source


def _write_markdown(sources: Sequence[Source], output: Path) -> None:
    from satexport.report.blocks import describe_stored
    from satexport.report.markdown import to_markdown

    write_text(output, to_markdown(describe_stored(_reports_of(sources))))


def _write_json(sources: Sequence[Source], output: Path) -> None:
    write_json(output, _collect(sources))


def _write_page(sources: Sequence[Source], output: Path) -> None:
    with requires_extra("report"):
        from satexport.report.page.write import write_page

        text = write_page(sources)
    write_text(output, text)


def _write_picture(sources: Sequence[Source], output: Path) -> None:
    from satexport.report.pictures import draw, has_picture

    pictured = [report for report in _reports_of(sources) if has_picture(report)]
    if len(pictured) != 1:
        raise UsageError(f"--output {output}: {len(pictured)} of the reports have a picture, expected 1. "
                         "Name the file of one that `satexport parity`, `satexport measure` or `satexport "
                         "paper figure2` wrote.")
    with requires_extra("measure"):
        content = draw(pictured[0])
    write_bytes(output, content)


WRITERS: Mapping[str, Callable[[Sequence[Source], Path], None]] = {  # ending of --output -> what writes it
    ".html": _write_page, ".md": _write_markdown, ".json": _write_json, ".png": _write_picture}


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a file instead of printing: .html (one page with charts), .md, .json, or .png (of "
                   "one parity, measure or scores report).")
@json_option
def report_command(paths: tuple[Path, ...], markdown: bool, output: Path | None, as_json: bool) -> None:
    """Show stored reports.

    PATH is a bundle, to show everything in its reports/, a folder of reports, or one JSON report.

    \b
    Examples:
      satexport report build/sat-t-2s/onnx
      satexport report build/sat-t-2s/onnx build/sat-t-2s/cpu-int8 -o report.html
      satexport report build/sat-t-2s/onnx/reports/parity.json --markdown
      satexport report build/sat-t-2s/onnx -o report.md
      satexport report build/sat-t-2s/onnx/reports/measure.json -o measure.png
    """
    from satexport.report.blocks import describe_stored
    from satexport.report.markdown import to_markdown
    from satexport.report.sources import read_sources
    from satexport.report.terminal import print_blocks

    if sum((markdown, as_json, output is not None)) > 1:
        raise UsageError("--markdown, --json and --output: choose one of them.")
    if output and output.suffix not in WRITERS:
        raise UsageError(f"--output {output}: the name ends in {output.suffix or 'nothing'}; expected one of "
                         f"{', '.join(WRITERS)}.")
    sources, errors = read_sources(paths)
    with _damage_is_bad_input():
        blocks = describe_stored(_reports_of(sources))
    if output:
        _check_output(output, sources)
        with _damage_is_bad_input():
            WRITERS[output.suffix](sources, output)
    else:
        with ignore_closed_pipe():
            if as_json:
                print_json(_collect(sources))
            elif markdown:
                click.echo(to_markdown(blocks), nl=False)
            else:
                print_blocks(blocks)
    if errors:
        raise DataError("\n".join(error.message for error in errors))


def _check_output(output: Path, sources: Sequence[Source]) -> None:
    """Raise `UsageError` or `RunError` if a file cannot be written there."""
    from satexport.bundle.places import check_places

    folders = {(source.bundle.reports if source.bundle else source.path).resolve() for source in sources}
    if any(output.resolve() == source.path.resolve() for source in sources) or (
            output.exists() and output.suffix == ".json" and output.resolve().parent in folders):
        raise UsageError(f"--output {output} is a report to show: choose another file.")
    check_not_a_proof(output)
    check_places([("report", output)], [source.path for source in sources if source.bundle])


def check_not_a_proof(output: Path) -> None:
    """Raise `UsageError` if a file is a report in a bundle, which only the command that made it replaces."""
    from satexport.bundle.folder import REPORTS, holds_bundle

    place = output.resolve()
    if output.exists() and output.suffix == ".json" and place.parent.name == REPORTS and holds_bundle(
            place.parents[1]):
        raise UsageError(f"--output {output} is a report of the bundle {place.parents[1]}: choose another "
                         "file.")


def _reports_of(sources: Sequence[Source]) -> list[Report]:
    return [report for source in sources for report in source.reports]


def _collect(sources: Sequence[Source]) -> dict[str, object]:
    """All reports as JSON, which `satexport report` reads again."""
    from satexport.report.serialize import to_json

    return {"reports": [to_json(report) for report in _reports_of(sources)]}


@contextmanager
def _damage_is_bad_input() -> Iterator[None]:
    """Raise `DataError` if the values of a report, which have the right types, cannot be shown."""
    try:
        yield
    except (ArithmeticError, KeyError, ValueError) as error:
        raise DataError(f"a report has impossible values ({type(error).__name__}: {error}): it is damaged. "
                        "Make it again.") from None
