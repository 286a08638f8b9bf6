"""Check that every pinned package has a wheel for each Python and system in docs/install.md.

    python tools/check_lock.py UV

UV is the path of the program uv, which `make check-lock` installs. This queries the package index and
installs nothing. The exit code is 1 if a pinned package has no wheel.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")  # 3.10: devices
# name -> uv's name of the platform, and packages to check separately: those without hashes, and openvino on
# ARM Linux, where only the extra `openvino` installs it
SYSTEMS = {
    "Linux, x86-64": ("x86_64-manylinux_2_28", ["torch"]),
    "Linux, ARM, glibc 2.28": ("aarch64-manylinux_2_28", ["torch"]),
    "Linux, ARM, glibc 2.35": ("aarch64-manylinux_2_35", ["torch", "openvino"]),
    "macOS 14, Apple silicon": ("aarch64-apple-darwin", ["torch"]),
    "Windows, x86-64": ("x86_64-pc-windows-msvc", ["torch"])}
SOURCE_ONLY = {"tensorrt-rtx", "tensorrt-rtx-cu13"}  # have no wheels on any system


def resolve(uv: str, python: str, system: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Let uv choose a file for each requirement, without dependencies, and install nothing."""
    with TemporaryDirectory() as empty:
        command = [uv, "pip", "install", "--no-config", "--dry-run", "--no-deps", "--target", empty,
                   "--python", sys.executable, "--python-version", python, "--python-platform", system]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False,
                              env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"})


def main(uv: str) -> int:
    """Print a line for each Python and system; return the exit code."""
    lock, constraints = ROOT / "requirements.lock", str(ROOT / "constraints.txt")
    pins = set(re.findall(r"(?m)^([\w.-]+)==", lock.read_text("utf-8")))
    wheels = [f"--only-binary={name}" for name in sorted(pins - SOURCE_ONLY)]
    failed = False
    for (system, (platform, others)), python in product(SYSTEMS.items(), PYTHONS):
        results = (resolve(uv, python, platform, [*wheels, "--require-hashes", "-r", str(lock)]),
                   resolve(uv, python, platform, ["--no-build", "-c", constraints, *others]))
        count = sum(len(re.findall(r"(?m)^ \+ ", result.stderr)) for result in results)
        errors = "".join(result.stderr for result in results if result.returncode)
        print(f"Python {python} on {system}: {errors or f'{count} packages'}", flush=True)
        failed |= bool(errors)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
