"""One case of a matrix: what it makes and where, whether its result is still valid, and how it runs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from satexport.backends.backend import find_backend
from satexport.bundle.contract import ANY, USUAL_OPTIONS, GraphOptions
from satexport.bundle.folder import MANIFEST, Bundle, open_bundle
from satexport.bundle.target import Target
from satexport.errors import SatexportError, UsageError
from satexport.files import json_text, sha256_of, write_json
from satexport.measure.load import busy_cores
from satexport.measure.records import MeasureEntry, MeasureReport
from satexport.measure.turns import MeasureOptions, measure
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import check_options, choose_embedding, find_family, find_variant
from satexport.models.family import Variant
from satexport.origin import origin, sources_sha256
from satexport.parity.protocols import find_gate_set
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.matrix_file import SETS, Case, Settings
from satexport.pipeline.plan import (
    BuildOptions,
    ProofOptions,
    choose_gate_folds,
    needs_calibration,
    plan_build,
)
from satexport.pipeline.prove import judge
from satexport.progress import progress
from satexport.report.pictures import write_picture
from satexport.report.records import CaseResult, ProofRecord
from satexport.report.serialize import to_json
from satexport.tagging.tagger import load
from satexport.targets import find_target

EXPORT = "onnx"      # the target whose bundle is the export itself
LIVE_STEPS = 10      # of each burst of the measurement as a live stream


@dataclass(frozen=True, kw_only=True)
class MatrixOptions:
    """What to do with each case."""

    prove: bool = True
    measure: bool = True


@dataclass(frozen=True, kw_only=True)
class CasePlan:
    """A case whose keys fit together."""

    case: Case
    name: str
    variant: Variant
    target: Target
    options: GraphOptions
    build: BuildOptions
    folder: Path           # of its bundle's variant, as --output of other commands
    place: Path            # of its bundle
    why_not: str           # a file that is not there; "": none is known to be missing

    @property
    def folds(self) -> Sequence[int] | None:
        """The folds that gate."""
        return choose_gate_folds(self.case.labelled_set, self.case.folds or None, self.build.calibration)

    @property
    def is_export(self) -> bool:
        return self.target.name == EXPORT and self.options.cache_dtype == "fp32"


def plan_case(case: Case, output: Path) -> CasePlan:
    """Return the plan of a case whose bundle goes into an output folder. Raises `UsageError` or `DataError`,
    which begins with the matrix and the case, for keys that do not fit together."""
    try:
        return _plan(case, output)
    except SatexportError as error:
        raise type(error)(f"{case.where}, model {case.model}, target {case.target}: {error.message}",
                          *error.lines) from None


def _plan(case: Case, output: Path) -> CasePlan:
    variant = find_variant(case.model, case.delay or None, case.window or None)
    target = find_target(case.target_named(case.target))
    options = GraphOptions(cache=case.cache, input=case.input, streams=case.streams,
                           cache_dtype=case.cache_dtype,
                           embedding=choose_embedding(variant, case.embedding or None))
    check_options(variant, options)
    if options.cache_dtype != "fp32" and not variant.memory_steps:
        raise UsageError(f"{variant.name} has no cache: leave cache_dtype out.")
    if case.one_stream:
        find_target(case.target_named(case.one_stream))
    calibration = case.calibration_set if needs_calibration(target, case.cache_dtype, False) else None
    missing = _missing_file(case)
    build = plan_build(target, calibration=calibration, data=case.labelled_set, cache_dtype=case.cache_dtype)
    of_set = Path(case.calibration).stem
    folder = output / _join(case.label, of_set)  # without both the output folder itself
    target_word = "" if target.name == EXPORT else target.name.removeprefix("cpu-")
    name = _join(f"{_join(variant.name, case.label, target_word)}{options.suffix}", of_set)
    return CasePlan(case=case, name=name, variant=variant, target=target, options=options, build=build,
                    folder=folder, place=folder / variant.name / f"{target.name}{options.suffix}",
                    why_not=missing)


def _join(*words: str) -> str:
    return "-".join(filter(None, words))


def _missing_file(case: Case) -> str:
    """Return which file of a case is not there; "" if all are."""
    files = {"the checkpoint": case.weights_file,
             "the labelled set": "" if case.data in SETS else case.labelled_set,
             "the labels": case.labels and str(case.path(case.labels)),
             "the category map": case.map and str(case.path(case.map))}
    return next((f"needs {what} {path}, which is not there" for what, path in files.items()
                 if path and not os.path.exists(path)), "")


def fingerprint(plan: CasePlan, settings: Settings) -> str:
    """Return the SHA-256 of everything that the result of a case depends on. Raises what `load_checkpoint`
    does, for weights from the Hub or published ones that are not downloaded yet."""
    case = plan.case
    keys = {key: value for key, value in asdict(case).items() if key not in ("where", "table")}
    calibration = plan.build.calibration
    files = (calibration.folder and Path(calibration.folder),
             case.data not in SETS and Path(case.labelled_set),
             case.labels and case.path(case.labels), case.map and case.path(case.map))
    facts = {
        "case": keys, "settings": asdict(settings), "target": plan.target.to_dict(),
        "one_stream": find_target(case.target_named(case.one_stream)).to_dict() if case.one_stream else None,
        "weights": _weights_sha256(plan), "calibration": asdict(calibration),
        "files": [_content(path) if path else None for path in files],
        "sources": sources_sha256(), "origin": origin()}
    return hashlib.sha256(json_text(facts).encode()).hexdigest()


def _weights_sha256(plan: CasePlan) -> str:
    """Return the SHA-256 of the weights, "random" for random ones."""
    what = plan.case.weights
    if what == "random":
        return what
    if what == "demo":
        demo = find_family(plan.variant.family).DEMOS.get(plan.variant.chunk_name)
        return sha256_of(demo) if demo else what
    if os.path.isfile(what):
        return sha256_of(Path(what))
    return load_checkpoint(what, plan.variant, _labels(plan)).sha256


def _content(path: Path) -> Any:
    """Return what tells a file or folder from another: the SHA-256 of a file, names and sizes in a folder."""
    if path.is_file():
        return sha256_of(path)
    return [[str(file.relative_to(path)), file.stat().st_size]
            for file in sorted(path.rglob("*")) if file.is_file()]


def is_done(result: CaseResult | None, mark: str, plan: CasePlan, options: MatrixOptions) -> bool:
    """Whether a result is still valid: it did not fail, has this fingerprint and everything that is asked for
    now, and its bundle is still there."""
    if not result or result.why_not or result.status == "failed" or result.fingerprint != mark:
        return False
    can_measure = result.parity is None or _runs_here(result.parity)
    if (options.prove and not result.parity) or (options.measure and can_measure and not result.measured):
        return False
    with suppress(OSError):
        return sha256_of(plan.place / MANIFEST) == result.bundle_sha256
    return False


def _runs_here(parity: Any) -> bool:
    """Whether the bundle itself ran on this machine, and not only its graphs under another runtime."""
    return parity.graph is None and bool(parity.differences)


class Exports:
    """The fp32 exports that bundles are made from, in a temporary folder unless they are bundles of the
    matrix themselves. Each is made once. A context manager, which removes the folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="satexport-matrix-", ignore_cleanup_errors=True)
        self._paths: dict[tuple[object, ...], Path] = {}

    def __enter__(self) -> Exports:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """A folder for bundles that are not kept."""
        return Path(self._folder.name)

    def open(self, plan: CasePlan, options: GraphOptions, folder: Path | None = None) -> Bundle:
        """Return the export of a case's weights with these options; with a folder, make it there."""
        options = replace(options, cache_dtype="fp32")
        key = plan.variant.name, plan.case.weights, plan.case.labels, options
        if folder or key not in self._paths:
            with progress("load the checkpoint", None):
                checkpoint = load_checkpoint(plan.case.weights, plan.variant, _labels(plan))
            place = folder or self.folder / str(len(self._paths))
            self._paths[key] = export_onnx(checkpoint, find_target(EXPORT), place, options).path
        return open_bundle(self._paths[key])


