"""The parts of a page that show one report. A kind of report without a function here is shown by the blocks
of `describe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from satexport.bundle.folder import Bundle
from satexport.measure.records import MeasureEntry, MeasureReport
from satexport.parity.records import ParityReport
from satexport.quantize.records import SensitivityReport
from satexport.report.blocks import class_table, describe, describe_drift, describe_streaming
from satexport.report.figures import DIFFERENCE_FIGURES, MEASURE_FIGURES, present
from satexport.report.page.bars import bar
from satexport.report.page.charts import curve_chart, latency_chart, scores_chart
from satexport.report.page.classes import class_parts
from satexport.report.page.parts import Chart, Entry, Flow, Fold, Grid, Pair, Part, Text, grid_of
from satexport.report.page.subjects import is_stranger, repeated_from
from satexport.report.paper_records import ScoresReport
from satexport.report.records import Report, kind_of
from satexport.report.table import Block, gates_table

LAYERS = 24     # in a table of what layers cost, before the folded ones
MEMORY = "MB"   # unit of the figures of memory
AGAINST_EAGER = "times_eager"   # begins the keys of figures that compare with PyTorch


def report_parts(report: Report, about: str, bundle: Bundle | None) -> Iterator[Part]:
    """Yield the parts of a report about a bundle of this name: without its gates, unless it is about another
    bundle."""
    function = SECTIONS.get(kind_of(report))
    if function and not is_stranger(report, bundle):
        yield from function(report, about, bundle)
    else:
        known = [describe_streaming(bundle.contract)] if bundle else []
        yield from block_parts([block for block in describe(report) if block not in known], about)
        yield from map(_plain, getattr(report, "notes", ()))


def block_parts(blocks: Sequence[Block], about: str) -> Iterator[Part]:
    """Yield tables and sentences as they are elsewhere, tables that follow each other side by side."""
    for is_text, group in groupby(blocks, key=lambda block: isinstance(block, str)):
        parts: list[Part] = [Text(text=block) if isinstance(block, str) else grid_of(block, about)
                             for block in group]
        yield from parts if is_text or len(parts) == 1 else [Flow(parts=parts)]


def parity_parts(report: ParityReport, about: str, bundle: Bundle | None) -> Iterator[Part]:
    """The curve of the score differences, the tables, and the classes of the labelled set."""
    drawn: list[Block] = [gates_table("gates", report.gates), f"Parity: {report.verdict}.",
                          *([describe_streaming(report)] if bundle else [])]
    if report.curve:
        drift = [text for text in describe_drift(report) if isinstance(text, str)]
        drawn += drift
        yield _curve(report, about, bundle, " ".join(drift))
    found = report.labelled_set
    if found and found.intervals:
        drawn.append(class_table(found))
    yield from block_parts([block for block in describe(report) if block not in drawn], about)
    if found:
        yield from class_parts(found, about)


def _curve(report: ParityReport, about: str, bundle: Bundle | None, drift: str) -> Chart:
    repeated = repeated_from(report, bundle)
    over, differences = next(iter(report.differences.items()))
    levels = [(figure.title, value) for figure in DIFFERENCE_FIGURES if figure.key in LEVELS
              and (value := figure.of(differences)) is not None]
    texts = ", ".join(f"{figure.title} {figure.text(differences)}" for figure in DIFFERENCE_FIGURES
                      if figure.key in (*LEVELS, "largest"))
    curve = report.curve or ()
    return Chart(
        title=f"Score difference from PyTorch fp32 over {over}", caption=drift,
        picture=curve_chart(curve, levels, repeated, f"chunk of {bundle.contract.hop_seconds:g} s" if bundle
                            else "chunk", f"{about}: mean score difference of each of "
                            f"{len(curve)} chunks; {texts}. {drift}"),
        key=(("curve", "mean over the classes, each chunk"), ("level", "quantiles over the chunks"),
             *([("again", "first sounds, repeated")] if repeated is not None else [])))


LEVELS = "p50", "p90", "p99"   # keys of the figures that are lines in the curve


def measure_parts(report: MeasureReport, about: str, bundle: Bundle | None) -> Iterator[Part]:
    """Memory by kind and the distribution of latency of each bundle, then all figures."""
    entries = [entry for entry in report.bundles if bundle is None or entry.bundle_sha256 == bundle.sha256]
    for entry in entries or report.bundles:
        name = about if len(report.bundles) == 1 else entry.name
        eager = next((row for row in report.eager if row.name == entry.eager), None)
        yield Pair(left=[_latency(report, entry, eager, name)], right=[_memory(entry, eager, name)])
    drawn: list[Block] = [gates_table("budgets", report.gates), f"Budgets: {report.verdict}."]
    tables: list[Part] = []
    texts: list[Part] = []
    for part in block_parts([block for block in describe(report) if block not in drawn], about):
        (texts if isinstance(part, Text) else tables).append(part)
    yield Fold(title="All measured figures", parts=tables)
    yield from texts
    yield from map(_plain, report.notes)


def _plain(text: str) -> Text:
    return Text(text=text)


def _latency(report: MeasureReport, entry: MeasureEntry, eager: MeasureEntry | None, about: str) -> Chart:
    rows = [("in a burst", entry.latency.burst), ("after a pause", entry.latency.paused)]
    texts = "; ".join(f"{name} median {latency.median_ms:.3g} ms, p90 {latency.p90_ms:.3g} ms, p99 "
                      f"{latency.p99_ms:.3g} ms of {latency.steps} steps" for name, latency in rows)
    faster = [f"{figure.title}: {figure.text(entry)}" for figure in MEASURE_FIGURES
              if figure.key.startswith(AGAINST_EAGER) and figure.of(entry) is not None]
    return Chart(title="Time of a step", picture=latency_chart(rows, f"{about}, time of a step: {texts}."),
                 key=[(f"shape{number}", f"{name}, {latency.steps} steps")
                      for number, (name, latency) in enumerate(rows)],
                 caption="; ".join([f"{report.machine}. Marks: median, p90 and p99", *faster]) + ".")


def _memory(entry: MeasureEntry, eager: MeasureEntry | None, about: str) -> Grid:
    """Each figure of memory as a bar, beside PyTorch's, with what the paper claims as a mark."""
    entries = [entry, *([eager] if eager else [])]
    figures = [figure for figure in present(MEASURE_FIGURES, entries) if figure.unit == MEMORY]
    rows_of = [figure for figure in figures if not figure.panel_of]
    claims = [figure for figure in figures if figure.panel_of]
    top = max((value for figure in figures for row in entries if (value := figure.of(row)) is not None),
              default=0.0)
    rows: list[list[Entry]] = []
    for figure in rows_of:
        marks = [claim for claim in claims if claim.panel_of == figure.key]
        rows.append([
            figure.title, bar(figure.of(entry), top, other=figure.of(eager) if eager else None,
                              marks=[value for mark in marks if (value := mark.of(entry)) is not None]),
            figure.text(entry), *([figure.text(eager)] if eager else []),
            *([next((mark.text(entry) for mark in marks), "-")] if claims else [])])
    return Grid(title=f"Memory, {MEMORY}", label=f"memory of {about}, {MEMORY}", rows=rows, texts=2,
                head=["kind", "", "bundle", *(["PyTorch eager"] if eager else []),
                      *(["paper"] if claims else [])],
                note=", ".join([*(["thin bar: PyTorch eager"] if eager else []),
                                *(["diamond: what the paper claims"] if claims else [])]))


