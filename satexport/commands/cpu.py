"""`satexport cpu`: a bundle for ONNX Runtime on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.onnx import parse_streams
from satexport.commands.options import json_option, threads_option
from satexport.commands.parity import parse_folds
from satexport.console import needs, note, print_json, reader_may_leave
from satexport.errors import DataError, GateError, UsageError
from satexport.gates import failures

if TYPE_CHECKING:
    from satexport.bundle import Bundle
    from satexport.gates import Gate
    from satexport.targets import Target


@click.command("cpu")
@click.option("--fp32", "fp32", is_flag=True, help="Do not quantise.")
@click.option("--int8", "int8", is_flag=False, flag_value="static", metavar="[static|dynamic]",
              type=click.Choice(["static", "dynamic"]),
              help="static: ranges from a calibration; dynamic: anew at every step.")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="BUNDLE",
              help="The fp32 export. Default: the one in the output folder.")
@click.option("--model", metavar="NAME", help="Export first: sat-t, sat-s, sat-b, vit-t, vit-s or vit-b.")
@click.option("--delay", type=int, metavar="SECONDS", help="With --model: length of a chunk. Default: 2.")
@click.option("--checkpoint", metavar="FILE|published|demo|random",
              help="With --model: weights, as of `satexport onnx`. Without: the export's own, where they are "
                   "not known by SHA-256.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
              help="With --model: names of the classes.")
@click.option("--streams", metavar="N|dynamic", help="With --model: microphones that one step serves.")
@click.option("--target", "target_name", metavar="NAME|FILE.toml",
              help="Default: cpu-int8 or cpu-fp32, whichever is asked for; without either cpu-int8.")
@click.option("--calibration", metavar="NAME|FILE.toml|DIR",
              help="Calibration set, or a folder of audio. Default: the target's.")
@click.option("--ranges", type=click.Choice(["minmax", "percentile", "entropy"]),
              help="How ranges are found. Default: the target's.")
@click.option("--leave-out", multiple=True, metavar="LAYER", help="Keep a layer in float, such as 00.fc1.")
@click.option("--data", default="synthetic", show_default=True, metavar="DIR|CSV|synthetic",
              help="Labelled set of the mAP gate, as of `satexport parity`; and where the recordings of the "
                   "calibration set esc50 are.")
@click.option("--folds", metavar="N,N", help="Folds that gate. Default of a set in ESC-50 layout: 4.")
@click.option("--minutes", type=click.FloatRange(0.1, 240), default=2.0, show_default=True,
              help="Length of the stream for differences and drift.")
@click.option("--measure/--no-measure", "measured", default=True, show_default=True,
              help="Measure the bundle beside its export and PyTorch eager.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              metavar="DIR", help="Folder of the bundles.")
@threads_option
@json_option
def cpu_command(fp32: bool, int8: str | None, source: Path | None, model: str | None, delay: int | None,
                checkpoint: str | None, labels: Path | None, streams: str | None, target_name: str | None,
                calibration: str | None, ranges: str | None, leave_out: tuple[str, ...], data: str,
                folds: str | None, minutes: float, measured: bool, output: Path, threads: int | None,
                as_json: bool) -> None:
    """Make a bundle for ONNX Runtime on a CPU, prove the very file and measure it: int8 from calibrated
    ranges, or fp32.

    \b
    Examples:
      satexport cpu --int8 --model sat-t --delay 2 --checkpoint demo
      satexport cpu --int8 --calibration esc50 --data ESC-50      the export in build/
      satexport cpu --int8 dynamic --from build/sat-b-2s/onnx
    """
    from satexport.report import RANDOM_WEIGHTS, print_cpu

    target = wanted_target(target_name, fp32, int8, ranges, leave_out)
    if source and model:
        raise UsageError("--from takes an export, --model makes one: choose one of them.")
    for option, value in (("--delay", delay), ("--labels", labels), ("--streams", streams)):
        if value is not None and not model:
            raise UsageError(f"{option} is of an export: say --model, too, or leave it out.")
    with needs("export"):
        from satexport.bundle import open_bundle
        from satexport.calibrate import find_calibration
        from satexport.cpu import cpu_bundle, find_export

        quantization = target.quantization
        chosen = find_calibration(calibration or (quantization.calibration if quantization else "synthetic"))
        if model:
            source = export_first(model, delay or 2, checkpoint or "published", labels, streams or "1",
                                  output)
        opened = open_bundle(source or find_export(output))
        recordings = Path(data) if data != "synthetic" and chosen.source == "esc50" else None
        path = cpu_bundle(opened, target, output, chosen, recordings)
        gates, parity, report = proven_and_measured(
            opened, path, None if model else checkpoint, data, folds, minutes, threads, measured)
    with reader_may_leave():
        if as_json:
            print_json({"bundle": str(path), "parity": parity, "measure": report})
        else:
            print_cpu(path, parity, report)
    if opened.contract.has_random_weights:
        note(RANDOM_WEIGHTS)
    if chosen.source == "synthetic" and quantization and quantization.method == "static":
        note("Calibrated on synthetic sounds. Real audio is better: --calibration esc50, or a folder.")
    if failed := failures(gates):
        raise GateError(f"{path}: {failed}.")


def wanted_target(name: str | None, fp32: bool, int8: str | None, ranges: str | None,
                  leave_out: tuple[str, ...]) -> Target:
    """The target, with what the command line says in place of its own."""
    from satexport.targets import find_target

    if fp32 and int8:
        raise UsageError("--fp32 and --int8: choose one.")
    target = find_target(name or ("cpu-fp32" if fp32 else "cpu-int8"))
    wanted = "fp32" if fp32 else "int8" if int8 else target.precision
    if (target.backend, target.precision) != ("onnxruntime", wanted) or wanted not in ("fp32", "int8"):
        raise UsageError(f"target {target.name} wants {target.precision} for {target.backend}; this command "
                         f"was asked for {wanted} for onnxruntime.")
    if (target.precision == "int8") != (target.quantization is not None):
        raise DataError(f"target {target.name}: precision is {target.precision!r}; int8 needs a table "
                        "[quantization], which may be empty, and nothing else has one.")
    if not target.quantization:
        return target
    quantization = replace(
        target.quantization, method=int8 or target.quantization.method,
        ranges=ranges or target.quantization.ranges,
        leave_out=(*target.quantization.leave_out, *leave_out))
    dynamic = quantization.method == "dynamic" != target.quantization.method
    return replace(target, name=f"{target.name}-dynamic" if dynamic else target.name,
                   quantization=quantization)


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


def proven_and_measured(export: Bundle, path: Path, checkpoint: str | None, data: str, folds: str | None,
                        minutes: float, threads: int | None, measured: bool
                        ) -> tuple[list[Gate], dict[str, Any], dict[str, Any] | None]:
    """Parity of the very file, then its figures beside the export's and PyTorch's; the reports are
    written into the bundle."""
    from satexport.contract import ANY
    from satexport.files import write_json
    from satexport.gates import Gate
    from satexport.measure import Settings, measure
    from satexport.parity import parity_report, run_parity
    from satexport.report import origin
    from satexport.stream import load

    chosen = parse_folds(folds)
    if chosen is None and (Path(data) / "meta" / "esc50.csv").is_file():
        chosen = [4]
    tagger = load(path, threads)
    gates, parts = run_parity(tagger, data, chosen, None, checkpoint, minutes)
    parity = parity_report(tagger, gates, parts) | {"threads": threads, "origin": origin()}
    write_json(path / "parity.json", parity)
    if not measured:
        return gates, parity, None
    settings = Settings(threads, 1 if export.contract.form.streams == ANY else None, checkpoint=checkpoint)
    report = measure([export, tagger.bundle], settings) | {"origin": origin()}
    write_json(path / "measure.json", report)
    return [*gates, *(Gate(**gate) for gate in report["bundles"][1]["gates"])], parity, report
