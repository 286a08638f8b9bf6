"""The environment of tests with the real server: packages that conflict with the project's own (numpy below
2), from benchmarks/triton.lock, in build/triton. 400 MB, made once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from satexport.files import sha256_of
from tests import ROOT

LOCK = ROOT / "benchmarks" / "triton.lock"
FOLDER = ROOT / "build" / "triton"
STAMP = "installed"  # has the SHA-256 of the lock; written last
GLIBC = 2, 35        # of the server's wheel
NUMPY_1 = 3, 13      # the first Python without wheels of numpy 1.26


def missing() -> str:
    """What this machine lacks for the server's wheel; empty if nothing."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "Linux on x86-64, for which nvidia-pytriton has a wheel"
    libc = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0").split()
    if libc[0] != "glibc" or tuple(map(int, libc[1].split(".")[:2])) < GLIBC:
        return "glibc 2.35 or newer, which nvidia-pytriton's wheel needs"
    return "" if sys.version_info < NUMPY_1 else "Python 3.10 to 3.12, for which numpy 1.26 has wheels"


def is_installed() -> bool:
    stamp = FOLDER / STAMP
    return stamp.is_file() and stamp.read_text("utf-8") == sha256_of(LOCK)


def install() -> None:
    """Make the environment from its lock file with pip, which checks the hashes."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True, capture_output=True)
    subprocess.run([FOLDER / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes",
                    "--no-deps", "--only-binary", ":all:", "-r", LOCK],
                   check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (FOLDER / STAMP).write_text(sha256_of(LOCK), encoding="utf-8")


def packages() -> Path:
    """The folder of its packages."""
    return next((FOLDER / "lib").glob("python3.*")) / "site-packages"
