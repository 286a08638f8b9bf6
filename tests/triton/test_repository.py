"""`satexport triton`: what is in the repository, which bundles are refused, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.files import sha256_of
from satexport.triton import repository
from satexport.triton.bundles import make_command
from satexport.triton.serving import FOLDER
from tests.bundle.copies import change_bundle, content, copy_of
from tests.commands.calls import call, no_file_longer_than
from tests.docs.commands import in_lines, parse
from tests.machine import needs_proc
from tests.tiny import WINDOW
from tests.triton.bundles import ENGINE, bundle_of, for_target, with_engine

NAME = "sat-t-48x3x3-2s"
STATES = ["cache_in_00", "cache_in_01", "cache_in_02"]


def test_a_repository_has_the_graph_the_states_the_labels_and_a_request(
        tiny_lanes: Path, tmp_path: Path) -> None:
    result = call("triton", tiny_lanes, "-o", tmp_path / "repository")
    assert (result.code, result.out.count("\n")) == (0, 1)
    assert "steps of 1 to 64 microphones; 3 states, 0.06 MB for each microphone" in result.out
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


# Which bundles are refused, and with which command.

def refused(*arguments: object, code: int = 2) -> str:
    """Run the command, which must fail and write nothing, and return its message."""
    result = call("triton", *arguments)
    assert (result.code, result.out) == (code, "")
    return result.err


def commands_in(message: str) -> list[list[str]]:
    """The commands that a message ends with, each read by click."""
    line = message[message.index("satexport "):].strip().removesuffix(".")
    shown = list(in_lines("message", [line]))
    for command in shown:
        parse(command)
    return [list(command.words) for command in shown]


def test_a_bundle_of_one_stream_is_refused_with_the_command_for_any_number(
        tiny_lanes: Path, tmp_path: Path) -> None:
    message = refused(bundle_of(tiny_lanes, tmp_path), "-o", tmp_path / "repository")
    assert "is for 1 stream in each step" in message
    assert commands_in(message) == [
        ["onnx", "--model", "sat-t-48x3x3", "--delay", "2", "--checkpoint", "random", "--streams", "dynamic"]]
    assert not (tmp_path / "repository").exists()


def test_a_bundle_of_three_streams_is_refused(tiny_lanes: Path, tmp_path: Path) -> None:
    three = bundle_of(tiny_lanes, tmp_path, streams=3)
    assert "is for 3 streams in each step" in refused(three, "-o", tmp_path / "repository")


def test_the_command_has_the_window_the_target_and_the_weights(tiny_lanes: Path, tmp_path: Path) -> None:
    def own_weights(manifest: dict[str, dict[str, object]]) -> None:
        manifest["contract"]["checkpoint"] = {"name": "my file.pt", "source": "file", "sha256": 64 * "1"}

    bundle = for_target(bundle_of(tiny_lanes, tmp_path, WINDOW, 1, 10), tmp_path, "cpu-fp32")
    message = refused(change_bundle(bundle, own_weights), "-o", tmp_path / "repository")
    assert commands_in(message) == [
        ["bundle", "--target", "cpu-fp32", "--model", "vit-t-48x3x2", "--delay", "1", "--window", "10",
         "--checkpoint", "my file.pt", "--streams", "dynamic"]]


def test_options_that_only_the_export_has_make_two_commands(tiny_lanes: Path, tmp_path: Path) -> None:
    bundle = open_bundle(for_target(tiny_lanes, tmp_path, "cpu-int8"))
    options = GraphOptions(cache="hidden", input="mel", cache_dtype="fp16", embedding="mean")
    contract = bundle.contract
    object.__setattr__(contract, "options", options)
    shown = list(in_lines("message", [make_command(bundle, "cpu-int8", ANY)]))
    for command in shown:
        parse(command)
    assert [command.words[0] for command in shown] == ["onnx", "bundle"]
    assert " --embedding mean --streams dynamic --cache hidden --input mel" in " ".join(shown[0].words)
    assert shown[1].words[1:] == ("--target", "cpu-int8", "--cache-dtype", "fp16")


@pytest.mark.parametrize(("target", "reason"), [
    ("openvino-fp32", "Triton's OpenVINO backend keeps no state"),
    ("web-fp32", "it is a page for a browser")])
def test_other_backends_are_refused_with_the_reason(
        target: str, reason: str, tiny_lanes: Path, tmp_path: Path) -> None:
    message = refused(for_target(tiny_lanes, tmp_path, target), "-o", tmp_path / "repository")
    assert reason in message
    assert commands_in(message)[0][:3] == ["bundle", "--target", "cpu-int8"]


def test_int8_for_a_gpu_is_refused(tiny_lanes: Path, tmp_path: Path) -> None:
    bundle = for_target(tiny_lanes, tmp_path, "cpu-int8")
    message = refused(bundle, "-o", tmp_path / "repository", "--serving", "triton-gpu")
    assert "is int8 for ONNX Runtime, which has no such kernels for a GPU" in message
    assert call("triton", bundle, "-o", tmp_path / "repository").code == 0


def test_a_table_that_forgets_a_microphone_from_chunk_to_chunk_is_refused(
        tiny_lanes: Path, tmp_path: Path) -> None:
    usual = (FOLDER / "triton-cpu.toml").read_text("utf-8")
    for seconds, code in ((2, 2), (2.5, 0)):
        (tmp_path / "mine.toml").write_text(usual.replace("max_idle_s = 30", f"max_idle_s = {seconds}"))
        result = call("triton", tiny_lanes, "-o", tmp_path / "new", "--serving", tmp_path / "mine.toml")
        assert (result.code, "forgets a microphone after 2 s" in result.err) == (code, code == 2)


@pytest.mark.parametrize(("changes", "serving", "code", "found"), [
    ({}, "triton-cpu", 2, "which needs a GPU; triton-cpu is for a CPU"),
    ({"module": "tensorrt_rtx"}, "triton-gpu", 2, "an engine of tensorrt_rtx"),
    ({"bundle_sha256": "0"}, "triton-gpu", 4, "a bundle with the SHA-256"),
    ({"sha256": "0"}, "triton-gpu", 4, "its own SHA-256")])
def test_an_engine_that_triton_cannot_run_is_refused(
        changes: dict[str, str], serving: str, code: int, found: str, tiny_lanes: Path,
        tmp_path: Path) -> None:
    bundle = with_engine(bundle_of(tiny_lanes, tmp_path), tmp_path, **changes)
    assert found in refused(bundle, "-o", tmp_path / "repository", "--serving", serving, code=code)


def test_an_engine_that_is_not_built_or_for_several_streams_is_refused(
        tiny_lanes: Path, tmp_path: Path) -> None:
    one = for_target(bundle_of(tiny_lanes, tmp_path), tmp_path, "jetson-orin-nano")
    assert "has no engine yet" in refused(one, "-o", tmp_path / "repository", code=3)
    three = for_target(bundle_of(tiny_lanes, tmp_path, streams=3), tmp_path / "3", "jetson-orin-nano")
    message = refused(three, "-o", tmp_path / "repository")
    assert "has engines for 3 streams" in message
    assert "--streams" not in commands_in(message)[0]


@pytest.mark.parametrize(("field", "value"), [
    ("variant", "../x"), ("cache_in", "../../x"), ("cache_in", "")])
def test_a_hostile_name_in_a_bundle_does_not_become_a_path(
        field: str, value: str, tiny_lanes: Path, tmp_path: Path) -> None:
    def rename(manifest: dict[str, dict[str, object]]) -> None:
        contract = manifest["contract"]
        if field == "variant":
            contract["variant"] = value
        else:
            contract["cache_in"][0]["name"] = value  # type: ignore[index]

    bundle = change_bundle(copy_of(tiny_lanes, tmp_path), rename)
    assert "cannot be the name of a file" in refused(bundle, "-o", tmp_path / "a" / "b" / "c", code=4)
    assert not (tmp_path / "a").exists()


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
