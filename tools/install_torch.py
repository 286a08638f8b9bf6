"""Install the torch of constraints.txt into the environment of this Python, for the Makefile.

    python tools/install_torch.py https://download.pytorch.org/whl/cpu

From that index where it answers and has the version (CPU builds), else from pip's own package index, whose
builds for Linux bring CUDA. One line says which. An empty argument asks for the package index at once. torch
has no hash in requirements.lock: a CPU build and a CUDA build of one version have different ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
TIMEOUT = 5.0  # s, to connect and for each part of the answer


def why_not(index: str, version: str) -> str:
    """Why torch cannot come from an index, which is asked over the network; empty where it can."""
    if not index:
        return "TORCH_INDEX is empty"
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=TIMEOUT) as answer:
            listed = f"torch-{version}" in answer.read().decode("utf-8", "replace")
    except (OSError, ValueError, HTTPException) as error:  # unreachable, refused, cut short; no address
        return f"{index} does not answer: {getattr(error, 'reason', error)}"
    return "" if listed else f"{index} has no torch {version}"


def main(index: str) -> int:
    """Install torch and return pip's exit code."""
    (version,) = re.findall(r"(?m)^torch==(\S+)", CONSTRAINTS.read_text("utf-8"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", f"torch=={version}"]
    if reason := why_not(index, version):
        print(f"torch {version} from the package index ({reason})", flush=True)
        return subprocess.call([*pip, "--constraint", str(CONSTRAINTS)])
    print(f"torch {version} from {index}", flush=True)
    return subprocess.call([*pip, "--no-deps", "--index-url", index])  # the lock has its dependencies


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
