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
from onnx import numpy_helper

from satexport.backends.onnxruntime import write
from satexport.backends.onnxruntime.attention import fuse_attention
from satexport.bundle.folder import open_bundle
from satexport.errors import RunError
from satexport.parity.golden import golden_outputs, proof_streams
from satexport.tagging.tagger import load
from tests.backends.compiled import compiled

DEPTH = 3  # blocks of `tiny`
REPLACED = "Softmax", "Concat", "Split"


@pytest.fixture(scope="module")
def unfused(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 bundle whose attention is as it was exported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "fuse_attention", lambda model: (model, 0))
        return compiled(tiny, "cpu-int8", tmp_path_factory.mktemp("unfused"))


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


def test_attention_that_differs_from_the_pattern_stays(unfused: Path) -> None:
    graph = onnx.load(unfused / "model.onnx")
    assert fuse_attention(graph)[1] == DEPTH
    zero = next(c for c in graph.graph.initializer if c.name == "00.q.zero")
    zero.CopyFrom(numpy_helper.from_array(np.ones_like(numpy_helper.to_array(zero)), zero.name))
    softmax = next(node for node in graph.graph.node if node.name == "block_01/softmax")
    softmax.attribute[0].i = 2
    logits = next(node for node in graph.graph.node if node.name == "block_02/logits")
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(logits.output[0]))
    assert fuse_attention(graph)[1] == DEPTH - 3


def test_fusion_that_moves_scores_fails(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "TOLERANCE", -1.0)
    with pytest.raises(RunError, match=r"moved the scores of noise by .*, expected at most -1"):
        compiled(tiny, "cpu-int8", tmp_path)
    assert not list(tmp_path.iterdir())
