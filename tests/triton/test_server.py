"""NVIDIA's real server reads the repositories, and gives each microphone the right states.

Its Python backend cannot return states: a model in Python sees what the server delivers, and a small backend
in C sees that the server carries what it was given back. ONNX Runtime's backend is not in the server's wheel;
the scores under it were measured elsewhere (docs/serving.md)."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.triton.config import INITIAL_STATE
from satexport.triton.repository import CONFIG
from tests.machine import PATIENCE
from tests.triton.configs import NAMES, PASSED
from tests.triton.server import (
    CACHES,
    CARRY,
    END,
    ENGINE,
    HERE,
    IDLE,
    IDLE_SECONDS,
    RATE,
    START,
    WINDOW,
    Server,
)

pytestmark = pytest.mark.long

STATES = [f"cache_in_{number:02}" for number in range(12)]
MICROPHONES, CHUNKS = 8, 3
Requests = list[list[dict[str, Any]]]


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
    for request, answer in zip(chain(*rounds), chain(*answers), strict=True):
        is_initial, flags = answer["scores"][:2]
        assert (is_initial, flags) == (1, START * request["start"] + END * request["end"])
    starts = [request for request in chain(*rounds) if request["start"]]
    assert len(starts) == 2 * MICROPHONES


def test_the_states_of_eight_interleaved_microphones_are_carried_each_by_itself(
        python: Path, server: Server, repository: Path) -> None:
    first, rounds = initial_numbers(repository, CARRY), interleaved(CARRY)
    answers = ask(python, server, rounds)
    for request, answer in zip(chain(*rounds), chain(*answers), strict=True):
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
    for request, answer in zip(chain(*rounds), chain(*answers), strict=True):
        assert answer["scores"][:3] == [1, START * request["start"] + END * request["end"], 1]


def test_the_server_has_looked_up_and_contacted_nothing(server: Server) -> None:
    assert not server.network.exists()
    assert "successfully loaded" in server.log.read_text("utf-8", "replace")
