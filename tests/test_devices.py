"""A device as set up by its owner: another Python, a fresh environment, the wheel with an extra, no PyTorch.

Runs in `make test-long`; needs the package index and the listed Python versions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from satexport.step import FloatArray
from satexport.tagging.tagger import load
from tests import ROOT
from tests.backends.compiled import compiled
from tests.machine import need

soundfile = need("soundfile", "audio")

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("package_index")]

CONSTRAINTS = ROOT / "constraints.txt"

PROGRAM = """
import sys
from importlib.util import find_spec
import numpy as np, satexport
_, bundle, audio, scores = sys.argv
np.save(scores, satexport.load(bundle).stream().feed(np.load(audio)))
print([name for name in ("torch", "onnx", "sklearn", "scipy") if find_spec(name)])
"""


def interpreter(version: str) -> str:
    """A working Python of this version, from pyenv or the PATH; skips the test if there is none."""
    candidates = [*sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")), f"python{version}"]
    for candidate in map(str, candidates):
        found = shutil.which(candidate)
        if found and not subprocess.run([found, "-c", "import ensurepip"], capture_output=True,
                                        check=False).returncode:
            return found
    pytest.skip(f"needs Python {version}, which neither pyenv nor the PATH has here")


def run(*command: object, cwd: Path) -> str:
    """Run a command without the user's settings; it must succeed. Returns its output."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False,
                          cwd=cwd, env=own)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize(("extra", "name"), [("cpu", "onnx"), ("openvino", "openvino-fp32")])
def test_a_device_with_another_python_gives_the_same_scores_and_verifies_its_copy(
        version: str, extra: str, name: str, wheel: Path, demo: Path, audio: FloatArray,
        tmp_path: Path) -> None:
    python = interpreter(version)
    bundle = compiled(demo, name, tmp_path)
    run(python, "-m", "venv", tmp_path / "device", cwd=tmp_path)
    device = tmp_path / "device" / "bin"
    install = (device / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--constraint", CONSTRAINTS)
    run(*install, f"{wheel}[{extra}]", cwd=tmp_path)

    np.save(tmp_path / "audio.npy", audio)
    out = run(device / "python", "-W", "error", "-c", PROGRAM, bundle, tmp_path / "audio.npy",
              tmp_path / "scores.npy", cwd=tmp_path)
    assert out == "[]\n"
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), load(bundle).stream().feed(audio), atol=1e-5)

    report = json.loads(run(device / "satexport", "parity", bundle, "--golden", "--report",
                            tmp_path / "parity.json", "--json", cwd=tmp_path))
    assert report["verdict"] == "passed"

    run(*install, f"{wheel}[audio]", cwd=tmp_path)
    soundfile.write(tmp_path / "a.flac", audio[:64_000], 16_000)
    rows = run(device / "satexport", "run", bundle, tmp_path / "a.flac", "--json", cwd=tmp_path)
    assert len(rows.splitlines()) == 2
