"""NVIDIA's real server reads the repositories, and gives each microphone the right states.

Its Python backend cannot return states: a model in Python sees what the server delivers, and a small backend
in C sees that the server carries what it was given back. ONNX Runtime's backend is not in the server's wheel;
the scores under it were measured elsewhere (docs/serving.md)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.bundle.contract import ANY, GraphOptions
from satexport.triton.repository import CONFIG, INITIAL_STATE, VERSION, write_repository
from satexport.triton.serving import FOLDER
from tests import ROOT
from tests.machine import PATIENCE
from tests.tiny import export
from tests.triton import environment
from tests.triton.bundles import bundle_of, with_engine
from tests.triton.configs import NAMES, PASSED
from tests.triton.server import CARRY, HERE, Server, put_backends, serve

pytestmark = pytest.mark.long

MODEL = ROOT / "tests" / "data" / "triton" / "model.py"
CLIENT = ROOT / "examples" / "triton_client.py"
CACHES, WINDOW, ENGINE, IDLE = "sat-t-2s", "vit-t-48x3x2-1s-window-10s", "engine", "idle"  # models
STATES = [f"cache_in_{number:02}" for number in range(12)]
MICROPHONES, CHUNKS = 8, 3
IDLE_SECONDS = 4
START, END = 1, 2  # flags of a request
RATE = 16_000      # Hz
Requests = list[list[dict[str, Any]]]


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    """The Python of the environment with the server and its client."""
    if reason := environment.missing():
        pytest.skip(f"needs {reason}")
    if not environment.is_installed():
        request.getfixturevalue("package_index")
        environment.install()
    return environment.FOLDER / "bin" / "python"


@pytest.fixture(scope="module")
def repository(build: Path, tiny_lanes: Path, window_lanes: Path,
               tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that satexport wrote: a model with twelve caches, with its names of the tests' models."""
    folder = tmp_path_factory.mktemp("triton")
    lanes = export(build, "sat-t", 2, "random", GraphOptions(streams=ANY), use_onnxsim=False)
    usual = (FOLDER / "triton-cpu.toml").read_text("utf-8")
    (folder / "idle.toml").write_text(re.sub(r"max_idle_s = \d+", f"max_idle_s = {IDLE_SECONDS}", usual))
    write_repository(folder / "models", [lanes, window_lanes])
    write_repository(folder / "models", [lanes], name=CARRY)
    write_repository(folder / "models", [lanes], serving=str(folder / "idle.toml"), name=IDLE)
    write_repository(folder / "models", [with_engine(bundle_of(tiny_lanes, folder), folder)], name=ENGINE)
    return folder / "models"


