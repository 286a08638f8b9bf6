"""Fill the rows of a table: export each model, count and measure it, and score a labelled set with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from satexport.audio.datasets import load_set
from satexport.audio.labels import audioset_labels
from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin, GraphOptions, state_bytes
from satexport.bundle.folder import Bundle, bundle_path, open_bundle
from satexport.errors import BundleError, MissingError, SatexportError, UsageError
from satexport.measure.turns import measure_transient
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_family, make_reference
from satexport.models.family import Checkpoint, Reference, Variant
from satexport.paper.autograd import autograd_bytes
from satexport.paper.counting import count_as_paper, read_graph
from satexport.paper.tables import RowPlan, TablePlan
from satexport.parity.kept import Kept
from satexport.parity.protocols import GateSet, compare_on_set, find_gate_set
from satexport.parity.pytorch import PyTorch
from satexport.parity.records import SetParity
from satexport.parity.scoring import HERE, SetOptions
from satexport.pipeline.export import export_onnx, make_contract
from satexport.progress import progress
from satexport.quantize.calibration_set import default_folds
from satexport.report.paper_records import PaperReport, PaperRow, StepBytes
from satexport.tagging.tagger import load
from satexport.targets import find_target
from satexport.version import __version__

RANDOM = "random"   # the weights of a row for which no checkpoint is given
ADVICE = re.compile(r"pass --model (?P<model>\S+) --delay (?P<delay>[0-9]+)")  # of other commands
NO_DATA = ("Nothing was scored: pass --data and --checkpoint ROW=FILE for figures of a labelled set. They "
           "are never those of random weights.")


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """What to measure, and with what."""

    checkpoints: Mapping[str, str] = field(default_factory=dict)  # row or model -> for `load_checkpoint`
    data: str | None = None              # labelled set, for `find_gate_set`; None: score nothing
    only: Sequence[str] = ()             # patterns of rows or models; (): all
    folds: Sequence[int] | None = None
    category_map: Path | None = None
    measure: bool = True                 # memory, too
    bundles: Path = Path("build/paper")  # folder for the exports
    scoring: SetOptions = HERE


def fill_table(plan: TablePlan, options: PaperOptions) -> PaperReport:
    """Return a table with the figures that are measured here. Each model is exported into the folder of
    bundles, unless its bundle is there already.

    Raises `UsageError` for a row that is not there or not chosen, `CheckpointError` for a checkpoint of
    another row, `DataError` if the labelled set cannot be used, and what `export_onnx` raises. Results of
    scored groups are kept until the whole table is finished."""
    checkpoints = _match_checkpoints(plan, options.checkpoints)
    plan = select_rows(plan, options.only)
    chosen = {name for row in plan.rows for name in _names(row)}
    if unused := [name for name in options.checkpoints if name not in chosen]:
        raise UsageError(f"--checkpoint {unused[0]}=...: --only leaves this row out. Leave out one of them.")
    if options.data is not None:
        load_set(options.data, audioset_labels(), folds=options.folds or default_folds(options.data),
                 category_map=options.category_map, may_miss_files=options.scoring.skip_unreadable)
    work = _Work(plan, options, checkpoints)
    work.check_checkpoints()   # before the work
    rows = [work.fill(row) for row in plan.rows]
    work.finish()
    notes = plan.notes if options.data or not plan.is_scored else (*plan.notes, NO_DATA)
    return PaperReport(table=plan.name, title=plan.title, sections=plan.sections, rows=tuple(rows),
                       notes=(*notes, *dict.fromkeys(work.notes)))


def select_rows(plan: TablePlan, patterns: Sequence[str]) -> TablePlan:
    """Return the table with the rows whose name or model matches a pattern, such as "sat-*"; all without
    patterns. Raises `UsageError` if a pattern matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for row in plan.rows for name in _names(row)):
            raise UsageError(f"--only {pattern}: no such row in {plan.name}; it has {_listed(plan)}.")
    return replace(plan, rows=tuple(row for row in plan.rows if not patterns or any(
        fnmatchcase(name, pattern) for name in _names(row) for pattern in patterns)))


def _names(row: RowPlan) -> Sequence[str]:
    """The names for a row: its own, and that of its model, which several rows share."""
    return (row.name, row.variant.model) if row.variant else (row.name,)


def _listed(plan: TablePlan) -> str:
    return ", ".join(dict.fromkeys(row.name for row in plan.rows))


def _match_checkpoints(plan: TablePlan, given: Mapping[str, str]) -> dict[str, str]:
    """Return the checkpoint of each row that has one, by the row's name. Raises `UsageError` for a name
    that the table does not have."""
    known = {name for row in plan.rows if row.variant for name in _names(row)}
    for name in given:
        if name not in known:
            raise UsageError(f"--checkpoint {name}=...: no such row in {plan.name}; expected one of "
                             f"{', '.join(row.name for row in plan.rows if row.variant)}, or the model "
                             "of several.")
    return {row.name: given[name] for row in plan.rows if row.variant
            for name in reversed(_names(row)) if name in given}


