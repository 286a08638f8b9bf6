"""The sections of the model card with figures. They take them from the reports, and define none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from satexport.measure.records import MeasureEntry
from satexport.parity.records import CONFIDENCE, RESAMPLES, SetParity
from satexport.publish.parts import Part
from satexport.report.figures import (
    DIFFERENCE_FIGURES,
    EMBEDDING_FIGURES,
    MEASURE_FIGURES,
    PARITY_FIGURES,
)
from satexport.report.markdown import to_markdown
from satexport.report.set_figures import EVENT_FIGURES, SET_FIGURES
from satexport.report.table import Block, Table, columns_table

ALSO = {"clips", "map_low", "map_high"}  # figures of a labelled set that are not brief and are shown
SHOWN_SET_FIGURES = [figure for figure in SET_FIGURES if figure.brief or figure.key in ALSO]


def describe_accuracy(parts: Sequence[Part]) -> Iterator[str]:
    """Yield how far the graphs are from PyTorch and how well they recognise sounds. Nothing for random
    weights, whose scores mean nothing."""
    if parts[0].bundle.contract.has_random_weights:
        return
    reports = {part.precision: part.parity for part in parts if part.parity}
    if not reports:
        yield "Not measured: no report compares these graphs with PyTorch."
        return
    for sets in _group_sets(parts):
        yield to_markdown(_describe_set(sets))
    yield to_markdown([columns_table("score differences from PyTorch fp32", DIFFERENCE_FIGURES, {
        (precision, over): row for precision, report in reports.items()
        for over, row in report.differences.items()})])
    embeddings = {(precision, over): row for precision, report in reports.items()
                  for over, row in (report.embeddings or {}).items()}
    if embeddings:
        yield to_markdown([columns_table("embeddings compared with PyTorch fp32", EMBEDDING_FIGURES,
                                         embeddings)])
    drifts = {precision: report for precision, report in reports.items() if report.drift}
    if drifts:
        (drift,) = PARITY_FIGURES
        told = ", ".join(f"{precision} {drift.text(report)}" for precision, report in drifts.items())
        yield f"Drift over the long stream, as a share of the mean difference: {told}."
    yield to_markdown([Table(
        title="gates: the limits of the targets", head=["graph", "gate", "", "condition"], texts=4,
        rows=[[part.precision, gate.name, gate.status, gate.note] for part in parts if part.parity
              for gate in part.parity.gates])])


def _group_sets(parts: Sequence[Part]) -> Iterator[Mapping[str, SetParity]]:
    """Yield the results on each labelled set by precision."""
    groups: defaultdict[tuple[str, int, str], dict[str, SetParity]] = defaultdict(dict)
    for part in parts:
        if part.parity and (found := part.parity.labelled_set):
            groups[found.name, found.clips, str(found.origin.get("folds"))][part.precision] = found
    yield from groups.values()


def _describe_set(sets: Mapping[str, SetParity]) -> Iterator[Block]:
    """Yield the figures of a labelled set, a column for each precision."""
    found = next(iter(sets.values()))
    folds = found.origin.get("folds")
    where = f", fold {', '.join(map(str, folds))}" if isinstance(folds, list) else ""
    yield columns_table(f"{found.name}{where}: {len(found.bundle.classes)} classes", SHOWN_SET_FIGURES, sets)
    about = ['"PyTorch" is the model in PyTorch fp32 with the same weights, "bundle" the graph in this '
             "folder. Each clip is a stream of its own; the scores of its chunks are averaged. The interval "
             f"of mAP has {CONFIDENCE} % confidence ({RESAMPLES} resamples of the clips)."]
    if found.origin.get("kind") == "synthetic":
        about.append("The sounds of this set are synthetic: it tells what a graph keeps of the accuracy of "
                     "PyTorch, not how well the model recognises real sounds.")
    if licence := found.origin.get("licence"):
        about.append(f"Licence of the set: {licence}.")
    yield " ".join(about)
    events = {precision: one.events for precision, one in sets.items() if one.events}
    if events:
        yield columns_table("events", EVENT_FIGURES,
                            {precision: event.bundle for precision, event in events.items()})


def describe_speed(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the measured time and memory, a table for each machine."""
    machines: defaultdict[str, dict[str, MeasureEntry]] = defaultdict(dict)
    for part in parts:
        if part.measure and (entry := part.entry):
            machines[part.measure.machine][part.precision] = entry
    if not machines:
        yield "Not measured."
        return
    brief = [figure for figure in MEASURE_FIGURES if figure.brief and figure.mark != "paper"]
    for machine, entries in machines.items():
        yield to_markdown([columns_table(machine, brief, entries)])
    yield ('Times are of that machine, and of ONNX Runtime in Python unless the table says otherwise. "Times '
           'eager" compares with PyTorch, measured in turns with the graph. `reports/*/measure.json` has the '
           "definition of each figure.")
