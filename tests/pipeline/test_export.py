"""Exports from a user's checkpoint to a proven bundle, each end to end in one test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from satexport.audio.synthetic import synthetic_clip
from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.gates import verdict
from satexport.errors import GateError
from satexport.graph.edit import clone
from satexport.graph.roles import Graph
from satexport.graph.simplify import Simplified
from satexport.graph.writer import Weights
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.sat.folds import FOLDS
from satexport.models.sat.variants import VARIANTS
from satexport.parity.golden import run_golden
from satexport.parity.protocols import find_gate_set, run_parity
from satexport.pipeline.export import export_onnx, golden_audio
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.machine import need
from tests.models.sat.graphs import ALLOWED, pytorch_scores
from tests.tiny import SAT, VIT

soundfile = need("soundfile", "audio")
CLASSES = ("Dial tone", "White noise", "Mains hum")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A user's training checkpoint of vit-t with three classes, and its labels file."""
    folder = tmp_path_factory.mktemp("own")
    state = load_checkpoint("random", find_variant(VIT, 2)).state
    tensors = {key: torch.from_numpy(value).half() for key, value in state.items()}
    for key in ("outputlayer.1.weight", "outputlayer.1.bias"):
        tensors[key] = tensors[key][:len(CLASSES)].clone()
    torch.save({"model": tensors, "epoch": 3}, folder / "own.pt")
    (folder / "labels.txt").write_text("\n".join(CLASSES))
    return folder / "own.pt", folder / "labels.txt"


def test_a_users_own_model_is_exported_and_proven_with_its_own_labels(
        own: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(own[0]), find_variant(VIT, 2), own[1])
    tagger = load(export_onnx(checkpoint, find_target("onnx"), tmp_path).path)
    assert tagger.labels == CLASSES
    rows = ["filename,labels"]
    for number, index in enumerate((2, 5, 8, 16)):  # white noise, dial tone, hum, white noise
        sound, labels = synthetic_clip("calibrate", index, 3.0, rate=16_000)
        soundfile.write(tmp_path / f"{number}.wav", sound, 16_000)
        rows.append(f"{number}.wav,{labels[0]}")
    (tmp_path / "set.csv").write_text("\n".join(rows))
    result = run_parity(tagger, gate_set=find_gate_set(tagger.bundle, str(tmp_path / "set.csv")), minutes=0.2)
    assert verdict(result.gates) == "passed"
    assert result.labelled_set
    assert set(result.labelled_set.bundle.classes) == set(CLASSES)
    assert result.labelled_set.bundle_map == pytest.approx(result.labelled_set.pytorch_map, abs=1e-3)


def test_without_the_synthetic_labels_the_map_gate_is_skipped_and_says_why(
        own: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(own[0]), find_variant(VIT, 2), own[1])
    tagger = load(export_onnx(checkpoint, find_target("onnx"), tmp_path).path)
    gates = run_parity(tagger, minutes=0.1).gates
    assert [gate.status for gate in gates] == ["passed", "skipped"]
    assert "pass --data" in gates[1].note


def test_the_report_names_every_stage_and_what_it_did(demo: Path) -> None:
    report = json.loads((demo / "reports" / "export.json").read_text("utf-8"))
    names = [stage["name"] for stage in report["stages"]]
    assert names == ["keys and values cached", *FOLDS, "onnxsim"]
    assert all(stage["from_before"] <= 1e-5 for stage in report["stages"][1:])
    assert report["golden"]["chunks"] == 13
    assert report["golden"]["max_difference"] < 1e-4
    assert len(onnx.load(demo / "model.onnx").graph.node) == report["stages"][-1]["nodes"]


