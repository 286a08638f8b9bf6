"""`satexport hub`: what is in the folder, and what stays as it was."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.bundle.folder import open_bundle
from satexport.files import sha256_of
from satexport.publish import graphs
from satexport.step import Outputs
from tests.bundle.copies import content, copy_of
from tests.commands.calls import call, no_file_longer_than
from tests.machine import needs_proc
from tests.publish.bundles import (
    put_report,
    refused,
    trained,
    with_reports,
    with_target,
    with_weights_apart,
)
from tests.report.records import parity_report


def test_a_folder_has_the_graphs_and_what_a_program_needs_to_run_them(tiny: Path, tmp_path: Path) -> None:
    int8 = with_weights_apart(with_target(tiny, tmp_path, "cpu-int8"))
    result = call("hub", int8, tiny, "-o", tmp_path / "hub")
    assert result.code == 0, result.err
    assert [line.split(": ")[0] for line in result.out.splitlines()] == [
        f"{tmp_path}/hub/onnx/model.onnx", f"{tmp_path}/hub/onnx/model_int8.onnx"]
    assert f"hf upload OWNER/REPO {tmp_path / 'hub'}" in result.err
    files = content(tmp_path / "hub")
    assert {*files} == {
        "ATTRIBUTION.md", "README.md", "config.json", "golden/audio.wav", "golden/scores.bin",
        "initial_cache.bin", "labels.txt", "onnx/model.onnx", "onnx/model_int8.onnx",
        "reports/fp32/export.json", "reports/int8/export.json"}
    assert files["onnx/model.onnx"] == (tiny / "model.onnx").read_bytes()
    assert files["labels.txt"] == (tiny / "labels.txt").read_bytes()
    assert files["initial_cache.bin"] == np.load(tiny / "initial_cache.npy").tobytes()
    assert np.load(tiny / "initial_cache.npy").any()


def test_the_golden_chunks_are_a_sound_file_and_the_scores_of_pytorch(tiny: Path, tmp_path: Path) -> None:
    assert call("hub", tiny, "-o", tmp_path / "hub").code == 0
    with np.load(tiny / "golden.npz") as golden:
        audio, scores = golden["audio"], golden["scores"]
    with wave.open(str(tmp_path / "hub" / "golden" / "audio.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        samples = np.frombuffer(file.readframes(10**9), "<i2")
    np.testing.assert_array_equal(samples, audio.reshape(-1))
    found = np.fromfile(tmp_path / "hub" / "golden" / "scores.bin", "<f4")
    np.testing.assert_array_equal(found, scores.reshape(-1))


def test_the_config_names_labels_tensors_and_files(tiny: Path, tmp_path: Path) -> None:
    assert call("hub", tiny, "-o", tmp_path / "hub").code == 0
    config, bundle = json.loads((tmp_path / "hub" / "config.json").read_bytes()), open_bundle(tiny)
    assert config["model_type"] == "custom"
    assert config["transformers.js_config"] == {"dtype": "fp32"}
    assert list(config["id2label"].items())[:2] == [("0", "Speech"), ("1", "Male speech, man speaking")]
    assert config["label2id"] == {label: number for number, label in enumerate(bundle.labels)}
    ours = config["satexport"]
    assert (ours["variant"], ours["sample_rate"], ours["hop_samples"], ours["streams"]) == (
        "sat-t-48x3x3-2s", 16_000, 32_000, 1)
    assert ours["input"] == {"name": "audio", "shape": [1, 32_000], "dtype": "float32"}
    assert [(cache["input"], cache["output"], cache["shape"]) for cache in ours["cache"]] == [
        (old.name, new.name, list(old.shape)) for old, new in zip(
            bundle.contract.cache_in, bundle.contract.cache_out, strict=True)]
    assert ours["initial_cache"] == "initial_cache.bin"
    assert ours["front_end"] == bundle.contract.front_end
    assert ours["graphs"]["fp32"]["bundle_sha256"] == bundle.sha256
    found = {name: sha256_of(tmp_path / "hub" / name) for name in content(tmp_path / "hub")}
    del found["config.json"]
    assert ours["card_sha256"] == found.pop("README.md")
    assert ours["files"] == found


def test_weights_of_two_files_come_into_one_and_the_scores_stay_bit_by_bit(
        tiny: Path, tmp_path: Path) -> None:
    apart = with_weights_apart(copy_of(tiny, tmp_path))
    assert call("hub", apart, "-o", tmp_path / "hub").code == 0
    graph = tmp_path / "hub" / "onnx" / "model.onnx"
    assert [path.name for path in graph.parent.iterdir()] == ["model.onnx"]
    assert not any(constant.external_data for constant in onnx.load(
        graph, load_external_data=False).graph.initializer)
    bundle = open_bundle(apart)
    expected, found = (graphs._run(bundle, path).scores for path in (bundle.graph, graph))
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found[0] - bundle.golden()[1].scores).max() < 1e-5


def test_a_graph_whose_scores_move_is_not_written(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = with_weights_apart(copy_of(tiny, tmp_path))
    numbers = iter([np.zeros((1, 1, 2), np.float32), np.full((1, 1, 2), 1e-7, np.float32)])
    monkeypatch.setattr(graphs, "_run", lambda bundle, graph: Outputs(next(numbers)))
    assert "gives other scores: 1.0e-07" in refused(apart, "-o", tmp_path / "hub", code=5)
    assert not (tmp_path / "hub").exists()


def test_json_says_what_was_written(tiny: Path, tmp_path: Path) -> None:
    document = json.loads(call("hub", tiny, "-o", tmp_path / "hub", "--json").out)
    (graph,) = document["graphs"]
    assert (document["folder"], document["license"]) == (str(tmp_path / "hub"), "other")
    assert (graph["file"], graph["precision"], graph["verdict"]) == ("onnx/model.onnx", "fp32", "not proven")
    assert graph["bytes"] == (tiny / "model.onnx").stat().st_size
    assert set(document["files"]) == set(content(tmp_path / "hub"))


def test_the_same_bundles_in_any_order_give_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    int8 = with_reports(with_target(tiny, tmp_path, "cpu-int8"))
    for folder, bundles in (("one", (tiny, int8)), ("two", (int8, tiny))):
        assert call("hub", *bundles, "-o", tmp_path / folder).code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_bundle_for_browsers_is_taken(tiny: Path, tmp_path: Path) -> None:
    assert call("hub", with_target(tiny, tmp_path, "web-fp32"), "-o", tmp_path / "hub").code == 0
    config = json.loads((tmp_path / "hub" / "config.json").read_bytes())
    assert config["satexport"]["graphs"]["fp32"]["target"] == "web-fp32"


# Reports.

def test_reports_are_published_without_the_paths_of_this_machine(tiny: Path, tmp_path: Path) -> None:
    bundle = trained(tiny, tmp_path)
    scored = parity_report().labelled_set
    assert scored
    place = "/home/me/secret/ESC-50"
    with_reports(bundle, labelled_set=replace(
        scored, name=place, origin={"kind": "esc50", "folder": place, "folds": ["4"]}),
        differences={f"{place}": scored.differences})
    assert call("hub", bundle, "-o", tmp_path / "hub").code == 0
    for name, data in content(tmp_path / "hub").items():
        assert b"/home/me" not in data, name
    report = json.loads((tmp_path / "hub" / "reports" / "fp32" / "parity.json").read_bytes())
    assert (report["labelled_set"]["name"], list(report["differences"])) == ("ESC-50", ["ESC-50"])
    measured = json.loads((tmp_path / "hub" / "reports" / "fp32" / "measure.json").read_bytes())
    assert measured["bundles"][0]["bundle"] == "onnx"


def test_a_report_about_another_bundle_or_a_damaged_one_is_left_out(tiny: Path, tmp_path: Path) -> None:
    bundle = copy_of(tiny, tmp_path)
    put_report(bundle, "parity.json", parity_report())
    (bundle / "reports" / "measure.json").write_text('{"kind": "measure", "schema": 1}')
    (bundle / "reports" / "mine.json").write_text("{}")
    result = call("hub", bundle, "-o", tmp_path / "hub")
    assert result.code == 0
    assert "parity.json is about another bundle" in result.err
    assert "measure.json: is a report of schema 1" in result.err
    assert f"{bundle} is not proven" in result.err
    assert not {"reports/fp32/parity.json", "reports/fp32/measure.json", "reports/fp32/mine.json"} & {
        *content(tmp_path / "hub")}


def test_a_report_with_impossible_values_is_left_out(tiny: Path, tmp_path: Path) -> None:
    bundle = with_reports(trained(tiny, tmp_path))
    report = json.loads((bundle / "reports" / "parity.json").read_bytes())
    report["labelled_set"]["pytorch"]["map"] = 0
    (bundle / "reports" / "parity.json").write_text(json.dumps(report))
    result = call("hub", bundle, "-o", tmp_path / "hub")
    assert result.code == 0
    assert "parity.json has impossible values (ZeroDivisionError" in result.err
    assert "reports/fp32/parity.json" not in content(tmp_path / "hub")


def test_a_bundle_that_failed_a_gate_is_written_and_the_command_fails(tiny: Path, tmp_path: Path) -> None:
    bundle = trained(tiny, tmp_path)
    gate = replace(parity_report().gates[0], status="failed", note="0.5, at least 0.9")
    with_reports(bundle, gates=(gate,))
    result = call("hub", bundle, "-o", tmp_path / "hub")
    assert result.code == 1
    assert "mAP kept failed: 0.5, at least 0.9" in result.err
    assert "The fp32 graph **failed its gates**" in (tmp_path / "hub" / "README.md").read_text("utf-8")


# Places.

def test_a_folder_that_satexport_wrote_is_replaced_as_a_whole(tiny: Path, tmp_path: Path) -> None:
    int8 = with_target(tiny, tmp_path, "cpu-int8")
    assert call("hub", int8, "-o", tmp_path / "hub").code == 0
    assert call("hub", tiny, "-o", tmp_path / "hub").code == 0
    assert "onnx/model_int8.onnx" not in content(tmp_path / "hub")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("file", ["config.json", ".git/HEAD", "notes.txt"])
def test_a_folder_with_files_of_other_people_is_not_replaced(file: str, tiny: Path, tmp_path: Path) -> None:
    if file != "config.json":
        assert call("hub", tiny, "-o", tmp_path / "hub").code == 0
    (tmp_path / "hub" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "hub" / file).write_text('{"model_type": "custom"}')
    before = content(tmp_path)
    words = ("was not created by satexport" if file == "config.json" else
             f"has files that satexport did not write, such as '{file}'")
    assert words in refused(tiny, "-o", tmp_path / "hub", code=5)
    assert content(tmp_path) == before


def test_a_model_card_that_was_edited_is_not_lost(tiny: Path, tmp_path: Path) -> None:
    assert call("hub", tiny, "-o", tmp_path / "hub").code == 0
    with (tmp_path / "hub" / "README.md").open("a", encoding="utf-8") as card:
        card.write("Mine.\n")
    before = content(tmp_path)
    assert "README.md was changed after satexport wrote it" in refused(tiny, "-o", tmp_path / "hub", code=5)
    assert content(tmp_path) == before


def test_the_current_folder_and_a_link_are_folders_like_others(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "link").symlink_to("hub")
    assert call("hub", tiny, "-o", tmp_path / "link").code == 0
    assert "config.json" in content(tmp_path / "hub")
    assert (tmp_path / "link").is_symlink()
    monkeypatch.chdir(tmp_path)
    assert "was not created by satexport" in refused(tiny, "-o", ".", code=5)
    monkeypatch.chdir(tmp_path / "hub")
    assert call("hub", tiny, "-o", ".").code == 0
    assert "is the root of the file system" in refused(tiny, "-o", "/")


def test_a_folder_inside_a_bundle_is_refused(tiny: Path, tmp_path: Path) -> None:
    bundle = copy_of(tiny, tmp_path)
    before = content(bundle)
    assert "which must not be modified" in refused(tiny, "-o", bundle / "hub")
    assert "was not created by satexport" in refused(tiny, "-o", bundle, code=5)
    assert content(bundle) == before


def test_a_full_disk_leaves_the_old_folder_and_nothing_else(tiny: Path, tmp_path: Path) -> None:
    assert call("hub", tiny, "-o", tmp_path / "hub").code == 0
    before = content(tmp_path)
    for output in ("hub", "new"):
        with no_file_longer_than(100_000):
            message = refused(tiny, "-o", tmp_path / output, code=5)
        assert f"{tmp_path}/{output}/onnx/model.onnx: cannot be written" in message
    assert content(tmp_path) == before
    assert not (tmp_path / "new").exists()


@needs_proc
def test_a_read_only_folder_is_an_error(tiny: Path) -> None:
    assert "/proc/hub" in refused(tiny, "-o", "/proc/hub", code=5)  # also for root
