"""A Python that lacks packages, as a device does."""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import gettempdir

TRAINING = ("torch", "onnx", "onnxsim", "safetensors", "sklearn", "scipy")
FILES = ("soundfile", "soxr")
LESS = "import sys; sys.modules.update(dict.fromkeys({names}))\n"  # with None in sys.modules an import fails


def python(program: str, *arguments: object, without: tuple[str, ...] = (), **variables: str) -> str:
    """Run a program in a fresh interpreter that lacks some packages; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LESS.format(names=without) + program, *map(str, arguments)],
        capture_output=True, encoding="utf-8", env=os.environ | variables, cwd=gettempdir(), check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout
