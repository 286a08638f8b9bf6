"""Bundles with made-up reports: the files of a bundle without a graph that could run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin, Contract, TensorSpec
from satexport.bundle.folder import LABELS, labels_sha256, labels_text, open_bundle, write_manifest
from satexport.files import json_text
from satexport.measure.latency import StepLatency, summarize
from satexport.measure.records import MeasureReport
from satexport.parity.records import ParityReport
from satexport.report.records import Report, kind_of
from satexport.report.serialize import to_json
from satexport.targets import find_target
from tests.report.records import DEMO, GATE, all_reports, measure_entry, measure_report, parity_report

CACHES = 2


def make_contract(labels: Sequence[str], checkpoint: CheckpointOrigin) -> Contract:
    def cache(what: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(f"cache_{what}_{number:02}", (1, 6, 48, 64)) for number in range(CACHES))

    return Contract(
        family="sat", variant="sat-t-2s", sample_rate=16_000, window_samples=32_000, hop_samples=32_000,
        memory_steps=1, front_end={"name": "log-mel-16k"}, tokens={"new": 48, "cached": 48},
        classes=len(labels), options=USUAL_OPTIONS, input=TensorSpec("audio", (1, 32_000)),
        scores=TensorSpec("scores", (1, len(labels))), embedding=None, cache_in=cache("in"),
        cache_out=cache("out"), labels_sha256=labels_sha256(labels), checkpoint=checkpoint, opset=20,
        exporter="satexport 0.1.0")


def make_bundle(folder: Path, reports: Sequence[Report], target: str = "onnx",
                checkpoint: CheckpointOrigin = DEMO) -> Path:
    """Write a bundle with reports, which then are about this bundle; `<folder>/sat-t-2s/<target>`."""
    bundle = folder / "sat-t-2s" / target
    (bundle / "reports").mkdir(parents=True)
    labels = ["Dog", "Rain"]
    (bundle / "model.onnx").write_bytes(b"a graph")
    (bundle / LABELS).write_bytes(labels_text(labels).encode())
    write_manifest(bundle, make_contract(labels, checkpoint), find_target(target), "model.onnx",
                   {"model": 1, "front_end": 2}, {})
    sha256 = open_bundle(bundle).sha256
    for report in reports:
        text = json_text(to_json(_about(report, sha256)))
        (bundle / "reports" / f"{kind_of(report)}.json").write_text(text, "utf-8")
    return bundle


def _about(report: Report, sha256: str) -> Report:
    """A report as if it were about the bundle with this hash."""
    if isinstance(report, ParityReport):
        return replace(report, bundle_sha256=sha256)
    if isinstance(report, MeasureReport):
        return replace(report, bundles=tuple(
            replace(entry, bundle_sha256=sha256) for entry in report.bundles))
    return report


def long_parity() -> ParityReport:
    """A report on a stream of 30 chunks of which 3 are repeated, and of which the model remembers one."""
    report = parity_report()
    assert report.drift
    return replace(report, curve=tuple(1e-5 * (1 + number % 4) for number in range(33)),
                   drift=replace(report.drift, chunks=2))


def three_bundles(folder: Path) -> list[Path]:
    """One with every kind of report that a bundle has, one without a labelled set and without quantiles of
    latency, and one that is slower, keeps less and has a gate that was skipped."""
    every = {kind_of(report): report for report in all_reports()}
    latency = StepLatency(burst=summarize([0.002 + 0.0001 * number for number in range(20)]),
                          paused=summarize([0.005, 0.006, 0.009]), paused_cpu_ms=6.0)
    measured = measure_report()
    measured = replace(measured, bundles=(replace(measured.bundles[0], latency=latency),))
    plain = replace(parity_report(), labelled_set=None)
    found = parity_report().labelled_set
    assert found
    worse = replace(parity_report(), labelled_set=replace(found, bundle=replace(found.bundle, map=0.874)),
                    gates=(replace(GATE, status="skipped", value=None, note="random weights"),))
    slow = replace(measure_report(), bundles=(measure_entry(burst=10.0),))
    return [make_bundle(folder, [every["export"], every["sensitivity"], long_parity(), measured]),
            make_bundle(folder, [plain, measure_report()], "cpu-int8"),
            make_bundle(folder, [worse, slow], "cpu-int8-avx2")]
