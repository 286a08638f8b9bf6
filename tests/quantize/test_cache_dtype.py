"""Caches stored in fewer bytes: smaller, almost equal, and with the same history."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import Contract, GraphOptions, state_bytes
from satexport.bundle.folder import open_bundle, write_manifest
from satexport.bundle.roles import roles_from_json
from satexport.graph.roles import Graph
from satexport.parity.golden import golden_scores
from satexport.quantize.cache_dtype import store_cache
from satexport.quantize.calibrate import calibrate
from satexport.quantize.observe import Sample
from satexport.step import FloatArray
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.bundle.copies import copy_of, manifest_of, output_with
from tests.commands.calls import call
from tests.tiny import DEPTH, FEW, TINY, export

LARGEST = {"fp16": 2e-3, "int8": 0.05}


@pytest.fixture(scope="module")
def samples(tiny: Path) -> list[Sample]:
    return calibrate(open_bundle(tiny), FEW).samples


def stored_streams(path: Path, dtype: str, samples: list[Sample]) -> StreamBatch:
    """A stream over the graph of an export whose cache is stored in another dtype."""
    bundle = open_bundle(path)
    stored = store_cache(Graph(onnx.load(bundle.graph), bundle.roles), bundle.contract, dtype,
                         list(bundle.initial_cache()), samples)
    graph, contract, initial = stored.graph.model, stored.contract, stored.initial
    assert [(v.name, v.type.tensor_type.elem_type) for v in graph.graph.output[1:]] == [
        (spec.name, {"fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}[dtype])
        for spec in contract.cache_out]
    assert state_bytes(contract) * {"fp16": 2, "int8": 4}[dtype] == state_bytes(bundle.contract)
    assert {array.dtype.name for array in initial} == {{"fp16": "float16", "int8": "int8"}[dtype]}
    return StreamBatch(OnnxRuntimeStep(graph.SerializeToString(), contract, initial), contract)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_scores_hardly_move_and_a_start_is_forgotten_after_as_many_chunks(
        tiny: Path, dtype: str, samples: list[Sample]) -> None:
    streams = stored_streams(tiny, dtype, samples)
    audio, (expected, _) = open_bundle(tiny).golden()
    found = golden_scores(streams, audio)[0]
    assert 1e-6 < np.abs(found - expected).max() < LARGEST[dtype]  # really stored in this dtype
    streams.reset()
    other = stored_streams(tiny, dtype, samples)
    other.feed(audio[::-1].reshape(1, -1))
    for number, chunk in enumerate(audio):
        same = np.array_equal(streams.feed(chunk[None]), other.feed(chunk[None]))
        if not DEPTH // 2 <= number < DEPTH:  # in between rounding may hide the last of it
            assert same == (number >= DEPTH), number


@pytest.mark.parametrize(("model", "delay", "options", "dtype"), [
    ("sat-t", 2, GraphOptions(cache="hidden"), "int8"), ("sat-s", 1, GraphOptions(), "fp16")])
def test_hidden_tokens_and_the_mixed_cache_of_sat_s_are_stored_too(
        tmp_path: Path, model: str, delay: int, options: GraphOptions, dtype: str) -> None:
    path = export(tmp_path, f"{model}-{TINY}", delay, "random", options, use_onnxsim=False)
    audio, (expected, _) = open_bundle(path).golden()
    rolled = calibrate(open_bundle(path), FEW).samples
    found = golden_scores(stored_streams(path, dtype, rolled), audio)[0]
    assert 0 < np.abs(found - expected).max() < LARGEST[dtype]


def fp32_like(path: Path) -> Path:
    """A copy of the bundle with a target that says fp32."""
    copy = copy_of(path, path.parents[2] / "copy")
    manifest = manifest_of(copy)
    target = replace(find_target("cpu-fp32"), name="fp32-like")
    (copy / "bundle.json").unlink()
    write_manifest(copy, Contract.from_dict(manifest["contract"]), target, "model.onnx",
                   manifest["operations"], roles_from_json(manifest["roles"]))
    return copy


@pytest.mark.parametrize("source", ["tiny", pytest.param("demo", marks=pytest.mark.long)])
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_a_bundle_with_a_smaller_cache_says_so_in_its_name_contract_and_report_and_passes_its_gates(
        request: pytest.FixtureRequest, source: str, few_clips: Path, tmp_path: Path, dtype: str,
        audio: FloatArray) -> None:
    made_from = request.getfixturevalue(source)
    output = output_with(made_from, tmp_path)
    result = call("cpu", "--int8", "--cache-dtype", dtype, "--output", output, "--no-measure",
                  "--minutes", 0.2, "--data", few_clips)
    assert result.code == 0, result.err
    path = output / made_from.parent.name / f"cpu-int8-cache-{dtype}"
    tagger = load(path)
    assert tagger.contract.options.cache_dtype == dtype
    assert {spec.dtype for spec in (*tagger.contract.cache_in, *tagger.contract.cache_out)} == {
        {"fp16": "float16", "int8": "int8"}[dtype]}
    audio = audio[:13 * 32_000 + 10]
    whole, parts = tagger.stream(), tagger.stream()
    np.testing.assert_array_equal(
        whole.feed(audio), np.concatenate([parts.feed(part) for part in np.array_split(audio, 10)]))
    again = call("cpu", "--int8", "--from", fp32_like(path), "--output", output)
    assert (again.code, f"is already {dtype}" in again.err) == (2, True)
    whole.reset()
    np.testing.assert_array_equal(whole.feed(audio[:32_000]), tagger.stream().feed(audio[:32_000]))
    result = call("measure", path, "--no-eager", "--steps", 2, "--pause", 0.01, "--json")
    (entry,) = json.loads(result.out)["bundles"]
    assert entry["memory_bytes"]["state"] * {"fp16": 2, "int8": 4}[dtype] == state_bytes(
        open_bundle(made_from).contract)


def test_a_model_without_a_cache_has_none_to_store(random_vit: Path, tmp_path: Path) -> None:
    output = output_with(random_vit, tmp_path)
    result = call("cpu", "--int8", "--cache-dtype", "int8", "--output", output)
    assert (result.code, "-2s has no cache" in result.err) == (2, True)
