"""The figures: the name, the definition and the format of each number in a report.

Each row below gives a line of the tables on the terminal and in Markdown, a panel of the picture, a value in
the JSON report, a column of the results in docs/results and an entry of docs/definitions.md. To add a figure,
add its row; no renderer names it. `satexport.report.terms` defines the words of the definitions. Imports only
numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from satexport.measure.records import MeasureEntry
from satexport.memory import MB
from satexport.parity.differences import Differences, EmbeddingDifferences
from satexport.parity.records import ClassMetrics, EventMetrics, ParityReport, SetParity
from satexport.report.figure import Figure, R
from satexport.report.paper_figures import PAPER_FIGURES
from satexport.report.paper_records import PaperRow
from satexport.report.records import CaseResult, Stage
from satexport.report.set_figures import CLASS_FIGURES, EVENT_FIGURES, SET_FIGURES
from satexport.report.terms import TERMS

GIGA = 1e9


def _megabytes(size: float | None) -> float | None:
    return None if size is None else size / MB


def _operations(part: str) -> Callable[[MeasureEntry], float | None]:
    return lambda entry: entry.operations[part] / GIGA if entry.operations else None


def _times_eager(kind: str) -> Callable[[MeasureEntry], float | None]:
    return lambda entry: entry.times_eager[kind] if entry.times_eager else None


def _tokens(kind: str) -> Callable[[MeasureEntry], float | None]:
    return lambda entry: entry.tokens[kind] if entry.tokens else None


def _claim(key: str) -> Callable[[MeasureEntry], float | None]:
    return lambda entry: entry.paper.get(key) if entry.paper else None


MEASURE_FIGURES: Sequence[Figure[MeasureEntry]] = (
    Figure(key="burst_median_ms", title="step in a burst", unit="ms",
           of=lambda entry: entry.latency.burst.median_ms,
           definition="median time of a single step in a burst"),
    Figure(key="burst_p90_ms", title="step in a burst, p90", unit="ms", brief=False, pictured=False,
           of=lambda entry: entry.latency.burst.p90_ms,
           definition="90th percentile of the time of a single step in a burst"),
    Figure(key="burst_p99_ms", title="step in a burst, p99", unit="ms", brief=False, mark="p99",
           panel_of="burst_median_ms",
           of=lambda entry: entry.latency.burst.p99_ms,
           definition="99th percentile of the time of a single step in a burst"),
    Figure(key="paused_median_ms", title="step after a pause", unit="ms",
           of=lambda entry: entry.latency.paused.median_ms,
           definition="median time of a single step after a pause"),
    Figure(key="paused_p90_ms", title="step after a pause, p90", unit="ms", brief=False, pictured=False,
           of=lambda entry: entry.latency.paused.p90_ms,
           definition="90th percentile of the time of a single step after a pause"),
    Figure(key="paused_p99_ms", title="step after a pause, p99", unit="ms", brief=False, mark="p99",
           panel_of="paused_median_ms", of=lambda entry: entry.latency.paused.p99_ms,
           definition="99th percentile of the time of a single step after a pause; with so few steps it is "
                      "nearly the time of the slowest"),
    Figure(key="real_time_factor", title="real-time factor", format=".4f", brief=False, pictured=False,
           of=lambda entry: entry.real_time_factor,
           definition="median time of a step after a pause / seconds of new audio in that step, which is the "
                      "hop even if the step takes a longer window"),
    Figure(key="cpu_ms", title="CPU time per chunk", unit="ms", of=lambda entry: entry.cpu_ms,
           definition="user and system time of the process per chunk of each stream, when steps come one by "
                      "one after a pause each: over these steps and the pauses after them, so that threads "
                      "which spin after a step count. What `Stream.feed` does besides the step is not in it "
                      "(docs/live.md). In docs/results it is measured apart from the other figures, with "
                      "the default of threads and no spinning"),
    Figure(key="cpu_percent", title="share of a core", unit="%", pictured=False,
           of=lambda entry: entry.cpu_percent,
           definition="CPU time per chunk / seconds of new audio in a chunk: what one live stream takes of "
                      "one core"),
    Figure(key="chunks_per_core_second", title="chunks per core-second", format=".1f",
           of=lambda entry: entry.chunks_per_core_second,
           definition="streams / (median time of a step in a burst * threads)"),
    Figure(key="times_one_stream", title="times one stream", of=lambda entry: entry.times_one_stream,
           definition="chunks per core-second of several streams / those of the first bundle of the same "
                      "runtime and precision that runs one stream; same weights, same run, same threads"),
    Figure(key="times_eager_burst", title="times eager, burst", of=_times_eager("burst"),
           definition="median time of PyTorch eager * streams / median time of the bundle, in bursts; same "
                      "run, same threads"),
    Figure(key="times_eager_paused", title="times eager, paused", of=_times_eager("paused"),
           definition="the same for steps after a pause"),
    Figure(key="weights_mb", title="weights", unit="MB", format=".1f",
           of=lambda entry: _megabytes(entry.memory_bytes.weights),
           definition="size of the graph's file, plus that of a separate file of weights if there is one; "
                      "for an engine, the size of its file"),
    Figure(key="state_mb", title="state", unit="MB", of=lambda entry: _megabytes(entry.memory_bytes.state),
           definition="what one stream keeps from step to step: one copy of its cache (ONNX Runtime holds "
                      "two and alternates between them) and, if its window is longer than its hop, the "
                      "earlier audio, 4 bytes per sample"),
    Figure(key="transient_mb", title="transient", unit="MB",
           of=lambda entry: _megabytes(entry.memory_bytes.transient),
           definition="most bytes allocated at a time during one steady step, counted by memray with ONNX "
                      "Runtime's arena off; caches, input and scores are bound buffers and not included; "
                      "OpenVINO allocates its tensors when a request is created, so they count only as "
                      "resident"),
    Figure(key="resident_mb", title="resident", unit="MB", format=".1f",
           of=lambda entry: _megabytes(entry.memory_bytes.resident),
           definition="peak resident size of a fresh process that only loads the bundle and runs it, minus "
                      "the resident size of the same process after its imports (loading also releases code "
                      "that the imports had read: up to 4 MB less); arena on, as in normal use. For a "
                      "page: the same of the browser's process that runs it, from an empty page on"),
    Figure(key="heap_mb", title="heap in the browser", unit="MB", format=".1f", pictured=False,
           of=lambda entry: _megabytes(entry.memory_bytes.heap),
           definition="for a page: memory that ONNX Runtime Web has allocated for the model, its tensors and "
                      "itself"),
    Figure(key="download_mb", title="download", unit="MB", format=".1f", pictured=False,
           of=lambda entry: _megabytes(entry.memory_bytes.download),
           definition="for a page: all files that it loads to run, and the licences, each compressed by "
                      "brotli at level 9"),
    Figure(key="device_mb", title="device memory", unit="MB", format=".0f",
           of=lambda entry: _megabytes(entry.memory_bytes.device),
           definition="for an engine: free device memory before it is loaded minus free device memory after "
                      "it has run; on a Jetson the host shares this memory"),
    Figure(key="paper_memory_mb", title="paper: memory", unit="MB", format="g", panel_of="transient_mb",
           mark="paper", of=_claim("memory_mb"),
           definition="what the model's paper claims, by its own definition"),
    Figure(key="model_gflop", title="model", unit="GFLOP", format=".3f", of=_operations("model"),
           definition="operations for one chunk of one stream, counted in the exported graph: matrix "
                      "products and convolutions, where a multiply-add counts as two; the front end is "
                      "counted separately"),
    Figure(key="front_end_gflop", title="front end", unit="GFLOP", format=".3f", pictured=False,
           of=_operations("front_end"), definition="the same for the front end"),
    Figure(key="paper_gflop", title="paper: model", unit="GFLOP", format="g", panel_of="model_gflop",
           mark="paper", of=_claim("gflops"),
           definition="what the model's paper claims, by its own definition"),
    Figure(key="new_tokens", title="new tokens", format="d", brief=False, pictured=False, of=_tokens("new"),
           definition="tokens that are computed in a step"),
    Figure(key="cached_tokens", title="cached tokens", format="d", brief=False, pictured=False,
           of=_tokens("cached"), definition="earlier tokens that a step attends to"),
    Figure(key="streams", title="streams", format="d", brief=False, pictured=False,
           of=lambda entry: entry.streams, definition="streams that one step serves"),
    Figure(key="threads", title="threads", format="d", brief=False, pictured=False,
           of=lambda entry: entry.threads, definition="threads that the runtime computes with"),
    Figure(key="load_s", title="load", unit="s", brief=False, pictured=False,
           of=lambda entry: entry.load_seconds,
           definition="time to load a bundle until a step can run: hashes, session, initial cache"),
    Figure(key="build_s", title="engine build", unit="s", format=".0f", brief=False, pictured=False,
           of=lambda entry: entry.build_seconds,
           definition="for an engine: time that TensorRT took to build it"),
)

DIFFERENCE_FIGURES: Sequence[Figure[Differences]] = (
    Figure(key="chunks", title="chunks", format="d", brief=False, of=lambda found: found.chunks,
           definition="chunks that both scored, in all streams together"),
    Figure(key="largest", title="largest difference", format=".1e", of=lambda found: found.largest,
           definition="largest score difference of any class in any chunk"),
    Figure(key="mean", title="mean difference", format=".1e", of=lambda found: found.mean,
           definition="mean score difference over classes and chunks"),
    Figure(key="p50", title="p50", format=".1e", brief=False, of=lambda found: found.p50,
           definition="median over the chunks of a chunk's mean score difference"),
    Figure(key="p90", title="p90", format=".1e", brief=False, of=lambda found: found.p90,
           definition="90th percentile over the chunks of a chunk's mean score difference"),
    Figure(key="p99", title="p99", format=".1e", brief=False, of=lambda found: found.p99,
           definition="99th percentile over the chunks of a chunk's mean score difference"),
    Figure(key="top1_agreement", title="top-1 agreement", format=".1%",
           of=lambda found: found.top1_agreement,
           definition="share of chunks in which both rank the same class first"),
)

EMBEDDING_FIGURES: Sequence[Figure[EmbeddingDifferences]] = (
    Figure(key="worst_difference", title="worst relative difference", format=".1e",
           of=lambda found: found.worst_difference,
           definition="norm of the difference of two embeddings / norm of PyTorch's, in the chunk where it "
                      "is largest"),
    Figure(key="median_difference", title="median relative difference", format=".1e",
           of=lambda found: found.median_difference, definition="the same, median over the chunks"),
    Figure(key="worst_cosine", title="worst cosine", format=".6f", of=lambda found: found.worst_cosine,
           definition="cosine of the angle between the candidate's embedding and PyTorch's, in the chunk "
                      "where it is smallest"),
    Figure(key="median_cosine", title="median cosine", format=".6f", of=lambda found: found.median_cosine,
           definition="the same, median over the chunks"),
)

PARITY_FIGURES: Sequence[Figure[ParityReport]] = (
    Figure(key="drift_share", title="drift", format="+.1%",
           of=lambda report: report.drift.drift if report.drift else None,
           definition="the long stream repeats its first sounds at its end. Drift is the slope of the mean "
                      "score difference between the first time and the repetition, times the length of the "
                      "stream, divided by the mean difference. Chunks whose cache or window still holds "
                      "other sounds are left out. A line fitted through the curve would say little, because "
                      "score differences vary from sound to sound"),
)

STAGE_FIGURES: Sequence[Figure[Stage]] = (
    Figure(key="nodes", title="nodes", format="d", of=lambda stage: stage.nodes,
           definition="nodes of the graph"),
    Figure(key="size_mb", title="size", unit="MB", format=".1f", of=lambda stage: stage.bytes / MB,
           definition="size of the graph with its weights"),
    Figure(key="from_before", title="from before", format=".1e", of=lambda stage: stage.from_before,
           definition="largest score difference from the graph of the stage before, over a short chain of "
                      "chunks with the cache passed from chunk to chunk"),
    Figure(key="from_pytorch", title="from PyTorch", format=".1e", of=lambda stage: stage.from_pytorch,
           definition="the same against the published model in PyTorch fp32"),
    Figure(key="embedding_from_pytorch", title="embedding from PyTorch", format=".1e",
           of=lambda stage: stage.embedding_from_pytorch,
           definition="largest relative difference of an embedding from PyTorch fp32's: norm of their "
                      "difference / norm of PyTorch's"),
)

LIVE_FIGURES = ("cpu_ms", "cpu_percent")  # of a case: of its live measurement, if there is one


def _of_case(figure: Figure[Any], part: Callable[[CaseResult], Any]) -> Figure[CaseResult]:
    """The figure of a part of a case; None for a case without that part."""
    def of(case: CaseResult) -> float | None:
        record = (case.live if figure.key in LIVE_FIGURES else None) or part(case)
        return None if record is None else figure.of(record)
    return replace(figure, of=of)


def _over_stream(case: CaseResult) -> Differences | None:
    return next(iter(case.parity.differences.values()), None) if case.parity else None


_PARTS: Sequence[tuple[Sequence[Figure[Any]], Callable[[CaseResult], Any]]] = (
    (MEASURE_FIGURES, lambda case: case.entry), (DIFFERENCE_FIGURES, _over_stream),
    (PARITY_FIGURES, lambda case: case.parity),
    (SET_FIGURES, lambda case: case.parity.labelled_set if case.parity else None))
CASE_FIGURES: Sequence[Figure[CaseResult]] = [
    _of_case(figure, part) for figures, part in _PARTS for figure in figures]
BRIEF_CASE_FIGURES = [figure for figure in CASE_FIGURES if figure.brief]

FIGURES: Mapping[type, Sequence[Figure[Any]]] = {  # record -> its figures
    MeasureEntry: MEASURE_FIGURES, Differences: DIFFERENCE_FIGURES,
    EmbeddingDifferences: EMBEDDING_FIGURES, ParityReport: PARITY_FIGURES,
    SetParity: SET_FIGURES, EventMetrics: EVENT_FIGURES, ClassMetrics: CLASS_FIGURES,
    Stage: STAGE_FIGURES, CaseResult: CASE_FIGURES, PaperRow: PAPER_FIGURES}

KIND_FIGURES: Mapping[str, Sequence[Sequence[Figure[Any]]]] = {  # kind of report -> its figures
    "export": (STAGE_FIGURES,),
    "parity": (DIFFERENCE_FIGURES, EMBEDDING_FIGURES, PARITY_FIGURES, SET_FIGURES, EVENT_FIGURES,
               CLASS_FIGURES),
    "measure": (MEASURE_FIGURES,), "sensitivity": (DIFFERENCE_FIGURES,),
    "build": (MEASURE_FIGURES, DIFFERENCE_FIGURES, EMBEDDING_FIGURES, PARITY_FIGURES),
    "matrix": (MEASURE_FIGURES, DIFFERENCE_FIGURES, EMBEDDING_FIGURES, PARITY_FIGURES, SET_FIGURES,
               EVENT_FIGURES, CLASS_FIGURES),
    "paper": (PAPER_FIGURES, DIFFERENCE_FIGURES, EMBEDDING_FIGURES, SET_FIGURES, EVENT_FIGURES,
    CLASS_FIGURES), "scores": ()}


def definitions(kind: str) -> dict[str, str]:
    """Return the definitions of a report's terms and figures, by their names in its JSON."""
    return {**TERMS[kind], **{figure.key: figure.definition
                              for figures in KIND_FIGURES[kind] for figure in figures}}


def values(record: object) -> dict[str, float | None]:
    """Return the values of a record's figures by key; empty for a record without figures."""
    return {figure.key: figure.of(record) for figure in FIGURES.get(type(record), ())}


def present(figures: Iterable[Figure[R]], records: Iterable[R]) -> list[Figure[R]]:
    """Return the figures that at least one of the records has."""
    records = list(records)
    return [figure for figure in figures if any(figure.of(record) is not None for record in records)]
