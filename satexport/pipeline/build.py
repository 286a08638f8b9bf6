"""A target's bundle: an fp32 export as the target wants it. Calibrate, quantise, compile, prove, measure.

All of it happens beside the bundle's place: what was there before stays until the new bundle has been
proven and measured. One whose gates failed is written, too, and its reports say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from satexport.backends.openvino.step import floats_of
from satexport.backends.openvino.write import write_ir
from satexport.backends.tensorrt.engine import import_tensorrt
from satexport.backends.tensorrt.step import RTX
from satexport.backends.tensorrt.write import build_for_rtx, onnx_taggers, write_build_bundle
from satexport.bundle.contract import ANY
from satexport.bundle.folder import (
    CALIBRATION,
    GOLDEN,
    LABELS,
    REPORTS,
    Bundle,
    bundle_path,
    open_bundle,
    write_initial_cache,
    write_manifest,
)
from satexport.bundle.gates import Gate, required
from satexport.bundle.places import check_outside, for_one_stream, staged_bundle
from satexport.errors import BundleError, SatexportError, UsageError
from satexport.files import check_writable, write_json
from satexport.measure.turns import Settings, measure, of_bundle
from satexport.parity.protocols import labelled_set, parity_report, run_parity
from satexport.quantize.cache_dtype import store_cache
from satexport.quantize.calibrate import Calibration, calibrate
from satexport.quantize.calibration_set import CalibrationSet, choosing_set
from satexport.quantize.int8 import check_layers, layers, products_with_weights, quantize
from satexport.quantize.ranges import find_ranges
from satexport.quantize.sensitivity import LeftOut, check_labels, fewest_to_leave_out, sensitivity
from satexport.report.pictures import drift_png, measure_png, write_picture
from satexport.report.terminal import origin
from satexport.tagging.stream import Tagger, load
from satexport.targets import AUTO, Target

GRAPH = "model.onnx"
LARGE = 16_384    # bytes of a weight that goes into the file of the weights


@dataclass(frozen=True)
class Wanted:
    """What a bundle is made by, beside its target."""

    calibration: CalibrationSet
    recordings: Path | None = None   # of the calibration set, where it does not say it
    cache_dtype: str = "fp32"
    sensitivity: bool = False


@dataclass(frozen=True)
class Proof:
    """How a bundle is proven and measured."""

    data: str = "synthetic"
    folds: Sequence[int] | None = None
    category_map: Path | None = None
    require_data: bool = False        # a gate that could not be judged fails
    checkpoint: str | None = None
    minutes: float = 10.0
    threads: int | None = None
    measure: bool = True


@dataclass
class Compiled:
    """What became of it: reports as they lie in the bundle."""

    path: Path
    gates: list[Gate] = field(default_factory=list)
    parity: dict[str, Any] = field(default_factory=dict)
    twin: dict[str, Any] | None = None          # parity of the fp16 graph beside an int8 one for TensorRT
    rtx: dict[str, Any] | None = None           # what TensorRT for RTX built
    measured: dict[str, Any] | None = None      # beside the export and PyTorch
    sensitivity: dict[str, Any] | None = None
    products: int = 0                           # with a weight, in int8
    left_out: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def compile_bundle(source: Bundle, target: Target, folder: Path, wanted: Wanted,
                   proof: Proof | None = None) -> Compiled:
    """Write a bundle at its `bundle_path` from an fp32 export, prove the very file and measure it;
    without a proof it is only written.

    Raises `UsageError` where the export is not fp32, a layer to leave out does not exist or a choice
    has no meaning for this model, `DataError` where the calibration set cannot be used or shares a clip
    with the set that gates, `MissingError` where the runtime or a precision is not here, `RunError` where
    nothing can be written. What was there before is then untouched.
    """
    _check_choices(source, target, wanted)
    form = replace(source.contract.form, cache_dtype=wanted.cache_dtype)
    target = resolved(target)
    made = Compiled(bundle_path(folder, replace(source.contract, form=form), target))
    if made.path.resolve() == source.path.resolve():
        raise UsageError(f"{made.path} is the export itself: give the target another name, or choose "
                         "--output.")
    if proof:  # what is wrong is said before the work
        labelled_set(source, proof.data, proof.folds, proof.category_map)
    check_outside(made.path)
    check_writable(made.path.parent)
    with staged_bundle(made.path) as stage:
        try:
            _write(source, target, wanted, stage, made)
            if target.tensorrt:
                _prove_graphs(open_bundle(stage), proof, made)
            else:
                _prove(source, stage, proof, made)
        except SatexportError as error:  # that names the place where it is made
            raise type(error)(str(error).replace(str(stage), str(made.path))) from None
    return made


def _check_choices(source: Bundle, target: Target, wanted: Wanted) -> None:
    """Raise `UsageError` where a bundle cannot be made of this export for this target."""
    if source.target.precision != "fp32":
        raise UsageError(f"{source.path} is {source.target.precision}; expected an fp32 export. Make one "
                         "with `satexport onnx`.")
    if source.contract.form.cache_dtype != "fp32":
        raise UsageError(f"the cache of {source.path} is {source.contract.form.cache_dtype} already; begin "
                         "with the export of `satexport onnx`.")
    if wanted.cache_dtype != "fp32" and not source.contract.cache_in:
        raise UsageError(f"{source.contract.variant} has no cache: leave --cache-dtype out.")
    if target.openvino and source.contract.form.streams % target.openvino.requests and (
            source.contract.form.streams != ANY):
        raise UsageError(f"target {target.name} shares the streams of a step between "
                         f"{target.openvino.requests} requests, {source.path} is for "
                         f"{source.contract.form.streams}: export with --streams N, a multiple of that, or "
                         "--streams dynamic.")
    if target.tensorrt and source.contract.form.streams == ANY:
        raise UsageError(f"{source.path} is for any number of streams, an engine has fixed shapes: export "
                         "with --streams N.")


def _write(source: Bundle, target: Target, wanted: Wanted, stage: Path, made: Compiled) -> None:
    """Write the bundle without its reports on parity and speed."""
    model, quantization = _graph_of(source), target.quantization
    twin = model
    contract, initial = source.contract, list(source.initial_cache())
    static = quantization is not None and quantization.method == "static"
    if quantization:
        check_layers(model, quantization, set(quantization.leave_out) - {AUTO})
        if AUTO in quantization.leave_out:
            check_labels(source, choosing_set(wanted.calibration, wanted.recordings, source.labels))
    found = Calibration([], (), {})
    if static or wanted.cache_dtype == "int8":
        found = calibrate(source, wanted.calibration, wanted.recordings)
    clips = set(found.clip_hashes)
    facts: dict[str, Any] = {"set": found.origin, "made_from": source.sha256}
    if quantization:
        model, chosen_on, more = _quantised(source, model, target, wanted, found, made)
        clips |= chosen_on
        facts |= more
        if made.sensitivity:
            write_json(stage / REPORTS / "sensitivity.json", made.sensitivity | {"origin": origin()})
    if wanted.cache_dtype != "fp32":
        model, contract, initial = store_cache(model, source.variant, contract, wanted.cache_dtype, initial,
                                               found.samples)
    if target.openvino:
        graph = write_ir(stage, model, contract, target, initial, made.products)
    elif target.tensorrt:
        graph = write_build_bundle(stage, {"fp16": twin, target.precision: model}, target, contract, initial,
                                   source.golden()[0])
    else:
        graph = _write_onnx(stage, model)
    for name in (LABELS, GOLDEN):
        shutil.copy(source.path / name, stage / name)
    write_initial_cache(stage, initial)
    if clips or quantization:
        write_json(stage / CALIBRATION, facts | {"clips_sha256": sorted(clips)})
    write_manifest(stage, contract, target, graph, source.operations)


def _graph_of(source: Bundle) -> onnx.ModelProto:
    """The graph of an export. Raises `BundleError` where it is none, or wants weights from outside."""
    try:
        return onnx.load(source.graph)
    except Exception as error:  # onnx and protobuf have no common class but this
        raise BundleError(f"{source.graph} cannot be read ({error}). Export it again.") from None


def resolved(target: Target) -> Target:
    """A target whose every choice is made. Raises `MissingError` where the runtime, the device or the
    precision is not here."""
    if target.tensorrt and target.tensorrt.module == RTX:
        import_tensorrt(RTX)
    if target.openvino is None:
        return target
    return replace(target, openvino=replace(target.openvino, floats=floats_of(target)))


def _write_onnx(stage: Path, model: onnx.ModelProto) -> str:
    """The graph, its weights in a file of their own: ONNX Runtime maps that into memory and lets each
    weight go when it has packed it; from one file it would hold all of them twice."""
    onnx.save_model(model, stage / GRAPH, save_as_external_data=True, location=f"{GRAPH}.data",
                    size_threshold=LARGE)
    shutil.copymode(stage / GRAPH, stage / f"{GRAPH}.data")  # onnx writes it for the owner alone
    return GRAPH


def _quantised(source: Bundle, model: onnx.ModelProto, target: Target, wanted: Wanted, found: Calibration,
               made: Compiled) -> tuple[onnx.ModelProto, set[str], dict[str, Any]]:
    """The int8 graph, hashes of the clips that choices were made on, and what calibration.json says."""
    quantization = target.quantization
    assert quantization
    ranges = find_ranges(model, quantization, found.samples)
    quantise = partial(quantize, model, quantization, ranges)
    left_out = [name for name in quantization.leave_out if name != AUTO]
    chosen_on: set[str] = set()
    fewest: LeftOut | None = None
    if wanted.sensitivity or AUTO in quantization.leave_out:
        clips = choosing_set(wanted.calibration, wanted.recordings, source.labels)
        costs = sensitivity(source, model, quantise, layers(model, quantization), clips)
        made.sensitivity = costs.report() | {"variant": source.contract.variant, "set": clips.name}
        chosen_on |= set(costs.clip_hashes)
        if AUTO in quantization.leave_out:
            fewest = fewest_to_leave_out(source, model, lambda names: quantise([*left_out, *names]), clips,
                                         [name for name in costs.layers if name not in left_out],
                                         target.gates.map_kept)
            left_out += fewest.layers
            chosen_on |= set(fewest.clip_hashes)
    made.left_out = tuple(sorted(left_out))
    made.products = products_with_weights(model, quantization, left_out)
    return quantise(left_out), chosen_on, {
        "quantization": asdict(quantization), "float": sorted(left_out),
        "int8": [name for name in layers(model, quantization) if name not in left_out],
        "ranges": {x: list(ranges[x]) for x in sorted(ranges)},
        "auto": {"map": fewest.tried, "fp32_map": fewest.fp32_map} if fewest else None}


def _prove(source: Bundle, stage: Path, proof: Proof | None, made: Compiled) -> None:
    """Load the bundle; parity of the very file, then its figures beside the export's and PyTorch's, where
    they are wanted: the reports are written into the bundle. None of its files is open afterwards."""
    tagger = load(stage, proof.threads if proof else None, spinning=False)
    if not proof:
        return
    made.gates, made.parity = _parity(tagger, proof)
    reports = stage / REPORTS
    write_json(reports / "parity.json", made.parity)
    made.notes += write_picture(reports / "parity.png", drift_png, made.parity)
    if not proof.measure:
        return
    streams = 1 if source.contract.form.streams == ANY else None
    settings = Settings(proof.threads, streams, checkpoint=proof.checkpoint)
    beside = for_one_stream(tagger.bundle, made.path.parents[1], made.notes)
    report = measure([source, tagger.bundle, *beside], settings)
    report["origin"] = origin()
    report["bundles"][1]["bundle"] = str(made.path)  # where it will lie
    made.measured = report
    made.notes += [*report["notes"], *write_picture(reports / "measure.png", measure_png, report)]
    own = of_bundle(report, 1)
    write_json(reports / "measure.json", own)
    made.gates += [Gate(**gate) for gate in own["gates"]]


def _parity(tagger: Tagger, proof: Proof) -> tuple[list[Gate], dict[str, Any]]:
    """The gates of a bundle against PyTorch, and the report."""
    gates, parts = run_parity(tagger, proof.data, proof.folds, proof.category_map, proof.checkpoint,
                              proof.minutes)
    gates = required(gates) if proof.require_data else gates
    return gates, parity_report(tagger, gates, parts) | {"threads": proof.threads, "origin": origin()}


def _prove_graphs(bundle: Bundle, proof: Proof | None, made: Compiled) -> None:
    """Parity of the graphs that engines are built of, and the engine for RTX, where that is wanted."""
    for precision, tagger in onnx_taggers(bundle, proof.threads if proof else None).items():
        if not proof:
            continue
        gates, report = _parity(tagger, proof)
        report |= {"graph": f"{precision}.onnx", "runtime": "ONNX Runtime, graph optimisation disabled"}
        write_json(bundle.reports / f"parity-onnx-{precision}.json", report)
        made.gates += [replace(gate, name=f"{precision}: {gate.name}") for gate in gates]
        if precision == bundle.target.precision:
            made.parity = report
        else:
            made.twin = report
    if bundle.target.tensorrt and bundle.target.tensorrt.module == RTX:
        made.rtx = build_for_rtx(bundle)
