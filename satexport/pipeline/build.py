"""A target's bundle, made of an fp32 export: check, write, prove, publish.

All of it happens beside the bundle's place: what was there before stays until the new bundle has been proven
and measured. One whose gates failed is written, too, and its reports say so. Which runtime it is for, and
what that takes, only the target's backend knows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx

from satexport.audio.datasets import LabelledSet
from satexport.backends.backend import Backend, Draft, LoadOptions, check_known, find_backend
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
from satexport.errors import BundleError, UsageError
from satexport.files import check_writable, write_json
from satexport.graph.roles import Graph
from satexport.models.families import find_contract_variant
from satexport.parity.protocols import GateSet, find_gate_set
from satexport.pipeline.plan import BuildOptions, ExportOptions, ProofOptions, is_calibrated
from satexport.pipeline.prove import prove, write_graph_scores
from satexport.quantize.cache_dtype import store_cache
from satexport.quantize.calibrate import Calibration, calibrate
from satexport.quantize.calibration_set import choosing_set
from satexport.quantize.choose import Quantized, choose_and_quantize
from satexport.quantize.products import check_layers
from satexport.quantize.sensitivity import check_labels
from satexport.report.records import BundleRecord, ProofRecord
from satexport.report.serialize import to_json
from satexport.targets import find_target

ON_SYNTHETIC = "Calibrated on synthetic sounds. Real audio is better: --calibration esc50, or a folder."


def compile_bundle(source: Bundle | ExportOptions, target: Target, folder: Path, options: BuildOptions,
                   proof: ProofOptions | None = None) -> BundleRecord:
    """Write a bundle at its `bundle_path` from an fp32 export, which is made first where options of one are
    given; prove the very file and measure it. Without a proof it is only written, and loaded.

    Raises `UsageError` where the export is not fp32, a layer to leave out does not exist or a choice has no
    meaning for this model or backend, `DataError` where the calibration set cannot be used or shares a clip
    with the set that gates, `MissingError` where the runtime or a precision is not here, `RunError` where
    nothing can be written. What was there before is then untouched.
    """
    backend = find_backend(target.backend)
    target = backend.resolve(target)
    if isinstance(source, ExportOptions):
        source = _export(source, folder)
    contract = _check(source, target, options, backend)
    path = bundle_path(folder, contract, target)
    if path.resolve() == source.path.resolve():
        raise UsageError(f"{path} is the export itself: give the target another name, or choose --output.")
    gate_set = _check_proof(source, proof) if proof else None
    check_outside(path)
    check_writable(path.parent)
    with staged_bundle(path) as stage:
        quantized = _write(source, target, options, backend, stage)
        bundle = open_bundle(stage)
        proven = _prove(source, bundle, path, backend, proof, gate_set)
        finished = backend.finish(bundle)
    return BundleRecord(
        path=path, proof=proven, finished=finished, notes=(*proven.notes, *_notes(source, target, options)),
        left_out=quantized.left_out if quantized else (),
        sensitivity=quantized.sensitivity if quantized else None)


def _export(wanted: ExportOptions, folder: Path) -> Bundle:
    """Export as `satexport onnx` does."""
    from satexport.models.checkpoint import load_checkpoint
    from satexport.models.families import find_variant
    from satexport.pipeline.export import export_onnx

    checkpoint = load_checkpoint(wanted.checkpoint, find_variant(wanted.model, wanted.delay), wanted.labels)
    return open_bundle(export_onnx(checkpoint, find_target("onnx"), folder, wanted.options).path)


def _check(source: Bundle, target: Target, options: BuildOptions, backend: Backend) -> Contract:
    """The contract that the bundle will have, its cache's scales aside. Raises `UsageError` where none can be
    made of this export for this target."""
    contract = source.contract
    check_known(source)
    if source.graph.suffix != ".onnx":
        raise UsageError(f"{source.path} is a bundle for {source.target.backend}; expected the fp32 export "
                         "that `satexport onnx` makes.")
    if source.target.precision != "fp32":
        raise UsageError(f"{source.path} is {source.target.precision}; expected an fp32 export. Make one "
                         "with `satexport onnx`.")
    if contract.options.cache_dtype != "fp32":
        raise UsageError(f"the cache of {source.path} is {contract.options.cache_dtype} already; begin "
                         "with the export of `satexport onnx`.")
    if options.cache_dtype != "fp32":
        if not contract.cache_in:
            raise UsageError(f"{contract.variant} has no cache: leave --cache-dtype out.")
        contract = contract.with_cache_dtype(options.cache_dtype)
    backend.check_contract(contract, target)
    return contract


def _check_proof(source: Bundle, proof: ProofOptions) -> GateSet:
    """The set that gates. Raises before the work what is wrong with it, or `BundleError` for a model that is
    not known here."""
    find_contract_variant(source.contract)
    return find_gate_set(source, proof.data, proof.folds, proof.category_map)


def _write(source: Bundle, target: Target, options: BuildOptions, backend: Backend,
           stage: Path) -> Quantized | None:
    """Write the bundle without its reports on parity and speed; returns what became of its layers."""
    graph = fp32 = _graph_of(source)
    contract, initial, quantized = source.contract, list(source.initial_cache()), None
    clips = _choosing_clips(source, fp32, target, options)
    calibration = _calibrate(source, target, options)
    if target.quantization:
        quantized = choose_and_quantize(source, fp32, target.quantization, calibration.samples, clips=clips,
                                        map_kept=target.gates.map_kept)
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


def _choosing_clips(source: Bundle, graph: Graph, target: Target,
                    options: BuildOptions) -> LabelledSet | None:
    """The clips that layers are chosen on; None where none are. Raises `UsageError` for a layer that does not
    exist, or where no mAP can choose."""
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


def _calibrate(source: Bundle, target: Target, options: BuildOptions) -> Calibration:
    """Inputs of steps for ranges and scales; empty where nothing needs them."""
    static = target.quantization is not None and target.quantization.method == "static"
    if static or options.cache_dtype == "int8":
        return calibrate(source, options.calibration, options.recordings)
    return Calibration([], (), {})


def _write_calibration(stage: Path, source: Bundle, calibration: Calibration,
                       quantized: Quantized | None) -> None:
    """Write what the bundle was calibrated on, and how; nothing for one without."""
    clips, facts = set(calibration.clip_hashes), dict[str, Any]()
    if quantized:
        clips |= quantized.clip_hashes
        facts = dict(quantized.facts)
    if clips or quantized:
        write_json(stage / CALIBRATION, {"set": calibration.origin, "made_from": source.sha256, **facts,
                                         "clips_sha256": sorted(clips)})


def _prove(source: Bundle, bundle: Bundle, path: Path, backend: Backend,
           proof: ProofOptions | None, gate_set: GateSet | None) -> ProofRecord:
    """Load what of the bundle runs here, and prove it where that is wanted. None of its files is open
    afterwards."""
    load = LoadOptions(threads=proof.threads if proof else None, share_cores=True)
    candidates = backend.candidates(bundle, load)
    try:
        if not proof or not gate_set:
            return ProofRecord()
        return prove(source, bundle, path, candidates, proof, gate_set)
    finally:
        for candidate in candidates.values():
            candidate.step.close()


def _notes(source: Bundle, target: Target, options: BuildOptions) -> list[str]:
    """What its maker should know of a bundle."""
    notes = [RANDOM_WEIGHTS] if source.contract.has_random_weights else []
    if options.calibration.source == "synthetic" and is_calibrated(target, options.cache_dtype,
                                                                   options.sensitivity):
        notes.append(ON_SYNTHETIC)
    return notes


def _graph_of(source: Bundle) -> Graph:
    """The graph of an export. Raises `BundleError` where it is none, or wants weights from outside."""
    try:
        return Graph(onnx.load(source.graph), source.roles)
    except Exception as error:  # onnx and protobuf have no common class but this
        raise BundleError(f"{source.graph} cannot be read ({error}). Export it again.") from None
