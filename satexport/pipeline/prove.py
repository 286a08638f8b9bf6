"""A bundle proven and measured: what of it runs on this machine, against PyTorch and beside its export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from satexport.backends.backend import ITSELF, Candidate
from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import GRAPH_SCORES, REPORTS, Bundle, write_arrays
from satexport.bundle.gates import Gate, fail_skipped
from satexport.bundle.places import for_one_stream
from satexport.files import write_json
from satexport.measure.turns import Settings, measure
from satexport.parity.golden import golden_scores, proof_streams
from satexport.parity.protocols import GateSet, run_parity
from satexport.parity.records import ParityReport, report_parity
from satexport.pipeline.plan import ProofOptions
from satexport.report.pictures import write_picture
from satexport.report.records import ProofRecord
from satexport.report.serialize import to_json
from satexport.step import FloatArray, Step
from satexport.tagging.tagger import Tagger


def write_graph_scores(folder: Path, graphs: Mapping[str, Step], contract: Contract,
                       audio: FloatArray) -> None:
    """Write what graphs make of the golden chunks [chunks, samples], scores [chunks, classes] of each by its
    name, for the engines that another machine makes of them; nothing where there are none."""
    scores = {name: golden_scores(proof_streams(step, contract), audio)[0] for name, step in graphs.items()}
    if scores:
        write_arrays(folder / GRAPH_SCORES, scores)


def prove(source: Bundle, bundle: Bundle, place: Path, candidates: Mapping[str, Candidate],
          options: ProofOptions, gate_set: GateSet) -> ProofRecord:
    """Hold candidates of a bundle against PyTorch, then measure the bundle beside its export `source`, where
    it runs here and that is asked for. The reports are written into the bundle, which will lie at
    `place`."""
    gates: list[Gate] = []
    reports: dict[str, ParityReport] = {}
    notes: list[str] = []
    for name, candidate in candidates.items():
        held = replace(bundle, target=replace(bundle.target, gates=candidate.gates))
        report = judge(Tagger(held, candidate.step), options, gate_set, **candidate.facts)
        write_json(bundle.reports / candidate.report, to_json(report))
        if name == ITSELF:
            notes += write_picture(bundle.reports / "parity.png", report)
        gates += [replace(gate, name=f"{name}: {gate.name}" if name else gate.name) for gate in report.gates]
        reports[name] = report
    first, *others = reports
    proven = ProofRecord(gates=tuple(gates), parity=reports[first], notes=tuple(notes),
                         twins={name: reports[name] for name in others})
    if ITSELF in candidates and options.measure:
        return _measure(source, bundle, place, options, proven)
    return proven


def judge(tagger: Tagger, options: ProofOptions, gate_set: GateSet, **facts: str) -> ParityReport:
    """Return the report on a tagger against PyTorch; `facts` as for `report_parity`. Raises what `run_parity`
    does."""
    result = run_parity(tagger, gate_set=gate_set, checkpoint=options.checkpoint, minutes=options.minutes)
    if options.require_data:
        result = replace(result, gates=fail_skipped(result.gates))
    return report_parity(tagger, result, options.threads, **facts)


def _measure(source: Bundle, bundle: Bundle, place: Path, options: ProofOptions,
             proven: ProofRecord) -> ProofRecord:
    """The record with what measuring the bundle, its export and PyTorch in turns found."""
    streams = 1 if source.contract.options.streams == ANY else None
    settings = Settings(threads=options.threads, streams=streams, checkpoint=options.checkpoint)
    notes: list[str] = []
    report = measure([source, bundle, *for_one_stream(bundle, place.parents[1], notes)], settings)
    export, own, *others = report.bundles
    own = replace(own, bundle=str(place))  # where it will lie
    report = replace(report, bundles=(export, own, *others))
    reports = bundle.path / REPORTS
    notes += [*report.notes, *write_picture(reports / "measure.png", report)]
    write_json(reports / "measure.json", to_json(report.select_bundle(1)))
    return replace(proven, measured=report, notes=(*proven.notes, *notes),
                   gates=(*proven.gates, *(own.gates or ())))
