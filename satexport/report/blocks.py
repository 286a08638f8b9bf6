"""The readable content of a report: tables and sentences, independent of the output format.

The terminal and Markdown show the blocks of `describe` in order. `satexport.report.figures` defines how
figures are written. Imports only numpy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from satexport.bundle.contract import Contract
from satexport.bundle.gates import verdict
from satexport.measure.records import MeasureEntry, MeasureReport
from satexport.parity.differences import Differences, EmbeddingDifferences
from satexport.parity.records import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    Interval,
    ParityReport,
    SetParity,
    describe_left_out,
)
from satexport.quantize.records import SensitivityReport
from satexport.report.figure import Figure
from satexport.report.figures import (
    BRIEF_CASE_FIGURES,
    DIFFERENCE_FIGURES,
    EMBEDDING_FIGURES,
    MEASURE_FIGURES,
    PARITY_FIGURES,
    STAGE_FIGURES,
    present,
)
from satexport.report.paper_blocks import describe_paper, describe_scores
from satexport.report.records import (
    BuildReport,
    BundleRecord,
    CaseResult,
    ExportReport,
    MatrixReport,
    Report,
    kind_of,
)
from satexport.report.set_figures import CLASS_FIGURES, EVENT_FIGURES, SET_FIGURES
from satexport.report.table import Block, C, Cell, Table, columns_table, gates_table, rows_table

BAR, BAR_WIDTH = "█", 24
MOST_CLASSES = 50   # in a table of classes; the JSON has all


def describe(report: Report) -> list[Block]:
    """Return the blocks of a report."""
    return list(_DESCRIBE[kind_of(report)](report))


def describe_stored(reports: Sequence[Report]) -> list[Block]:
    """Return the blocks of stored reports: of each those of `describe` and its warnings, and then, once each,
    the origins of the figures."""
    blocks: list[Block] = []
    for report in reports:
        warnings = (getattr(report, "warning", None), getattr(report, "caution", None),
                    *getattr(report, "notes", ()))
        blocks += [*describe(report), *filter(None, warnings)]
    return [*blocks, *dict.fromkeys(describe_origin(report.origin) for report in reports)]


def describe_bundle(record: BundleRecord) -> Iterator[Block]:
    """Yield the blocks of a built bundle: what each layer costs, if that was measured; one table of the
    export, the bundle and PyTorch; and the proof."""
    proof = record.proof
    assert proof.parity, "the bundle has a proof"
    if record.sensitivity:
        yield from _describe_sensitivity(record.sensitivity)
    if record.left_out:
        yield f"In float: {', '.join(record.left_out)}."
    if proof.measured:
        yield _measure_table(proof.measured, [figure for figure in MEASURE_FIGURES if figure.brief])
    differences: dict[Cell, Differences] = dict(proof.parity.differences.items())
    embeddings: dict[Cell, EmbeddingDifferences] = dict((proof.parity.embeddings or {}).items())
    for name, twin in proof.twins.items():
        differences |= {(f"{name} graph", over): row for over, row in twin.differences.items()}
        embeddings |= {(f"{name} graph", over): row for over, row in (twin.embeddings or {}).items()}
    yield from _describe_differences(proof.parity, differences)
    yield from _describe_embeddings(embeddings)
    yield describe_streaming(proof.parity)
    yield from describe_drift(proof.parity)
    yield from describe_executed(proof.parity.executed)
    yield gates_table("gates", proof.gates)
    if record.finished:
        yield str(record.finished["summary"])
    yield f"Gates: {verdict(proof.gates)}. Bundle: {record.path}"


def describe_origin(origin: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    flags = " ".join(origin["cpu_flags"])
    return f"Made on {origin['cpu']}, {origin['cpu_cores']} cores ({flags}), {origin['system']}; {versions}."


def _describe_export(report: ExportReport) -> Iterator[Block]:
    names = [stage.name + ("" if stage.kept else f" (not kept: {stage.why_not})") for stage in report.stages]
    yield rows_table(f"{report.variant} from {report.checkpoint.name}: score differences after each stage",
                     "stage", STAGE_FIGURES, dict(zip(names, report.stages, strict=True)))
    yield describe_streaming(report)
    golden = report.golden
    embedding = "" if golden.embedding is None else (
        f", largest relative difference of an embedding {golden.embedding:.1e}")
    yield (f"{golden.chunks} golden chunks: largest score difference from PyTorch "
           f"{golden.max_difference:.1e}{embedding}.")
    if report.embedding:
        yield f"Embedding of each chunk: {report.embedding}."


def _describe_parity(report: ParityReport) -> Iterator[Block]:
    yield from _describe_differences(report, report.differences)
    yield from _describe_embeddings(report.embeddings or {})
    yield describe_streaming(report)
    yield from describe_drift(report)
    yield from describe_executed(report.executed)
    if report.labelled_set:
        yield from _describe_set(report.labelled_set)
    yield gates_table("gates", report.gates)
    yield f"Parity: {report.verdict}."


def _describe_set(found: SetParity) -> Iterator[Block]:
    """Yield the tables of a labelled set: its figures, those of events, and those of its classes, the ones
    with the lowest average precision first."""
    classes = found.bundle.classes
    yield from describe_left_out(found.origin)
    yield columns_table(f"mAP over {len(classes)} classes", SET_FIGURES, {found.name: found})
    if events := found.events:
        yield columns_table(
            f"{events.events} events, thresholds: {events.thresholds}, segments of "
            f"{events.segment_seconds:g} s, collar of onsets {events.collar_seconds:g} s", EVENT_FIGURES,
            {"PyTorch": events.pytorch, "bundle": events.bundle})
    if found.intervals:
        yield class_table(found)


def class_table(found: SetParity) -> Table:
    """The metrics of each class of a labelled set that has intervals, the lowest average precision first."""
    classes, intervals = found.bundle.classes, found.intervals
    assert intervals, "the set has intervals"
    names = sorted(classes, key=lambda name: classes[name].average_precision)[:MOST_CLASSES]
    few = f" {MOST_CLASSES} classes with the lowest AP," if len(classes) > MOST_CLASSES else ""
    return Table(title=f"bundle,{few} [{CONFIDENCE} % intervals] from {RESAMPLES} resamples of the clips, "
                       f"seed {SEED}",
                 head=["class", *(figure.head for figure in CLASS_FIGURES)],
                 rows=[[name, *(f"{figure.text(classes[name])} {interval_text(figure, of_class[figure.key])}"
                                for figure in CLASS_FIGURES)]
                       for name in names for of_class in [intervals.classes[name]]])


def interval_text(figure: Figure[Any], interval: Interval) -> str:
    """A confidence interval as tables write it; nothing if it is undefined."""
    low, high = interval.low, interval.high
    return "" if math.isnan(low) else f"[{figure.write(low)}, {figure.write(high)}]"


def _describe_differences(report: ParityReport, differences: Mapping[C, Differences]) -> Iterator[Block]:
    """Yield a table of score differences; nothing if the bundle could not be run."""
    if differences:
        yield columns_table(_against_pytorch(report), DIFFERENCE_FIGURES, differences)


def _describe_embeddings(embeddings: Mapping[C, EmbeddingDifferences]) -> Iterator[Block]:
    """Yield a table of the differences of embeddings; nothing if there are none."""
    if embeddings:
        yield columns_table("embeddings compared with PyTorch fp32", EMBEDDING_FIGURES, embeddings)


def describe_streaming(record: ExportReport | ParityReport | MeasureEntry | Contract) -> str:
    """Return a sentence on what the steps score."""
    return f"{record.variant} scores {record.streaming}."


def describe_drift(report: ParityReport) -> Iterator[Block]:
    """Yield a sentence on the drift over a long stream; nothing if there was no long stream."""
    if report.curve is None:
        return
    (drift,) = PARITY_FIGURES
    over = next(iter(report.differences))
    yield f"Drift over {over}: " + (
        f"{drift.text(report)} of the mean difference, from {report.drift.chunks} chunks at the beginning "
        "that are repeated at the end." if report.drift else "the stream is too short to measure it.")


def describe_executed(executed: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield a sentence on the precisions that the runtime computes in; nothing if it does not report them."""
    parts = [f"{part} {', '.join(f'{count} in {precision}' for precision, count in counts.items())}"
             for part, counts in executed.items()]
    if parts:
        yield f"Layers by compute precision: {'; '.join(parts)}."


