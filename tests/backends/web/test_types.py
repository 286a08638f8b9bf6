"""TypeScript's compiler checks the types in the JavaScript of a web bundle."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests import ROOT
from tests.browser import lack

TYPESCRIPT = "5.9.3"
WEB = ROOT / "satexport" / "backends" / "web"


@pytest.fixture(scope="module")
def tsc(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the compiler, which npm fetches once into build/."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        lack("needs Node.js and npm")
    folder = ROOT / "build" / "cache" / f"typescript-{TYPESCRIPT}"
    if not folder.is_dir():
        stage = tmp_path_factory.mktemp("typescript")
        subprocess.run([npm, "pack", f"typescript@{TYPESCRIPT}", "--ignore-scripts"], cwd=stage, check=True,
                       capture_output=True)
        with tarfile.open(next(stage.glob("*.tgz"))) as archive:
            archive.extractall(stage, filter="data")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(stage / "package", folder)
    return [node, str(folder / "lib" / "tsc.js")]


def check(tsc: list[str], project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*tsc, "--project", project / "tsconfig.json"], capture_output=True, text=True,
                          encoding="utf-8", check=False)


def test_the_modules_pass_the_strict_check(tsc: list[str]) -> None:
    done = check(tsc, WEB)
    assert done.returncode == 0, done.stdout


def test_a_wrong_type_is_found(tsc: list[str], tmp_path: Path) -> None:
    shutil.copytree(WEB, tmp_path / "web")
    with (tmp_path / "web" / "static" / "satexport.js").open("a") as module:
        module.write("\ntop('scores', 3);\n")
    done = check(tsc, tmp_path / "web")
    assert (done.returncode, "satexport.js" in done.stdout) == (2, True), done.stdout
