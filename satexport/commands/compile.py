"""What the commands that make bundles share: their options, and building and reporting the bundle.

`satexport.pipeline.plan` checks which options go together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import (
    LIVE,
    embedding_option,
    json_option,
    minutes_option,
    parse_folds,
    parse_streams,
    threads_option,
)
from satexport.errors import GateError, UsageError, requires_extra
from satexport.terminal import note

if TYPE_CHECKING:
    from satexport.bundle.folder import Bundle
    from satexport.bundle.target import Target
    from satexport.pipeline.plan import ExportOptions
    from satexport.report.records import BundleRecord

_OPTIONS = (
    click.option("--from", "source", type=click.Path(path_type=Path), metavar="BUNDLE",
                 help="The fp32 export to start from. Default: the one in the output folder."),
    click.option("--model", metavar="NAME",
                 help="Export this model first; `satexport models` lists them, such as sat-t."),
    click.option("--delay", type=int, metavar="SECONDS",
                 help="With --model: length of a chunk. Default: 2 if the model has it; with --window 1."),
    click.option("--window", type=int, metavar="SECONDS",
                 help="With --model: length of audio that each step takes, as in `satexport onnx`."),
    click.option("--checkpoint", metavar="FILE|hub:OWNER/REPO|published[:FILE]|demo|random",
                 help="With --model: the weights to export, as in `satexport onnx`. Without --model: the "
                      "export's weights, if this machine does not find them by their SHA-256."),
    click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
                 help="With --model: names of the classes, one per line. Default: AudioSet's 527."),
    click.option("--streams", metavar="N|dynamic",
                 help="With --model: number of microphones that one step serves. Default: 1."),
    embedding_option("With --model: add an embedding of each chunk, as in `satexport onnx`. A bundle made "
                     "from an export has the embedding of the export."),
    click.option("--calibration", metavar="NAME|FILE.toml|DIR",
                 help="A calibration set, or a folder of audio. Default: the target's."),
    click.option("--ranges", type=click.Choice(["minmax", "percentile", "entropy"]),
                 help="How to find the ranges of int8 values. Default: the target's."),
    click.option("--sensitivity", is_flag=True, help="Show how much int8 in each layer changes the scores."),
    click.option("--leave-out", multiple=True, metavar="LAYER|auto",
                 help="Keep a layer in float, such as 00.fc1; auto: as few layers as the mAP gate needs. "
                      "May be repeated."),
    click.option("--data", default="synthetic", show_default=True, metavar="DIR|CSV|TSV|synthetic|scenes",
                 help="Labelled set for the mAP gate, as in `satexport parity`. A folder in ESC-50 layout "
                      "also provides the recordings of the calibration set esc50."),
    click.option("--folds", metavar="N,N",
                 help="Folds to gate on, of a set in ESC-50 layout. Default: gate_folds of the calibration "
                      "set; 4 for esc50."),
    click.option("--map", "category_map", type=click.Path(path_type=Path), metavar="CSV",
                 help="CSV that gives the label of each category of the set: category,label."),
    click.option("--require-data", is_flag=True, help="Fail if a gate could not be judged."),
    minutes_option,
    click.option("--measure/--no-measure", "measured", default=True, show_default=True,
                 help="Measure the bundle in turns with its export and PyTorch eager."),
    click.option("--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
                 metavar="DIR", help="Folder for the bundles."),
    threads_option(LIVE), json_option,
)


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """The values of `compile_options`, and --target and --cache-dtype of the commands that have them."""

    source: Path | None
    model: str | None
    delay: int | None
    window: int | None
    checkpoint: str | None
    labels: Path | None
    streams: str | None
    embedding: str | None
    target_name: str | None
    calibration: str | None
    ranges: str | None
    sensitivity: bool
    leave_out: tuple[str, ...]
    data: str
    folds: str | None
    category_map: Path | None
    require_data: bool
    minutes: float
    measured: bool
    output: Path
    threads: int | None
    as_json: bool
    cache_dtype: str = "fp32"


target_option = click.option("--target", "target_name", metavar="NAME|FILE.toml",
                             help="Target to build for. Default: the command's own for the precision.")


def compile_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def choose_target(backend: str, name: str | None, precision: str | None, defaults: dict[str, str],
                  default: str) -> Target:
    """Return the target of this name; without a name the one that `defaults` has for the precision, or for
    the precision `default` without either. Raises `UsageError` if the target is for another backend or has
    another precision."""
    from satexport.targets import find_target

    target = find_target(name or defaults[precision or default])
    if target.backend != backend:
        raise UsageError(f"target {target.name} is for {target.backend}; this command writes for {backend}. "
                         f"Use `satexport bundle --target {name}`.")
    if precision and target.precision != precision:
        raise UsageError(f"target {target.name} is {target.precision}, --{precision} asks for {precision}: "
                         "leave one of them out.")
    return target


def run_compile(target: Target, options: SharedOptions) -> Path:
    """Make a bundle, exporting first if a model is named, print the result and return the bundle's path.
    Raises `GateError` if a gate failed."""
    from satexport.bundle.gates import failures
    from satexport.report.blocks import describe_bundle
    from satexport.report.terminal import print_blocks

    _check_source(options)
    folds = parse_folds(options.folds)
    with requires_extra("export"):
        from satexport.pipeline import plan
        from satexport.pipeline.build import compile_bundle

        target = plan.apply_choices(target, ranges=options.ranges, leave_out=options.leave_out,
                                    sensitivity=options.sensitivity)
        build = plan.plan_build(target, calibration=options.calibration, data=options.data,
                                cache_dtype=options.cache_dtype, sensitivity=options.sensitivity)
        proof = plan.ProofOptions(
            data=options.data, folds=plan.choose_gate_folds(options.data, folds, build.calibration),
            category_map=options.category_map, require_data=options.require_data,
            checkpoint=None if options.model else options.checkpoint, minutes=options.minutes,
            threads=options.threads, measure=options.measured)
        record = compile_bundle(_find_source(options), target, options.output, build, proof)
    with ignore_closed_pipe():
        if options.as_json:
            print_json(_to_json(record))
        else:
            print_blocks(describe_bundle(record))
    for text in record.notes:
        note(text)
    if failed := failures(record.proof.gates):
        raise GateError(f"{record.path}: {failed}.")
    return record.path


def note_engine(path: Path) -> None:
    """Tell the user the next step if the engines of a bundle are built on a board."""
    if (path / "build.sh").is_file():
        note(f"No engine was built: that happens on the board. Copy {path} there and run ./build.sh in it.")


def _check_source(options: SharedOptions) -> None:
    """Raise `UsageError` for export options that do not go together."""
    if options.source and options.model:
        raise UsageError("--from uses an existing export, --model makes a new one: choose one of them.")
    for option, value in (("--delay", options.delay), ("--window", options.window),
                          ("--labels", options.labels), ("--streams", options.streams),
                          ("--embedding", options.embedding)):
        if value is not None and not options.model:
            raise UsageError(f"{option} applies only to a new export: add --model, or leave {option} out.")


def _find_source(options: SharedOptions) -> Bundle | ExportOptions:
    """Return the existing export, or the options of the one to make first."""
    from satexport.bundle.contract import GraphOptions
    from satexport.bundle.folder import open_bundle
    from satexport.bundle.places import find_export
    from satexport.models.families import choose_embedding, find_variant
    from satexport.pipeline.plan import ExportOptions

    if not options.model:
        return open_bundle(options.source or find_export(options.output))
    variant = find_variant(options.model, options.delay, options.window)
    return ExportOptions(
        model=options.model, delay=options.delay, window=options.window, labels=options.labels,
        checkpoint=options.checkpoint or "published", options=GraphOptions(
            streams=parse_streams(options.streams or "1"),
            embedding=choose_embedding(variant, options.embedding)))


def _to_json(record: BundleRecord) -> dict[str, Any]:
    from satexport.report.serialize import to_json

    proof = record.proof
    return {"bundle": str(record.path), "left_out": record.left_out, "finished": record.finished,
            "sensitivity": to_json(record.sensitivity) if record.sensitivity else None,
            "parity": to_json(proof.parity) if proof.parity else None,
            "twins": {name: to_json(twin) for name, twin in proof.twins.items()},
            "measure": to_json(proof.measured) if proof.measured else None}