class _Work:
    """Fills the rows of a table, one after the other."""

    def __init__(self, plan: TablePlan, options: PaperOptions, checkpoints: Mapping[str, str]) -> None:
        self._plan, self._options, self._checkpoints = plan, options, checkpoints
        self._kept: list[Kept] = []
        self._target = find_target("onnx")
        self.notes: list[str] = []

    def check_checkpoints(self) -> None:
        """Raise the error of a checkpoint that does not fit its row."""
        for plan in self._plan.rows:
            if what := self._checkpoints.get(plan.name):
                self._load(plan, what)

    def fill(self, plan: RowPlan) -> PaperRow:
        """Return the row."""
        row = PaperRow(name=plan.name, title=plan.title, seconds=plan.seconds, published=plan.published,
                       kind=plan.kind)
        if plan.variant is None:
            return replace(row, why_not="satexport does not have this model" if self._options.data else "")
        classes = len(audioset_labels())
        row = replace(row, **_facts(plan.variant, classes, plan.kind))
        what = self._checkpoints.get(plan.name)
        scores_set = bool(what and what != RANDOM and self._options.data)
        if not self._plan.is_measured and not scores_set:
            return replace(row, why_not=self._why_not(what))
        with progress(plan.name, None):
            return self._measure(row, plan, what, scores_set)

    def finish(self) -> None:
        """Remove what was kept in case the command is interrupted."""
        for kept in self._kept:
            kept.remove()

    def _why_not(self, what: str | None) -> str:
        if not self._options.data or not self._plan.is_scored:
            return ""
        return "no checkpoint is given" if what is None else "the weights are random"

    def _measure(self, row: PaperRow, plan: RowPlan, what: str | None, scores_set: bool) -> PaperRow:
        """Export a model, count and measure it, and score the labelled set with it."""
        assert plan.variant is not None
        checkpoint = self._load(plan, what or RANDOM)
        bundle, reference = self._export(checkpoint)
        family = find_family(plan.variant.family)
        row = replace(row, checkpoint=bundle.contract.checkpoint, why_not=self._why_not(what),
                      parameters=family.count_parameters(checkpoint.variant, checkpoint.classes))
        if self._plan.is_measured:
            row = self._count(row, plan, bundle, reference)
        if not scores_set or what is None:
            return row
        gate_set = self._gate_set(bundle)
        if gate_set.labelled is None:
            return replace(row, why_not=gate_set.why_not)
        if self._plan.needs_events and not gate_set.labelled.has_events:
            return replace(row, why_not=f"{self._options.data} has no strong labels, which tell when a sound "
                                        "begins and ends")
        return replace(row, why_not="", labelled_set=self._score(bundle, reference, gate_set, what))

    def _load(self, plan: RowPlan, what: str) -> Checkpoint[Any]:
        assert plan.variant is not None
        try:
            return load_checkpoint(what, plan.variant)
        except SatexportError as error:
            message = ADVICE.sub(r"give it to the row \g<model>-\g<delay>s", error.message)
            raise type(error)(f"{self._plan.name}, row {plan.name}: {message}", *error.lines) from None

    def _export(self, checkpoint: Checkpoint[Any]) -> tuple[Bundle, Reference]:
        """Return the export of a checkpoint and its reference; the one that an earlier command left, if it
        is of the same weights and the same satexport."""
        reference = make_reference(checkpoint)
        contract = make_contract(checkpoint.variant, checkpoint.classes, USUAL_OPTIONS, labels_sha256="",
                                 checkpoint=_origin(checkpoint))
        folder = self._options.bundles / (
            RANDOM if checkpoint.source == RANDOM else checkpoint.sha256[:12])
        with suppress(BundleError):
            found = open_bundle(bundle_path(folder, contract, self._target))
            if (found.contract.checkpoint.sha256, found.contract.exporter) == (
                    checkpoint.sha256, f"satexport {__version__}"):
                return found, reference
        path = export_onnx(checkpoint, self._target, folder, reference=reference).path
        return open_bundle(path), reference

    def _count(self, row: PaperRow, plan: RowPlan, bundle: Bundle, reference: Reference) -> PaperRow:
        """Count the operations and measure the memory of a row."""
        assert plan.variant is not None
        counting = plan.published.counting
        as_paper = count_as_paper(counting, plan.variant, read_graph(bundle)) if counting else None
        row = replace(row, operations=bundle.operations, as_paper=as_paper)
        if not self._options.measure:
            return row
        try:
            transient = measure_transient(bundle)
        except MissingError as error:
            self.notes.append(f"Transient memory was not measured: {error}")
            transient = None
        return replace(row, memory_bytes=StepBytes(
            weights=bundle.graph_bytes, state=state_bytes(bundle.contract), transient=transient,
            autograd=autograd_bytes(reference, plan.variant)))

    def _gate_set(self, bundle: Bundle) -> GateSet:
        data = self._options.data
        assert data is not None
        return find_gate_set(bundle, data, self._options.folds or default_folds(data),
                             self._options.category_map,
                             may_miss_files=self._options.scoring.skip_unreadable)

    def _score(self, bundle: Bundle, reference: Reference, gate_set: GateSet, what: str) -> SetParity:
        """Score the labelled set with PyTorch and the bundle."""
        assert gate_set.labelled is not None
        kept = Kept(bundle.reports / f"{self._plan.name}.json")
        scoring = replace(self._options.scoring, kept=kept,
                          checkpoint=what if Path(what).is_file() else None)
        with load(bundle.path, scoring.threads) as tagger:
            pytorch = PyTorch(reference, bundle.contract, keeps_clips=False)
            found = compare_on_set(pytorch, tagger, gate_set.labelled, options=scoring)
        self._kept.append(kept)
        return found


def _facts(variant: Variant, classes: int, kind: str) -> dict[str, Any]:
    """The facts of a row that need no weights."""
    family = find_family(variant.family)
    interface = family.interface(variant, classes, GraphOptions(embedding=kind))
    return {"parameters": family.count_parameters(variant, classes), "tokens": interface.tokens or None,
            "embedding_size": interface.embedding.shape[1] if interface.embedding else None}


def _origin(checkpoint: Checkpoint[Any]) -> CheckpointOrigin:
    return CheckpointOrigin(name=checkpoint.name, source=checkpoint.source, sha256=checkpoint.sha256)
