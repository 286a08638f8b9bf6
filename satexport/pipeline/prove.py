"""Prove a bundle against PyTorch and measure it against its export, as far as it runs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from satexport.backends.backend import ITSELF, Candidate
from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import GRAPH_SCORES, REPORTS, Bundle, write_arrays
from satexport.bundle.gates import Gate, fail_skipped
from satexport.bundle.places import for_one_stream
from satexport.bundle.threads import live_threads
from satexport.files import write_json
from satexport.measure.turns import MeasureOptions, measure
from satexport.parity.golden import golden_scores, proof_streams
from satexport.parity.protocols import GateSet, run_parity
from satexport.parity.pytorch import PyTorch, load_pytorch
from satexport.parity.records import ParityReport, report_parity, report_skipped
from satexport.parity.scoring import SetOptions
from satexport.pipeline.plan import ProofOptions
from satexport.report.pictures import write_picture
from satexport.report.records import ProofRecord
from satexport.report.serialize import to_json
from satexport.step import FloatArray, Step
from satexport.tagging.tagger import Tagger


def write_graph_scores(folder: Path, graphs: Mapping[str, Step], contract: Contract,
                       audio: FloatArray) -> None:
    """Write the scores [chunks, classes] of each graph over the golden chunks [chunks, samples], by the name
    of the graph. Another machine compares the engines that it builds from these graphs with them. Writes
    nothing if there are no graphs."""
    scores = {name: golden_scores(proof_streams(step, contract), audio)[0] for name, step in graphs.items()}
    if scores:
        write_arrays(folder / GRAPH_SCORES, scores)


def prove(source: Bundle, bundle: Bundle, place: Path, candidates: Mapping[str, Candidate],
          options: ProofOptions, gate_set: GateSet, pytorch: PyTorch | None = None) -> ProofRecord:
    """Compare the candidates of a bundle with PyTorch; then, if the bundle runs here and the options ask for
    it, measure it in turns with its export `source`. Writes the reports into the bundle, which will be moved
    to `place`. PyTorch is loaded, and runs over the audio, once for all candidates; not loaded if `pytorch`
    has it already."""
    pytorch = pytorch or load_pytorch(bundle, options.checkpoint)
    gates: list[Gate] = []
    reports: dict[str, ParityReport] = {}
    notes: list[str] = []
    for name, candidate in candidates.items():
        gated = replace(bundle, target=replace(bundle.target, gates=candidate.gates))
        report = judge(Tagger(gated, candidate.step), options, gate_set, pytorch, **candidate.facts)
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


def skip_proof(bundle: Bundle, options: ProofOptions, why: str) -> ProofRecord:
    """Write the report on a bundle that this machine cannot run, and return the record."""
    report = report_skipped(bundle, why)
    if options.require_data:
        report = replace(report, gates=fail_skipped(report.gates))
    write_json(bundle.reports / "parity.json", to_json(report))
    return ProofRecord(gates=report.gates, parity=report)


def judge(tagger: Tagger, options: ProofOptions, gate_set: GateSet, pytorch: PyTorch | None = None,
          **facts: str) -> ParityReport:
    """Compare a tagger with PyTorch and return the report; `facts` are passed on to `report_parity`. Raises
    the errors of `run_parity`."""
    result = run_parity(tagger, gate_set=gate_set, minutes=options.minutes, pytorch=pytorch,
                        options=SetOptions(threads=options.threads, checkpoint=options.checkpoint))
    if options.require_data:
        result = replace(result, gates=fail_skipped(result.gates))
    return report_parity(tagger, result, options.threads or live_threads(tagger.bundle), **facts)


def _measure(source: Bundle, bundle: Bundle, place: Path, options: ProofOptions,
             proven: ProofRecord) -> ProofRecord:
    """Measure the bundle, its export and PyTorch in turns, and return the record with the results."""
    streams = 1 if source.contract.options.streams == ANY else None
    measure_options = MeasureOptions(threads=options.threads, streams=streams, checkpoint=options.checkpoint)
    notes: list[str] = []
    report = measure([source, bundle, *for_one_stream(bundle, place.parents[1], notes)], measure_options)
    export, entry, *others = report.bundles
    entry = replace(entry, bundle=str(place))  # its final path
    report = replace(report, bundles=(export, entry, *others))
    reports = bundle.path / REPORTS
    notes += [*report.notes, *write_picture(reports / "measure.png", report)]
    write_json(reports / "measure.json", to_json(report.select_bundle(1)))
    return replace(proven, measured=report, notes=(*proven.notes, *notes),
                   gates=(*proven.gates, *(entry.gates or ())))
