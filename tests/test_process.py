"""State of a process: runtimes after a fork, pickling, and missing standard streams."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from satexport.files import locked_folder
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger
from tests.backends.compiled import compiled
from tests.commands.calls import START
from tests.machine import PATIENCE, need

soundfile = need("soundfile", "audio")

FORK = """
import gc, os, signal, sys, time
import numpy as np
import satexport
from satexport.errors import UsageError

bundle, threads = sys.argv[1], int(sys.argv[2]) or None
tagger = satexport.load(bundle, threads)
stream, step, sound = tagger.stream(), tagger.step, np.zeros(40_000, np.float32)
stream.feed(sound)

def use():
    for act in (lambda: stream.feed(sound), lambda: stream.feed(sound[:1]), stream.flush, stream.reset,
                tagger.stream, tagger.streams, lambda: step.initial_cache(1)):
        try:
            act()
            os._exit(7)
        except UsageError as error:
            assert "load the bundle again in this process" in str(error)

def end():
    sys.exit(3)

def drop():
    global tagger, stream, step
    del tagger, stream, step
    gc.collect()
    sys.exit(3)

def again():
    satexport.load(bundle, threads).stream().feed(sound)
    sys.exit(3)

for work, code in ((use, 0), (end, 3), (drop, 3), (again, 3)):
    if (child := os.fork()) == 0:
        signal.alarm(60)  # ends a child that waits for ever
        work()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(work.__name__, "fine" if status == code else f"ended with {status}")
stream.feed(sound)  # the parent's goes on
"""
has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@has_fork
@pytest.mark.parametrize(("backend", "threads"), [("onnx", 1), ("onnx", 2), ("openvino", 2)])
def test_a_forked_child_is_told_to_load_the_bundle_and_can_end(
        backend: str, threads: int, random_vit: Path, tmp_path: Path) -> None:
    bundle = random_vit if backend == "onnx" else compiled(random_vit, "openvino-fp32", tmp_path)
    quiet = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}  # its own thread would delay the exit of a child
    done = subprocess.run([sys.executable, "-c", FORK, bundle, str(threads)], capture_output=True, text=True,
                          check=False, env=quiet)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["use fine", "end fine", "drop fine", "again fine"]


POOL = """
import multiprocessing, sys
import numpy as np
import satexport
from satexport.errors import UsageError

tagger = satexport.load(sys.argv[1])

def feed(_):
    return tagger.stream().feed(np.zeros(32_000, np.float32)).shape

with multiprocessing.get_context("fork").Pool(2) as pool:
    try:
        pool.map(feed, range(2))
    except UsageError as error:
        print(error)
"""


@has_fork
def test_forked_workers_of_a_pool_get_an_error_with_advice(random_vit: Path) -> None:
    done = subprocess.run([sys.executable, "-c", POOL, random_vit], capture_output=True, text=True,
                          check=True, timeout=PATIENCE)
    assert "load the bundle again in this process" in done.stdout


@pytest.mark.parametrize("make", [pickle.dumps, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("what", ["tagger", "stream", "streams", "step"])
def test_objects_with_a_runtime_can_be_neither_pickled_nor_copied(
        what: str, make: object, tagger: Tagger) -> None:
    assert callable(make)
    things = {"tagger": tagger, "stream": tagger.stream(), "streams": tagger.streams(), "step": tagger.step}
    with pytest.raises(TypeError, match="pass the path of the bundle to the worker"):
        make(things[what])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_the_lock_of_a_folder_is_released_even_if_a_forked_process_has_its_handle(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    opened, also = os.open, list[int]()

    def forked(*arguments: object) -> int:
        also.append(handle := opened(*arguments))  # type: ignore[arg-type]
        return os.dup(handle)  # of the same open file, like that of a child

    monkeypatch.setattr(os, "open", forked)
    with locked_folder(tmp_path, nullcontext):
        pass
    monkeypatch.undo()
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for one in (*also, handle):
        os.close(one)


# Standard streams that are closed.

@pytest.fixture
def wav(tmp_path: Path, audio: FloatArray) -> Path:
    soundfile.write(tmp_path / "a.wav", audio[:16_000], 16_000)
    return tmp_path / "a.wav"


def closed(redirection: str, *arguments: object, before: str = "") -> tuple[int, str, str]:
    """Run a command in a shell that closes some of its standard streams."""
    words = [sys.executable, "-c", f"{before}\n{START}", *map(str, arguments)]
    done = subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *words], capture_output=True,
                          text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("redirection", "command"), [
    (">&-", "run"), (">&-", "models"), ("<&- >&- 2>&-", "parity"),
    *(pytest.param(*case, marks=pytest.mark.long) for case in (
        (">&-", "--help"), (">&- 2>&-", "run --json"), ("<&- >&- 2>&-", "targets --json")))])
def test_without_standard_output_the_exit_code_is_unchanged_and_nothing_is_printed(
        command: str, redirection: str, demo: Path, wav: Path, tmp_path: Path) -> None:
    name, *options = command.split()
    places: dict[str, list[object]] = {
        "run": [demo, wav], "parity": [demo, "--golden", "--report", tmp_path / "r.json"]}
    assert closed(redirection, name, *places.get(name, []), *options) == (0, "", "")
    assert name != "parity" or b'"verdict": "passed"' in (tmp_path / "r.json").read_bytes()


@pytest.mark.parametrize(("arguments", "code"), [
    (("run", "BUNDLE", "gone.wav"), 4), (("targets", "--frobnicate"), 2), (("run", "BUNDLE", "-"), 4)])
def test_failures_without_standard_streams_have_the_same_exit_code(
        arguments: tuple[str, ...], code: int, random_vit: Path) -> None:
    words = [str(random_vit) if word == "BUNDLE" else word for word in arguments]
    assert closed("<&- >&- 2>&-", *words) == (code, "", "")


def test_a_program_without_a_console_works_without_standard_streams(demo: Path, wav: Path) -> None:
    none = "import sys; sys.stdin = sys.stdout = sys.stderr = None"
    assert closed("", "run", demo, wav, before=none) == (0, "", "")


DESCRIPTORS = """
import os, sys
from satexport.process import open_standard_streams
open_standard_streams()
with open(sys.argv[1], "w") as file:
    print("said", flush=True)
    os.write(2, b"said")
    os._exit(sum(map(os.get_inheritable, range(3))) if file.fileno() > 2 else 9)
"""


def test_no_file_gets_the_descriptor_of_a_closed_stream(tmp_path: Path) -> None:
    words = [sys.executable, "-c", DESCRIPTORS, str(tmp_path / "file")]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], check=False)
    assert done.returncode == 3
    assert (tmp_path / "file").read_bytes() == b""
