"""Write docs/paper.md and its picture from the reports that `make paper` has made.

    make paper                                 all reports, then the page
    python -m benchmarks.paper build/paper     the page again, from the reports in a folder

The weights are random, except those of the demo in the picture.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from benchmarks import command
from satexport.errors import DataError, RunError, requires_extra
from satexport.facts import names, shipped_folder
from satexport.files import write_bytes, write_text
from satexport.report.blocks import describe, describe_origin
from satexport.report.markdown import markdown_rows, to_markdown
from satexport.report.paper_records import PaperReport, ScoresReport
from satexport.report.records import Report
from satexport.report.serialize import read_file
from satexport.report.table import Block, Table

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "paper.md", DOCS / "images" / "figure2.png"
BEGIN, END = "<!-- make paper -->", "<!-- make paper end -->"
WIDTH = 118
LABELS = "Siren,Busy signal"    # of the picture


def page_part(folder: Path) -> str:
    """Return what the page says about the reports in a folder. Raises `DataError` if there are none."""
    reports = _read(folder)
    tables = [report for report in reports if isinstance(report, PaperReport)]
    if not tables:
        raise DataError(f"{folder}: has no reports of `satexport paper`; `make paper` makes them.")
    order = ("table1", "table2", "table3")
    tables.sort(key=lambda report: (report.table not in order, report.table))
    parts = []
    for report in tables:
        parts.append(f"### {report.title}")
        parts += map(_block, (*describe(report), *report.notes))
    parts.append(textwrap.fill(describe_origin(tables[0].origin), WIDTH))
    return "\n\n".join(parts)


def _read(folder: Path) -> list[Report]:
    return [report for path in sorted(folder.glob("*.json")) for report in read_file(path)]


def _block(block: Block) -> str:
    if not isinstance(block, Table):
        return textwrap.fill(to_markdown([block]).strip(), WIDTH)
    return f"{block.title.rpartition(': ')[2].capitalize()}:\n\n{markdown_rows(block)}"


def write_page(folder: Path, page: Path = PAGE, picture: Path = PICTURE) -> None:
    """Write the generated part of the page, and the picture if there is a report of scores. Raises
    `DataError` if the page has no place for it."""
    before, found, rest = page.read_text("utf-8").partition(BEGIN)
    if not found or END not in rest:
        raise DataError(f"{page} lacks the lines {BEGIN} and {END}, between which the tables stand.")
    write_text(page, f"{before}{BEGIN}\n\n{page_part(folder)}\n\n{END}{rest.partition(END)[2]}")
    for report in _read(folder):
        if isinstance(report, ScoresReport):
            with requires_extra("measure"):
                from satexport.report.pictures import draw

                write_bytes(picture, draw(report))


def make_reports(folder: Path) -> None:
    """Make the reports by the commands, each table's in a file of its own. Raises `RunError` if one fails."""
    demo = folder / "sat-t-2s" / "onnx"
    commands = [["paper", name, "--bundles", str(folder / "bundles"), "-o", str(folder / f"{name}.json")]
                for name in names(shipped_folder("papers"))]
    commands += [["onnx", "--model", "sat-t", "--checkpoint", "demo", "--output", str(folder)],
                 ["paper", "figure2", str(demo), "--labels", LABELS, "-o", str(folder / "figure2.json")]]
    for words in commands:
        done = subprocess.run([sys.executable, "-m", "satexport", *words], check=False)  # noqa: S603
        if done.returncode:
            raise RunError(f"`satexport {' '.join(words)}` ended with exit code {done.returncode}.")


def main() -> None:
    """Write the page."""
    parser = command.Parser("paper", __doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the reports")
    parser.add_argument("--make", action="store_true", help="make the reports first")
    options = parser.parse_args()
    if options.make:
        make_reports(options.folder)
    write_page(options.folder)


if __name__ == "__main__":
    command.run(main)
