"""`satexport thresholds`: find from which score on each class counts as heard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe
from satexport.commands.options import (
    LIVE,
    Range,
    cluster_options,
    parse_cluster,
    parse_folds,
    skip_unreadable_option,
    threads_option,
)
from satexport.errors import UsageError
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.audio.datasets import LabelledSet
    from satexport.parity.operating_points import FoundThresholds

SOME = 5   # labels in a note; the file lists all


@click.command("thresholds")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="DIR|CSV|TSV|synthetic|scenes",
              help="Labelled set, as in `satexport parity`; its clips must not be those that gate. For "
                   "synthetic and scenes, some that no gate uses are taken.")
@click.option("--folds", metavar="N,N",
              help="Folds to find thresholds on, of a set in ESC-50 layout. Default: choose_folds of the "
                   "calibration set esc50, which is 2. Its gate_folds, 4, are refused.")
@click.option("--map", "category_map", type=click.Path(path_type=Path), metavar="CSV",
              help="CSV that gives the label of each category of the set: category,label.")
@click.option("--precision", type=Range(0, 1, min_open=True), metavar="P",
              help="Find the lowest thresholds with this precision, such as 0.9. Default: those with the "
                   "best F1.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="File for the thresholds. Default: thresholds.toml in the bundle's reports/.")
@threads_option(LIVE)
@cluster_options("the clips are scored in this process.")
@skip_unreadable_option
def thresholds_command(bundle: Path, data: str, folds: str | None, category_map: Path | None,
                       precision: float | None, output: Path | None, threads: int | None,
                       workers: int | None, scheduler: str | None, tls_ca: Path | None,
                       tls_cert: Path | None, tls_key: Path | None, skip_unreadable: bool) -> None:
    """Find a threshold for each class of a bundle and write them to a file.

    Scores the clips of a labelled set with the bundle, each from silence, and chooses for each class the
    threshold of its mean score with the best F1, or the lowest one with a given precision; in a set with
    strong labels, over segments of 1 s. Classes that no clip has keep 0.5. Needs no torch. Do not gate on the
    clips that thresholds were found on. A run that was interrupted goes on if the same command is given
    again.

    `run --events` applies a threshold to the scores of single chunks. The precision of one that was found on
    mean scores of clips guarantees nothing about chunks.

    \b
    Examples:
      satexport thresholds build/sat-t-2s/onnx --data synthetic
      satexport thresholds build/sat-t-2s/onnx --data ESC-50 --precision 0.9 -o thresholds.toml
    """
    from satexport import load
    from satexport.bundle.folder import open_bundle
    from satexport.bundle.places import check_places
    from satexport.bundle.thresholds import write_thresholds
    from satexport.parity.kept import Kept
    from satexport.parity.operating_points import find_thresholds
    from satexport.parity.scoring import SetOptions

    opened = open_bundle(bundle)
    file = output or opened.reports / "thresholds.toml"
    check_places([("thresholds file", file)], [bundle])
    if file.suffix != ".toml":
        raise UsageError(f"--output {file}: expected a file name that ends in .toml.")
    cluster = parse_cluster(workers, scheduler, tls_ca, tls_cert, tls_key)
    labelled = _choosing_set(data, opened.labels, parse_folds(folds), category_map, skip_unreadable)
    kept = Kept(file)
    with load(bundle, threads) as tagger:
        found = find_thresholds(tagger, labelled, precision, SetOptions(
            cluster=cluster, threads=threads, kept=kept, skip_unreadable=skip_unreadable))
    write_thresholds(file, found.thresholds, list(_remarks(found)))
    kept.remove()
    with ignore_closed_pipe():
        _print(found, labelled.name)
        say(f"Thresholds: {file}")


def _choosing_set(data: str, labels: tuple[str, ...], folds: list[int] | None, category_map: Path | None,
                  may_miss_files: bool) -> LabelledSet:
    """Return the clips to find thresholds on. Raises `UsageError` for folds that gate and for options that do
    not fit the set, `DataError` for a set that cannot be used."""
    from satexport.audio.datasets import choosing_scenes, is_esc50, load_set
    from satexport.quantize.calibration_set import choosing_set, find_calibration

    if data in ("scenes", "synthetic") and (folds is not None or category_map is not None):
        raise UsageError(f"--data {data} takes neither --folds nor --map: its clips are made by code and "
                         "have labels of AudioSet. Leave them out.")
    if data == "scenes":
        return choosing_scenes(labels)
    if data == "synthetic":
        chosen = choosing_set(find_calibration("synthetic"), None, labels)
        if not chosen.classes:
            raise UsageError("the model lacks labels of the synthetic set; expected a set with its labels: "
                             "pass another --data.")
        return chosen
    if is_esc50(data):
        esc50 = find_calibration("esc50")
        folds = folds or list(esc50.choose_folds)
        if gating := sorted(set(folds) & set(esc50.gate_folds)):
            raise UsageError(f"--folds {','.join(map(str, folds))}: fold {gating[0]} gates, and a clip that "
                             "gates is never used to choose thresholds. Expected other folds.")
    return load_set(data, labels, folds=folds, category_map=category_map, may_miss_files=may_miss_files)


def _remarks(found: FoundThresholds) -> Iterator[str]:
    """Yield a line for each label that keeps the default."""
    for label in found.without_clips:
        yield f"{label}: no clip has it, the default holds"
    for label in found.out_of_reach:
        yield f"{label}: no threshold has the precision, the default holds"


def _print(found: FoundThresholds, name: str) -> None:
    """Print the thresholds as a table, and notes on the labels that keep the default."""
    from satexport.report.table import Table
    from satexport.report.terminal import print_table

    points = found.thresholds.threshold
    unit = "segments" if any(point.segments for point in points.values()) else "clips"
    print_table(Table(
        title=f"{found.thresholds.origin['chosen_by']}, on {name}",
        head=["label", "threshold", "F1", "precision", "recall", unit],
        rows=[[label, f"{point.on:g}", f"{point.f1:.3f}", f"{point.precision:.3f}", f"{point.recall:.3f}",
               str(getattr(point, unit))] for label, point in points.items()]))
    for sentence in found.left_out:
        note(sentence)
    for labels, why in ((found.without_clips, "no clip has them"),
                        (found.out_of_reach, "no threshold has the precision")):
        if labels:
            more = f" and {len(labels) - SOME} more, listed in the file" if len(labels) > SOME else ""
            note(f"{len(labels)} labels keep {found.thresholds.on:g}, because {why}: "
                 f"{', '.join(labels[:SOME])}{more}.")
