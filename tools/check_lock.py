"""Is there a wheel for every pin, for each Python and system that README names?

    python tools/check_lock.py UV

UV is the program uv (`make check-lock` gets it). It asks the package index and installs nothing. Ends with 1
where a pin has no wheel.
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
SYSTEMS = {  # uv's name, and what comes without hashes or, on ARM Linux, only by the extra `openvino`
    "Linux, x86-64": ("x86_64-manylinux_2_28", ["torch"]),
    "Linux, ARM, glibc 2.28": ("aarch64-manylinux_2_28", ["torch"]),
    "Linux, ARM, glibc 2.35": ("aarch64-manylinux_2_35", ["torch", "openvino"]),
    "macOS 14, Apple silicon": ("aarch64-apple-darwin", ["torch"]),
    "Windows, x86-64": ("x86_64-pc-windows-msvc", ["torch"])}
SOURCE = {"tensorrt-rtx", "tensorrt-rtx-cu13"}  # there is no wheel of these, on any system


def resolve(uv: str, python: str, system: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Let uv choose a file for every requirement, without their dependencies, and install none of them."""
    with TemporaryDirectory() as empty:
        command = [uv, "pip", "install", "--no-config", "--dry-run", "--no-deps", "--target", empty,
                   "--python", sys.executable, "--python-version", python, "--python-platform", system]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False,
                              env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"})


def main(uv: str) -> int:
    """Print a line for each Python and system; returns the exit code."""
    lock = ROOT / "requirements.lock"
    pins = set(re.findall(r"(?m)^([\w.-]+)==", lock.read_text("utf-8")))
    wheels = [f"--only-binary={name}" for name in sorted(pins - SOURCE)]
    failed = False
    for (system, (tag, others)), python in product(SYSTEMS.items(), PYTHONS):
        done = (resolve(uv, python, tag, [*wheels, "--require-hashes", "-r", str(lock)]),
                resolve(uv, python, tag, ["--no-build", "-c", str(ROOT / "constraints.txt"), *others]))
        chosen = sum(len(re.findall(r"(?m)^ \+ ", one.stderr)) for one in done)
        errors = "".join(one.stderr for one in done if one.returncode)
        print(f"Python {python} on {system}: {errors or f'{chosen} packages'}", flush=True)
        failed |= bool(errors)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
