"""`satexport openvino` from the user's view, and faults that only OpenVINO can have."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.openvino import step as backend
from satexport.backends.openvino import write as openvino_ir
from satexport.bundle.folder import open_bundle
from satexport.errors import BundleError, MissingError
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger, load
from tests.backends.compiled import compiled, compiled_model
from tests.bundle.copies import content, copy_of, manifest_of, output_with, reseal
from tests.commands.calls import Made, call
from tests.lean import FILES, TRAINING, python
from tests.machine import has_bf16, need
from tests.measure.measured import QUICK as SHORT
from tests.tiny import DEPTH, SAT_2S

need("openvino", "openvino")


@pytest.fixture(scope="module")
def made(demo: Path, few_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    output = output_with(demo, tmp_path_factory.mktemp("openvino"))
    result = call("openvino", "--int8", "--output", output, "--no-measure", "--minutes", 0.5,
                  "--data", few_clips)
    return Made(output, output / "sat-t-2s" / "openvino-int8", result)


@pytest.fixture(scope="module")
def loaded(made: Made) -> Tagger:
    return load(made.path)


def int8_products(executed: dict[str, dict[str, int]]) -> int:
    """Number of products in int8; a range that is symmetric makes i8 of its activations."""
    return sum(executed["products"].get(precision, 0) for precision in backend.INT8)


def test_int8_of_the_export_in_the_output_folder_is_made_and_proven(made: Made) -> None:
    assert made.result.code == 0, made.result.err
    assert "Gates: passed" in made.result.out
    report = json.loads((made.path / "reports" / "parity.json").read_bytes())
    assert report["labelled_set"]["bundle_map"] >= 0.99 * report["labelled_set"]["pytorch_map"]
    assert report["differences"]["0.5 min of stream"]["largest"] > 1e-5  # it is int8 that was run
    assert abs(report["drift"]["drift"]) < 1e-3
    bundle = open_bundle(made.path)
    assert set(manifest_of(made.path)["files"]) == {
        "model.xml", "model.bin", "initial_cache.npy", "labels.txt", "golden.npz", "calibration.json"}
    assert bundle.graph_bytes == sum((made.path / name).stat().st_size for name in ("model.xml", "model.bin"))


def test_the_precisions_are_asked_for_and_read_back(made: Made) -> None:
    floats = open_bundle(made.path).target.options["floats"]
    assert floats == ("bf16" if has_bf16() else "fp32")  # the bundle says which
    executed = json.loads((made.path / "reports" / "parity.json").read_bytes())["executed"]
    assert set(executed["front end"]) == {"f32"}
    assert int8_products(executed) == 49  # 60 layers, one in two products; q, k and v are one
    assert executed["products"][backend.PRECISIONS[floats]] == 2  # patches and head
    assert "Layers by compute precision: front end" in made.result.out


@pytest.mark.usefixtures("bf16")
def test_the_front_end_stays_in_f32_in_a_model_of_bf16(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the attribute `precise` it is in bf16, which spoils the scores; such a bundle is refused."""
    audio, (expected, _) = open_bundle(tiny).golden()
    path = compiled(tiny, "openvino-bf16", tmp_path)
    tagger = load(path)
    assert set(tagger.step.executed()["front end"]) == {"f32"}
    assert set(tagger.step.executed()["products"]) == {"bf16"}
    assert np.abs(tagger.stream().feed(audio.reshape(-1)) - expected).max() < 0.02
    graph = path / "model.xml"
    graph.write_text(graph.read_text("utf-8").replace('name="precise"', 'name="imprecise"'))
    reseal(path)
    with pytest.raises(MissingError, match=r"computes here: front end: \d+ in bf16"):
        load(path)
    monkeypatch.setattr(backend, "check_executed", lambda *_: None)
    spoiled = load(path)
    assert "bf16" in spoiled.step.executed()["front end"]
    assert np.abs(spoiled.stream().feed(audio.reshape(-1)) - expected).max() > 0.02


@pytest.mark.usefixtures("bf16")
def test_a_precision_that_is_not_delivered_fails_and_leaves_no_bundle(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: tuple[object, ...]) -> None:
    monkeypatch.setattr(openvino_ir, "_add_attributes", lambda *_: None)
    output = output_with(tiny, tmp_path)
    result = call("openvino", "--bf16", "--output", output, *quick)
    assert result.code == 3
    assert "expected 0 products in int8, the others in bf16 and the front end in f32" in result.err
    assert [path.name for path in (output / SAT_2S).iterdir()] == ["onnx"]


