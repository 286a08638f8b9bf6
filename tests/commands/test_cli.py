"""The command line as a user sees it: exit codes, messages, and remaining files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.commands.group import cli
from tests.bundle.copies import content, copy_of
from tests.commands.calls import START, call, no_file_longer_than, start
from tests.machine import PATIENCE, needs_dev_full
from tests.tiny import VIT, vit_file

ONNX = ("onnx", "--model", VIT, "--checkpoint", "random", "--no-simplify", "--output")


# Help.

COMMANDS = sorted(cli.commands)


def test_help_loads_no_heavy_packages() -> None:
    program = f"""
import sys
from satexport.commands.group import cli
for command in {[[], *([name] for name in COMMANDS)]}:
    print(cli.main([*command, "--help"], standalone_mode=False))
print([name for name in ("numpy", "torch", "onnx", "onnxruntime", "rich") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.count("Usage:") == done.stdout.count("Examples:") == len(COMMANDS) + 1
    assert done.stdout.splitlines()[-1] == "[]"


# Wrong use.

@pytest.mark.parametrize("arguments", [
    ["frobnicate"], ["onnx", "--frobnicate"], ["onnx"], ["data", "esc11"], ["run", "bundle"], [],
    [*ONNX, "x", "--model", "resnet"], [*ONNX, "x", "--delay", "two"], [*ONNX, "x", "--target", "jetson-9"],
    [*ONNX, "x", "--opset", "3"], ["onnx", "--model", "sat-t", "--delay", "1", "--checkpoint", "demo"],
    ["parity", "bundle", "--minutes", "0"], ["parity", "bundle", "--minutes", "nan"],
    ["cpu", "--minutes", "nan"], ["run", "", "a.wav"], ["onnx", "--model", "sat-t", "--output", ""],
    ["run", "bundle", "a.wav", "--top", "0"]], ids=" ".join)
def test_wrong_use_exits_with_2_and_an_explanation(arguments: list[str], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.code == 2
    assert "Error: " in result.err or "Usage: " in result.err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("model", "delay", "has"), [("sat-b", 10, "1, 2"), ("vit-t", 3, "1, 2, 10")])
def test_an_invalid_delay_lists_the_delays_of_the_model(model: str, delay: int, has: str) -> None:
    result = call("onnx", "--model", model, "--delay", delay, "--checkpoint", "random")
    assert result.code == 2
    assert f"{model} has no delay of {delay} s; it has {has}." in result.err


def test_a_precision_that_the_export_cannot_deliver_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\nbackend = "onnxruntime"\nprecision = "int8"\n'
                                     "[gates]\nmax_score_difference = 0.1\nmap_kept = 1\n[quantization]\n")
    result = call(*ONNX, tmp_path, "--target", tmp_path / "a.toml")
    assert (result.code, "a is int8 for onnxruntime" in result.err) == (2, True)


# The export.

def test_a_damaged_checkpoint_exits_with_4_and_its_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = vit_file(tmp_path, 1).read_bytes()
    files = {"text.pt": b"hello", "empty.pt": b"", "cut.safetensors": whole[:len(whole) // 2]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        result = call("onnx", "--model", VIT, "--checkpoint", tmp_path / name, "--output", out)
        assert (result.code, name in result.err) == (4, True)
    result = call("onnx", "--model", VIT, "--checkpoint", tmp_path / "gone.pt", "--output", out)
    assert (result.code, "gone.pt: no such file" in result.err) == (4, True)
    assert not out.exists()


def test_an_export_of_random_weights_says_so_and_names_its_bundle(tmp_path: Path) -> None:
    result = call(*ONNX, tmp_path)
    assert result.code == 0
    assert RANDOM_WEIGHTS in result.err
    assert "from random (seed 0)" in result.out
    assert f"Bundle: {tmp_path / f'{VIT}-2s' / 'onnx'}" in result.out


def test_json_of_an_export_is_one_document_and_nothing_else(tmp_path: Path) -> None:
    result = call(*ONNX, tmp_path, "--json")
    assert result.code == 0
    document = json.loads(result.out)
    assert document["bundle"] == str(tmp_path / f"{VIT}-2s" / "onnx")
    assert document["warning"] == RANDOM_WEIGHTS
    assert document["golden"]["max_difference"] < 1e-4
    written = json.loads((tmp_path / f"{VIT}-2s" / "onnx" / "reports" / "export.json").read_bytes())
    assert document == {"bundle": document["bundle"], **written}


def test_a_disk_that_becomes_full_exits_with_5_and_keeps_the_previous_bundle(
        random_vit: Path, tmp_path: Path) -> None:
    before = content(copy_of(random_vit, tmp_path))
    with no_file_longer_than(500_000):
        result = call(*ONNX, tmp_path)
    assert result.code == 5
    assert f"{tmp_path / f'{VIT}-2s' / 'onnx'}: cannot be written (File too large)" in result.err
    assert content(tmp_path) == {f"{VIT}-2s/onnx/{name}": data for name, data in before.items()}


def test_an_output_folder_that_cannot_be_written_exits_with_5(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", Path("/proc")):  # not even root may write there
        result = call(*ONNX, place)
        assert (result.code, "cannot be written" in result.err) == (5, True)


@pytest.mark.parametrize("number", [
    signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_interrupt_in_the_middle_of_an_export_leaves_nothing(
        number: signal.Signals, tmp_path: Path) -> None:
    process = start(*ONNX, tmp_path,  # a background job may ignore SIGINT from its start
                    before="import signal; signal.signal(signal.SIGINT, signal.default_int_handler)")
    while not list(tmp_path.glob("*/.onnx.partial-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("command", "package", "extra"), [
    ("onnx", "torch", "export"), ("onnx", "onnx", "export"), ("run", "onnxruntime", "cpu"),
    ("run", "soundfile", "audio"), ("parity", "torch", "export")])
def test_a_missing_package_exits_with_3_and_names_the_extra(
        command: str, package: str, extra: str, random_vit: Path, tmp_path: Path) -> None:
    arguments = {"onnx": (*ONNX, tmp_path / "out"), "run": ("run", random_vit, "a.wav"),
                 "parity": ("parity", random_vit)}[command]
    process = start(*arguments, before=f"import sys; sys.modules[{package!r}] = None")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert f"pip install 'satexport[{extra}]'" in err
    assert "Traceback" not in err
    assert not os.listdir(tmp_path)


@needs_dev_full
def test_a_full_disk_for_standard_output_exits_with_5(random_vit: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", START, "parity", random_vit, "--golden", "--json"],
                              stdout=full, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    assert done.returncode == 5
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