def _describe_measure(report: MeasureReport) -> Iterator[Block]:
    yield _measure_table(report, MEASURE_FIGURES)
    yield from dict.fromkeys(map(describe_streaming, report.bundles))
    yield from dict.fromkeys(str(entry.paper["note"]) for entry in report.bundles
                             if entry.paper and entry.paper["note"])
    if report.gates:
        yield gates_table("budgets", report.gates)
        yield f"Budgets: {report.verdict}."


def _measure_table(report: MeasureReport, figures: Sequence[Figure[MeasureEntry]]) -> Table:
    entries = {tuple(entry.name.split("/")): entry for entry in (*report.bundles, *report.eager)}
    return columns_table(report.machine, figures, entries)


def _describe_sensitivity(report: SensitivityReport) -> Iterator[Block]:
    """Yield a table of what each layer costs, with bars."""
    top = max((cost.differences.mean for cost in report.layers), default=0.0) or 1.0
    figures = [figure for figure in DIFFERENCE_FIGURES if figure.brief]
    costs = [("all", "", report.all), *(
        (cost.layer, BAR * max(1, round(BAR_WIDTH * cost.differences.mean / top)), cost.differences)
        for cost in report.layers)]
    yield Table(
        title=f"{report.variant} on {report.clips}: score difference from the fp32 graph if only this layer "
              "is int8", texts=2,
        head=["layer in int8", "mean", *(figure.head for figure in figures)],
        rows=[[name, bar, *(figure.text(differences) for figure in figures)]
              for name, bar, differences in costs])