def test_the_graph_that_ships_has_plain_nodes_and_the_contracts_values_in_order(demo: Path) -> None:
    model, contract = onnx.load(demo / "model.onnx"), load(demo).contract
    assert {node.op_type for node in model.graph.node} <= ALLOWED | {"Gemm"}  # onnxsim's
    assert {node.domain for node in model.graph.node} == {""}
    for values, specs in ((model.graph.input, (contract.input, *contract.cache_in)),
                          (model.graph.output, (*contract.outputs, *contract.cache_out))):
        shapes = [(v.name, tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values]
        assert shapes == [(s.name, s.shape) for s in specs]


def test_another_opset_gets_its_own_bundle(tmp_path: Path) -> None:
    checkpoint = load_checkpoint("random", find_variant(VIT, 1))
    export = export_onnx(checkpoint, find_target("onnx"), tmp_path, opset=17)
    assert export.path == tmp_path / f"{VIT}-1s" / "onnx-opset17"
    assert verdict(run_golden(load(export.path)).gates) == "passed"


@pytest.mark.parametrize(("options", "name"), [
    (GraphOptions(cache="hidden"), "onnx-hidden"), (GraphOptions(streams=ANY), "onnx-dynamic"),
    (GraphOptions(cache="hidden", input="mel", streams=2), "onnx-hidden-mel-x2"),
    (GraphOptions(input="mel"), "onnx-mel"), (GraphOptions(streams=2), "onnx-x2")])
def test_each_graph_option_gets_its_own_named_and_proven_bundle(
        tmp_path: Path, options: GraphOptions, name: str) -> None:
    checkpoint = load_checkpoint("random", find_variant(SAT, 2))
    export = export_onnx(checkpoint, find_target("onnx"), tmp_path, options)
    assert export.path == tmp_path / checkpoint.variant.name / name
    tagger = load(export.path)
    assert tagger.contract.options == options
    assert verdict(run_golden(tagger).gates) == "passed"
    result = run_parity(tagger, minutes=0.4)
    assert [gate.status for gate in result.gates] == ["passed", "skipped"]  # random weights
    assert result.differences["0.4 min of stream"].chunks == 12
    assert tagger.stream().feed(golden_audio(checkpoint.variant)[0]).shape == (1, 527)


@pytest.mark.long
@pytest.mark.parametrize(("options", "name"), [
    (GraphOptions(cache="hidden"), "onnx-hidden"), (GraphOptions(streams=ANY), "onnx-dynamic"),
    (GraphOptions(cache="hidden", input="mel", streams=2), "onnx-hidden-mel-x2"),
    (GraphOptions(input="mel"), "onnx-mel"), (GraphOptions(streams=2), "onnx-x2")])
def test_the_demo_keeps_its_map_with_every_graph_option(
        tmp_path: Path, few_clips: Path, options: GraphOptions, name: str) -> None:
    checkpoint = load_checkpoint("demo", find_variant("sat-t", 2))
    export = export_onnx(checkpoint, find_target("onnx"), tmp_path, options)
    assert export.path == tmp_path / "sat-t-2s" / name
    tagger = load(export.path)
    assert tagger.contract.options == options
    assert verdict(run_golden(tagger).gates) == "passed"
    result = run_parity(tagger, gate_set=find_gate_set(tagger.bundle, str(few_clips)), minutes=0.4)
    assert [gate.status for gate in result.gates] == ["passed"] * 3
    assert result.labelled_set
    assert (result.labelled_set.clips, result.labelled_set.differences.chunks) == (28, 56)
    assert tagger.stream().feed(golden_audio(checkpoint.variant)[0]).shape == (1, 527)


def test_the_golden_scores_are_those_of_pytorch(demo: Path) -> None:
    tagger = load(demo)
    audio, (scores, _) = tagger.bundle.golden()
    checkpoint = load_checkpoint("demo", VARIANTS["sat-t", 2])
    np.testing.assert_array_equal(audio, golden_audio(checkpoint.variant))
    np.testing.assert_allclose(scores, pytorch_scores(checkpoint, audio), atol=1e-6)
    assert verdict(run_golden(tagger).gates) == "passed"


def test_a_rewrite_that_moves_the_scores_stops_the_export(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(weights: Weights) -> Weights:
        return weights | {"head.bias": weights["head.bias"] + 1e-3}

    monkeypatch.setitem(FOLDS, "a wrong fold", wrong)
    with pytest.raises(GateError, match="'a wrong fold' moved a score by"):
        export_onnx(load_checkpoint("random", find_variant(VIT, 1)), find_target("onnx"), tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_graph_that_differs_from_pytorch_stops_the_export(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the PyTorch model computes its own window
    monkeypatch.setattr("satexport.frontends.log_mel.LogMel.window", lambda row: np.hamming(512))
    with pytest.raises(GateError, match=r"over \d+ chunks, a score of the graph differs from PyTorch's by "
                                        r"\S+; the target onnx allows at most 1e-04\. No bundle was written"):
        export_onnx(load_checkpoint("random", find_variant(VIT, 1)), find_target("onnx"), tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_an_onnxsim_graph_with_other_scores_is_not_kept(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(graph: Graph) -> Simplified:
        spoiled = clone(graph.model)
        top = next(i for i in spoiled.graph.initializer if i.name == "head.bias")
        top.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(top) + 1, "head.bias"))
        return Simplified(Graph(spoiled, graph.roles))

    monkeypatch.setattr("satexport.pipeline.export.simplify", spoil)
    checkpoint = load_checkpoint("random", find_variant(VIT, 1))
    export = export_onnx(checkpoint, find_target("onnx"), tmp_path)
    assert not export.report.stages[-1].kept
    assert "moved a score by" in export.report.stages[-1].why_not
    assert verdict(run_golden(load(export.path)).gates) == "passed"
