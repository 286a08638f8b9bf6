"""The example of a client, examples/triton_client.py: its command line, and with NVIDIA's server."""

from __future__ import annotations

import json
import queue
import runpy
import subprocess
import sys
import time
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import pytest

from tests import ROOT
from tests.machine import PATIENCE
from tests.triton.server import CACHES, END, IDLE, IDLE_SECONDS, RATE, START, WINDOW, Server

CLIENT = ROOT / "examples" / "triton_client.py"


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int = RATE, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32768).astype("<i2").tobytes())


def run(folder: Path, python: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the client in a folder."""
    return subprocess.run([python, "-W", "error", CLIENT, *arguments], cwd=folder, capture_output=True,
                          stdin=subprocess.DEVNULL, encoding="utf-8", timeout=PATIENCE, check=False)


# The command line.

@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two recordings."""
    for name in ("a", "b"):
        write_wav(tmp_path / f"{name}.wav", np.zeros(10))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def main(arguments: list[str]) -> int:
    """Run the client in this process; returns its exit code."""
    with patch.object(sys, "argv", ["triton_client.py", "--model", "m", *arguments]):
        code: int = runpy.run_path(str(CLIENT))["main"]()
    return code


@pytest.mark.parametrize(("arguments", "found"), [
    (["hall"], "'hall': expected NAME=PATH, such as kitchen=kitchen.wav"),
    (["=a.wav"], "expected NAME=PATH"),
    (["hall=nothing.wav"], "nothing.wav: no such file"),
    (["hall=."], ".: is a folder; expected a .wav, or raw samples"),
    (["hall=a.wav", "hall=b.wav"], "two names are 'hall'; expected different ones"),
    (["hall=a.wav", "attic=a.wav"], "two sources are 'a.wav'; expected different ones"),
    (["hall=a.wav", "--top", "0"], "--top: expected a number from 1"),
    (["hall=a.wav", "--top", "x"], "invalid int value"),
    ([], "the following arguments are required: NAME=PATH")])
def test_wrong_arguments_are_refused_in_a_line(
        arguments: list[str], found: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert found in err.splitlines()[-1]


def test_without_the_servers_client_it_says_what_to_install(
        folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    assert main(["hall=a.wav"]) == 1
    assert capsys.readouterr().err == (
        "Error: tritonclient is not installed: pip install 'tritonclient[grpc]'\n")


class Refusal(Exception):  # noqa: N818, it stands for InferenceServerException
    """What the server's client raises."""

    def status(self) -> str:
        return str(self.args[0])

    def message(self) -> str:
        return str(self.args[1])


class AwayServer:
    """A client of a server whose requests have these outcomes: an answer, or an error."""

    def __init__(self, *outcomes: Refusal | None) -> None:
        self.outcomes, self.starts = iter(outcomes), list[bool]()

    def infer(self, *_: object, sequence_start: bool, **others: object) -> SimpleNamespace:
        self.starts.append(sequence_start)
        if error := next(self.outcomes):
            raise error
        return SimpleNamespace(as_numpy=lambda name: np.array([[b"0.5:0:Speech"]]))


AWAY = Refusal("StatusCode.UNAVAILABLE", "nobody is there")


@pytest.mark.parametrize(("outcomes", "patience", "starts", "last"), [
    ((None, AWAY, AWAY, None), 60, [True, False, True, True], None),
    ((None, AWAY), -1, [True, False], "hall: nobody is there"),
    ((None, Refusal("StatusCode.INTERNAL", "it failed")), 60, [True, False], "hall: it failed")])
def test_a_chunk_is_sent_again_while_the_server_is_away(
        outcomes: tuple[Refusal | None, ...], patience: float, starts: list[bool], last: str | None,
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = runpy.run_path(str(CLIENT))
    stand_in = SimpleNamespace(InferenceServerException=Refusal, InferInput=MagicMock(),
                               InferRequestedOutput=MagicMock())
    monkeypatch.setitem(sys.modules, "tritonclient", SimpleNamespace(grpc=stand_in))
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", stand_in)
    monkeypatch.setitem(client["Microphone"].run.__globals__, "PAUSE", 0)
    server, lines = AwayServer(*outcomes), queue.Queue[Any]()
    model, source = client["Model"]("m", RATE, 5, 5, True), client["Source"]("hall", "a.wav")
    client["Microphone"](server, model, source, SimpleNamespace(top=1, patience=patience), lines).run()
    assert server.starts == starts
    *_, end = found = [lines.get() for _ in range(lines.qsize())]
    assert end is None
    assert (str(found[-2]) if last else None) == last
    assert [json.loads(line)["tags"] for line in found[:1]] == [[{"label": "Speech", "score": 0.5}]]


# With the server.

def tag(python: Path, server: Server, model: str, folder: Path,
        *sources: str) -> subprocess.CompletedProcess[str]:
    return run(folder, python, "--server", server.grpc, "--model", model, "--top", "527", *sources)


def parsed(lines: str, repository: Path, model: str) -> list[dict[str, Any]]:
    """The lines of the client, with the scores in the order of the labels."""
    labels = (repository / model / "labels.txt").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines.splitlines()]
    for line in found:
        tags = {tag["label"]: tag["score"] for tag in line["tags"]}
        line["scores"] = [tags[label] for label in labels]
    return found


@pytest.mark.long
def test_it_begins_and_ends_the_sequence_of_each_microphone(
        python: Path, server: Server, repository: Path, tmp_path: Path) -> None:
    for name, seconds in (("hall", 5), ("attic", 4), ("yard", 1.5)):
        write_wav(tmp_path / f"{name}.wav", np.full(int(seconds * RATE), 0.5))
    done = tag(python, server, CACHES, tmp_path, "hall=hall.wav", "attic=attic.wav", "yard=yard.wav")
    assert (done.returncode, done.stderr) == (0, "")
    lines = parsed(done.stdout, repository, CACHES)
    flags = {name: [line["scores"][1] for line in lines if line["microphone"] == name]
             for name in ("hall", "attic", "yard")}
    assert flags == {"hall": [START, 0, END], "attic": [START, END], "yard": [START + END]}
    assert {line["scores"][0] for line in lines} == {1}
    last = next(line for line in lines if line["microphone"] == "hall" and line["start"] == 4)
    assert (last["end"], last["scores"][3:5]) == (6, [0.5, 0])  # filled with silence


@pytest.mark.long
def test_it_keeps_the_earlier_audio_of_a_window(
        python: Path, server: Server, repository: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "hall.wav", np.repeat(np.arange(1, 13) / 16, RATE))
    done = tag(python, server, WINDOW, tmp_path, "hall=hall.wav")
    assert (done.returncode, done.stderr) == (0, "")
    lines = parsed(done.stdout, repository, WINDOW)
    assert [line["scores"][3:5] for line in lines] == [
        [max(0, number - 9) / 16, number / 16] for number in range(1, 13)]
    assert [line["window_start"] for line in lines] == [*[0] * 10, 1, 2]


@pytest.mark.long
def test_it_begins_again_if_the_server_has_forgotten_a_microphone(
        python: Path, server: Server, repository: Path, tmp_path: Path) -> None:
    chunk = bytes(2 * 2 * RATE + 2)  # and the sample that tells that there is more
    with subprocess.Popen([python, CLIENT, "--server", server.grpc, "--model", IDLE, "--top", "527",
                           "hall=-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(chunk)
        process.stdin.flush()
        first = process.stdout.readline()
        time.sleep(2 * IDLE_SECONDS)
        out, err = process.communicate(chunk, timeout=PATIENCE)
    assert process.returncode == 0
    assert err.decode() == "hall: the server has forgotten it; it begins again.\n"
    lines = parsed((first + out).decode(), repository, IDLE)
    assert lines[0]["scores"][:12] == lines[1]["scores"][:12]
    assert lines[2]["scores"][0] == pytest.approx(lines[1]["scores"][0] + 1, rel=1e-5)


@pytest.mark.long
def test_it_says_in_a_line_what_the_server_lacks(python: Path, server: Server, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(10))
    done = tag(python, server, "nothing", tmp_path, "a=a.wav")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the server has no model 'nothing' that is ready" in done.stderr


@pytest.mark.long
def test_it_says_in_a_line_that_no_server_answers(python: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(10))
    done = tag(python, Server("127.0.0.1:9", "", tmp_path, tmp_path), CACHES, tmp_path, "a=a.wav")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: no Triton answers at 127.0.0.1:9 (")


@pytest.mark.long
def test_it_refuses_a_recording_of_another_kind(python: Path, server: Server, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(10), 44_100, channels=2)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    for name, found in (("a", "has 44100 Hz, 2 channels, 16 bit; expected 16000 Hz, 1, 16"),
                        ("b", "is not a .wav with plain samples")):
        done = tag(python, server, CACHES, tmp_path, f"x={name}.wav")
        assert (done.returncode, done.stderr.count("\n"), found in done.stderr) == (1, 1, True)
