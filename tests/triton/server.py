"""NVIDIA's own tritonserver, from the wheel of nvidia-pytriton, on the loopback address. It has no backend
but Python's, and so the tests bring theirs: a model in Python, and a backend in C that returns states."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.machine import PATIENCE
from tests.triton.environment import FOLDER, packages

HERE = Path(__file__).parent
CACHES, WINDOW, ENGINE, IDLE = "sat-t-2s", "vit-t-48x3x2-1s-window-10s", "engine", "idle"  # models
CARRY = "carry"    # a model, and the backend in C
IDLE_SECONDS = 4   # after which the model "idle" forgets a microphone
START, END = 1, 2  # flags of a request
RATE = 16_000      # Hz
LAUNCH = """
import ctypes, glob, os, signal, subprocess, sys

def end(*_):
    server.terminate()
    signal.alarm(int(sys.argv[2]))  # for a server that does not end by itself

server = subprocess.Popen(sys.argv[4:])
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGALRM, lambda *_: server.kill())
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: end with the tests
if os.getppid() != int(sys.argv[1]):
    end()
server.wait()
for left in glob.glob(f"/dev/shm/{sys.argv[3]}*"):  # memory shared with models in Python
    os.unlink(left)
os.killpg(0, signal.SIGKILL)  # this process and those of models in Python
"""
END_SECONDS = 20  # that the server may take to end by itself


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    grpc: str  # address
    http: str
    log: Path
    network: Path  # what it looked up or contacted, a line each; absent: nothing


def put_backends(folder: Path) -> None:
    """Put the backends of the tests into a folder. Raises `LookupError` without a C compiler."""
    root = packages() / "pytriton" / "tritonserver"
    shutil.copytree(root / "backends" / "python", folder / "python")
    stub = root / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copy(stub / "triton_python_backend_stub", folder / "python")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise LookupError("needs a C compiler (cc or gcc)")
    (folder / CARRY).mkdir()
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-fvisibility=hidden", "-o",
                    folder / CARRY / f"libtriton_{CARRY}.so", HERE / "carry.c"], check=True)


def free_ports(count: int) -> list[int]:
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in with_sockets]
    for one in with_sockets:
        one.close()
    return ports


@contextmanager
def serve(repository: Path, backends: Path, network: Path | None) -> Iterator[Server]:
    """Run a server over a repository until the end of the block, whatever happens in it. `network` is the
    library that records and refuses all access to the network but the loopback address."""
    http, grpc = free_ports(2)
    region = f"satexport_{secrets.token_hex(4)}"  # of the shared memory of models in Python
    log = repository.with_name(f"{repository.name}.log")
    record = repository.with_name(f"{repository.name}.network")
    environment = {**os.environ, "PATH": f"{FOLDER / 'bin'}{os.pathsep}{os.environ['PATH']}",
                   "LD_LIBRARY_PATH": str(packages() / "nvidia_pytriton.libs"),
                   "FAKE_NETWORK_LOG": str(record), "FAKE_NETWORK_LOOPBACK": "1"}
    environment |= {"LD_PRELOAD": str(network)} if network else {}
    binary = packages() / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    command = [sys.executable, "-c", LAUNCH, str(os.getpid()), str(END_SECONDS), region,
               str(binary), f"--model-repository={repository}",
               f"--backend-directory={backends}", "--http-address=127.0.0.1", f"--http-port={http}",
               "--grpc-address=127.0.0.1", f"--grpc-port={grpc}", "--allow-metrics=false",
               "--exit-timeout-secs=10", f"--backend-config=python,shm-region-prefix-name={region}"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                   env=environment, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{http}/v2/health/ready", log)
        yield Server(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", log, record)
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until the server is ready. Raises `AssertionError` with the end of its log if it ends before."""
    end = time.monotonic() + PATIENCE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        with suppress(OSError), opener.open(address, timeout=10) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"the server is not ready: {log.read_text('utf-8', 'replace')[-3000:]}")
