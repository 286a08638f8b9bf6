"""Which bundles `satexport triton` refuses, and with which command."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.triton.bundles import make_command
from satexport.triton.serving import FOLDER
from tests.bundle.copies import change_bundle, copy_of
from tests.commands.calls import call
from tests.docs.commands import in_lines, parse
from tests.tiny import WINDOW
from tests.triton.bundles import bundle_of, for_target, refused, with_engine


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
