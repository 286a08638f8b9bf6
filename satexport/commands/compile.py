"""What the commands that make a target's bundle share: their options, and the way from them to a bundle that
is reported. Which of them go together is said in `satexport.pipeline.plan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import print_json, reader_may_leave
from satexport.commands.options import json_option, minutes_option, parse_folds, parse_streams, threads_option
from satexport.errors import GateError, UsageError, requires_extra
from satexport.terminal import note

if TYPE_CHECKING:
    from satexport.bundle.folder import Bundle
    from satexport.bundle.target import Target
    from satexport.pipeline.plan import ExportOptions
    from satexport.report.records import BundleRecord

_OPTIONS = (
    click.option("--from", "source", type=click.Path(path_type=Path), metavar="BUNDLE",
                 help="The fp32 export. Default: the one in the output folder."),
    click.option("--model", metavar="NAME", help="Export first: one that `satexport models` lists, such as "
                                                 "sat-t."),
    click.option("--delay", type=int, metavar="SECONDS", help="With --model: length of a chunk. Default: 2."),
    click.option("--checkpoint", metavar="FILE|hub:OWNER/REPO|published|demo|random",
                 help="With --model: weights, as of `satexport onnx`. Without: the export's own, where they "
                      "are not known by SHA-256."),
    click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
                 help="With --model: names of the classes."),
    click.option("--streams", metavar="N|dynamic", help="With --model: microphones that one step serves."),
    click.option("--calibration", metavar="NAME|FILE.toml|DIR",
                 help="Calibration set, or a folder of audio. Default: the target's."),
    click.option("--ranges", type=click.Choice(["minmax", "percentile", "entropy"]),
                 help="How ranges are found. Default: the target's."),
    click.option("--sensitivity", is_flag=True, help="Show what each layer costs in int8."),
    click.option("--leave-out", multiple=True, metavar="LAYER|auto",
                 help="Keep a layer in float, such as 00.fc1; auto: as few as the mAP gate needs."),
    click.option("--data", default="synthetic", show_default=True, metavar="DIR|CSV|synthetic",
                 help="Labelled set of the mAP gate, as of `satexport parity`; a folder in ESC-50 layout "
                      "also holds the recordings of the calibration set esc50."),
    click.option("--folds", metavar="N,N",
                 help="Folds of a set in ESC-50 layout that gate. Default: gate_folds of the calibration "
                      "set, 4 of esc50."),
    click.option("--map", "category_map", type=click.Path(path_type=Path), metavar="CSV",
                 help="Which label each category of the set is: category,label."),
    click.option("--require-data", is_flag=True, help="A gate that could not be judged fails."),
    minutes_option,
    click.option("--measure/--no-measure", "measured", default=True, show_default=True,
                 help="Measure the bundle beside its export and PyTorch eager."),
    click.option("--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
                 metavar="DIR", help="Folder of the bundles."),
    threads_option, json_option,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of the command line, as `compile_options` names them."""

    source: Path | None
    model: str | None
    delay: int | None
    checkpoint: str | None
    labels: Path | None
    streams: str | None
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
                             help="Default: the one for the precision that is asked for.")


def compile_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that the commands share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def find_for(backend: str, name: str | None, asked: str | None, defaults: dict[str, str],
             default: str) -> Target:
    """The target that is named, or the default one of the precision that is asked for. Raises `UsageError`
    where it is another backend's, or wants another precision."""
    from satexport.targets import find_target

    target = find_target(name or defaults[asked or default])
    if target.backend != backend:
        raise UsageError(f"target {target.name} is for {target.backend}; this command writes for {backend}. "
                         f"Use `satexport bundle --target {name}`.")
    if asked and target.precision != asked:
        raise UsageError(f"target {target.name} wants {target.precision}, --{asked} asks for {asked}: leave "
                         "one of them out.")
    return target


def run_compile(target: Target, options: Options) -> Path:
    """Make the bundle, export first where a model is named, and report; returns its path. Raises `GateError`
    where a gate failed."""
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
            data=options.data, folds=plan.gate_folds(options.data, folds, build.calibration),
            category_map=options.category_map, require_data=options.require_data,
            checkpoint=None if options.model else options.checkpoint, minutes=options.minutes,
            threads=options.threads, measure=options.measured)
        record = compile_bundle(_source(options), target, options.output, build, proof)
    with reader_may_leave():
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
    """Say what is still to be done where a bundle is one that a board builds its engines of."""
    if (path / "build.sh").is_file():
        note(f"No engine was built: that happens on the board. Copy {path} there and run ./build.sh in it.")


def _check_source(options: Options) -> None:
    """Raise `UsageError` for options of an export that do not go together."""
    if options.source and options.model:
        raise UsageError("--from takes an export, --model makes one: choose one of them.")
    for option, value in (("--delay", options.delay), ("--labels", options.labels),
                          ("--streams", options.streams)):
        if value is not None and not options.model:
            raise UsageError(f"{option} is of an export: say --model, too, or leave it out.")


def _source(options: Options) -> Bundle | ExportOptions:
    """The export, or the options of one that is made first."""
    from satexport.bundle.contract import GraphOptions
    from satexport.bundle.folder import open_bundle
    from satexport.bundle.places import find_export
    from satexport.pipeline.plan import ExportOptions

    if not options.model:
        return open_bundle(options.source or find_export(options.output))
    return ExportOptions(model=options.model, delay=options.delay, labels=options.labels,
                         checkpoint=options.checkpoint or "published",
                         options=GraphOptions(streams=parse_streams(options.streams or "1")))


def _to_json(record: BundleRecord) -> dict[str, Any]:
    from satexport.report.serialize import to_json

    proof = record.proof
    return {"bundle": str(record.path), "left_out": record.left_out, "finished": record.finished,
            "sensitivity": to_json(record.sensitivity) if record.sensitivity else None,
            "parity": to_json(proof.parity) if proof.parity else None,
            "twins": {name: to_json(twin) for name, twin in proof.twins.items()},
            "measure": to_json(proof.measured) if proof.measured else None}