@pytest.fixture(scope="module")
def server(python: Path, repository: Path, fake_network: Path,
           tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a copy of the repository whose models run on the backends of the tests. Nothing else in a
    config is changed, except that an engine's instances are on the CPU."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(repository, folder / "models")
    for model in (folder / "models").iterdir():
        text, backend = (model / CONFIG).read_text("utf-8"), "python"
        if model.name in (CARRY, IDLE):
            backend = CARRY
        changed = re.sub(r'(?m)^(backend|platform): .*$', f'backend: "{backend}"', text, count=1)
        (model / CONFIG).write_text(changed.replace("KIND_GPU", "KIND_CPU"), "utf-8")
        for file in (model / VERSION).iterdir():
            file.unlink()
        if backend == "python":
            shutil.copy(MODEL, model / VERSION / "model.py")
    put_backends(folder / "backends")
    with serve(folder / "models", folder / "backends", fake_network) as running:
        yield running


def ask(python: Path, server: Server, rounds: Requests) -> Requests:
    """Send rounds of requests, those of a round at the same time; returns the answers."""
    rounds = [[{"shape": [1, 2 * RATE], "count": 12, **request} for request in one] for one in rounds]
    done = subprocess.run([python, HERE / "client.py", server.grpc], input=json.dumps(rounds),
                          capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    answers: Requests = json.loads(done.stdout)
    return answers


def interleaved(model: str) -> Requests:
    """Rounds in which microphone n begins in round n, ends after CHUNKS chunks, and begins once more at
    once."""
    rounds = []
    for number in range(MICROPHONES + 2 * CHUNKS - 1):
        rounds.append([
            {"model": model, "sequence": microphone + 1, "start": chunk % CHUNKS == 0,
             "end": chunk % CHUNKS == CHUNKS - 1, "chunk": chunk % CHUNKS}
            for microphone in range(MICROPHONES) if 0 <= (chunk := number - microphone) < 2 * CHUNKS])
    return rounds


def initial_numbers(repository: Path, model: str) -> np.ndarray[Any, Any]:
    """The first number of each initial state of a model."""
    return np.array([np.fromfile(repository / model / INITIAL_STATE / name, "<f4")[0] for name in STATES])


def test_tritons_own_message_reads_every_config(python: Path, repository: Path) -> None:
    files = [PASSED / f"{name}.pbtxt" for name in NAMES] + sorted(repository.glob(f"*/{CONFIG}"))
    done = subprocess.run([python, HERE / "client.py", "--check", *files], capture_output=True,
                          encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    configs = json.loads(done.stdout)
    assert [config["name"] for config in configs] == [*NAMES, *sorted(
        path.name for path in repository.iterdir())]
    caches, window, engine = configs[:3]
    states = caches["sequence_batching"]["state"]
    assert [state["input_name"] for state in states] == STATES
    assert [state["output_name"] for state in states] == [name.replace("in", "out") for name in STATES]
    assert {state["initial_state"][0]["data_file"] for state in states} == {*STATES}
    assert {tuple(state["dims"]) for state in states} == {("6", "48", "64")}
    assert caches["sequence_batching"]["oldest"] == {
        "max_candidate_sequences": 1024, "preferred_batch_size": [16, 64],
        "max_queue_delay_microseconds": "20000"}
    assert (caches["max_batch_size"], caches["backend"]) == (64, "onnxruntime")
    assert caches["output"][0]["label_filename"] == "labels.txt"
    assert caches["parameters"]["satexport.hop_samples"] == {"string_value": "32000"}
    assert [warm_up["batch_size"] for warm_up in window["model_warmup"]] == [1, 64]
    assert (engine["platform"], "max_batch_size" in engine) == ("tensorrt_plan", False)  # 0 is the default


def test_every_start_of_eight_interleaved_microphones_gets_the_initial_states(
        python: Path, server: Server, repository: Path) -> None:
    states = [(repository / CACHES / INITIAL_STATE / name).read_bytes() for name in STATES]
    assert len({*states}) == len(STATES)  # none could pass for another one,
    assert all(any(state) for state in states)  # nor for zeros
    rounds = interleaved(CACHES)
    answers = ask(python, server, rounds)
    for request, answer in zip(sum(rounds, []), sum(answers, []), strict=True):
        is_initial, flags = answer["scores"][:2]
        assert (is_initial, flags) == (1, START * request["start"] + END * request["end"])
    starts = [request for request in sum(rounds, []) if request["start"]]
    assert len(starts) == 2 * MICROPHONES


def test_the_states_of_eight_interleaved_microphones_are_carried_each_by_itself(
        python: Path, server: Server, repository: Path) -> None:
    first, rounds = initial_numbers(repository, CARRY), interleaved(CARRY)
    answers = ask(python, server, rounds)
    for request, answer in zip(sum(rounds, []), sum(answers, []), strict=True):
        np.testing.assert_allclose(answer["scores"], first + request["chunk"], rtol=1e-6)


def test_a_microphone_that_was_silent_for_too_long_is_forgotten_and_begins_from_the_initial_states(
        python: Path, server: Server, repository: Path) -> None:
    first = initial_numbers(repository, IDLE)
    request = {"model": IDLE, "sequence": 7}
    (one,), (two,) = ask(python, server, [[request | {"start": True}], [request]])
    np.testing.assert_allclose([one["scores"], two["scores"]], [first, first + 1], rtol=1e-6)
    time.sleep(2 * IDLE_SECONDS)
    (late,), (again,) = ask(python, server, [[request], [request | {"start": True}]])
    assert "must specify the START flag" in late["error"]
    np.testing.assert_array_equal(again["scores"], one["scores"])


def test_a_request_without_its_start_or_its_id_is_refused(python: Path, server: Server) -> None:
    ((no_start, no_id, neither),) = ask(python, server, [[
        {"model": CACHES, "sequence": 99}, {"model": CACHES, "sequence": 0, "start": True},
        {"model": CACHES}]])
    assert "must specify the START flag on the first request" in no_start["error"]
    for answer in (no_id, neither):
        assert "must specify a non-zero or non-empty correlation ID" in answer["error"]


def test_the_request_of_the_warm_up_is_taken_and_its_sequence_has_ended(
        python: Path, server: Server, repository: Path) -> None:
    request = urllib.request.Request(f"{server.http}/v2/models/{CACHES}/infer",
                                     (repository / CACHES / "warm_up.json").read_bytes())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE) as answer:
        (scores,) = json.load(answer)["outputs"]
    assert (scores["name"], scores["shape"], scores["data"][:2]) == ("scores", [1, 527], [1, START + END])
    ((later,),) = ask(python, server, [[{"model": CACHES, "sequence": "warm-up"}]])
    assert "must specify the START flag" in later["error"]


def test_a_model_without_a_cache_takes_windows_without_a_sequence(python: Path, server: Server) -> None:
    window = {"model": WINDOW, "shape": [1, 10 * RATE], "first": 0.25, "last": 0.5}
    ((one, two),) = ask(python, server, [[window, window | {"first": 1}]])
    assert (one["scores"][3:5], two["scores"][3:5]) == ([0.25, 0.5], [1, 0.5])


def test_an_engine_gets_the_initial_states_one_microphone_at_a_time(python: Path, server: Server) -> None:
    rounds = interleaved(ENGINE)
    answers = ask(python, server, rounds)
    for request, answer in zip(sum(rounds, []), sum(answers, []), strict=True):
        assert answer["scores"][:3] == [1, START * request["start"] + END * request["end"], 1]


# The example of a client.

def write_wav(path: Path, samples: np.ndarray[Any, Any]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32768).astype("<i2").tobytes())


def client(python: Path, server: Server, model: str, *sources: str, cwd: Path) -> list[str | Path]:
    return [python, "-W", "error", CLIENT, "--server", server.grpc, "--model", model, "--top", "527",
            *sources]


def parsed(lines: str, repository: Path, model: str) -> list[dict[str, Any]]:
    """The lines of the client, with the scores in the order of the labels."""
    labels = (repository / model / "labels.txt").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines.splitlines()]
    for line in found:
        tags = {tag["label"]: tag["score"] for tag in line["tags"]}
        line["scores"] = [tags[label] for label in labels]
    return found


