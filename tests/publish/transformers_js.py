"""transformers.js in Node.js, fetched once by npm into build/. Tests that need it are skipped by name if it
cannot be had; under CI that is a failure."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests import ROOT
from tests.browser import lack
from tests.machine import PATIENCE

PACKAGE = "@huggingface/transformers"
VERSION = "4.3.1"
FOLDER = ROOT / "build" / f"transformers.js-{VERSION}"


class Ran(NamedTuple):
    """What a program of a model card printed."""

    strongest: list[str]    # label of each chunk
    largest: float          # difference from PyTorch's scores


def find_modules() -> Path:
    """Return the folder node_modules that has transformers.js; skips the test if there is none."""
    modules = FOLDER / "node_modules"
    if not (modules / PACKAGE / "package.json").is_file():
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            lack("needs Node.js and npm")
        FOLDER.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [npm, "install", f"{PACKAGE}@{VERSION}", "--prefix", FOLDER, "--ignore-scripts", "--no-audit",
             "--no-fund", "--no-update-notifier"], cwd=FOLDER, capture_output=True, encoding="utf-8",
            check=False)
        if done.returncode:
            lack(f"needs {PACKAGE} {VERSION}, which npm cannot fetch: {done.stderr.strip()[-300:]}")
    return modules


def run_program(program: str, folder: Path) -> Ran:
    """Run a program of a model card, a module, in its folder."""
    modules = folder.parent / "node_modules"
    if not modules.exists():
        modules.symlink_to(find_modules(), target_is_directory=True)
    file = folder.parent / "run.mjs"
    file.write_text(program, encoding="utf-8")
    done = subprocess.run(["node", file], cwd=folder, capture_output=True, encoding="utf-8", check=False,
                          timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    text, _, number = last.rpartition(": ")
    assert text == "largest difference from PyTorch", done.stdout
    return Ran([re.sub(r" \d\.\d+(, .*)?$", "", line) for line in lines], float(number))