def run_case(plan: CasePlan, mark: str, settings: Settings, options: MatrixOptions,
             exports: Exports) -> CaseResult:
    """Make, prove and measure a case's bundle, and return the result. Raises what these raise; `MissingError`
    if this machine cannot run it."""
    find_backend(plan.target.backend).resolve(plan.target)  # before the work
    proof = ProofOptions(
        data=plan.case.labelled_set, folds=plan.folds,
        category_map=plan.case.path(plan.case.map) if plan.case.map else None,
        minutes=plan.case.minutes, threads=plan.case.threads or None, measure=False)
    proven = _make(plan, proof if options.prove else None, exports)
    bundle = open_bundle(plan.place)
    parity = replace(proven.parity, curve=None) if proven.parity else None
    result = CaseResult(name=plan.name, table=plan.case.table, fingerprint=mark, bundle_sha256=bundle.sha256,
                        gates=proven.gates, parity=parity)
    if not options.measure or (proven.parity and not _runs_here(proven.parity)):
        return result
    busy = busy_cores()
    measured = _measure(plan, bundle, settings, exports)
    return replace(result, measured=measured, gates=(*result.gates, *measured.gates), busy_cores=busy,
                   live=_measure_live(bundle) if settings.live else None)


def _make(plan: CasePlan, proof: ProofOptions | None, exports: Exports) -> ProofRecord:
    """Make the bundle at its place and prove it."""
    if not plan.is_export:
        source = exports.open(plan, plan.options)
        return compile_bundle(source, plan.target, plan.folder, plan.build, proof).proof
    bundle = exports.open(plan, plan.options, plan.folder)
    if proof is None:
        return ProofRecord()
    gate_set = find_gate_set(bundle, proof.data, proof.folds, proof.category_map)
    with load(bundle.path, proof.threads) as tagger:
        report = judge(tagger, proof, gate_set)
    write_json(bundle.reports / "parity.json", to_json(report))
    write_picture(bundle.reports / "parity.png", report)
    return ProofRecord(gates=report.gates, parity=report)