def scores_parts(report: ScoresReport, about: str, bundle: Bundle | None) -> Iterator[Part]:
    """The scores of each label over the recording, a chart for each bundle, and the tables."""
    for label in report.labels:
        events = (report.events or {}).get(label, ())
        for curve in report.curves:
            scores = curve.scores[label]
            yield Chart(
                title=f"{label}: {curve.name}", caption="", key=[
                    ("curve", "score of each chunk"), *([("again", "the sound is there")] if events else [])],
                picture=scores_chart(
                    scores, curve.hop_seconds, report.seconds, events,
                    f"{curve.name}, score of {label} over {report.seconds:g} s of {report.recording}: "
                    f"{len(scores)} chunks, the largest {max(scores, default=0):.2f}."))
    yield from block_parts(list(describe(report)), about)


def sensitivity_parts(report: SensitivityReport, about: str, bundle: Bundle | None) -> Iterator[Part]:
    """What each layer costs in int8, as bars."""
    top = max((cost.differences.mean for cost in report.layers), default=0.0)
    figures = [figure for figure in DIFFERENCE_FIGURES if figure.brief]
    rows: list[list[Entry]] = [
        [cost.layer, bar(cost.differences.mean, top), *(figure.text(cost.differences) for figure in figures)]
        for cost in report.layers]
    everything = ", ".join(f"{figure.title} {figure.text(report.all)}" for figure in figures)
    title = "Score difference from the fp32 graph if only this layer is int8"
    head = ["layer in int8", "", *(figure.head for figure in figures)]
    yield Grid(title=title, label=f"{title}, {about}", head=head, rows=rows[:LAYERS], texts=2,
               note=f"{report.variant} on {report.clips}. All layers in int8: {everything}.")
    if len(rows) > LAYERS:
        rest = Grid(title="", label=f"the other layers, {about}", head=head, rows=rows[LAYERS:], texts=2)
        yield Fold(title=f"The other {len(rows) - LAYERS} layers", parts=[rest])


SECTIONS: Mapping[str, Callable[[Any, str, Bundle | None], Iterator[Part]]] = {  # kind of report -> parts
    "parity": parity_parts, "measure": measure_parts, "sensitivity": sensitivity_parts,
    "scores": scores_parts}