def test_the_client_begins_and_ends_the_sequence_of_each_microphone(
        python: Path, server: Server, repository: Path, tmp_path: Path) -> None:
    for name, seconds in (("hall", 5), ("attic", 4), ("yard", 1.5)):
        write_wav(tmp_path / f"{name}.wav", np.full(int(seconds * RATE), 0.5))
    command = client(python, server, CACHES, "hall=hall.wav", "attic=attic.wav", "yard=yard.wav", cwd=tmp_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=PATIENCE,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = parsed(done.stdout, repository, CACHES)
    flags = {name: [line["scores"][1] for line in lines if line["microphone"] == name]
             for name in ("hall", "attic", "yard")}
    assert flags == {"hall": [START, 0, END], "attic": [START, END], "yard": [START + END]}
    assert {line["scores"][0] for line in lines} == {1}
    last = next(line for line in lines if line["microphone"] == "hall" and line["start"] == 4)
    assert (last["end"], last["scores"][3:5]) == (6, [0.5, 0])  # filled with silence


def test_the_client_keeps_the_earlier_audio_of_a_window(
        python: Path, server: Server, repository: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "hall.wav", np.repeat(np.arange(1, 13) / 16, RATE))
    done = subprocess.run(client(python, server, WINDOW, "hall=hall.wav", cwd=tmp_path), cwd=tmp_path,
                          capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = parsed(done.stdout, repository, WINDOW)
    assert [line["scores"][3:5] for line in lines] == [
        [max(0, number - 9) / 16, number / 16] for number in range(1, 13)]
    assert [line["window_start"] for line in lines] == [*[0] * 10, 1, 2]


def test_the_client_begins_again_if_the_server_has_forgotten_a_microphone(
        python: Path, server: Server, repository: Path, tmp_path: Path) -> None:
    chunk = bytes(2 * 2 * RATE + 2)  # and the sample that tells that there is more
    with subprocess.Popen(client(python, server, IDLE, "hall=-", cwd=tmp_path), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
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


@pytest.mark.parametrize(("model", "found"), [
    ("nothing", "the server has no model 'nothing' that is ready")])
def test_the_client_says_in_a_line_what_the_server_lacks(
        model: str, found: str, python: Path, server: Server, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(10))
    done = subprocess.run(client(python, server, model, "a=a.wav", cwd=tmp_path), cwd=tmp_path,
                          capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr.count("\n"), found in done.stderr) == (1, 1, True)


def test_the_client_says_in_a_line_that_no_server_answers(python: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(10))
    nobody = Server("127.0.0.1:9", "", tmp_path, tmp_path)
    done = subprocess.run(client(python, nobody, CACHES, "a=a.wav", cwd=tmp_path), cwd=tmp_path,
                          capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: no Triton answers at 127.0.0.1:9 (")


def test_the_client_refuses_a_recording_at_another_rate(python: Path, server: Server, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
    (tmp_path / "b.wav").write_bytes(b"no sound")
    for name, found in (("a", "has 44100 Hz, 2 channels, 16 bit; expected 16000 Hz, 1, 16"),
                        ("b", "is not a .wav with plain samples")):
        done = subprocess.run(client(python, server, CACHES, f"x={name}.wav", cwd=tmp_path), cwd=tmp_path,
                              capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False)
        assert (done.returncode, done.stderr.count("\n"), found in done.stderr) == (1, 1, True)


def test_the_server_has_looked_up_and_contacted_nothing(server: Server) -> None:
    assert not server.network.exists()
    assert "successfully loaded" in server.log.read_text("utf-8", "replace")
