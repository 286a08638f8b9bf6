"""Export a checkpoint to a bundle in stages, each rewrite of the graph proven before the next one begins.

A rewrite is proven by running the graphs before and after it over the same consecutive chunks, with the cache
carried from chunk to chunk; every graph is also compared with PyTorch. The finished graph is then compared
with PyTorch over all golden chunks, more than the model remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from satexport.audio.synthetic import synthetic_stream
from satexport.backends.onnxruntime.in_memory import step_in_memory
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import (
    DEFAULT_OPSET,
    USUAL_OPTIONS,
    CheckpointOrigin,
    Contract,
    GraphOptions,
)
from satexport.bundle.folder import (
    GOLDEN,
    LABELS,
    REPORTS,
    bundle_path,
    labels_sha256,
    labels_text,
    write_arrays,
    write_initial_cache,
    write_manifest,
)
from satexport.bundle.places import staged_bundle
from satexport.bundle.target import Target
from satexport.errors import GateError
from satexport.files import write_json
from satexport.frontends.rows import FRONT_ENDS
from satexport.graph.operations import count_operations
from satexport.graph.roles import Graph
from satexport.graph.simplify import graph_size, simplify
from satexport.models.families import check_options, find_family, make_reference
from satexport.models.family import Checkpoint, Reference, V, Variant
from satexport.parity.differences import compare_embeddings
from satexport.parity.golden import golden_outputs, proof_streams
from satexport.parity.pytorch import reference_streams
from satexport.progress import progress
from satexport.report.records import ExportRecord, ExportReport, GoldenDifference, Stage
from satexport.report.serialize import to_json
from satexport.step import PCM_SCALE, FloatArray, Outputs
from satexport.tagging.tagger import check_streams
from satexport.version import __version__

REWRITE_TOLERANCE = 1e-5  # largest allowed score difference between the graphs before and after a rewrite
EMBEDDING_TOLERANCE = 1e-4  # the same for the relative difference of an embedding; measured: at most 4e-6,
                            # for m-se of mn01 with random weights
REWRITE_CHUNKS = 4        # golden chunks that prove a rewrite
MIN_GOLDEN_CHUNKS = 3


class _Excess(NamedTuple):
    """A difference that is larger than allowed, in words for errors."""

    what: str   # "a score"
    by: str
    limit: str


class _Largest(NamedTuple):
    """The largest differences between two runs over the same chunks."""

    score: float             # of any score
    embedding: float | None  # relative, of any embedding; None: there are none

    def excess(self, score: float, embedding: float | None) -> _Excess | None:
        """Return the difference that exceeds its limit; None if none does. NaN exceeds it."""
        if not self.score <= score:
            return _Excess("a score", f"{self.score:.1e}", f"{score:.0e}")
        if self.embedding is not None and embedding is not None and not self.embedding <= embedding:
            return _Excess("an embedding", f"{self.embedding:.1e} of its length", f"{embedding:.0e}")
        return None


class _Prover:
    """Runs each graph over the same chunks, compares it with the last graph that was kept, and records the
    result as a `Stage`. `reference` has PyTorch's outputs [chunks, ...] for the chunks."""

    def __init__(self, contract: Contract, reference: Outputs, audio: FloatArray) -> None:
        self.contract = contract
        self.stages: list[Stage] = []
        self._reference, self._audio = reference, audio
        self._before: Outputs | None = None

    def judge(self, name: str, graph: Graph, cache: list[FloatArray]) -> Stage:
        """Run a graph. It is kept if no score and no embedding moved by more than its tolerance."""
        step = step_in_memory(graph.model, self.contract, cache)
        outputs = golden_outputs(proof_streams(step, self.contract), self._audio)
        moved = None if self._before is None else _largest(outputs, self._before)
        excess = moved.excess(REWRITE_TOLERANCE, EMBEDDING_TOLERANCE) if moved else None
        if not excess:
            self._before = outputs
        nodes, size = graph_size(graph.model)
        from_pytorch = _largest(outputs, self._reference)
        why_not = f"moved {excess.what} by {excess.by}, at most {excess.limit} is allowed" if excess else ""
        self.stages.append(Stage(
            name=name, nodes=nodes, bytes=size, from_before=moved.score if moved else None,
            from_pytorch=from_pytorch.score, embedding_from_pytorch=from_pytorch.embedding, kept=not excess,
            why_not=why_not))
        return self.stages[-1]


def make_contract(variant: Variant, classes: int, options: GraphOptions, opset: int = DEFAULT_OPSET, *,
                  labels_sha256: str, checkpoint: CheckpointOrigin) -> Contract:
    """Return the contract of a variant's graph. Raises `UsageError` for an option that the variant does not
    have."""
    check_options(variant, options)
    interface = find_family(variant.family).interface(variant, classes, options)
    return Contract(
        family=variant.family, variant=variant.name, sample_rate=variant.sample_rate,
        window_samples=variant.window_samples, hop_samples=variant.hop_samples,
        memory_steps=variant.memory_steps, front_end=FRONT_ENDS[variant.front_end].parameters(),
        tokens=interface.tokens, classes=classes, options=options, input=interface.input,
        scores=interface.scores, embedding=interface.embedding, cache_in=interface.cache_in,
        cache_out=interface.cache_out, labels_sha256=labels_sha256, checkpoint=checkpoint, opset=opset,
        exporter=f"satexport {__version__}")


