"""Reports with made-up figures."""

from __future__ import annotations

from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin
from satexport.bundle.gates import Gate
from satexport.measure.latency import Latency, StepLatency
from satexport.measure.records import MeasureEntry, MeasureReport, MemoryBytes
from satexport.models.claims import Counting, PaperFigures
from satexport.parity.differences import Differences, Drift, EmbeddingDifferences
from satexport.parity.records import (
    ClassMetrics,
    EventMetrics,
    EventParity,
    Interval,
    Intervals,
    ParityReport,
    SetMetrics,
    SetParity,
)
from satexport.quantize.records import LayerCost, SensitivityReport
from satexport.report.paper_records import PaperReport, PaperRow, ScoreCurve, ScoresReport, StepBytes
from satexport.report.records import (
    BoardFacts,
    BuildReport,
    CaseResult,
    EngineRecord,
    ExportReport,
    GoldenDifference,
    MatrixReport,
    Report,
    Stage,
)

DEMO = CheckpointOrigin(name="demo", source="demo", sha256="ab" * 32)
STREAMING = "each chunk of 2 s, with a cache of those before"
DIFFERENCES = Differences(chunks=300, largest=0.012, mean=2e-5, top1_agreement=0.99, p50=1e-5, p90=3e-5,
                          p99=5e-5)
EMBEDDINGS = EmbeddingDifferences(worst_difference=0.13, median_difference=0.042, worst_cosine=0.991,
                                  median_cosine=0.99912)
INTERVAL = Interval(low=0.85, high=0.95)
EVENTS = EventMetrics(segment_f1=0.8, segment_f1_macro=0.7, onset_f1=0.3, onset_f1_macro=0.2)
GATE = Gate(name="mAP kept", status="passed", value=0.99, limit=0.9, note="0.99, at least 0.9")
LATENCY = StepLatency(burst=Latency(median_ms=2.5, p90_ms=3.0, p99_ms=4.0, steps=400),
                      paused=Latency(median_ms=5.0, p90_ms=6.0, p99_ms=7.0, steps=20), paused_cpu_ms=6.0)


def measure_entry(name: str = "sat-t-2s/onnx", burst: float = 2.5, **facts: object) -> MeasureEntry:
    latency = StepLatency(burst=Latency(median_ms=burst, p90_ms=3.0, p99_ms=4.0, steps=400),
                          paused=LATENCY.paused, paused_cpu_ms=LATENCY.paused_cpu_ms)
    memory = MemoryBytes(weights=22_300_000, state=884_736, transient=1_040_000, resident=57_000_000)
    entry = MeasureEntry(
        name=name, variant="sat-t-2s", streaming=STREAMING, streams=1, threads=2, hop_seconds=2.0,
        latency=latency, memory_bytes=memory, load_seconds=0.1,
        paper={"gflops": 0.5, "memory_mb": 9.0, "note": "a note"},
        operations={"model": 564_000_000, "front_end": 26_000_000}, tokens={"new": 48, "cached": 48},
        gates=(GATE,))
    return MeasureEntry(**{**vars(entry), **facts})


def measure_report() -> MeasureReport:
    eager = measure_entry("sat-t-2s/PyTorch eager", 7.5, operations=None, tokens=None, gates=None)
    bundle = measure_entry(eager=eager.name, times_eager={"burst": 3.0, "paused": 2.0})
    return MeasureReport(bundles=(bundle,), eager=(eager,), notes=("a note",), settings={"steps": 40})


def set_metrics(mean: float, top1: float) -> SetMetrics:
    dog = ClassMetrics(average_precision=0.5, auc=0.75, best_f1=0.6)
    return SetMetrics(map=mean, auc=0.97, best_f1=0.88, top1=top1, ece=0.02, classes={"Dog": dog})


def parity_report() -> ParityReport:
    scored = SetParity(name="ESC-50", clips=80, differences=DIFFERENCES, embeddings=EMBEDDINGS,
                       pytorch=set_metrics(0.92, 0.9), bundle=set_metrics(0.9108, 0.875),
                       intervals=Intervals(all={"map": INTERVAL}, classes={"Dog": dict.fromkeys(
                           ("average_precision", "auc", "best_f1"), INTERVAL)}),
                       events=EventParity(events=9, segment_seconds=1.0, collar_seconds=0.2, thresholds="0.5",
                                          pytorch=EVENTS, bundle=EVENTS),
                       clip_protocol_map=None, clip_protocol="", origin={"folds": ["4"]})
    return ParityReport(
        gates=(GATE,), differences={"10 min of stream": DIFFERENCES, "ESC-50": DIFFERENCES},
        embeddings={"10 min of stream": EMBEDDINGS, "ESC-50": EMBEDDINGS},
        curve=(1e-5, 2e-5, 3e-5), drift=Drift(chunks=30, first=1e-5, again=2e-5, slope=1e-7, drift=0.05),
        labelled_set=scored, variant="sat-t-2s", streaming=STREAMING, target="cpu-int8",
        bundle_sha256="cd" * 32, checkpoint=DEMO, executed={"products": {"u8": 61}}, threads=None)


