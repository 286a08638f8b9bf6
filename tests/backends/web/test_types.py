"""TypeScript's compiler checks the types in the JavaScript of a web bundle."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from satexport.files import sha256_of
from tests import ROOT
from tests.browser import lack

TYPESCRIPT = "5.9.3"
SHA256 = "10e108c9cf7d5f2879053dff18515fb405abf2ccef63eaaf017d9c571687a1d3"  # of its npm package
WEB = ROOT / "satexport" / "backends" / "web"


@pytest.fixture(scope="module")
def tsc(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the compiler, which npm fetches once into build/."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        lack("needs Node.js and npm")
    folder = ROOT / "build" / "cache" / f"typescript-{TYPESCRIPT}"
    if not folder.is_dir():
        fetch(npm, tmp_path_factory.mktemp("typescript"), folder)
    return [node, str(folder / "lib" / "tsc.js")]


def fetch(npm: str, stage: Path, folder: Path) -> None:
    """Fetch the compiler; other processes see its folder only when it is complete."""
    command = [npm, "pack", f"typescript@{TYPESCRIPT}", "--ignore-scripts"]
    done = subprocess.run(command, cwd=stage, check=False, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        lack(f"needs TypeScript {TYPESCRIPT}, which npm cannot fetch: {done.stderr.strip()}")
    package = next(stage.glob("*.tgz"))
    assert sha256_of(package) == SHA256
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix="typescript-", dir=folder.parent))
    try:
        with tarfile.open(package) as archive:
            archive.extractall(beside, filter="data")
        with suppress(OSError):  # another process was faster
            (beside / "package").rename(folder)
    finally:
        shutil.rmtree(beside)


def check(tsc: list[str], project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*tsc, "--project", project / "tsconfig.json"], capture_output=True, text=True,
                          encoding="utf-8", check=False)


@pytest.mark.long
def test_the_modules_pass_the_strict_check(tsc: list[str]) -> None:
    done = check(tsc, WEB)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_a_wrong_type_is_found(tsc: list[str], tmp_path: Path) -> None:
    shutil.copytree(WEB, tmp_path / "web")
    with (tmp_path / "web" / "static" / "satexport.js").open("a") as module:
        module.write("\ntop('scores', 3);\n")
    done = check(tsc, tmp_path / "web")
    assert (done.returncode, "satexport.js" in done.stdout) == (2, True), done.stdout