def export_onnx(checkpoint: Checkpoint[V], target: Target, folder: Path,
                options: GraphOptions = USUAL_OPTIONS, opset: int = DEFAULT_OPSET,
                use_onnxsim: bool = True, reference: Reference | None = None) -> ExportRecord:
    """Write a bundle at its `bundle_path` and return its path and report. `reference` is the checkpoint's, if
    it is loaded already.

    Raises `UsageError` for an option that the variant does not have, `GateError` if a rewrite moves a score
    or an embedding by more than its tolerance or the finished graph differs from PyTorch by more than the
    target allows, `RunError` if the bundle cannot be written. An earlier bundle is then unchanged.
    """
    contract = make_contract(
        checkpoint.variant, checkpoint.classes, options, opset,
        labels_sha256=labels_sha256(checkpoint.labels),
        checkpoint=CheckpointOrigin(name=checkpoint.name, source=checkpoint.source, sha256=checkpoint.sha256))
    check_streams(contract, max(1, options.streams))
    path = bundle_path(folder, contract, target)
    # before any folder: a package may be missing
    with progress("load PyTorch", None):
        reference = reference or make_reference(checkpoint, options.embedding)
    with staged_bundle(path) as stage, progress("write and prove the graph", None) as advance:
        audio = golden_audio(checkpoint.variant)
        expected = golden_outputs(reference_streams(reference, contract), audio).map(itemgetter(0))
        prover = _Prover(contract, expected.map(lambda array: array[:REWRITE_CHUNKS]), audio[:REWRITE_CHUNKS])
        graph, cache = _rewrite(prover, checkpoint, reference, use_onnxsim, advance)
        content = graph.model.SerializeToString(deterministic=True)
        step = OnnxRuntimeStep(content, contract, cache, target.threads)
        found = _largest(golden_outputs(proof_streams(step, contract), audio), expected)
        _check_against_pytorch(found, len(audio), contract, target)
        (stage / "model.onnx").write_bytes(content)
        write_initial_cache(stage, cache)
        (stage / LABELS).write_text(labels_text(checkpoint.labels), encoding="utf-8")
        pcm = np.round(audio * PCM_SCALE).astype(np.int16)
        write_arrays(stage / GOLDEN, {"audio": pcm, **expected.arrays()})
        operations = count_operations(graph)
        write_manifest(stage, contract, target, "model.onnx", operations, graph.roles)
        report = ExportReport(
            variant=contract.variant, streaming=contract.streaming, target=path.name, opset=contract.opset,
            options=contract.options, checkpoint=contract.checkpoint, operations=operations,
            stages=tuple(prover.stages), embedding=contract.embedding_text, golden=GoldenDifference(
                chunks=len(audio), max_difference=found.score, embedding=found.embedding),
            caution=checkpoint.caution or None)
        write_json(stage / REPORTS / "export.json", to_json(report))
    return ExportRecord(path=path, report=report)


def _rewrite(prover: _Prover, checkpoint: Checkpoint[V], reference: Reference, use_onnxsim: bool,
             advance: Callable[[], None]) -> tuple[Graph, list[FloatArray]]:
    """Let the family write and rewrite the graph, then simplify it, and prove each result; returns the graph
    and its initial cache."""
    family = find_family(checkpoint.variant.family)
    for rewrite in family.rewrites(checkpoint, prover.contract, reference.initial_cache(1)):
        graph, cache = rewrite.graph, list(rewrite.cache)
        stage = prover.judge(rewrite.name, graph, cache)
        if not stage.kept:
            raise GateError(f"the rewrite {rewrite.name!r} {stage.why_not}. No bundle was written; "
                            "please report this.")
        advance()
    if use_onnxsim:
        simplified = simplify(graph)
        if simplified.why_not:
            prover.stages.append(replace(prover.stages[-1], name="onnxsim", from_before=None, kept=False,
                                         why_not=simplified.why_not))
        else:
            stage = prover.judge("onnxsim", simplified.graph, cache)
            graph = simplified.graph if stage.kept else graph
        advance()
    return graph, cache


def _check_against_pytorch(found: _Largest, chunks: int, contract: Contract, target: Target) -> None:
    gates = target.gates.for_family(contract.family)
    limit = None if contract.has_random_weights else gates.max_embedding_difference_worst
    if excess := found.excess(gates.max_score_difference, limit):
        raise GateError(f"over {chunks} chunks, {excess.what} of the graph differs from PyTorch's by "
                        f"{excess.by}; the target {target.name} allows at most {excess.limit}. No bundle was "
                        "written.")


def _largest(found: Outputs, expected: Outputs) -> _Largest:
    """Compare outputs [N, chunks, ...] with [N, chunks, ...] or [chunks, ...]."""
    embeddings = compare_embeddings(expected.map(lambda array: np.broadcast_to(
        array, (*found.scores.shape[:-1], array.shape[-1]))), found)
    return _Largest(float(np.abs(found.scores - expected.scores).max()),
                    embeddings.worst_difference if embeddings else None)


def golden_audio(variant: Variant) -> FloatArray:
    """Return consecutive chunks [N, hop_samples] of synthetic sounds, float32 in [-1, 1] with 16-bit
    resolution; at least one more than the model remembers."""
    chunks = max(MIN_GOLDEN_CHUNKS, variant.memory_steps + 1)
    seconds = chunks * variant.hop_samples / variant.sample_rate
    audio = synthetic_stream(seconds, "calibrate", rate=variant.sample_rate)
    return audio.reshape(chunks, variant.hop_samples)
