"""The ONNX graph: its scores equal PyTorch's, its operators are standard, its rewrites remove work."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.audio.synthetic import synthetic_stream
from satexport.backends.tensorrt.rules import find_violations
from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.roles import Role
from satexport.graph.edit import clone
from satexport.graph.operations import count_operations
from satexport.graph.simplify import graph_size
from satexport.models.checkpoint import load_checkpoint
from satexport.models.efficientat import family
from satexport.models.efficientat.folds import FOLDS
from satexport.models.efficientat.variants import VARIANTS, Variant, find_model
from satexport.models.family import Checkpoint
from satexport.pipeline.export import REWRITE_TOLERANCE, golden_audio
from satexport.tagging.tagger import load
from tests.commands.calls import call
from tests.machine import need
from tests.models.efficientat.graphs import ALLOWED, contract_of, pytorch_scores, stages
from tests.models.efficientat.vectors import wave

TOLERANCE = 1e-4
SHORT = [("mn01", 2), ("mn02", 1)]


@lru_cache(maxsize=4)
def weights(model: str, delay: int) -> Checkpoint[Variant]:
    return load_checkpoint("random", VARIANTS[model, delay])


@pytest.mark.parametrize(("model", "delay"), [
    *SHORT, *(pytest.param(*key, marks=pytest.mark.long) for key in VARIANTS if key not in SHORT)])
def test_every_variant_equals_pytorch(model: str, delay: int) -> None:
    checkpoint = weights(model, delay)
    audio = golden_audio(checkpoint.variant)
    expected = pytorch_scores(checkpoint, audio)
    assert np.abs(stages(checkpoint)[-1].scores(audio)[0] - expected).max() < TOLERANCE
    assert np.ptp(expected, axis=0).max() > 0.01  # the scores change from chunk to chunk


@pytest.mark.parametrize("model", ["mn01", pytest.param("mn10-fc-s2221", marks=pytest.mark.long)])
def test_each_rewrite_removes_nodes_and_keeps_the_scores(model: str) -> None:
    checkpoint = weights(model, 1)
    audio = golden_audio(checkpoint.variant)
    found = stages(checkpoint)
    assert [stage.name for stage in found] == ["as published", *FOLDS]
    scores = [stage.scores(audio) for stage in found]
    for before, after in pairwise(scores):
        assert np.abs(after - before).max() <= REWRITE_TOLERANCE
    nodes = [graph_size(stage.graph.model)[0] for stage in found]
    assert nodes == sorted(set(nodes), reverse=True)
    operators = [{node.op_type for node in stage.graph.model.graph.node} for stage in found]
    assert operators[0] == ALLOWED | {"BatchNormalization"}
    assert operators[-1] == ALLOWED


@pytest.mark.parametrize("opset", [17, 23])
def test_every_opset_gives_the_same_scores(opset: int) -> None:
    checkpoint = weights("mn01", 1)
    audio = golden_audio(checkpoint.variant)
    stage = stages(checkpoint, opset)[-1]
    assert [(o.domain, o.version) for o in stage.graph.model.opset_import] == [("", opset)]
    assert np.abs(stage.scores(audio)[0] - pytorch_scores(checkpoint, audio)).max() < TOLERANCE


@pytest.mark.parametrize(("model", "options"), [
    ("mn01", GraphOptions(input="mel")), ("mn01", GraphOptions(streams=3)),
    ("mn01", GraphOptions(streams=ANY)),
    ("mn10-fc", GraphOptions(input="mel", streams=ANY))], ids=str)
def test_the_graph_gives_the_scores_of_the_published_model_under_all_options(
        options: GraphOptions, model: str) -> None:
    checkpoint = weights(model, 1)
    audio = golden_audio(checkpoint.variant)
    scores = stages(checkpoint, options=options)[-1].scores(audio)
    assert len(scores) == (1 if options.streams == 1 else 3)
    assert np.abs(scores - pytorch_scores(checkpoint, audio)).max() < TOLERANCE


def test_shapes_are_static_and_the_same_weights_give_the_same_bytes() -> None:
    checkpoint = weights("mn01", 2)
    model, again = (stages(checkpoint)[-1].graph.model for _ in range(2))
    assert model.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    contract = contract_of(checkpoint.variant)
    shapes = [{v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
              for values in (model.graph.input, model.graph.output)]
    assert shapes == [{"audio": (1, 64_000)}, {"scores": (1, 527)}]
    assert (contract.cache_in, contract.cache_out, contract.tokens) == ((), (), {})
    inferred = onnx.shape_inference.infer_shapes(clone(model), data_prop=True).graph.value_info
    assert all(size.HasField("dim_value") for v in inferred for size in v.type.tensor_type.shape.dim)


def test_every_product_has_a_role_and_the_front_end_is_apart() -> None:
    graph = stages(weights("mn01", 1))[-1].graph
    for node in graph.model.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            assert node.name in graph.roles, node.name
        assert node.name.startswith("mel/") == (graph.kind(node) == "front_end")
    layers = {str(role) for role in graph.layers()}
    assert layers >= {"front_end", "patch 00.conv", "depthwise 01.depthwise", "conv 05.expand", "head",
                      "linear 05.squeeze", "linear 05.excite", "conv 15.project", "conv 16.conv",
                      "linear head.hidden"}
    assert Role("conv", "01.expand") not in graph.layers()  # mn01's block 1 expands nothing


@pytest.mark.parametrize("model", ["mn01", pytest.param("mn10-fc", marks=pytest.mark.long)])
def test_tensorrt_and_openvino_take_the_graph(model: str) -> None:
    openvino = need("openvino", "openvino")
    checkpoint = weights(model, 1)
    stage = stages(checkpoint)[-1]
    assert find_violations(stage.graph, "10.3") == []
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(stage.graph.model.SerializeToString(), b""), "CPU",
                                  {"INFERENCE_PRECISION_HINT": "f32"})
    audio = golden_audio(checkpoint.variant)
    scores = np.concatenate([compiled({0: chunk[None]})[0] for chunk in audio])
    assert np.abs(scores - pytorch_scores(checkpoint, audio)).max() < TOLERANCE


def test_a_window_scores_the_last_seconds_as_the_graph_of_that_length(tmp_path: Path) -> None:
    result = call("onnx", "--model", "mn01", "--delay", 1, "--window", 2, "--checkpoint", "random",
                  "--output", tmp_path)
    assert result.code == 0
    audio = synthetic_stream(5, "evaluate", rate=32_000)
    scores = load(tmp_path / "mn01-1s-window-2s" / "onnx").stream().feed(audio)
    held = np.concatenate((np.zeros(32_000, np.float32), audio)).reshape(6, -1)
    windows = np.concatenate((held[:-1], held[1:]), 1)
    expected = pytorch_scores(weights("mn01", 2), windows)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("model", "gflops"), [
    ("mn01", 0.036), ("mn04", 0.221), pytest.param("mn10", 1.08, marks=pytest.mark.long)])
def test_operations_of_ten_seconds_are_those_of_the_published_model(model: str, gflops: float) -> None:
    variant = find_model(model)[10]
    checkpoint = replace(weights(model, 1), variant=variant)
    counts = count_operations(stages(checkpoint)[-1].graph)
    assert counts["model"] / 1e9 == pytest.approx(gflops, rel=0.02)
    if (papers := family.PAPER[variant.name][0].gflops) is not None:
        assert papers == pytest.approx(gflops, rel=0.02)


@pytest.mark.parametrize("delay", [1, 2, 5, 10])
def test_the_trained_mn04_scores_as_published_and_as_pytorch_over_sound(delay: int, shared: Path) -> None:
    variant = find_model("mn04")[delay]
    checkpoint = load_checkpoint(str(shared / "checkpoints" / "mn04_as_mAP_432.pt"), variant)
    assert checkpoint.caution == ""
    graph = stages(checkpoint)[-1]
    audio = synthetic_stream(60, "evaluate", rate=32_000).reshape(-1, variant.hop_samples)
    assert np.abs(graph.scores(audio)[0] - pytorch_scores(checkpoint, audio)).max() < TOLERANCE
    if delay != 5:
        vectors = np.load(shared / "golden" / "baselines" / f"mn04_real_{delay}s.npz")
        found = graph.scores(np.repeat(wave(delay).numpy(), 3, 0))[0]
        assert np.abs(found - vectors["scores"]).max() < 1e-5


def test_an_export_proves_the_graph_and_its_bundle_runs(tmp_path: Path) -> None:
    result = call("onnx", "--model", "mn01", "--delay", 1, "--checkpoint", "random", "--output", tmp_path)
    assert result.code == 0
    tagger = load(tmp_path / "mn01-1s" / "onnx")
    audio = synthetic_stream(4, "evaluate", rate=32_000)
    expected = pytorch_scores(weights("mn01", 1), audio.reshape(4, -1))
    np.testing.assert_allclose(tagger.stream().feed(audio), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("samples", [100, 513, 514, 20_000, 41_234])
def test_a_clip_of_any_length_is_scored_in_one_pass(samples: int) -> None:
    from satexport.models.efficientat.reference import PyTorchStep

    reference = PyTorchStep(weights("mn01", 1))
    clip = synthetic_stream(2, "evaluate", rate=32_000)[:samples]
    scores = reference.clip_scores(clip[None])[0]
    assert scores.shape == (527,)
    if samples > 513:
        np.testing.assert_array_equal(scores, reference(clip[None], None)[0].scores[0])


# Bad input.

def test_the_option_cache_is_refused(tmp_path: Path) -> None:
    result = call("onnx", "--model", "mn01", "--cache", "hidden", "--checkpoint", "random",
                  "--output", tmp_path)
    assert (result.code, "mn01-2s has no cache: leave --cache out" in result.err) == (2, True)


def test_a_width_or_delay_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    for arguments, message in ((("--model", "mn03"), "unknown model 'mn03'; the models are"),
                               (("--model", "mn01", "--delay", 3),
                                "mn01 has no delay of 3 s; it has 1, 2, 5, 10")):
        result = call("onnx", *arguments, "--checkpoint", "random", "--output", tmp_path)
        assert (result.code, message in result.err) == (2, True), result.err