def test_a_request_that_is_new_or_reset_has_heard_silence(
        tiny: Path, tmp_path: Path, audio: FloatArray) -> None:
    tagger = load(compiled(tiny, "openvino-fp32", tmp_path))
    silence = {f"{spec.name}{spec.name.replace('in', 'out')}": array for spec, array in zip(
        tagger.contract.cache_in, tagger.bundle.initial_cache(), strict=True)}
    assert len(silence) == DEPTH
    assert all(np.abs(array).max() > 0.01 for array in silence.values())
    cache = tagger.step.initial_cache(1)
    (served,) = cache
    request = served.now
    served.x[:] = audio[:32_000]

    def scores() -> FloatArray:
        request.infer()
        return np.array(served.outputs[0])

    assert {state.name for state in request.query_state()} == set(silence)
    first = scores()
    assert not np.array_equal(scores(), first)
    request.reset_state()
    np.testing.assert_array_equal(scores(), first)
    for state in request.query_state():  # set the state to silence
        state.state = type(state.state)(silence[state.name])
    np.testing.assert_array_equal(scores(), first)


def test_an_explicit_cache_is_inputs_and_outputs_and_the_bundle_is_called_so(
        tiny: Path, tmp_path: Path, quick: tuple[object, ...]) -> None:
    import openvino

    output = output_with(tiny, tmp_path)
    result = call("openvino", "--fp32", "--explicit-cache", "--output", output, *quick)
    assert result.code == 0, result.err
    path = output / SAT_2S / "openvino-fp32-explicit"
    model = openvino.Core().read_model(path / "model.xml")
    contract = open_bundle(path).contract
    assert [port.any_name for port in model.inputs] == ["audio", *(s.name for s in contract.cache_in)]
    assert {port.any_name for port in model.outputs} == {"scores", *(s.name for s in contract.cache_out)}
    gates = json.loads((path / "reports" / "parity.json").read_bytes())["gates"]
    assert [gate["status"] for gate in gates] == ["passed", "skipped"]  # random weights


@pytest.mark.long
def test_weights_are_stored_in_half_the_bytes_where_that_is_asked_for(
        demo: Path, openvino_demo: Path, tmp_path: Path, quick: tuple[object, ...]) -> None:
    output = output_with(demo, tmp_path)
    result = call("openvino", "--fp32", "--compress", "fp16", "--output", output, *quick)
    assert result.code == 0, result.err
    path = output / "sat-t-2s" / "openvino-fp32-fp16-weights"
    whole = openvino_demo
    assert (path / "model.bin").stat().st_size < 0.6 * (whole / "model.bin").stat().st_size
    layers = ET.parse(path / "model.xml").getroot().iter("layer")
    types = {layer.get("name"): layer.find("data").get("element_type")  # type: ignore[union-attr]
             for layer in layers if layer.get("type") == "Const"}
    assert types["11.fc2.weight"] == "f16"
    assert types["mel.second"] == "f32"
    report = json.loads((path / "reports" / "parity.json").read_bytes())
    differences = report["differences"]["0.1 min of stream"]
    assert 1e-6 < differences["largest"] < 5e-3


def test_a_bundle_tags_a_file_as_any_other(made: Made, audio: FloatArray, tmp_path: Path) -> None:
    soundfile = need("soundfile", "audio")

    soundfile.write(tmp_path / "a.wav", audio[:64_000], 16_000)
    lines = {path: call("run", path, tmp_path / "a.wav").out.splitlines()
             for path in (made.path, made.output / "sat-t-2s" / "onnx")}
    first, second = lines.values()
    assert len(first) == len(second) > 1
    assert first[1].split()[1] == second[1].split()[1]


def test_a_device_needs_numpy_and_openvino_alone(
        made: Made, loaded: Tagger, audio: FloatArray, tmp_path: Path) -> None:
    program = """
import numpy as np, satexport
_, bundle, audio, scores = sys.argv
np.save(scores, satexport.load(bundle).stream().feed(np.load(audio)))
"""
    np.save(tmp_path / "audio.npy", audio[:96_000])
    python(program, made.path, tmp_path / "audio.npy", tmp_path / "scores.npy",
           without=(*TRAINING, *FILES, "onnxruntime", "click", "rich"))
    expected = loaded.stream().feed(audio[:96_000])
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), expected)


