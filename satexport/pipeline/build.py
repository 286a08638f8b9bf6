"""Build a target's bundle from an fp32 export: check, write, prove, publish.

The bundle is built in a staging folder: an earlier bundle stays until the new one has been proven and
measured. A bundle whose gates failed is also written, and its reports say so. Everything that depends on the
runtime is done by the target's backend.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx

from satexport.audio.datasets import LabelledSet
from satexport.backends.backend import (
    Backend,
    Draft,
    LoadOptions,
    check_known,
    find_backend,
    may_skip,
    remark_on,
)
from satexport.bundle.contract import RANDOM_WEIGHTS, Contract
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
from satexport.bundle.threads import live_threads
from satexport.errors import BundleError, DataError, MissingError, UsageError
from satexport.files import check_writable, write_json
from satexport.graph.roles import Graph
from satexport.models.families import find_contract_variant
from satexport.parity.protocols import GateSet, find_gate_set
from satexport.parity.pytorch import PyTorch
from satexport.pipeline.plan import BuildOptions, ExportOptions, ProofOptions, needs_calibration
from satexport.pipeline.prove import prove, skip_proof, write_graph_scores
from satexport.progress import progress
from satexport.quantize.cache_dtype import store_cache
from satexport.quantize.calibrate import Calibration, calibrate
from satexport.quantize.calibration_set import choosing_set
from satexport.quantize.choose import Quantized, choose_and_quantize
from satexport.quantize.observe import Observer
from satexport.quantize.products import check_layers
from satexport.quantize.ranges import find_tensors, ranges_of
from satexport.quantize.sensitivity import check_labels
from satexport.report.records import BundleRecord, ExportReport, ProofRecord
from satexport.report.serialize import read_report, to_json
from satexport.targets import find_target

ON_SYNTHETIC = "Calibrated on synthetic sounds. Real audio is better: --calibration esc50, or a folder."


def compile_bundle(source: Bundle | ExportOptions, target: Target, folder: Path, options: BuildOptions,
                   proof: ProofOptions | None = None) -> BundleRecord:
    """Write a bundle at its `bundle_path`, prove the file that ships and measure it. Without a proof the
    bundle is only written and loaded. `source` is an fp32 export, or the options to make one first.

    Raises `UsageError` if the export is not fp32, a layer to leave out does not exist or an option does not
    apply to this model or backend, `DataError` if the calibration set cannot be used or shares a clip with
    the set that gates, `MissingError` if this machine lacks the runtime or a precision, `RunError` if the
    bundle cannot be written. An earlier bundle is then unchanged.
    """
    backend = find_backend(target.backend)
    target = backend.resolve(target)
    pytorch = None
    if isinstance(source, ExportOptions):
        source, pytorch = _export(source, folder)
    contract = _check(source, target, options, backend)
    path = bundle_path(folder, contract, target)
    if path.resolve() == source.path.resolve():
        raise UsageError(f"{path} is the export itself: give the target another name, or choose --output.")
    gate_set = _check_proof(source, proof) if proof else None
    check_outside(path)
    check_writable(path.parent)
    with staged_bundle(path) as stage:
        with progress(f"write {path.name}", None):
            quantized = _write(source, target, options, backend, stage)
        bundle = open_bundle(stage)
        proven = _prove(source, bundle, path, backend, proof, gate_set, pytorch)
        with progress(f"finish {path.name}", None):
            finished = backend.finish(bundle)
    return BundleRecord(
        path=path, proof=proven, finished=finished,
        notes=tuple(dict.fromkeys((*proven.notes, *_notes(source, target, options)))),
        left_out=quantized.left_out if quantized else (),
        sensitivity=quantized.sensitivity if quantized else None)


def _export(options: ExportOptions, folder: Path) -> tuple[Bundle, PyTorch]:
    """Export as `satexport onnx` does, and open the export; also returns the reference."""
    from satexport.models.checkpoint import load_checkpoint
    from satexport.models.families import find_variant, make_reference
    from satexport.pipeline.export import export_onnx

    variant = find_variant(options.model, options.delay, options.window)
    with progress("load the checkpoint", None):
        checkpoint = load_checkpoint(options.checkpoint, variant, options.labels)
        reference = make_reference(checkpoint, options.options.embedding)
    bundle = open_bundle(
        export_onnx(checkpoint, find_target("onnx"), folder, options.options, reference=reference).path)
    return bundle, PyTorch(reference, bundle.contract)


def _check(source: Bundle, target: Target, options: BuildOptions, backend: Backend) -> Contract:
    """Return the contract that the bundle will have, still without the scales of an int8 cache. Raises
    `UsageError` if this export cannot become a bundle for this target."""
    contract = source.contract
    check_known(source)
    if source.graph.suffix != ".onnx":
        raise UsageError(f"{source.path} is a bundle for {source.target.backend}; expected the fp32 export "
                         "that `satexport onnx` makes.")
    if source.target.precision != "fp32":
        raise UsageError(f"{source.path} is {source.target.precision}; expected an fp32 export. Make one "
                         "with `satexport onnx`.")
    if contract.options.cache_dtype != "fp32":
        raise UsageError(f"the cache of {source.path} is already {contract.options.cache_dtype}; expected "
                         "the fp32 export that `satexport onnx` makes.")
    if options.cache_dtype != "fp32":
        if not contract.cache_in:
            raise UsageError(f"{contract.variant} has no cache: leave --cache-dtype out.")
        contract = contract.with_cache_dtype(options.cache_dtype)
    backend.check_contract(contract, target)
    return contract


def _check_proof(source: Bundle, proof: ProofOptions) -> GateSet:
    """Return the set that gates, so that bad input fails before the work. Raises `DataError` if the set
    cannot be used, `BundleError` if this version does not know the model."""
    find_contract_variant(source.contract)
    return find_gate_set(source, proof.data, proof.folds, proof.category_map)


def _write(source: Bundle, target: Target, options: BuildOptions, backend: Backend,
           stage: Path) -> Quantized | None:
    """Write the bundle without its reports on parity and speed; returns the result of quantisation, None if
    the target is not int8."""
    graph = fp32 = _load_graph(source)
    contract, initial, quantized = source.contract, list(source.initial_cache()), None
    clips = _find_choosing_clips(source, fp32, target, options)
    observer = _observe(source, fp32, target)
    calibration = _calibrate(source, target, options, observer)
    if target.quantization:
        quantized = choose_and_quantize(source, fp32, target.quantization, calibration.samples,
                                        ranges=ranges_of(observer, target.quantization) if observer else None,
                                        clips=clips, map_kept=target.gates.map_kept)
        graph = quantized.graph
        if quantized.sensitivity:
            write_json(stage / REPORTS / "sensitivity.json", to_json(quantized.sensitivity))
    if options.cache_dtype != "fp32":
        stored = store_cache(graph, contract, options.cache_dtype, initial, calibration.samples)
        graph, contract, initial = stored.graph, stored.contract, stored.initial
    written = backend.write(stage, Draft(
        graph=graph, fp32=fp32, contract=contract, target=target, initial_cache=initial,
        int8_products=quantized.products if quantized else 0))
    write_graph_scores(stage, written.built_elsewhere, contract, source.golden()[0])
    for name in (LABELS, GOLDEN):
        shutil.copy(source.path / name, stage / name)
    write_initial_cache(stage, initial)
    _write_calibration(stage, source, calibration, quantized)
    write_manifest(stage, contract, target, written.graph, source.operations, graph.roles)
    return quantized


def _find_choosing_clips(source: Bundle, graph: Graph, target: Target,
                         options: BuildOptions) -> LabelledSet | None:
    """Return the clips on which layers to leave out are chosen; None if nothing is chosen. Raises
    `UsageError` if a layer does not exist, or if no mAP is available to choose by."""
    if not target.quantization:
        return None
    left_out = target.quantization.leave_out
    check_layers(graph, target.quantization, set(left_out) - {AUTO})
    if not options.sensitivity and AUTO not in left_out:
        return None
    clips = choosing_set(options.calibration, options.recordings, source.labels)
    if AUTO in left_out:
        check_labels(source, clips)
    return clips


def _observe(source: Bundle, fp32: Graph, target: Target) -> Observer | None:
    """Return what finds the ranges in the calibration's own steps; None if another pass has to, because the
    steps of a calibration do not run, or not this graph."""
    int8 = target.quantization
    if not int8 or int8.method != "static" or int8.ranges != "minmax" or not source.contract.cache_in:
        return None
    return Observer(fp32.model, find_tensors(fp32, int8))


def _calibrate(source: Bundle, target: Target, options: BuildOptions,
               observer: Observer | None) -> Calibration:
    """Return step inputs from which ranges and scales are computed; empty if nothing needs them."""
    static = target.quantization is not None and target.quantization.method == "static"
    if static or options.cache_dtype == "int8":
        return calibrate(source, options.calibration, options.recordings, observer)
    return Calibration([], (), {})


def _write_calibration(stage: Path, source: Bundle, calibration: Calibration,
                       quantized: Quantized | None) -> None:
    """Write what the bundle was calibrated on, and how. Writes nothing for a bundle that was not."""
    clips, facts = set(calibration.clip_hashes), dict[str, Any]()
    if quantized:
        clips |= quantized.clip_hashes
        facts = dict(quantized.facts)
    if clips or quantized:
        write_json(stage / CALIBRATION, {"set": calibration.origin, "made_from": source.sha256, **facts,
                                         "clips_sha256": sorted(clips)})


def _prove(source: Bundle, bundle: Bundle, path: Path, backend: Backend,
           proof: ProofOptions | None, gate_set: GateSet | None, pytorch: PyTorch | None) -> ProofRecord:
    """Load the parts of the bundle that run on this machine, prove them if there are proof options, and close
    them, so that none of the bundle's files stays open. They have as many threads as for a user: OpenVINO
    compiles another graph for one thread than for two."""
    threads = (proof.threads if proof else None) or live_threads(bundle)
    try:
        with progress(f"load {path.name}", None):
            candidates = backend.candidates(bundle, LoadOptions(threads=threads))
    except MissingError as error:
        if not may_skip(bundle):
            raise
        return skip_proof(bundle, proof, str(error)) if proof else ProofRecord()
    try:
        if not proof or not gate_set:
            return ProofRecord()
        return prove(source, bundle, path, candidates, proof, gate_set, pytorch)
    finally:
        for candidate in candidates.values():
            candidate.step.close()


def _notes(source: Bundle, target: Target, options: BuildOptions) -> list[str]:
    """Return warnings about a bundle for the user who builds it."""
    notes = [RANDOM_WEIGHTS] if source.contract.has_random_weights else []
    with suppress(DataError):  # the report is missing or of another version
        report = read_report(source.reports / "export.json")
        if isinstance(report, ExportReport) and report.caution:
            notes.append(f"{source.contract.checkpoint.name}: {report.caution}")
    if options.calibration.source == "synthetic" and needs_calibration(target, options.cache_dtype,
                                                                       options.sensitivity):
        notes.append(ON_SYNTHETIC)
    if remark := remark_on(target):
        notes.append(remark)
    return notes


def _load_graph(source: Bundle) -> Graph:
    """Load the graph of an export. Raises `BundleError` if the file is no ONNX graph, or if its weights are
    in another file."""
    try:
        return Graph(onnx.load(source.graph), source.roles)
    except Exception as error:  # the only class that errors of onnx and protobuf share
        raise BundleError(f"{source.graph} cannot be read ({error}). Export it again.") from None
