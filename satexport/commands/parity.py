"""`satexport parity`: compare a bundle with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import finish_report
from satexport.commands.options import (
    LIVE,
    cluster_options,
    json_option,
    minutes_option,
    parse_cluster,
    parse_folds,
    skip_unreadable_option,
    threads_option,
)
from satexport.errors import MissingError, UsageError, requires_extra
from satexport.terminal import note

if TYPE_CHECKING:
    from satexport.bundle.folder import Bundle
    from satexport.parity.kept import Kept
    from satexport.parity.records import ParityReport, ParityResult
    from satexport.parity.scoring import SetOptions
    from satexport.tagging.tagger import Tagger


@click.command("parity")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--golden", is_flag=True,
              help="Compare only over the golden chunks in the bundle, with the scores stored there; needs "
                   "no torch.")
@click.option("--data", default="synthetic", show_default=True, metavar="DIR|CSV|TSV|synthetic|scenes",
              help="Labelled set: a folder in ESC-50 layout, an AudioSet-style CSV, or a CSV of "
                   "filename,labels. With strong labels, for F1 of events: a TSV of AudioSet-strong or "
                   "DCASE, or scenes, synthetic ones.")
@click.option("--folds", metavar="N,N",
              help="Folds to gate on, of a set in ESC-50 layout. Default: gate_folds of the calibration set "
                   "esc50, which is 4.")
@click.option("--map", "category_map", type=click.Path(path_type=Path), metavar="CSV",
              help="CSV that gives the label of each category of the set: category,label.")
@click.option("--thresholds", "thresholds_file", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="Thresholds for the events, from `satexport thresholds`. Default: 0.5.")
@click.option("--checkpoint", metavar="FILE|hub:OWNER/REPO",
              help="The weights, if this machine does not find them by their SHA-256.")
@minutes_option
@click.option("--report", "report_file", type=click.Path(path_type=Path), metavar="FILE",
              help="File for the JSON report; a PNG of the drift curve goes next to it. Default: "
                   "parity.json, or parity-golden.json with --golden, in the bundle's reports/.")
@click.option("--require-data", is_flag=True, help="Fail if a gate could not be judged.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Also write the gates to this file as JUnit XML.")
@threads_option(LIVE)
@cluster_options("the clips are scored in this process, PyTorch with all cores.")
@skip_unreadable_option
@json_option
def parity_command(bundle: Path, golden: bool, data: str, folds: str | None, category_map: Path | None,
                   thresholds_file: Path | None, checkpoint: str | None, minutes: float,
                   report_file: Path | None, require_data: bool, junit_file: Path | None,
                   threads: int | None, workers: int | None, scheduler: str | None, tls_ca: Path | None,
                   tls_cert: Path | None, tls_key: Path | None, skip_unreadable: bool, as_json: bool) -> None:
    """Prove a bundle: compare its scores with those of PyTorch.

    Runs the file that ships and PyTorch fp32 over a long stream and a labelled set, and judges the gates of
    the bundle's target. A run that was interrupted goes on if the same command is given again.

    \b
    Examples:
      satexport parity build/sat-t-2s/onnx
      satexport parity build/sat-t-2s/onnx --data ESC-50 --folds 4 --junit parity.xml
      satexport parity build/sat-t-2s/onnx --data scenes   events, too
      satexport parity build/sat-t-2s/onnx --data ESC-50 --workers 2
      satexport parity build/sat-t-2s/onnx --golden        on the device, without torch
    """
    from satexport.bundle.folder import open_bundle
    from satexport.bundle.gates import fail_skipped
    from satexport.bundle.places import check_places
    from satexport.parity.kept import Kept
    from satexport.parity.scoring import SetOptions

    cluster = parse_cluster(workers, scheduler, tls_ca, tls_cert, tls_key)
    if golden and ((data, folds, category_map, thresholds_file, checkpoint) != ("synthetic", *[None] * 4)
                   or cluster or skip_unreadable):
        raise UsageError("--golden takes neither --data, --folds, --map, --thresholds, --checkpoint, "
                         "--skip-unreadable nor workers: the golden chunks and their scores are in the "
                         "bundle. Leave them out.")
    opened = open_bundle(bundle)
    file = report_file or opened.reports / ("parity-golden.json" if golden else "parity.json")
    pictures = {} if golden else {"report's picture": file.with_name(f"{file.stem}.png")}
    places = {"report": file} | pictures | ({"JUnit report": junit_file} if junit_file else {})
    check_places(list(places.items()), [bundle])  # before the work
    kept = Kept(file)
    options = SetOptions(cluster=cluster, threads=threads, checkpoint=checkpoint, kept=kept,
                         skip_unreadable=skip_unreadable)
    report = _prove(opened, golden, options, data=data, folds=parse_folds(folds), category_map=category_map,
                    thresholds_file=thresholds_file, minutes=minutes)
    if require_data:
        report = replace(report, gates=fail_skipped(report.gates))
    finish_report(report, lambda: _write_reports(report, places, kept), as_json, f"{bundle}: ")


def _prove(bundle: Bundle, golden: bool, options: SetOptions, **chosen: Any) -> ParityReport:
    """Load a bundle, run it and return the report; a report with skipped gates if its runtime is missing and
    its backend allows that."""
    from satexport import load
    from satexport.backends.backend import may_skip, remark_on
    from satexport.bundle.threads import live_threads
    from satexport.parity.golden import run_golden
    from satexport.parity.records import report_parity, report_skipped
    from satexport.progress import progress

    try:
        with progress("load the bundle", None):
            tagger = load(bundle.path, options.threads)
    except MissingError as error:
        if may_skip(bundle):
            return report_skipped(bundle, str(error))
        raise
    note(remark_on(bundle.target))
    with progress("parity", None):
        result = run_golden(tagger) if golden else _run_parity(tagger, options, **chosen)
    return report_parity(tagger, result, options.threads or live_threads(tagger.bundle))


@requires_extra("export")
def _run_parity(tagger: Tagger, options: SetOptions, *, data: str, folds: Sequence[int] | None,
                category_map: Path | None, thresholds_file: Path | None, minutes: float) -> ParityResult:
    """Compare over the chosen folds, by default those of the set that gate."""
    from satexport.bundle.thresholds import read_thresholds
    from satexport.parity.protocols import find_gate_set, run_parity
    from satexport.quantize.calibration_set import default_folds

    gate_set = find_gate_set(tagger.bundle, data, folds or default_folds(data), category_map,
                             may_miss_files=options.skip_unreadable)
    if thresholds_file:
        if gate_set.labelled and not gate_set.labelled.has_events:
            raise UsageError(f"--thresholds is for events, and {data} has no strong labels, which tell when "
                             "a sound begins and ends. Leave it out, or pass other --data.")
        gate_set = replace(gate_set, thresholds=read_thresholds(thresholds_file, tagger.labels))
    return run_parity(tagger, gate_set=gate_set, minutes=minutes, options=options)


def _write_reports(report: ParityReport, places: dict[str, Path], kept: Kept) -> list[str]:
    """Write a report to the given places, whose keys say what goes there, and remove what was kept for it.
    Returns notes; raises `RunError` if a file cannot be written."""
    from satexport.files import write_json, write_text
    from satexport.report.junit import junit
    from satexport.report.pictures import has_picture, write_picture
    from satexport.report.serialize import to_json

    if file := places.get("JUnit report"):
        cases = [(gate.name, gate.status, gate.note) for gate in report.gates]
        write_text(file, junit(f"satexport.parity.{report.variant}", cases))
    write_json(places["report"], to_json(report))
    kept.remove()
    picture = places.get("report's picture")
    return write_picture(picture, report) if picture and has_picture(report) else []