def _measure(plan: CasePlan, bundle: Bundle, settings: Settings, exports: Exports) -> MeasureReport:
    """Measure a bundle in turns with PyTorch, and one for several streams also with the one for one stream;
    write the report into the bundle, and return it without the other bundle."""
    bundles = [bundle]
    if plan.options.streams not in (1, ANY):
        bundles.append(_one_stream(plan, exports))
    report = measure(bundles, MeasureOptions(
        threads=plan.case.threads or None, spinning=settings.spinning, steps=settings.steps,
        streams=1 if plan.options.streams == ANY else None)).select_bundle(0)
    write_json(bundle.reports / "measure.json", to_json(report))
    write_picture(bundle.reports / "measure.png", report)
    return report


def _measure_live(bundle: Bundle) -> MeasureEntry:
    """Measure a bundle as `satexport run` loads it."""
    streams = 1 if bundle.contract.options.streams == ANY else None
    return measure([bundle], MeasureOptions(eager=False, steps=LIVE_STEPS, streams=streams)).bundles[0]


def _one_stream(plan: CasePlan, exports: Exports) -> Bundle:
    """Make the bundle for one stream that a bundle for several is compared with; it is not kept."""
    name = plan.case.one_stream
    target = find_target(plan.case.target_named(name)) if name else plan.target
    source = exports.open(plan, replace(USUAL_OPTIONS, embedding=plan.options.embedding))
    if target.name == EXPORT:
        return source
    return open_bundle(compile_bundle(source, target, exports.folder / "one", plan.build).path)


def _labels(plan: CasePlan) -> Path | None:
    return plan.case.path(plan.case.labels) if plan.case.labels else None
