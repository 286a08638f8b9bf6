"""The bundles that make up a folder for the Hub: which can be in one, and which belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from satexport.backends.backend import check_known
from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import INITIAL_CACHE, Bundle, open_bundle
from satexport.bundle.gates import verdict
from satexport.errors import BundleError, UsageError
from satexport.measure.records import MeasureEntry, MeasureReport
from satexport.parity.records import ParityReport
from satexport.publish.layout import SUFFIXES, graph_file
from satexport.publish.reports import StoredReport, read_reports
from satexport.report.records import ExportReport
from satexport.terminal import shown

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
TENSOR = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
BACKENDS = ("onnxruntime", "web")  # whose graphs any ONNX Runtime can run on a CPU
REFUSED = {
    "openvino": "its graph is in OpenVINO's format",
    "tensorrt": "an engine runs only on the board that built it, and its graphs are made for that"}
UNPROVEN = "not proven"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A bundle, and the reports about it."""

    bundle: Bundle
    reports: tuple[StoredReport, ...]
    notes: tuple[str, ...]           # reports that are left out, and why

    @property
    def precision(self) -> str:
        """A key of SUFFIXES."""
        return self.bundle.target.precision

    @property
    def file(self) -> str:
        """The path of its graph in the folder."""
        return graph_file(self.precision)

    @property
    def export(self) -> ExportReport | None:
        return next((r.report for r in self.reports if isinstance(r.report, ExportReport)), None)

    @property
    def parity(self) -> ParityReport | None:
        """The report of its proof; the one with a labelled set, if there are several."""
        found = [r.report for r in self.reports if isinstance(r.report, ParityReport)]
        return max(found, key=lambda report: report.labelled_set is not None, default=None)

    @property
    def measure(self) -> MeasureReport | None:
        return next((r.report for r in self.reports if isinstance(r.report, MeasureReport)), None)

    @property
    def entry(self) -> MeasureEntry | None:
        """Its measurement."""
        entries = self.measure.bundles if self.measure else ()
        return next((entry for entry in entries if entry.bundle_sha256 == self.bundle.sha256), None)

    @property
    def verdict(self) -> str:
        """"passed", "failed", or UNPROVEN: there is no report, or it could judge no gate."""
        found = verdict(self.parity.gates) if self.parity else "skipped"
        passed = any(gate.status == "passed" for gate in self.parity.gates) if self.parity else False
        return found if found != "skipped" else "passed" if passed else UNPROVEN


def open_parts(paths: Sequence[Path]) -> list[Part]:
    """Open bundles and read their reports; the parts are in the order of SUFFIXES.

    Raises `BundleError` for a damaged bundle, `MissingError` for one of a newer version, `UsageError` for one
    that other runtimes cannot run or that does not belong to the others.
    """
    bundles = [open_bundle(path) for path in paths]
    for bundle in bundles:
        _check(bundle)
    for number, bundle in enumerate(bundles):
        for other in bundles[:number]:
            _check_together(other, bundle)
    bundles.sort(key=lambda bundle: list(SUFFIXES).index(bundle.target.precision))
    parts = []
    for bundle in bundles:
        reports, notes = read_reports(bundle)
        parts.append(Part(bundle=bundle, reports=tuple(reports), notes=tuple(notes)))
    return parts


def _check(bundle: Bundle) -> None:
    """Raise `UsageError` if the graph of a bundle cannot be in a folder for the Hub, `BundleError` if its
    names cannot."""
    check_known(bundle)
    _check_names(bundle)
    backend, options = bundle.target.backend, bundle.contract.options
    if backend not in BACKENDS:
        raise UsageError(f"{bundle.path} is for {backend}: {REFUSED.get(backend, 'others cannot run it')}. "
                         "Expected a bundle whose graph any ONNX Runtime can run: make one with `satexport "
                         "onnx`, `satexport cpu --int8` or `satexport web`.")
    if bundle.target.precision not in SUFFIXES:
        raise UsageError(f"{bundle.path} is {bundle.target.precision}, for which the Hub's layout has no "
                         f"file name; expected {' or '.join(SUFFIXES)}.")
    if options.streams not in (1, ANY):
        raise UsageError(f"{bundle.path} is for {options.streams} streams in each step; who takes a model "
                         "from the Hub has one, or another number. Export again without --streams, or with "
                         "--streams dynamic.")
    if options.input != "audio":
        raise UsageError(f"{bundle.path} takes {options.input} features, which who takes a model from the "
                         "Hub would have to compute. Export again without --input.")


def _check_names(bundle: Bundle) -> None:
    """Raise `BundleError` for names that could be taken for code in the programs of the model card, or for
    markup in its text. No export has such names."""
    contract = bundle.contract
    names = [contract.family, contract.variant, contract.options.embedding or "none"]
    specs = (contract.input, *contract.outputs, *contract.cache_in, *contract.cache_out)
    for pattern, texts in ((NAME, names), (TENSOR, [spec.name for spec in specs])):
        for text in texts:
            if not pattern.fullmatch(text):
                raise BundleError(f"{bundle.path}: {shown(text)} cannot be a name in a model card; expected "
                                  "letters, digits and _. Export the bundle again.")


def _check_together(one: Bundle, other: Bundle) -> None:
    """Raise `UsageError` if two bundles cannot be in one folder."""
    both = f"{one.path} and {other.path}"
    if one.target.precision == other.target.precision:
        raise UsageError(f"{both} are both {one.target.precision}; expected one bundle for each precision. "
                         "Leave one of them out.")
    mine, theirs = dict(_facts(one.contract)), dict(_facts(other.contract))
    different = [name for name, value in mine.items() if theirs[name] != value]
    if different:
        name = different[0]
        raise UsageError(f"{both} do not belong together: {name} of the first is {_brief(mine[name])}, of "
                         f"the second {_brief(theirs[name])}. Expected bundles of the same checkpoint with "
                         "the same inputs and outputs, in several precisions. Make both from one export, "
                         "or write a folder for each.")
    if one.files.get(INITIAL_CACHE) != other.files.get(INITIAL_CACHE):
        raise UsageError(f"{both} begin with different caches, because their scales were calibrated one by "
                         "one. Make both with the cache in fp32 (without --cache-dtype), or write a folder "
                         "for each.")


def _facts(contract: Contract) -> Iterator[tuple[str, object]]:
    """What bundles in one folder have in common: what it is called, and its value."""
    yield "the model", contract.variant
    yield "the checkpoint's SHA-256", contract.checkpoint.sha256
    yield "the SHA-256 of the labels", contract.labels_sha256
    yield "the data type of the cache", contract.options.cache_dtype
    yield "the kind of the cache", contract.options.cache
    yield "the kind of the embedding", contract.options.embedding or "none"
    yield "the number of streams", "any" if contract.options.streams == ANY else contract.options.streams
    yield "the input", (contract.input, contract.sample_rate, contract.hop_samples)
    yield "the list of outputs", contract.outputs
    yield "the list of caches", (contract.cache_in, contract.cache_out)
    yield "the front end", tuple(sorted((key, repr(value)) for key, value in contract.front_end.items()))


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:24]}..."