def matrix_report() -> MatrixReport:
    """One case of each status, and one without a result."""
    ran = CaseResult(name="sat-t-2s", table="", fingerprint="ab", bundle="sat-t-2s/onnx", bundle_sha256="cd",
                     gates=(GATE,), parity=parity_report(), measured=measure_report(),
                     live=measure_entry(burst=1.5))
    failed = Gate(name="mAP kept", status="failed", value=0.5, limit=0.9, note="0.5, at least 0.9")
    return MatrixReport(
        matrix="matrix.toml", missing=("sat-b-2s",), outdated=("sat-t-2s-int8",),
        tables={"": "", "Web": "A note."},
        cases=(ran, CaseResult(name="sat-t-2s-int8", table="", fingerprint="ab", gates=(failed,)),
               CaseResult(name="sat-t-2s-web", table="Web", fingerprint="", why_not="there is no Chromium"),
               CaseResult(name="sat-s-2s", table="Web", fingerprint="", why_not="disk full", is_error=True)))


def all_reports() -> list[Report]:
    """Return one report of each kind."""
    stages = (Stage(name="as published", nodes=377, bytes=22_300_000, from_before=None, from_pytorch=9e-7,
                    embedding_from_pytorch=2e-6),
              Stage(name="onnxsim", nodes=301, bytes=22_300_000, from_before=1e-7, from_pytorch=8e-7,
                    embedding_from_pytorch=2e-6, kept=False, why_not="too large"))
    export = ExportReport(variant="sat-t-2s", streaming=STREAMING, target="onnx", opset=20,
                          options=USUAL_OPTIONS, checkpoint=DEMO,
                          operations={"model": 1, "front_end": 2}, stages=stages,
                          golden=GoldenDifference(chunks=13, max_difference=7e-7, embedding=2e-6),
                          embedding="mean, 192 numbers", caution=None)
    sensitivity = SensitivityReport(
        variant="sat-t-2s", clips="esc50", chains=2, chain_seconds=60, all=DIFFERENCES,
        layers=(LayerCost(layer="00.fc1", differences=DIFFERENCES),))
    engine = EngineRecord(precision="fp16", gates=(GATE,), parity=parity_report(), measure=measure_entry())
    build = BuildReport(bundle_sha256="ef" * 32, engines=(engine, EngineRecord(
        precision="int8", gates=(GATE,), parity=None, measure=None)), settings={},
        board=BoardFacts(tensorrt="10.3.0", device="a board", compute_capability="8.7"))
    return [export, sensitivity, parity_report(), measure_report(), build, matrix_report(), paper_report(),
            scores_report()]


def paper_report() -> PaperReport:
    published = PaperFigures(
        paper="2305.17834", tables=("Table 2",), note="a note", parameters_m=5.5, tokens=48, memory_mb=9,
        gflops=0.5, map=43.3, counting=Counting(attention=False, what="without a cache"))
    measured = PaperRow(
        name="sat-t-2s", title="SAT-T", seconds=2, published=published, parameters=5_500_000,
        tokens={"new": 48, "cached": 48}, operations={"model": 564_000_000, "front_end": 26_000_000},
        as_paper=515e6, checkpoint=DEMO, labelled_set=parity_report().labelled_set, memory_bytes=StepBytes(
            weights=22_300_000, state=884_736, transient=970_000, autograd=7_240_000))
    other = PaperRow(name="KD-AST", title="KD-AST", seconds=10, why_not="there is no such model here",
                     published=PaperFigures(paper="2305.17834", map=47.1))
    return PaperReport(table="table2", title="Table 2", sections=("size", "operations", "memory", "map"),
                       rows=(measured, other), notes=("a note of the table",))


def scores_report() -> ScoresReport:
    curves = [ScoreCurve(
        name=f"sat-t-2s / onnx{word}", variant="sat-t-2s", hop_seconds=2.0, is_reset=is_reset,
        bundle_sha256="cd" * 32, checkpoint=DEMO, scores={"Dog": (0.1, 0.9, 0.2)})
        for word, is_reset in (("", False), (", reset at every chunk", True))]
    return ScoresReport(recording="street.wav", seconds=6.0, labels=("Dog",), curves=tuple(curves),
                        events={"Dog": ((1.5, 4.0),)})
