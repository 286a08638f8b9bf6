"""Differences of embeddings, their gates and their places in reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.bundle.contract import GraphOptions
from satexport.bundle.gates import Gate
from satexport.bundle.target import Gates
from satexport.errors import GateError
from satexport.graph.writer import Weights
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.sat.folds import FOLDS
from satexport.parity.differences import compare_embeddings, judge_embedding
from satexport.parity.golden import run_golden
from satexport.parity.protocols import find_gate_set, run_parity
from satexport.parity.records import report_parity
from satexport.pipeline.export import export_onnx
from satexport.report.blocks import describe
from satexport.report.markdown import to_markdown
from satexport.report.serialize import from_json, to_json
from satexport.step import FloatArray, Outputs
from satexport.tagging.tagger import Tagger, load
from satexport.targets import find_target
from tests.tiny import VIT, export


def outputs(*embeddings: list[float]) -> Outputs:
    return Outputs(np.zeros((len(embeddings), 1), np.float32), np.array(embeddings, np.float32))


def test_differences_are_relative_to_the_reference_and_of_the_worst_chunk() -> None:
    found = compare_embeddings(outputs([3, 4], [0, 2], [1, 0]), outputs([3, 4.5], [0, 2], [0, 1]))
    assert found
    assert found.worst_difference == pytest.approx(2 ** 0.5)
    assert found.median_difference == pytest.approx(0.1)
    assert found.worst_cosine == pytest.approx(0)
    assert found.median_cosine == pytest.approx((9 + 18) / (5 * (9 + 4.5 ** 2) ** 0.5))
    assert compare_embeddings(Outputs(np.zeros((1, 1), np.float32)), outputs([1, 2])) is None


def test_embeddings_of_zeros_and_nan_are_never_near() -> None:
    zeros = compare_embeddings(outputs([0, 0]), outputs([0, 1]))
    same = compare_embeddings(outputs([0, 0]), outputs([0, 0]))
    broken = compare_embeddings(outputs([1, 0]), outputs([float("nan"), 0]))
    assert zeros
    assert same
    assert broken
    assert (zeros.worst_difference, zeros.worst_cosine) == (float("inf"), 0)
    assert (same.worst_difference, same.worst_cosine) == (0, 1)
    assert np.isnan([broken.worst_difference, broken.worst_cosine, broken.median_cosine]).all()


@pytest.fixture(scope="module")
def embedder(tiny_embedding: Path) -> Tagger:
    """A bundle of random weights that says they were trained: embeddings of random weights are not judged."""
    tagger = load(tiny_embedding)
    origin = replace(tagger.contract.checkpoint, source="file")
    return Tagger(replace(tagger.bundle, contract=replace(tagger.contract, checkpoint=origin)), tagger.step)


class Changed:
    """A step with other embeddings."""

    def __init__(self, step: Any, change: Any) -> None:
        self._step, self._change = step, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        found, cache = self._step(x, cache)
        return found._replace(embedding=self._change(found.embedding)), cache


def gates(tagger: Tagger, **limits: Any) -> dict[str, Gate]:
    """Return the gates of the golden chunks by name, with these limits in the target."""
    target = replace(tagger.bundle.target, gates=replace(tagger.bundle.target.gates, **limits))
    return {gate.name: gate for gate in run_golden(
        Tagger(replace(tagger.bundle, target=target), tagger.step)).gates}


def test_an_embedding_of_another_length_or_direction_fails_its_gate(embedder: Tagger) -> None:
    longer = Tagger(embedder.bundle, Changed(embedder.step, lambda e: e * np.float32(1.001)))
    turned = Tagger(embedder.bundle, Changed(embedder.step, lambda e: e[:, ::-1]))
    for tagger, difference, cosine in ((embedder, "passed", "passed"), (longer, "failed", "passed"),
                                       (turned, "failed", "failed")):
        found = gates(tagger, min_embedding_cosine=0.99)
        assert found["median embedding difference, golden chunks"].status == difference
        assert found["median embedding cosine, golden chunks"].status == cosine
        assert found["largest score difference, golden chunks"].status == "passed"
    assert gates(longer)["median embedding difference, golden chunks"].note == "1.0e-03, at most 0.0001"
    assert len(gates(embedder)) == 3  # the target has no limit of the cosine


def test_the_worst_chunk_has_a_limit_of_its_own(embedder: Tagger) -> None:
    limits = Gates(max_score_difference=1, map_kept=1, max_embedding_difference=0.01,
                   max_embedding_difference_worst=0.1)
    for gap, status in ((0.09, "passed"), (0.11, "failed")):
        found = compare_embeddings(outputs([1], [1], [1]), outputs([1], [1], [1 + gap]))
        median, worst = judge_embedding(limits, embedder.contract, "x", found)
        assert (median.status, worst.status, worst.limit) == ("passed", status, 0.1)


def test_embeddings_of_random_weights_are_shown_and_their_gates_skipped(tiny_embedding: Path) -> None:
    tagger = load(tiny_embedding)
    found = gates(tagger, min_embedding_cosine=0.99)
    assert found.pop("largest score difference, golden chunks").status == "passed"
    assert list(found) == ["median embedding difference, golden chunks",
                           "worst embedding difference, golden chunks",
                           "median embedding cosine, golden chunks"]
    for gate in found.values():
        assert (gate.status, gate.value) == ("skipped", None)
        assert gate.note.startswith("random weights: ")
    assert run_golden(tagger).embeddings


def test_an_export_is_refused_for_one_embedding_that_is_too_different(tmp_path: Path) -> None:
    target = find_target("onnx")
    strict = replace(target, gates=replace(target.gates, max_embedding_difference_worst=1e-9))
    variant, options = find_variant("sat-t", 2), GraphOptions(embedding="mean")
    with pytest.raises(GateError, match=r"an embedding of the graph differs from PyTorch's by \S+ of its "
                                        r"length; the target onnx allows at most 1e-09\."):
        export_onnx(load_checkpoint("demo", variant), strict, tmp_path, options, use_onnxsim=False)
    export_onnx(load_checkpoint("random", find_variant(VIT, 1)), strict, tmp_path, options, use_onnxsim=False)


@pytest.mark.long
def test_a_report_has_the_embeddings_of_the_stream_and_of_the_set(
        tmp_path: Path, few_clips: Path) -> None:
    made = export(tmp_path, "sat-t", 2, "demo", GraphOptions(embedding="mean"), use_onnxsim=False)
    embedder = load(made)
    result = run_parity(embedder, minutes=0.1, gate_set=find_gate_set(embedder.bundle, str(few_clips)))
    report = report_parity(embedder, result)
    content = to_json(report)
    assert list(content["embeddings"]) == ["0.1 min of stream", str(few_clips)]
    for found in (*content["embeddings"].values(), content["labelled_set"]["embeddings"]):
        assert 0 < found["median_difference"] < 1e-5
        assert found["median_difference"] <= found["worst_difference"] < 1e-3
        assert 1 - 1e-6 < found["worst_cosine"] <= found["median_cosine"] <= 1 + 1e-9
    assert from_json(json.loads(json.dumps(content)), tmp_path) == report
    text = to_markdown(describe(report))
    assert "embeddings compared with PyTorch fp32" in text
    assert "| worst relative difference " in text
    assert [gate.name for gate in report.gates] == [
        *(f"largest score difference, {part}" for part in content["embeddings"]),
        *(f"{which} embedding difference, {part}" for part in content["embeddings"]
          for which in ("median", "worst")), "mAP kept"]
    assert report.verdict == "passed"


def test_a_bundle_without_an_embedding_shows_nothing_of_it(tiny: Path) -> None:
    tagger = load(tiny)
    report = report_parity(tagger, run_golden(tagger))
    assert "embeddings" not in to_json(report)
    assert "embedding" not in to_markdown(describe(report))


def test_a_rewrite_that_moves_the_embedding_stops_the_export(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(w: Weights) -> Weights:
        """Scale the last norm, which the norm of the head undoes: scores stay, the embedding does not."""
        return w | {key: w[key] * 1.01 for key in ("norm.scale", "norm.shift")}

    monkeypatch.setitem(FOLDS, "a wrong fold", wrong)
    checkpoint = load_checkpoint("random", find_variant(VIT, 1))
    with pytest.raises(GateError, match=r"'a wrong fold' moved an embedding by 1\.0e-02 of its length"):
        export_onnx(checkpoint, find_target("onnx"), tmp_path, GraphOptions(embedding="mean"))
    assert not list(tmp_path.rglob("*.onnx"))
