"""A target's bundle: an fp32 export as the target wants it. Calibrate, quantise, compile, prove, measure.

All of it happens beside the bundle's place: what was there before stays until the new bundle has been
proven and measured. One whose gates failed is written, too, and its reports say so.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from satexport.backends.onnxruntime.write import _write_onnx
from satexport.backends.openvino.write import write_ir
from satexport.backends.tensorrt.write import write_build_bundle
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
from satexport.bundle.places import check_outside, staged_bundle
from satexport.bundle.target import AUTO, Target
from satexport.errors import BundleError, SatexportError, UsageError
from satexport.files import check_writable, write_json
from satexport.graph.roles import Graph
from satexport.origin import origin
from satexport.parity.protocols import labelled_set
from satexport.pipeline.plan import Compiled, Proof, Wanted
from satexport.pipeline.prove import _prove, _prove_graphs
from satexport.quantize.cache_dtype import store_cache
from satexport.quantize.calibrate import Calibration, calibrate
from satexport.quantize.calibration_set import choosing_set
from satexport.quantize.choose import _quantised
from satexport.quantize.products import check_layers
from satexport.quantize.sensitivity import check_labels
from satexport.targets import resolved


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
    options = replace(source.contract.options, cache_dtype=wanted.cache_dtype)
    target = resolved(target)
    made = Compiled(bundle_path(folder, replace(source.contract, options=options), target))
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
    options = source.contract.options
    if source.target.precision != "fp32":
        raise UsageError(f"{source.path} is {source.target.precision}; expected an fp32 export. Make one "
                         "with `satexport onnx`.")
    if options.cache_dtype != "fp32":
        raise UsageError(f"the cache of {source.path} is {options.cache_dtype} already; begin "
                         "with the export of `satexport onnx`.")
    if wanted.cache_dtype != "fp32" and not source.contract.cache_in:
        raise UsageError(f"{source.contract.variant} has no cache: leave --cache-dtype out.")
    if target.openvino and options.streams % target.openvino.requests and (
            options.streams != ANY):
        raise UsageError(f"target {target.name} shares the streams of a step between "
                         f"{target.openvino.requests} requests, {source.path} is for "
                         f"{options.streams}: export with --streams N, a multiple of that, or "
                         "--streams dynamic.")
    if target.tensorrt and options.streams == ANY:
        raise UsageError(f"{source.path} is for any number of streams, an engine has fixed shapes: export "
                         "with --streams N.")


def _write(source: Bundle, target: Target, wanted: Wanted, stage: Path, made: Compiled) -> None:
    """Write the bundle without its reports on parity and speed."""
    graph, quantization = _graph_of(source), target.quantization
    twin = graph
    contract, initial = source.contract, list(source.initial_cache())
    static = quantization is not None and quantization.method == "static"
    if quantization:
        check_layers(graph, quantization, set(quantization.leave_out) - {AUTO})
        if AUTO in quantization.leave_out:
            check_labels(source, choosing_set(wanted.calibration, wanted.recordings, source.labels))
    found = Calibration([], (), {})
    if static or wanted.cache_dtype == "int8":
        found = calibrate(source, wanted.calibration, wanted.recordings)
    clips = set(found.clip_hashes)
    facts: dict[str, Any] = {"set": found.origin, "made_from": source.sha256}
    if quantization:
        graph, chosen_on, more = _quantised(source, graph, target, wanted, found, made)
        clips |= chosen_on
        facts |= more
        if made.sensitivity:
            write_json(stage / REPORTS / "sensitivity.json", made.sensitivity | {"origin": origin()})
    if wanted.cache_dtype != "fp32":
        stored = store_cache(graph, contract, wanted.cache_dtype, initial, found.samples)
        graph, contract, initial = stored.graph, stored.contract, stored.initial
    if target.openvino:
        name = write_ir(stage, graph, contract, target, initial, made.products)
    elif target.tensorrt:
        name = write_build_bundle(stage, {"fp16": twin, target.precision: graph}, target, contract, initial,
                                  source.golden()[0])
    else:
        name = _write_onnx(stage, graph.model)
    for part in (LABELS, GOLDEN):
        shutil.copy(source.path / part, stage / part)
    write_initial_cache(stage, initial)
    if clips or quantization:
        write_json(stage / CALIBRATION, facts | {"clips_sha256": sorted(clips)})
    write_manifest(stage, contract, target, name, source.operations, graph.roles)


def _graph_of(source: Bundle) -> Graph:
    """The graph of an export. Raises `BundleError` where it is none, or wants weights from outside."""
    try:
        return Graph(onnx.load(source.graph), source.roles)
    except Exception as error:  # onnx and protobuf have no common class but this
        raise BundleError(f"{source.graph} cannot be read ({error}). Export it again.") from None

