"""Attention of int8 bundles as nodes of ONNX Runtime."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
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


def test_each_block_writes_its_cache_before_the_next_block_runs(
        fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise what all blocks slice their caches from would be in memory at the same time."""
    sessions = []

    def profiled(graph: str, options: Any, **others: Any) -> Any:
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
        sessions.append(session(graph, options, **others))
        return sessions[-1]

    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", profiled)
    step = load(fused).step
    step(np.zeros((1, open_bundle(fused).contract.window_samples), np.float32), step.initial_cache(1))
    events = json.loads(Path(sessions[0].end_profiling()).read_text("utf-8"))
    ran = [event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time")]
    blocks = [kind for kind in ran[ran.index("QAttention"):] if kind in ("QAttention", "Slice")]
    assert blocks == ["QAttention"] + ["QAttention", "Slice"] * (DEPTH - 1), "the first block has no cache"


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
