"""`satexport cpu`: a bundle for ONNX Runtime on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.options import json_option, parse_folds, parse_streams, threads_option
from satexport.console import needs, note, print_json, reader_may_leave
from satexport.errors import GateError, MissingError, UsageError

if TYPE_CHECKING:
    from satexport.targets import Target


@click.command("cpu")
@click.option("--fp32", "fp32", is_flag=True, help="Do not quantise.")
@click.option("--int8", "int8", is_flag=False, flag_value="target", metavar="[static|dynamic]",
              type=click.Choice(["target", "static", "dynamic"]),
              help="static: ranges from a calibration; dynamic: anew at every step. Default: the target's.")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="BUNDLE",
              help="The fp32 export. Default: the one in the output folder.")
@click.option("--model", metavar="NAME", help="Export first: sat-t, sat-s, sat-b, vit-t, vit-s or vit-b.")
@click.option("--delay", type=int, metavar="SECONDS", help="With --model: length of a chunk. Default: 2.")
@click.option("--checkpoint", metavar="FILE|published|demo|random",
              help="With --model: weights, as of `satexport onnx`. Without: the export's own, where they "
                   "are not known by SHA-256.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
              help="With --model: names of the classes.")
@click.option("--streams", metavar="N|dynamic", help="With --model: microphones that one step serves.")
@click.option("--target", "target_name", metavar="NAME|FILE.toml",
              help="Default: cpu-int8 or cpu-fp32, whichever is asked for; without either cpu-int8.")
@click.option("--cache-dtype", default="fp32", show_default=True,
              type=click.Choice(["fp32", "fp16", "int8"]),
              help="How the cache is stored: fp16 halves the state, int8 quarters it.")
@click.option("--calibration", metavar="NAME|FILE.toml|DIR",
              help="Calibration set, or a folder of audio. Default: the target's.")
@click.option("--ranges", type=click.Choice(["minmax", "percentile", "entropy"]),
              help="How ranges are found. Default: the target's.")
@click.option("--sensitivity", is_flag=True, help="Show what each layer costs in int8.")
@click.option("--leave-out", multiple=True, metavar="LAYER|auto",
              help="Keep a layer in float, such as 00.fc1; auto: as few as the mAP gate needs.")
@click.option("--data", default="synthetic", show_default=True, metavar="DIR|CSV|synthetic",
              help="Labelled set of the mAP gate, as of `satexport parity`; a folder in ESC-50 layout also "
                   "holds the recordings of the calibration set esc50.")
@click.option("--folds", metavar="N,N", help="Folds that gate. Default of a set in ESC-50 layout: 4.")
@click.option("--map", "category_map", type=click.Path(path_type=Path), metavar="CSV",
              help="Which label each category of the set is: category,label.")
@click.option("--require-data", is_flag=True, help="A gate that could not be judged fails.")
@click.option("--minutes", type=click.FloatRange(0.1, 240), default=10.0, show_default=True,
              help="Length of the stream for differences and drift.")
@click.option("--measure/--no-measure", "measured", default=True, show_default=True,
              help="Measure the bundle beside its export and PyTorch eager.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              metavar="DIR", help="Folder of the bundles.")
@threads_option
@json_option
def cpu_command(fp32: bool, int8: str | None, source: Path | None, model: str | None, delay: int | None,
                checkpoint: str | None, labels: Path | None, streams: str | None, target_name: str | None,
                cache_dtype: str, calibration: str | None, ranges: str | None, sensitivity: bool,
                leave_out: tuple[str, ...], data: str, folds: str | None, category_map: Path | None,
                require_data: bool, minutes: float, measured: bool, output: Path, threads: int | None,
                as_json: bool) -> None:
    """Make a bundle for ONNX Runtime on a CPU, prove the very file and measure it: int8 from calibrated
    ranges, or fp32.

    \b
    Examples:
      satexport cpu --int8 --model sat-t --delay 2 --checkpoint demo
      satexport cpu --int8 --calibration esc50 --data ESC-50      the export in build/
      satexport cpu --int8 --sensitivity --leave-out auto
      satexport cpu --int8 dynamic --from build/sat-b-2s/onnx
    """
    from satexport.gates import failures
    from satexport.report import RANDOM_WEIGHTS, print_cpu
    from satexport.targets import AUTO, Quantization

    target = wanted_target(target_name, fp32, int8, ranges, leave_out, sensitivity)
    if source and model:
        raise UsageError("--from takes an export, --model makes one: choose one of them.")
    for option, value in (("--delay", delay), ("--labels", labels), ("--streams", streams)):
        if value is not None and not model:
            raise UsageError(f"{option} is of an export: say --model, too, or leave it out.")
    int8_table = target.quantization
    calibrated = sensitivity or cache_dtype == "int8" or (int8_table is not None and (
        int8_table.method == "static" or AUTO in int8_table.leave_out))
    if calibration and not calibrated:
        raise UsageError("--calibration: nothing here is calibrated. Leave it out, or ask for --int8.")
    is_esc50 = (Path(data) / "meta" / "esc50.csv").is_file()
    gate_folds = parse_folds(folds) or ([4] if is_esc50 else None)
    with needs("export"):
        from satexport.bundle import open_bundle
        from satexport.calibration_set import find_calibration
        from satexport.cpu import Proof, Wanted, cpu_bundle, find_export

        chosen = find_calibration(calibration or (int8_table or Quantization()).calibration)
        if model:
            source = export_first(model, delay or 2, checkpoint or "published", labels, streams or "1",
                                  output)
        opened = open_bundle(source or find_export(output))
        recordings = Path(data) if is_esc50 and chosen.source == "esc50" else None
        wanted = Wanted(chosen, recordings, cache_dtype, sensitivity)
        proof = Proof(data, gate_folds, category_map, require_data, None if model else checkpoint, minutes,
                      threads, measured)
        made = cpu_bundle(opened, target, output, wanted, proof)
    with reader_may_leave():
        if as_json:
            print_json({"bundle": str(made.path), "sensitivity": made.sensitivity, "left_out": made.left_out,
                        "parity": made.parity, "measure": made.measured})
        else:
            print_cpu(made)
    for text in made.notes:
        note(text)
    if opened.contract.has_random_weights:
        note(RANDOM_WEIGHTS)
    if calibrated and chosen.source == "synthetic":
        note("Calibrated on synthetic sounds. Real audio is better: --calibration esc50, or a folder.")
    if failed := failures(made.gates):
        raise GateError(f"{made.path}: {failed}.")


def wanted_target(name: str | None, fp32: bool, int8: str | None, ranges: str | None,
                  leave_out: tuple[str, ...], sensitivity: bool) -> Target:
    """The target, with what the command line says in place of its own."""
    from satexport.targets import find_target

    if fp32 and int8:
        raise UsageError("--fp32 and --int8: choose one.")
    target = find_target(name or ("cpu-fp32" if fp32 else "cpu-int8"))
    asked = "fp32" if fp32 else "int8" if int8 else target.precision
    if target.backend != "onnxruntime":
        raise UsageError(f"target {target.name} is for {target.backend}; this command writes for "
                         "onnxruntime.")
    if target.precision not in ("fp32", "int8"):
        raise MissingError(f"target {target.name} wants {target.precision}, which ONNX Runtime has no "
                           "kernels for on a CPU; expected fp32 or int8.")
    if target.precision != asked:
        raise UsageError(f"target {target.name} wants {target.precision}, --{asked} asks for {asked}: leave "
                         "one of them out.")
    if not target.quantization:
        for option, given in (("--ranges", ranges), ("--leave-out", leave_out),
                              ("--sensitivity", sensitivity)):
            if given:
                raise UsageError(f"{option} is of int8: leave it out, or ask for --int8.")
        return target
    method = int8 if int8 in ("static", "dynamic") else target.quantization.method
    if ranges and method == "dynamic":
        raise UsageError("--ranges: dynamic quantisation finds its own at every step. Leave it out.")
    quantization = replace(target.quantization, method=method, ranges=ranges or target.quantization.ranges,
                           leave_out=(*target.quantization.leave_out, *leave_out))
    name = target.name if method == target.quantization.method else f"{target.name}-{method}"
    return replace(target, name=name, quantization=quantization)


def export_first(model: str, delay: int, checkpoint: str, labels: Path | None, streams: str,
                 output: Path) -> Path:
    """Export as `satexport onnx` does."""
    from satexport.checkpoint import load_checkpoint
    from satexport.contract import Form
    from satexport.export import export_onnx
    from satexport.targets import find_target
    from satexport.variants import find_variant

    weights = load_checkpoint(checkpoint, find_variant(model, delay), labels)
    return export_onnx(weights, find_target("onnx"), output, Form(streams=parse_streams(streams))).path
