"""Install the torch version of constraints.txt into the environment of this Python; used by the Makefile.

    python tools/install_torch.py https://download.pytorch.org/whl/cpu

Uses this index of CPU builds if it is reachable and has the version, otherwise pip's package index, whose
Linux builds include CUDA, and prints which one. An empty argument selects pip's index directly.
requirements.lock has no hash for torch, because the CPU and CUDA builds of a version have different hashes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
TIMEOUT = 5.0  # s, to connect and for each block of the response


def find_problem(index: str, version: str) -> str:
    """Query an index and return why it cannot provide torch; empty if it can."""
    if not index:
        return "TORCH_INDEX is empty"
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=TIMEOUT) as response:
            has_version = f"torch-{version}" in response.read().decode("utf-8", "replace")
    except (OSError, ValueError, HTTPException) as error:  # unreachable, refused, truncated, not a URL
        return f"{index} does not answer: {getattr(error, 'reason', error)}"
    return "" if has_version else f"{index} has no torch {version}"


def main(index: str) -> int:
    """Install torch and return pip's exit code."""
    (version,) = re.findall(r"(?m)^torch==(\S+)", CONSTRAINTS.read_text("utf-8"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", f"torch=={version}"]
    if problem := find_problem(index, version):
        print(f"torch {version} from the package index ({problem})", flush=True)
        return subprocess.call([*pip, "--constraint", str(CONSTRAINTS)])
    print(f"torch {version} from {index}", flush=True)
    return subprocess.call([*pip, "--no-deps", "--index-url", index])  # the lock file has its dependencies


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
