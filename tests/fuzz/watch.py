"""Watch processes while they use mutated files: time, memory, remaining files."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from satexport.terminal import printable
from tests import ROOT
from tests.fuzz.kinds import Doubtful, Kind

SECONDS = 20  # per input with the Python interface
COMMAND_SECONDS = 120  # with the command, which may export, calibrate and verify an accepted input
BYTES = 1_000_000_000  # resident
LONGEST = 2_000  # characters of a message
REFUSED = (2, 3, 4)  # exit codes for invalid input; 5 is for failed runs


@dataclass
class Ending:
    """The result of an input: "accepted", "refused" or "fault"."""

    end: str
    text: str = ""
    exit: int = 0
    faults: list[str] = field(default_factory=list)


class Sandbox:
    """Folders that a process can write into but must leave empty, and an environment that points to them."""

    def __init__(self, folder: Path, network: Path | None) -> None:
        self.folder, self.look_ups = folder, folder / "look_ups"
        self.places = [folder / name for name in ("here", "home", "temporary")]
        for place in self.places:
            place.mkdir(parents=True)
        here, home, temporary = map(str, self.places)
        self.here = here
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if key not in ("CI", "TF_BUILD", "JENKINS_URL") and not key.startswith("XDG_")
        }
        self.environment |= {
            "HOME": home,
            "TMPDIR": temporary,
            "SATEXPORT_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
        }
        if network:
            self.environment |= {"LD_PRELOAD": str(network), "FAKE_NETWORK_LOG": str(self.look_ups)}

    def strays(self) -> list[str]:
        """Files that were left in the sandbox, and hosts that were looked up; removes both."""
        found = []
        for place in self.places:
            for path in sorted(place.iterdir()):
                found.append(f"left {place.name}/{path.name}")
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if self.look_ups.exists():
            found += [f"network: {line}" for line in self.look_ups.read_text("utf-8").splitlines()]
            self.look_ups.unlink()
        return found


class Worker:
    """A worker process, started on demand, and restarted after it crashed or uses too much memory."""

    def __init__(self, sandbox: Sandbox, valid: Path, module: str, seconds: float = SECONDS) -> None:
        self._sandbox, self._valid, self._module, self._seconds = sandbox, valid, module, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = sandbox.folder / "stderr"

    def use(self, kind: str, doubtful: Doubtful) -> Ending:
        """Let it use an input and watch it."""
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        said = self._errors.stat().st_size
        asked = {"kind": kind, "path": str(doubtful.path), "valid": str(self._valid)}
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
        why = wait_for(process.pid, process.stdout.fileno(), self._seconds)
        line = b"" if why else process.stdout.readline()
        if not line:
            code = self.stop()
            why = why or f"the process died (exit code {code}): {self._said(said)}"
            return Ending("fault", faults=[why])
        reply: dict[str, Any] = json.loads(line)
        ending = Ending(**reply)
        if ending.end == "fault":
            ending.faults.append(ending.text)
        elif ending.end == "refused":
            ending.faults += faults_of_message(printable(ending.text), ending.exit)
        elif doubtful.must_be_refused:
            ending.faults.append("accepted, although it was changed")
        if "Traceback" in (noise := self._said(said)) or "Exception ignored" in noise:
            ending.faults.append(f"standard error: {noise}")
        ending.faults += self._sandbox.strays()
        if resident(process.pid) > BYTES:
            self.stop()
        return ending

    def stop(self) -> int | None:
        """Stop it; returns the exit code, None if there was no process."""
        if not self._process:
            return None
        process, self._process = self._process, None
        process.kill()
        process.communicate()
        return process.returncode

    def _start(self) -> subprocess.Popen[bytes]:
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._sandbox.here,
                env=self._sandbox.environment,
            )
        return self._process

    def _said(self, since: int) -> str:
        return self._errors.read_bytes()[since:].decode("utf-8", "replace").strip()[-2_000:]


def run_command(kind: Kind, doubtful: Doubtful, valid: Path, sandbox: Sandbox) -> Ending:
    """Use an input with the real command and check what a user would see."""
    out = sandbox.folder / "out"
    out.mkdir()
    arguments = kind.command(doubtful.path, valid, out)
    with (
        open(doubtful.path if kind.by_stdin else os.devnull, "rb") as stdin,
        (sandbox.folder / "stdout").open("w+b") as stdout,
        (sandbox.folder / "stderr").open("w+b") as stderr,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "satexport", *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=sandbox.here,
            env=sandbox.environment,
        )
        handle = os.pidfd_open(process.pid)
        why = wait_for(process.pid, handle, COMMAND_SECONDS)
        os.close(handle)
        process.kill()
        code = process.wait()
        stderr.seek(0)
        text = stderr.read().decode("utf-8", "replace")
    ending = Ending("accepted" if code == 0 else "refused", text.strip(), code)
    ending.faults += [why] if why else faults_of_command(text, code, doubtful)
    ending.faults += half_bundles(out) + sandbox.strays()
    shutil.rmtree(out)
    return ending


def faults_of_command(text: str, code: int, doubtful: Doubtful) -> list[str]:
    """The faults in the exit code and standard error of a command."""
    if code == 0:
        return ["accepted, although it was changed"] if doubtful.must_be_refused else []
    errors = [line for line in text.splitlines() if line.startswith("Error: ")]
    if code == 1:  # a failed gate is a correct result
        return [] if errors and "Traceback" not in text else [f"exit code 1 without a gate: {text}"]
    if len(errors) != 1:
        return [f"{len(errors)} messages, exit code {code}: {text}"]
    return faults_of_message(errors[0], code) + (["a traceback: " + text] if "Traceback" in text else [])


def faults_of_message(text: str, code: int) -> list[str]:
    """The faults in a message, as the command prints it, and its exit code."""
    found = []
    if code not in REFUSED:
        found.append(f"exit code {code}: {text}")
    if text != printable(text):
        found.append(f"a message of several lines, or that a terminal would obey: {text!r}")
    if len(text) > LONGEST or "looks like a fault" in text:
        found.append(f"no readable message: {text[:300]}")
    return found


def half_bundles(out: Path) -> list[str]:
    """Incomplete bundles that a command left."""
    from satexport.bundle.folder import open_bundle
    from satexport.errors import SatexportError

    found = [f"left {path.relative_to(out)}" for path in out.rglob("*.partial*")]
    for folder in (path for path in out.glob("*/*") if path.is_dir() and "partial" not in path.name):
        try:
            open_bundle(folder)
        except SatexportError as error:
            found.append(f"a partial bundle: {error}")
    return found


def wait_for(process: int, handle: int, seconds: float) -> str:
    """Wait until a handle can be read; returns the reason if the process must be stopped instead, otherwise
    ""."""
    end = time.monotonic() + seconds
    while not select.select([handle], [], [], 0.05)[0]:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            return f"did not end within {seconds:g} s"
        if (size := resident(process)) > BYTES:
            os.kill(process, signal.SIGKILL)
            return f"took {size / 1e6:.0f} MB"
    return ""


def resident(process: int) -> int:
    """Resident memory of a process in bytes, 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