@pytest.mark.long
def test_a_bundle_is_measured_as_any_other(made: Made, tmp_path: Path) -> None:
    path = copy_of(made.path, tmp_path)
    result = call("measure", path, *SHORT, "--no-eager", "--json")
    assert result.code == 0, result.err
    (entry,) = json.loads(result.out)["bundles"]
    assert int8_products(entry["executed"]) == 49
    assert entry["memory_bytes"]["state"] == 884_736
    assert entry["memory_bytes"]["resident"] > entry["memory_bytes"]["weights"] > 7e6
    assert entry["latency"]["burst"]["median_ms"] > 0


def test_a_model_without_a_cache_and_one_that_hears_mel_work_too(random_vit: Path, tmp_path: Path) -> None:
    for name in ("openvino-fp32", "openvino-bf16"):
        if name == "openvino-fp32" or has_bf16():
            path = compiled(random_vit, name, tmp_path)
            result = call("parity", path, "--golden")
            assert result.code == 0, result
            assert open_bundle(path).contract.cache_in == ()


# What is missing, wrong or damaged.

def test_without_openvino_it_says_what_to_install(tiny: Path, tmp_path: Path, made: Made,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    output = output_with(tiny, tmp_path)
    for arguments in (("openvino", "--output", output), ("parity", made.path, "--golden")):
        result = call(*arguments)
        assert result.code == 3
        assert "pip install 'satexport[openvino]'" in result.err
    assert [path.name for path in (output / SAT_2S).iterdir()] == ["onnx"]


def test_a_full_disk_is_said_and_leaves_what_was_there(
        made: Made, monkeypatch: pytest.MonkeyPatch, quick: tuple[object, ...]) -> None:
    import openvino

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", full)
    before = content(made.path)
    result = call("openvino", "--fp32", "--output", made.output, *quick)
    assert result.code == 5
    assert "openvino-fp32/model.xml: cannot be written (basic_ios::clear" in result.err
    assert {path.name for path in (made.output / "sat-t-2s").iterdir()} == {"onnx", "openvino-int8"}
    assert content(made.path) == before


def test_a_normalisation_and_its_quantisation_are_one_layer(loaded: Tagger) -> None:
    layers = compiled_model(loaded).get_runtime_model().get_ops()
    kinds = [layer.get_rt_info()["layerType"].astype(str) for layer in layers]
    assert "MVN" in kinds
    assert "FakeQuantize" not in kinds


def test_quantisation_is_one_node_and_weights_have_no_zero_points(made: Made) -> None:
    import openvino

    nodes = openvino.Core().read_model(made.path / "model.xml").get_ops()
    kinds = [node.get_type_name() for node in nodes]
    weights = [node for node in nodes for output in node.outputs()
               if output.get_element_type().get_type_name() in ("i8", "u8")]
    assert "FakeQuantize" in kinds
    assert "Range" not in kinds
    assert {node.get_type_name() for node in weights} == {"Constant"}
    assert kinds.count("Convert") == len(weights) == 49  # q, k and v are one product


def test_no_activation_of_a_product_has_a_zero_point(made: Made) -> None:
    import openvino

    nodes = openvino.Core().read_model(made.path / "model.xml").get_ops()
    lowest = [node.input_value(3).get_node().data for node in nodes if node.get_type_name() == "FakeQuantize"]
    assert len(lowest) == 49
    assert not np.any(lowest)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights gone": lambda path: (path / "model.bin").unlink(),
    "weights changed": lambda path: (path / "model.bin").write_bytes(
        bytes([1]) + (path / "model.bin").read_bytes()[1:]),
    "weights cut": lambda path: (path / "model.bin").write_bytes((path / "model.bin").read_bytes()[:-1]),
    "graph changed": lambda path: (path / "model.xml").write_text(
        (path / "model.xml").read_text("utf-8").replace("Gelu", "Relu", 1))}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_never_used(made: Made, tmp_path: Path, damage: str) -> None:
    path = copy_of(made.path, tmp_path)
    DAMAGES[damage](path)
    with pytest.raises(BundleError, match=r"model\.(bin|xml)"):
        load(path)


def test_a_graph_that_openvino_cannot_read_or_of_another_contract_is_named(
        made: Made, tmp_path: Path) -> None:
    path = copy_of(made.path, tmp_path)
    graph = path / "model.xml"
    text = graph.read_text("utf-8")
    graph.write_text("<net")
    reseal(path)
    with pytest.raises(BundleError, match=r"OpenVINO \S+ cannot read .*model\.xml"):
        load(path)
    graph.write_text(text.replace("AudioSet", "another") if "AudioSet" in text else text.replace("kv", "vk"))
    reseal(path)
    with pytest.raises(BundleError, match="its metadata does not match the bundle"):
        load(path)
