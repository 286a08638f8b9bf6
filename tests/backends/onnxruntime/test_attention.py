"""Attention of int8 bundles as nodes of ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.onnxruntime import write
from satexport.bundle.folder import open_bundle
from satexport.errors import RunError
from satexport.parity.golden import golden_outputs, proof_streams
from satexport.tagging.tagger import load
from tests.backends.compiled import compiled

DEPTH = 3  # blocks of `tiny`
REPLACED = "Softmax", "Concat", "Split"


@pytest.fixture(scope="module")
def fused(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tiny, "cpu-int8", tmp_path_factory.mktemp("fused"))


def count_nodes(bundle: Path) -> Counter[str]:
    """Count the nodes behind the front end, which has a Split and a Concat of its own."""
    nodes = onnx.load(bundle / "model.onnx", load_external_data=False).graph.node
    return Counter(node.op_type for node in nodes if not node.name.startswith("mel/"))


def test_each_attention_of_an_int8_bundle_is_one_node(fused: Path, unfused: Path) -> None:
    before, after = count_nodes(unfused), count_nodes(fused)
    assert (before["QAttention"], before["Softmax"]) == (0, DEPTH)
    assert after["QAttention"] == DEPTH
    assert not any(after[kind] for kind in REPLACED)
    assert after.total() < before.total() - 7 * DEPTH


def test_scores_with_fused_attention_are_those_without(fused: Path, unfused: Path, tiny: Path) -> None:
    audio, _ = open_bundle(tiny).golden()
    scores = []
    for path in (fused, unfused):
        tagger = load(path)
        scores.append(golden_outputs(proof_streams(tagger.step, tagger.contract), audio).scores)
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=2e-5)


def test_fusion_that_moves_scores_fails(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "TOLERANCE", -1.0)
    with pytest.raises(RunError, match=r"moved the scores of noise by .*, expected at most -1"):
        compiled(tiny, "cpu-int8", tmp_path)
    assert not list(tmp_path.iterdir())


def test_fusion_that_makes_scores_nan_fails(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_run", lambda *_: np.array([0.5, np.nan]))
    with pytest.raises(RunError, match="moved the scores of noise by nan"):
        compiled(tiny, "cpu-int8", tmp_path)
