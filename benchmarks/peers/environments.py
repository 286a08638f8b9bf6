"""The environments of peers under build/peers: what a lock file adds to the project's environment.

An environment of a lock file is a virtual environment that also sees the packages of the Python that makes
it, so that all peers have the same PyTorch, ONNX Runtime, OpenVINO and numpy; the lock pins the same versions
of them. (Otherwise each would hold another gigabyte.)
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from benchmarks.peers.peer import ROOT
from satexport.errors import MissingError, RunError
from satexport.files import sha256_of, write_text

FOLDER = ROOT / "build" / "peers"
LOCKS = Path(__file__).parent
STAMP = "installed"     # has the SHA-256 of the lock; written last, so that an incomplete one is made again
QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def find_python(environment: str) -> str:
    """Return the Python of an environment; "" is that of the project. Raises `MissingError` if it is not
    installed."""
    if not environment:
        return sys.executable
    if not _is_installed(environment):
        raise MissingError(f"its packages are not installed: add --install, which makes "
                           f"build/peers/{environment} from benchmarks/peers/{environment}.lock")
    return str(_python(environment))


def install(environment: str, settings: Mapping[str, str]) -> None:
    """Make an environment from its lock file with pip, which checks the hashes, and say so. `settings` are
    the process's environment variables. Does nothing if it is there. Raises `RunError` if that fails."""
    if not environment or _is_installed(environment):
        return
    lock = LOCKS / f"{environment}.lock"
    print(f"making {FOLDER / environment} from {lock.relative_to(ROOT)}", flush=True)
    _run(environment, settings, sys.executable, "-m", "venv", "--clear", str(FOLDER / environment))
    _see_project(environment)  # before pip, which then installs only what is missing
    _run(environment, settings, str(_python(environment)), "-m", "pip", "install", "--quiet",
         "--require-hashes", "--no-deps", "-r", str(lock))
    write_text(FOLDER / environment / STAMP, sha256_of(lock))


def _run(environment: str, settings: Mapping[str, str], *command: str) -> None:
    """Run a command that makes an environment. Raises `RunError` if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False,  # noqa: S603
                          env={**settings, **QUIET})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"{FOLDER / environment} was not made: {reason}")


def _see_project(environment: str) -> None:
    """Let an environment see the packages of this one after its own."""
    folder = Path(sysconfig.get_path("purelib", vars={"base": str(FOLDER / environment)}))
    project = sysconfig.get_path("purelib")
    write_text(folder / "project.pth", f"import site; site.addsitedir({project!r})\n")


def _python(environment: str) -> Path:
    folder = FOLDER / environment
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def _is_installed(environment: str) -> bool:
    stamp = FOLDER / environment / STAMP
    return stamp.is_file() and stamp.read_text("utf-8") == sha256_of(LOCKS / f"{environment}.lock")
