"""A bundle proven and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.backends.tensorrt.step import RTX
from satexport.backends.tensorrt.write import build_for_rtx
from satexport.bundle.contract import ANY
from satexport.bundle.folder import REPORTS, Bundle
from satexport.bundle.gates import Gate, fail_skipped
from satexport.bundle.places import for_one_stream
from satexport.files import write_json
from satexport.measure.turns import Settings, measure
from satexport.parity.protocols import run_parity
from satexport.parity.records import report_parity
from satexport.pipeline.plan import Compiled, Proof
from satexport.report.pictures import drift_png, measure_png, write_picture
from satexport.tagging.tagger import Tagger, load


def _prove(source: Bundle, stage: Path, proof: Proof | None, made: Compiled) -> None:
    """Load the bundle; parity of the very file, then its figures beside the export's and PyTorch's, where
    they are wanted: the reports are written into the bundle. None of its files is open afterwards."""
    tagger = load(stage, proof.threads if proof else None, spinning=False)
    if not proof:
        return
    gates, made.parity = _parity(tagger, proof)
    made.gates += gates
    reports = stage / REPORTS
    write_json(reports / "parity.json", made.parity)
    made.notes += write_picture(reports / "parity.png", drift_png, made.parity)
    if not proof.measure:
        return
    streams = 1 if source.contract.options.streams == ANY else None
    settings = Settings(threads=proof.threads, streams=streams, checkpoint=proof.checkpoint)
    beside = for_one_stream(tagger.bundle, made.path.parents[1], made.notes)
    report = measure([source, tagger.bundle, *beside], settings)
    export, bundle, *others = report.bundles
    bundle = replace(bundle, bundle=str(made.path))  # where it will lie
    report = replace(report, bundles=(export, bundle, *others))
    made.measured = report.to_json()
    made.notes += [*report.notes, *write_picture(reports / "measure.png", measure_png, made.measured)]
    write_json(reports / "measure.json", report.select_bundle(1).to_json())
    made.gates += bundle.gates or ()


def _parity(tagger: Tagger, proof: Proof) -> tuple[Sequence[Gate], dict[str, Any]]:
    """The gates of a bundle against PyTorch, and the report."""
    result = run_parity(tagger, data=proof.data, folds=proof.folds, category_map=proof.category_map,
                        checkpoint=proof.checkpoint, minutes=proof.minutes)
    if proof.require_data:
        result = replace(result, gates=fail_skipped(result.gates))
    return result.gates, report_parity(tagger, result, proof.threads).to_json()


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


def onnx_taggers(bundle: Bundle, threads: int | None) -> dict[str, Tagger]:
    """Each graph of the bundle under ONNX Runtime, its optimisation off: the target's own first, then the
    twin, judged by what a twin must keep."""
    target, found = bundle.target, {}
    assert target.tensorrt
    for precision in dict.fromkeys((target.precision, "fp16")):
        gates = target.gates
        if precision != target.precision:
            gates = replace(gates, map_kept=target.tensorrt.twin_map_kept)
        step = OnnxRuntimeStep(bundle.path / f"{precision}.onnx", bundle.contract, bundle.initial_cache(),
                               threads, optimised=False, spinning=False)
        found[precision] = Tagger(replace(bundle, target=replace(target, gates=gates)), step)
    return found