def _describe_build(report: BuildReport) -> Iterator[Block]:
    measured = {engine.precision: engine.measure for engine in report.engines if engine.measure}
    if measured:
        yield columns_table(f"engines on {report.board.device}, TensorRT {report.board.tensorrt}",
                            MEASURE_FIGURES, measured)
        yield columns_table("score differences from PyTorch fp32", DIFFERENCE_FIGURES, {
            (engine.precision, over): differences for engine in report.engines if engine.parity
            for over, differences in engine.parity.differences.items()})
        yield from _describe_embeddings({
            (engine.precision, over): found for engine in report.engines if engine.parity
            for over, found in (engine.parity.embeddings or {}).items()})
    yield from dict.fromkeys(map(describe_streaming, measured.values()))
    for precision, entry in measured.items():
        for block in describe_executed(entry.executed or {}):
            yield f"{precision}: {block}"
    yield Table(title="gates", head=["engine", "gate", "", "condition"], texts=4,
                rows=[[engine.precision, gate.name, gate.status, gate.note]
                      for engine in report.engines for gate in engine.gates])
    yield f"Kept: {report.kept}." if report.kept else "Kept: none; no engine passes its gates."


def describe_matrix(report: MatrixReport,
                    figures: Sequence[Figure[CaseResult]] = BRIEF_CASE_FIGURES) -> Iterator[Block]:
    """Yield a table of cases for each table of the matrix, with the columns of `figures` that any of its
    cases has, then the cases that did not pass, and why."""
    for title in dict.fromkeys(case.table for case in report.cases):
        cases = [case for case in report.cases if case.table == title]
        columns = present(figures, cases)
        yield Table(title=title or report.matrix, texts=2,
                    head=["case", "", *(figure.head for figure in columns)],
                    rows=[[case.name, case.status, *(figure.text(case) for figure in columns)]
                          for case in cases])
        yield from filter(None, [report.tables.get(title)])
    yield from (f"{case.name} {case.status}: {case.reason}" for case in report.cases if case.reason)
    yield from filter(None, (case.caution for case in report.cases))
    for names, what in ((report.missing, "Not run yet"),
                        (report.outdated, "Results of another row, version or machine")):
        if names:
            yield f"{what}: {', '.join(names)}."
    counts = Counter(case.status for case in report.cases)
    unrun = sum(1 for case in report.cases if case.why_not and not case.is_error)
    yield (f"Matrix: {report.verdict}; of {len(report.cases) + len(report.missing)} cases "
           f"{', '.join(f'{counts[status]} {status}' for status in ('passed', 'failed', 'skipped'))}"
           f"{f' ({unrun} not run here)' if unrun else ''}.")


def _against_pytorch(report: ParityReport) -> str:
    graph = f", {report.graph} graph" if report.graph else ""
    graph += f" under {report.runtime}" if report.runtime else ""
    return f"{report.variant} / {report.target}{graph}: score differences from PyTorch fp32"


_DESCRIBE: Mapping[str, Callable[[Any], Iterator[Block]]] = {
    "export": _describe_export, "parity": _describe_parity, "measure": _describe_measure,
    "sensitivity": _describe_sensitivity, "build": _describe_build, "matrix": describe_matrix,
    "paper": describe_paper, "scores": describe_scores}
