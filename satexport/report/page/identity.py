"""What a bundle is, which files it has, and where it and its figures come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from satexport.bundle.contract import ANY, Contract, TensorSpec, cache_bytes, state_bytes
from satexport.bundle.folder import MANIFEST, Bundle
from satexport.memory import MB
from satexport.parity.records import ParityReport
from satexport.report.blocks import describe_origin
from satexport.report.page.parts import Facts, Fold, Grid, Part
from satexport.report.page.subjects import Subject
from satexport.report.records import ExportReport, Report, kind_of

SHA = "SHA-256"
CHECKPOINT_SHA, BUNDLE_SHA, LABELS_SHA = f"checkpoint, {SHA}", f"bundle, {SHA}", f"labels, {SHA}"
CODES = frozenset({CHECKPOINT_SHA, BUNDLE_SHA, LABELS_SHA})


def identity_facts(bundle: Bundle) -> Facts:
    """What the contract and the target say."""
    contract, target = bundle.contract, bundle.target
    rows = [
        ("model", f"{contract.variant}, family {contract.family}"),
        ("scores", f"{contract.streaming}; {contract.classes} classes"),
        ("target", f"{target.name}: {target.description}" if target.description else target.name),
        ("runtime", f"{target.backend}, {target.precision}"),
        ("options", _options(contract)),
        ("audio", f"{contract.sample_rate / 1000:g} kHz, window {contract.window_seconds:g} s, hop "
                  f"{contract.hop_seconds:g} s"),
        ("front end", f"{contract.front_end.get('name', '-')}"),
        ("input", _tensor(contract.input)),
        ("output", "; ".join(map(_tensor, contract.outputs))),
        ("embedding", contract.embedding_text or "none"),
        ("cache", _cache(contract)),
        ("state of one stream", f"{state_bytes(contract) / MB:.2f} MB"),
        ("depends on", _memory(contract.memory_steps)),
        ("tokens of a step", ", ".join(f"{count} {kind}" for kind, count in contract.tokens.items()) or "-")]
    return Facts(title="What it is", rows=rows)


def _options(contract: Contract) -> str:
    options = contract.options
    streams = "any number of streams" if options.streams == ANY else (
        "one stream" if options.streams == 1 else f"{options.streams} streams")
    return (f"cache {options.cache}" if contract.cache_in else "no cache") + (
        f", input {options.input}, {streams} per step")


def _memory(chunks: int) -> str:
    """The earlier chunks that scores depend on."""
    return f"{chunks or 'no'} earlier chunk{'' if chunks <= 1 else 's'}"


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {_shape(spec)} {spec.dtype}"


def _shape(spec: TensorSpec) -> str:
    return f"[{', '.join('N' if size == ANY else str(size) for size in spec.shape)}]"


def _cache(contract: Contract) -> str:
    """The tensors of the cache, those of one shape together."""
    if not contract.cache_in:
        return "none"
    groups = [(key, list(specs)) for key, specs in
              groupby(contract.cache_in, key=lambda spec: f"{_shape(spec)} {spec.dtype}")]
    shapes = ", ".join(f"{len(specs)} of {key}" for key, specs in groups)
    count = len(contract.cache_in)
    return (f"{count} tensor{'' if count == 1 else 's'}, {shapes}: "
            f"{cache_bytes(contract.cache_in) / MB:.2f} MB")


def provenance_parts(subject: Subject) -> Iterator[Part]:
    """The checkpoint, the hashes, what the figures were made on, and the files."""
    bundle = subject.source.bundle
    rows = [*_bundle_rows(bundle)] if bundle else _report_rows(subject.source.reports)
    rows += _origins(subject.source.reports)
    yield Facts(title="Where it comes from", rows=rows, codes=CODES)
    if bundle:
        size = sum(_size(bundle, name) for name in bundle.files)
        title = f"{len(bundle.files)} files, {size / MB:.1f} MB"
        yield Fold(title=title, parts=[_files(bundle, subject.name)])


def _bundle_rows(bundle: Bundle) -> Iterator[tuple[str, str]]:
    contract = bundle.contract
    yield "checkpoint", f"{contract.checkpoint.name} ({contract.checkpoint.source})"
    yield CHECKPOINT_SHA, contract.checkpoint.sha256
    yield BUNDLE_SHA, bundle.sha256
    yield LABELS_SHA, contract.labels_sha256
    yield "exported by", f"{contract.exporter}, opset {contract.opset}"


def _report_rows(reports: Sequence[Report]) -> list[tuple[str, str]]:
    """The same without the bundle: what its reports know."""
    rows: dict[str, str] = {}
    for report in reports:
        if isinstance(report, ParityReport | ExportReport):
            checkpoint = report.checkpoint
            rows |= {"checkpoint": f"{checkpoint.name} ({checkpoint.source})",
                     CHECKPOINT_SHA: checkpoint.sha256}
        if isinstance(report, ParityReport):
            rows[BUNDLE_SHA] = report.bundle_sha256
    return list(rows.items())


def _origins(reports: Sequence[Report]) -> Iterator[tuple[str, str]]:
    """A row for each machine and its versions, with the kinds of the reports that were made there."""
    kinds: dict[str, list[str]] = {}
    for report in reports:
        kinds.setdefault(describe_origin(report.origin), []).append(kind_of(report))
    for text, names in kinds.items():
        yield f"{', '.join(dict.fromkeys(names))} report{'s' if len(names) > 1 else ''}", text


def _files(bundle: Bundle, about: str) -> Grid:
    rows = [(name, sha256, f"{_size(bundle, name) / MB:.3f}") for name, sha256 in bundle.files.items()]
    return Grid(title="", label=f"files of {about}", head=["file", SHA, "MB"], rows=rows, texts=2,
                note=f"As {MANIFEST} lists them; each had this {SHA} when this page was made.")


def _size(bundle: Bundle, name: str) -> int:
    """Bytes of a file."""
    return (bundle.path / name).stat().st_size
