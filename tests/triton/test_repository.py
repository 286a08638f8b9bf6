"""`satexport triton`: what is in the repository, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from satexport.bundle.contract import ANY
from satexport.bundle.folder import open_bundle
from satexport.files import sha256_of
from satexport.triton import repository
from tests.bundle.copies import change_bundle, content, copy_of
from tests.commands.calls import call, no_file_longer_than
from tests.machine import needs_proc
from tests.tiny import WINDOW
from tests.triton.bundles import ENGINE, NAME, bundle_of, for_target, refused, with_engine

STATES = ["cache_in_00", "cache_in_01", "cache_in_02"]


def test_a_repository_has_the_graph_the_states_the_labels_and_a_request(
        tiny_lanes: Path, tmp_path: Path) -> None:
    result = call("triton", tiny_lanes, "-o", tmp_path / "repository")
    assert (result.code, result.out.count("\n")) == (0, 1)
    assert "steps of 1 to 64 microphones; 3 states, in two copies 0.11 MB for each microphone" in result.out
    assert f"tritonserver --model-repository={tmp_path / 'repository'}" in result.err
    files = content(tmp_path / "repository")
    assert {*files} == {f"{NAME}/{name}" for name in (
        "1/model.onnx", "config.pbtxt", "labels.txt", "warm_up.json",
        *(f"initial_state/{state}" for state in STATES))}
    for name in ("1/model.onnx", "labels.txt"):
        assert files[f"{NAME}/{name}"] == (tiny_lanes / Path(name).name).read_bytes()
    assert f'name: "{NAME}"' in files[f"{NAME}/config.pbtxt"].decode()
    bundle = open_bundle(tiny_lanes)
    assert f'"{bundle.sha256}"' in files[f"{NAME}/config.pbtxt"].decode()


def test_the_initial_states_are_the_bytes_of_the_initial_cache(tiny_lanes: Path, tmp_path: Path) -> None:
    assert call("triton", tiny_lanes, "-o", tmp_path).code == 0
    folder = tmp_path / NAME / "initial_state"
    whole = np.load(tiny_lanes / "initial_cache.npy")
    assert whole.any()
    assert b"".join((folder / state).read_bytes() for state in STATES) == whole.tobytes()
    for state, array in zip(STATES, open_bundle(tiny_lanes).initial_cache(), strict=True):
        np.testing.assert_array_equal(np.fromfile(folder / state, "<f4"), array.reshape(-1))


def test_the_request_of_the_warm_up_is_one_silent_chunk_that_begins_and_ends(
        tiny_lanes: Path, tmp_path: Path) -> None:
    assert call("triton", tiny_lanes, "-o", tmp_path).code == 0
    request = json.loads((tmp_path / NAME / "warm_up.json").read_bytes())
    (audio,) = request["inputs"]
    assert (audio["name"], audio["shape"], audio["datatype"]) == ("audio", [1, 32000], "FP32")
    assert audio["data"] == 32000 * [0]
    assert request["parameters"] == {"sequence_id": "warm-up", "sequence_start": True, "sequence_end": True}


def test_weights_in_a_file_of_their_own_are_copied(tiny_lanes: Path, tmp_path: Path) -> None:
    bundle = copy_of(tiny_lanes, tmp_path)
    (bundle / "model.onnx.data").write_bytes(b"weights")
    change_bundle(bundle, lambda manifest: manifest["files"].update({"model.onnx.data": {
        "bytes": 7, "sha256": "9f7db6e2b2d7bc3a4e0d4c0b4b5a1b1e" * 2}}))
    result = call("triton", bundle, "-o", tmp_path / "repository")
    assert (result.code, "its SHA-256 does not match" in result.err) == (4, True)
    found = sha256_of(bundle / "model.onnx.data")
    change_bundle(bundle, lambda manifest: manifest["files"]["model.onnx.data"].update(sha256=found))
    assert call("triton", bundle, "-o", tmp_path / "repository").code == 0
    assert (tmp_path / "repository" / NAME / "1" / "model.onnx.data").read_bytes() == b"weights"


def test_json_lists_the_models_and_nothing_else(tiny_lanes: Path, tmp_path: Path) -> None:
    result = call("triton", tiny_lanes, "-o", tmp_path, "--name", "mine", "--json")
    document = json.loads(result.out)
    (model,) = document["models"]
    assert document["repository"] == str(tmp_path)
    assert (model["name"], model["path"], model["states"]) == ("mine", str(tmp_path / "mine"), 3)
    assert (model["serving"], model["max_batch_size"], model["state_bytes"]) == ("triton-cpu", 64, 55296)
    assert model["bundle_sha256"] == open_bundle(tiny_lanes).sha256


def test_an_engine_is_served_one_stream_at_a_time(tiny_lanes: Path, tmp_path: Path) -> None:
    bundle = with_engine(bundle_of(tiny_lanes, tmp_path), tmp_path)
    result = call("triton", bundle, "-o", tmp_path / "repository")
    assert (result.code, "steps of one microphone" in result.out) == (0, True)
    folder = tmp_path / "repository" / NAME
    assert [path.name for path in (folder / "1").iterdir()] == ["model.plan"]
    assert (folder / "1" / "model.plan").read_bytes() == (bundle / ENGINE).read_bytes()
    lines = (folder / "config.pbtxt").read_text("utf-8").splitlines()
    assert {'platform: "tensorrt_plan"', "max_batch_size: 0"} <= {*lines}


# Names and places.

def test_two_bundles_of_one_name_are_refused_and_one_can_be_renamed(tiny_lanes: Path, tmp_path: Path) -> None:
    other = for_target(tiny_lanes, tmp_path, "cpu-int8")
    message = refused(tiny_lanes, other, "-o", tmp_path / "repository")
    assert f"are both {NAME}" in message
    assert f"--name {NAME}-cpu-int8" in message
    assert not (tmp_path / "repository").exists()
    for bundle, name in ((tiny_lanes, NAME), (other, f"{NAME}-cpu-int8")):
        assert call("triton", bundle, "-o", tmp_path / "repository", "--name", name).code == 0
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {NAME, f"{NAME}-cpu-int8"}


def test_several_bundles_are_models_of_one_repository(
        tiny_lanes: Path, tmp_path: Path) -> None:
    other, folder = bundle_of(tiny_lanes, tmp_path, WINDOW, 1, 10, streams=ANY), tmp_path / "repository"
    result = call("triton", tiny_lanes, other, "-o", folder)
    assert (result.code, result.out.count("\n")) == (0, 2)
    window = folder / "vit-t-48x3x2-1s-window-10s"
    assert {path.name for path in folder.iterdir()} == {NAME, window.name}
    assert {path.name for path in window.iterdir()} == {"1", "config.pbtxt", "labels.txt"}


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tiny_lanes: Path, tmp_path: Path) -> None:
    assert "expected a " in refused(tiny_lanes, "-o", tmp_path, "--name", name)


def test_a_name_for_several_bundles_is_refused(tiny_lanes: Path, tmp_path: Path) -> None:
    assert "is for one bundle; found 2" in refused(tiny_lanes, tiny_lanes, "-o", tmp_path, "--name", "x")


def test_a_model_is_replaced_as_a_whole_and_others_stay(tiny_lanes: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.pbtxt").write_text('name: "other"\n')
    assert call("triton", tiny_lanes, "-o", tmp_path).code == 0
    before = content(tmp_path)
    (tmp_path / NAME / "labels.txt").write_text("old")
    assert call("triton", tiny_lanes, "-o", tmp_path).code == 0
    assert content(tmp_path) == before


@pytest.mark.parametrize("file", ["config.pbtxt", "2/model.onnx", "notes.txt"])
def test_a_model_of_other_people_is_not_replaced(file: str, tiny_lanes: Path, tmp_path: Path) -> None:
    if file != "config.pbtxt":  # theirs in a folder of ours
        assert call("triton", tiny_lanes, "-o", tmp_path).code == 0
    (tmp_path / NAME / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / NAME / file).write_text('name: "theirs"\n')
    before = content(tmp_path)
    assert "was not created by satexport" in refused(tiny_lanes, "-o", tmp_path, code=5)
    assert content(tmp_path) == before


def test_a_repository_inside_a_bundle_is_refused(tiny_lanes: Path, tmp_path: Path) -> None:
    bundle = copy_of(tiny_lanes, tmp_path)
    before = content(bundle)
    for output in (bundle, bundle / "triton"):
        assert "which must not be modified" in refused(tiny_lanes, "-o", output)
    assert content(bundle) == before


def test_a_full_disk_leaves_the_old_model_and_nothing_else(tiny_lanes: Path, tmp_path: Path) -> None:
    assert call("triton", tiny_lanes, "-o", tmp_path / "repository").code == 0
    before = content(tmp_path)
    for output in ("repository", "new"):
        with no_file_longer_than(100_000):
            assert "cannot be written" in refused(tiny_lanes, "-o", tmp_path / output, code=5)
    assert content(tmp_path) == before
    assert not (tmp_path / "new").exists()


@needs_proc
def test_a_read_only_folder_is_an_error(tiny_lanes: Path) -> None:
    assert "/proc/repository" in refused(tiny_lanes, "-o", "/proc/repository", code=5)  # also for root


def test_a_file_in_place_of_the_repository_is_an_error(tiny_lanes: Path, tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("mine")
    assert "cannot be written" in refused(tiny_lanes, "-o", tmp_path / "repository", code=5)
    assert (tmp_path / "repository").read_text() == "mine"


def test_a_second_bundle_that_is_damaged_leaves_nothing(tiny_lanes: Path, tmp_path: Path) -> None:
    damaged = copy_of(tiny_lanes, tmp_path)
    (damaged / "labels.txt").write_text("x")
    refused(tiny_lanes, damaged, "-o", tmp_path / "repository", code=4)
    assert not (tmp_path / "repository").exists()


def test_a_graph_that_changes_while_it_is_copied_is_not_served(
        tiny_lanes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "sha256_of", lambda path: 64 * "0")
    assert "was overwritten while it was copied" in refused(tiny_lanes, "-o", tmp_path / "new", code=4)
    assert not (tmp_path / "new").exists()
