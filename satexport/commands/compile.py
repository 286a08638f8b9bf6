"""What the commands that make a target's bundle share: their options, and the way from an export to a bundle
that is proven, measured and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import print_json, reader_may_leave
from satexport.commands.options import json_option, minutes_option, parse_folds, parse_streams, threads_option
from satexport.errors import GateError, UsageError, needs
from satexport.terminal import note

if TYPE_CHECKING:
    from satexport.bundle.target import Target

_OPTIONS = (
    click.option("--from", "source", type=click.Path(path_type=Path), metavar="BUNDLE",
                 help="The fp32 export. Default: the one in the output folder."),
    click.option("--model", metavar="NAME", help="Export first: one that `satexport models` lists, such as "
                                                 "sat-t."),
    click.option("--delay", type=int, metavar="SECONDS", help="With --model: length of a chunk. Default: 2."),
    click.option("--checkpoint", metavar="FILE|published|demo|random",
                 help="With --model: weights, as of `satexport onnx`. Without: the export's own, where they "
                      "are not known by SHA-256."),
    click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
                 help="With --model: names of the classes."),
    click.option("--streams", metavar="N|dynamic", help="With --model: microphones that one step serves."),
    click.option("--target", "target_name", metavar="NAME|FILE.toml",
                 help="Default: the one for the precision that is asked for."),
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


@dataclass(frozen=True)
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


def compile_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that the commands share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def adapted(target: Target, options: Options) -> Target:
    """A target with what the command line says in place of its own choices. Raises `UsageError` for what has
    no meaning for it."""
    if not target.quantization:
        for option, given in (("--ranges", options.ranges), ("--leave-out", options.leave_out),
                              ("--sensitivity", options.sensitivity)):
            if given:
                raise UsageError(f"{option} is of int8: leave it out, or ask for --int8.")
        return target
    if options.ranges and target.quantization.method == "dynamic":
        raise UsageError("--ranges: dynamic quantisation finds its own at every step. Leave it out.")
    return replace(target, quantization=replace(
        target.quantization, ranges=options.ranges or target.quantization.ranges,
        leave_out=(*target.quantization.leave_out, *options.leave_out)))


def find_for(backend: str, name: str | None, asked: str | None, defaults: dict[str, str],
             default: str) -> Target:
    """The target that is named, or the default one of the precision that is asked for. Raises `UsageError`
    where it is another backend's, or wants another precision."""
    from satexport.targets import find_target

    target = find_target(name or defaults[asked or default])
    if target.backend != backend:
        raise UsageError(f"target {target.name} is for {target.backend}; this command writes for {backend}.")
    if asked and target.precision != asked:
        raise UsageError(f"target {target.name} wants {target.precision}, --{asked} asks for {asked}: leave "
                         "one of them out.")
    return target


def run_compile(target: Target, options: Options) -> Path:
    """Make the bundle, export first where a model is named, and report; returns its path. Raises `GateError`
    where a gate failed."""
    from satexport.bundle.contract import RANDOM_WEIGHTS
    from satexport.bundle.gates import failures
    from satexport.bundle.target import Quantization
    from satexport.report.terminal import print_compiled

    calibrated = _is_calibrated(target, options)
    _check(options, calibrated)
    int8, given_folds = target.quantization, parse_folds(options.folds)
    with needs("export"):
        from satexport.audio.datasets import is_esc50
        from satexport.bundle.folder import open_bundle
        from satexport.bundle.places import find_export
        from satexport.pipeline.build import compile_bundle
        from satexport.pipeline.plan import Proof, Wanted
        from satexport.quantize.calibration_set import default_folds, find_calibration
        from satexport.targets import resolved

        target = resolved(target)  # what is not here is said before the work
        chosen = find_calibration(options.calibration or (int8 or Quantization()).calibration)
        source = export_first(options) if options.model else options.source
        opened = open_bundle(source or find_export(options.output))
        recordings = Path(options.data) if chosen.source == "esc50" and is_esc50(options.data) else None
        wanted = Wanted(chosen, recordings, options.cache_dtype, options.sensitivity)
        folds = given_folds or default_folds(options.data, chosen)
        proof = Proof(options.data, folds, options.category_map, options.require_data,
                      None if options.model else options.checkpoint, options.minutes, options.threads,
                      options.measured)
        made = compile_bundle(opened, target, options.output, wanted, proof)
    with reader_may_leave():
        if options.as_json:
            print_json({"bundle": str(made.path), "sensitivity": made.sensitivity, "left_out": made.left_out,
                        "parity": made.parity, "twin": made.twin, "measure": made.measured,
                        "rtx": made.rtx})
        else:
            print_compiled(made)
    for text in made.notes:
        note(text)
    if opened.contract.has_random_weights:
        note(RANDOM_WEIGHTS)
    if calibrated and chosen.source == "synthetic":
        note("Calibrated on synthetic sounds. Real audio is better: --calibration esc50, or a folder.")
    if failed := failures(made.gates):
        raise GateError(f"{made.path}: {failed}.")
    return made.path


def _is_calibrated(target: Target, options: Options) -> bool:
    """Does the bundle need a calibration set?"""
    from satexport.bundle.target import AUTO

    int8 = target.quantization
    return options.sensitivity or options.cache_dtype == "int8" or (int8 is not None and (
        int8.method == "static" or AUTO in int8.leave_out))


def _check(options: Options, calibrated: bool) -> None:
    """Raise `UsageError` for options that do not go together."""
    if options.source and options.model:
        raise UsageError("--from takes an export, --model makes one: choose one of them.")
    for option, value in (("--delay", options.delay), ("--labels", options.labels),
                          ("--streams", options.streams)):
        if value is not None and not options.model:
            raise UsageError(f"{option} is of an export: say --model, too, or leave it out.")
    if options.calibration and not calibrated:
        raise UsageError("--calibration: nothing here is calibrated. Leave it out, or ask for --int8.")


def export_first(options: Options) -> Path:
    """Export as `satexport onnx` does."""
    from satexport.bundle.contract import GraphOptions
    from satexport.models.checkpoint import load_checkpoint
    from satexport.models.families import find_variant
    from satexport.pipeline.export import export_onnx
    from satexport.targets import find_target

    assert options.model
    variant = find_variant(options.model, options.delay)
    weights = load_checkpoint(options.checkpoint or "published", variant, options.labels)
    graph_options = GraphOptions(streams=parse_streams(options.streams or "1"))
    return export_onnx(weights, find_target("onnx"), options.output, graph_options).path
