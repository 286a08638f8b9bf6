"""Every runtime gives the embedding next to the scores, as near to PyTorch's as its precision allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.tensorrt.step import TensorRtStep
from satexport.bundle.folder import open_bundle
from satexport.errors import BundleError
from satexport.parity.golden import run_golden
from satexport.tagging.tagger import Tagger, load
from tests.backends.compiled import compiled
from tests.backends.tensorrt.fake_engine import FakeEngine
from tests.bundle.copies import Change, change_bundle, copy_of, reseal
from tests.machine import on_this_cpu

RUNTIMES = {"onnx": 1e-4, "cpu-int8": 0.2, "openvino-fp32": 1e-4, "openvino-fp32-explicit": 1e-4,
            "openvino-int8": 0.2}  # target -> largest allowed relative difference


def worst(tagger: Tagger) -> float:
    """Return the largest relative difference of an embedding over the golden chunks."""
    found = run_golden(tagger).embeddings
    assert found
    return found["golden chunks"].worst_difference


@pytest.mark.parametrize("target", RUNTIMES)
def test_a_runtime_embeds_as_pytorch_does(target: str, tiny_embedding: Path, tmp_path: Path) -> None:
    path = compiled(tiny_embedding, on_this_cpu(target), tmp_path)
    assert path.name == f"{on_this_cpu(target)}-embedding-mean"
    assert 1e-8 < worst(load(path)) < RUNTIMES[target]


def test_an_engine_embeds_as_pytorch_does(tiny_embedding: Path, tmp_path: Path) -> None:
    bundle = open_bundle(compiled(tiny_embedding, "jetson-orin-nano", tmp_path))
    for precision, largest in (("int8", 0.2), ("fp16", 0.02)):
        engine = FakeEngine((bundle.path / f"{precision}.onnx").read_bytes())
        step = TensorRtStep(engine, bundle.contract, bundle.initial_cache())
        assert 1e-5 < worst(Tagger(bundle, step)) < largest
        outputs = onnx.load(bundle.path / f"{precision}.onnx").graph.output
        dtypes = {value.name: value.type.tensor_type.elem_type for value in outputs}
        assert dtypes["embedding"] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(("change", "words"), [
    (lambda contract: contract["embedding"]["shape"].__setitem__(1, 49),
     r"its tensor embedding is \[1, 48\], the contract says \[1, 49\]\. Export the bundle again"),
    (lambda contract: contract["embedding"].update(name="features"), "its tensor features is missing"),
    (lambda contract: contract.update(embedding=None, options=contract["options"] | {"embedding": ""}), "")])
def test_a_contract_that_disagrees_with_the_graph_is_refused(
        change: Change, words: str, tiny_embedding: Path, tmp_path: Path) -> None:
    path = change_bundle(copy_of(tiny_embedding, tmp_path), lambda manifest: change(manifest["contract"]))
    if words:
        with pytest.raises(BundleError, match=words):
            load(path)
    else:  # an output that nobody asks for
        assert load(path).stream().feed(np.zeros(32_000)).shape == (1, 527)


def test_an_ir_that_disagrees_with_its_contract_is_refused(tiny_embedding: Path, tmp_path: Path) -> None:
    path = compiled(tiny_embedding, "openvino-fp32", tmp_path)
    graph = path / "model.xml"
    graph.write_text(graph.read_text("utf-8").replace('names="embedding"', 'names="features"'))
    reseal(path)
    with pytest.raises(BundleError, match=r"its tensor embedding is missing, the contract says \[1, 48\]"):
        load(path)
