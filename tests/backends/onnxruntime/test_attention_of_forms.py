"""Which attention of an int8 bundle becomes a node of ONNX Runtime: with and without a cache, for each dtype
of the cache and any number of streams."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.backend import Draft
from satexport.backends.onnxruntime import write
from satexport.backends.onnxruntime.in_memory import step_in_memory
from satexport.bundle.contract import ANY, USUAL_OPTIONS, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.graph.files import GRAPH
from satexport.parity.golden import golden_outputs, proof_streams, run_golden
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.step import FloatArray
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.tiny import FEW, TINY, VIT, export


@dataclass(frozen=True, kw_only=True)
class Form:
    """An export, the dtype of its cache in the bundle, and how many of its blocks are fused."""

    fused: int
    fixture: str = ""       # of the export; "": export `model`
    model: str = ""
    delay: int = 1          # s
    options: GraphOptions = USUAL_OPTIONS
    cache_dtype: str = "fp32"


FORMS = {
    "cache fp16": Form(fixture="tiny", cache_dtype="fp16", fused=3),
    "cache int8": Form(fixture="tiny", cache_dtype="int8", fused=3),
    "cache of hidden tokens": Form(
        model=f"sat-t-{TINY}", options=GraphOptions(cache="hidden"), fused=0),
    "more cached tokens than new ones": Form(model=f"sat-s-{TINY}", cache_dtype="int8", fused=1),
    "three streams": Form(fixture="tiny_three", fused=0),
    "any number of streams": Form(fixture="tiny_lanes", fused=0),
    "no cache": Form(fixture="random_vit", fused=3),
    "no cache, any number of streams": Form(model=VIT, options=GraphOptions(streams=ANY), fused=3),
    "CED": Form(model=f"ced-tiny-{TINY}", fused=3),
    "AST, whose last block has other queries": Form(model="ast-48x3x2x96", fused=1),
    "BEATs, whose logits have a bias": Form(model="beats-embed32-48x3x2x96", fused=0),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_attention_is_fused_where_the_node_computes_the_same_and_all_else_stays(
        form: Form, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = request.getfixturevalue(form.fixture) if form.fixture else export(
        tmp_path, form.model, form.delay, "random", form.options, use_onnxsim=False)
    drafts: list[Draft] = []
    fuse = write.fuse

    def keep_and_fuse(draft: Draft) -> onnx.ModelProto:
        drafts.append(draft)
        return fuse(draft)

    monkeypatch.setattr(write, "fuse", keep_and_fuse)
    path = compile_bundle(open_bundle(source), find_target("cpu-int8"), tmp_path, BuildOptions(
        calibration=FEW, cache_dtype=form.cache_dtype)).path
    (draft,), after = drafts, onnx.load(path / GRAPH)
    before = draft.graph.model
    kinds = [node.op_type for node in after.graph.node]
    assert kinds.count("QAttention") == form.fused
    if form.fused:
        audio, _ = open_bundle(path).golden()
        np.testing.assert_allclose(scores_of(after, draft, audio), scores_of(before, draft, audio),
                                   rtol=0, atol=2e-5)
    else:
        assert kinds == [node.op_type for node in before.graph.node]
    assert all(gate.status == "passed" for gate in run_golden(load(path)).gates)


def scores_of(model: onnx.ModelProto, draft: Draft, audio: FloatArray) -> FloatArray:
    """Return the scores that a graph with the contract of a draft gives for the golden chunks."""
    step = step_in_memory(model, draft.contract, draft.initial_cache)
    return golden_outputs(proof_streams(step, draft.contract), audio).scores
