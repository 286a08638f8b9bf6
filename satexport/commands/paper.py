"""`satexport paper`: the tables and the figure of papers, with measured figures beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import (
    LIVE,
    cluster_options,
    json_option,
    parse_cluster,
    parse_folds,
    skip_unreadable_option,
    threads_option,
)
from satexport.errors import GateError, UsageError, requires_extra
from satexport.facts import names, shipped_folder
from satexport.terminal import note

if TYPE_CHECKING:
    from satexport.report.paper_records import PaperReport
    from satexport.report.records import Report

TABLES = sorted(names(shipped_folder("papers")), key=lambda name: (not name.startswith("table"), name))
TABLE_ENDINGS = (".html", ".md", ".json")
FIGURE_ENDINGS = (*TABLE_ENDINGS, ".png")


@click.command("paper")
@click.argument("what", type=click.Choice([*TABLES, "figure2"]), metavar="|".join([*TABLES, "figure2"]))
@click.argument("bundle_paths", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE...]")
@click.option("--data", metavar="DIR|CSV|TSV|synthetic|scenes",
              help="Labelled set, as in `satexport parity`. Default: no figures of a labelled set.")
@click.option("--folds", metavar="N,N", help="Folds, of a set in ESC-50 layout. Default: 4.")
@click.option("--map", "category_map", type=click.Path(path_type=Path), metavar="CSV",
              help="CSV that gives the label of each category of the set: category,label.")
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="ROW=FILE|hub:OWNER/REPO|published|demo",
              help="Weights of a row, such as sat-t-2s=mine.pt, or of all rows of a model, such as "
                   "vit-t=published. May be given several times.")
@click.option("--only", multiple=True, metavar="PATTERN",
              help="Only rows of this name or model, such as 'sat-*'. May be given several times.")
@click.option("--measure/--no-measure", "measured", default=True, show_default=True,
              help="Measure the memory of a step.")
@click.option("--bundles", type=click.Path(path_type=Path), default=Path("build/paper"), metavar="DIR",
              show_default=True, help="Folder for the exports of the rows, which are made once.")
@click.option("--require-data", is_flag=True,
              help="Fail if a row that has a checkpoint has no figure of the labelled set.")
@click.option("--labels", metavar="LABEL,LABEL", help="With figure2: labels whose scores are drawn.")
@click.option("--recording", metavar="FILE|scenes",
              help="With figure2: a sound file, or scenes: ten minutes of synthetic sounds, with the times "
                   "of each. Default: scenes.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a file instead of printing: .html, .md or .json, of figure2 also .png.")
@threads_option(LIVE)
@cluster_options("the clips are scored in this process, PyTorch with all cores.")
@skip_unreadable_option
@json_option
def paper_command(what: str, bundle_paths: tuple[Path, ...], labels: str | None, recording: str | None,
                  output: Path | None, as_json: bool, **table: Any) -> None:
    """Show the tables of papers with the figures that are measured here.

    table1, table2 and table3 are those of the SAT paper, and figure2 is its figure: the scores of labels
    over a recording by each BUNDLE, and for one with a cache also reset at every chunk to the cache
    after silence.
    efficientat and embeddings are the tables of the papers on EfficientAT.

    Tokens, operations and memory are those of random weights, or of a checkpoint if one is given; mAP and
    F1 are measured only with a labelled set and a checkpoint. docs/paper.md has the details.

    \b
    Examples:
      satexport paper table2
      satexport paper table1 --only 'vit-*' -o table1.md
      satexport paper table2 --only sat-t-2s --checkpoint sat-t-2s=demo --data ESC-50
      satexport paper table3 --checkpoint sat-t-2s=demo --data scenes
      satexport paper figure2 build/sat-t-2s/onnx --labels "Siren,Busy signal" -o figure2.png
    """
    if what == "figure2":
        _refuse(what, table, bundle_paths, is_figure=True)
        _show_scores(bundle_paths, labels, recording or "scenes", output, table["threads"], as_json)
    else:
        _refuse(what, {"labels": labels, "recording": recording}, bundle_paths, is_figure=False)
        _show_table(what, output=output, as_json=as_json, **table)


def _refuse(what: str, others: Mapping[str, Any], bundles: tuple[Path, ...], *, is_figure: bool) -> None:
    """Raise `UsageError` for bundles or options that only the figure, or only a table, takes."""
    if is_figure and not bundles:
        raise UsageError("figure2 draws the scores of bundles: name one, such as build/sat-t-2s/onnx.")
    if bundles and not is_figure:
        raise UsageError(f"{bundles[0]}: {what} takes no bundle, it exports its rows. For a checkpoint: "
                         "--checkpoint ROW=FILE.")
    context = click.get_current_context()
    given = [name for name in others if name != "threads"
             and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if given:
        option = next("/".join((*parameter.opts, *parameter.secondary_opts))
                      for parameter in context.command.params if parameter.name == given[0])
        raise UsageError(f"{option} is for {'tables' if is_figure else 'figure2'}, not for {what}: leave "
                         "it out.")


def _show_table(name: str, *, data: str | None, folds: str | None, category_map: Path | None,
               checkpoints: tuple[str, ...], only: tuple[str, ...], measured: bool, bundles: Path,
               require_data: bool, output: Path | None, threads: int | None, skip_unreadable: bool,
               as_json: bool, **cluster: Any) -> None:
    """Fill a table and show it."""
    _check_output(output, TABLE_ENDINGS, as_json)
    if data is None and (folds or category_map or require_data):
        raise UsageError("--folds, --map and --require-data are about a labelled set: pass --data, too.")
    given = _parse_checkpoints(checkpoints)
    with requires_extra("export"):
        from satexport.paper.fill import PaperOptions, fill_table
        from satexport.paper.tables import find_table
        from satexport.parity.scoring import SetOptions

        options = PaperOptions(
            checkpoints=given, only=only, data=data, folds=parse_folds(folds), category_map=category_map,
            measure=measured, bundles=bundles, scoring=SetOptions(
                cluster=parse_cluster(**cluster), threads=threads, skip_unreadable=skip_unreadable))
        report = fill_table(find_table(name), options)
    _show(name, report, output, as_json)
    if require_data and (missing := _missing(report)):
        raise GateError(f"{name}: {missing}.")


def _missing(report: PaperReport) -> str:
    """The rows with a checkpoint that have no figure of the labelled set, and why; or that no row has one."""
    if not any(row.checkpoint and row.checkpoint.source != "random" for row in report.rows):
        return "no row has a figure of the labelled set: none has a checkpoint; pass --checkpoint ROW=FILE"
    return "; ".join(f"{row.name} has no figure of the labelled set: {row.why_not}" for row in report.rows
                     if row.why_not and row.checkpoint and row.checkpoint.source != "random")


def _parse_checkpoints(texts: tuple[str, ...]) -> dict[str, str]:
    """Return the weights by row from "ROW=FILE". Raises `UsageError` for another form and for a row that is
    given twice."""
    found: dict[str, str] = {}
    for text in texts:
        row, is_there, what = text.partition("=")
        if not (is_there and row and what):
            raise UsageError(f"--checkpoint {text}: expected ROW=FILE, such as sat-t-2s=mine.pt.")
        if row in found:
            raise UsageError(f"--checkpoint {row}=... is given twice: give it once.")
        found[row] = what
    return found


def _show_scores(bundles: tuple[Path, ...], labels: str | None, recording: str, output: Path | None,
                 threads: int | None, as_json: bool) -> None:
    """Run bundles over a recording and show their scores."""
    from satexport.paper.scores import trace_scores

    if not labels:
        raise UsageError('figure2 draws the scores of labels: name some, such as --labels "Water,Speech".')
    _check_output(output, FIGURE_ENDINGS, as_json)
    report = trace_scores(bundles, recording, labels, threads)
    _show("figure2", report, output, as_json)
    note(report.warning)


def _check_output(output: Path | None, endings: tuple[str, ...], as_json: bool) -> None:
    """Raise an error if the file cannot be written, before the work."""
    from satexport.bundle.places import check_places
    from satexport.commands.report import check_not_a_proof

    if output is None:
        return
    if as_json:
        raise UsageError("--json and --output: choose one of them.")
    if output.suffix not in endings:
        raise UsageError(f"--output {output}: the name ends in {output.suffix or 'nothing'}; expected one of "
                         f"{', '.join(endings)}.")
    check_places([("report", output)])
    check_not_a_proof(output)


def _show(name: str, report: Report, output: Path | None, as_json: bool) -> None:
    """Write a report of this name into a file, or print it."""
    from satexport.commands.report import WRITERS
    from satexport.files import write_json
    from satexport.report.blocks import describe_stored
    from satexport.report.serialize import to_json
    from satexport.report.sources import Source
    from satexport.report.terminal import print_blocks

    if output and output.suffix == ".json":
        write_json(output, to_json(report))
        return
    if output:
        WRITERS[output.suffix]([Source(path=Path(name), bundle=None, reports=(report,))], output)
        return
    with ignore_closed_pipe():
        if as_json:
            print_json(to_json(report))
        else:
            print_blocks(describe_stored([report]))
