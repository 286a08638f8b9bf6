"""CED for every backend: it has the graph of a ViT and is proven like one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from satexport.backends.tensorrt.rules import find_violations
from satexport.bundle.folder import open_bundle
from satexport.graph.roles import Graph
from satexport.models.checkpoint import load_checkpoint
from satexport.models.sat.graph import build_graph
from satexport.models.sat.keys import FRONT_END, expected_shapes
from satexport.models.sat.variants import VARIANTS, find_model
from satexport.models.sat.weights import graph_weights
from satexport.pipeline.export import export_onnx
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.commands.calls import call
from tests.data import seeded
from tests.machine import need, on_this_cpu
from tests.models.sat.graphs import contract_of, pytorch_scores
from tests.tiny import TINY, export

CED = f"ced-mini-{TINY}"


@pytest.fixture(scope="module")
def ced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a small CED with random weights at 2 s."""
    return export(tmp_path_factory.mktemp("ced"), CED, 2, "random")


@pytest.mark.parametrize("delay", [1, 2, 10])
def test_the_graph_differs_from_that_of_a_vit_only_in_its_name(delay: int) -> None:
    graphs = []
    for model in (f"vit-t-{TINY}", CED):
        checkpoint = load_checkpoint("random", find_model(model)[delay])
        weights = graph_weights(checkpoint.variant, checkpoint.state)
        contract = contract_of(checkpoint.variant)
        graph = build_graph(replace(checkpoint.variant, is_ced=False), weights, contract).model
        del graph.metadata_props[:]
        graph.graph.name = ""
        graphs.append(graph.SerializeToString(deterministic=True))
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize(("target", "package"), [
    ("cpu-int8", "onnxruntime"), ("openvino-fp32", "openvino"), ("openvino-int8", "openvino")], ids=str)
def test_a_ced_is_built_and_proven_for_a_runtime(
        target: str, package: str, ced: Path, quick: tuple[object, ...]) -> None:
    need(package, "cpu")
    target = on_this_cpu(target)
    result = call("bundle", "--target", target, "--from", ced, "--output", ced.parents[1], *quick)
    assert result.code in (0, 1), result.err  # random weights: int8 may cost mAP
    built = load(ced.parent / target)
    audio = seeded.waveform(8)
    expected = load(ced).stream().feed(audio)
    limit = 0.25 if "int8" in target else 1e-3
    assert np.abs(built.stream().feed(audio) - expected).max() < limit
    report = json.loads((ced.parent / target / "reports" / "parity.json").read_text("utf-8"))
    assert report["differences"]["0.1 min of stream"]["largest"] < limit


def test_the_tensorrt_graphs_of_a_ced_follow_its_rules_and_are_proven(
        ced: Path, quick: tuple[object, ...]) -> None:
    result = call("trt", "--int8", "--from", ced, "--output", ced.parents[1], *quick)
    assert result.code in (0, 1), result.err
    path = ced.parent / "jetson-orin-nano"
    for precision, largest in (("int8", 0.25), ("fp16", 0.01)):
        model = onnx.load(path / f"{precision}.onnx")
        assert find_violations(Graph(model, open_bundle(path).roles), "10.3") == []
        report = json.loads((path / "reports" / f"parity-onnx-{precision}.json").read_bytes())
        assert report["differences"]["0.1 min of stream"]["largest"] < largest


@pytest.mark.long
@pytest.mark.parametrize("delay", [1, 2, 10])
@pytest.mark.parametrize("model", ["ced-mini", "ced-small"])
def test_an_export_of_seeded_weights_scores_like_pytorch(model: str, delay: int, tmp_path: Path) -> None:
    variant = VARIANTS[model, delay]
    front_end = {key: make().astype(np.float32) for key, make in FRONT_END.items()}
    save_file(seeded.state_dict(expected_shapes(variant, 527)) | front_end, tmp_path / "w.safetensors")
    checkpoint = load_checkpoint(str(tmp_path / "w.safetensors"), variant)
    exported = export_onnx(checkpoint, find_target("onnx"), tmp_path)
    assert exported.report.golden.max_difference < 1e-4
    audio = seeded.waveform(4 * delay).reshape(4, -1)
    scores = load(exported.path).stream().feed(audio.reshape(-1))
    expected = pytorch_scores(checkpoint, audio)
    print(f"\n{model} at {delay} s: {np.abs(scores - expected).max():.1e}")
    assert np.abs(scores - expected).max() < 1e-4
