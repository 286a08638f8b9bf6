"""How `make` installs: which Python, which packages with which hashes, and torch from which index."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pip
import pytest

from satexport.facts import read_facts
from tests import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")

LOCK = (ROOT / "requirements.lock").read_text("utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")


# The lock file.

def test_every_package_of_the_lock_has_a_version_and_hashes() -> None:
    packages = re.sub(r"(?m)^\s*#.*\n", "", LOCK).replace("\\\n", "").splitlines()
    assert len(packages) > 60
    for package in packages:
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", package), package


def test_neither_torch_nor_the_packages_of_its_cuda_builds_are_locked() -> None:
    names = set(re.findall(r"(?m)^([\w.-]+)==", LOCK))
    assert "numpy" in names
    assert not [name for name in names if re.match(r"torch$|triton|nvidia|cuda", name)]


def test_the_constraints_are_the_pins_of_the_lock_file_plus_torch() -> None:
    locked, held = (re.findall(r"(?m)^[\w.-]+==[^\s;]+", text) for text in (LOCK, CONSTRAINTS))
    project, _ = read_facts(ROOT, str(ROOT / "pyproject.toml"), "project")
    (torch,) = project["tool"]["uv"]["constraint-dependencies"]
    assert sorted(held) == sorted([*locked, torch])
    assert "hash" not in CONSTRAINTS


# The Python of .venv.

def fake_python(folder: Path, name: str, version: tuple[int, int] | None, without: str = "") -> None:
    """Create a program in a folder of the PATH: a Python of this version, or (None) a shim that only
    fails."""
    folder.mkdir(exist_ok=True)
    change = (f"import sys; sys.version_info = {version}; "
              f"sys.modules.update(dict.fromkeys({json.dumps(without.split())}))")
    text = (f"exec {sys.executable} -c '{change}; exec(sys.argv[2])' \"$@\"" if version else
            "echo pyenv: command not found >&2; exit 127")
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def find_python(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", ROOT / "tools" / "find-python.sh", *arguments], capture_output=True,
                          text=True, env={"PATH": path}, check=False)


def test_make_selects_the_newest_working_python_that_can_create_environments(tmp_path: Path) -> None:
    shims, system = tmp_path / "pyenv shims", tmp_path / "bin"
    fake_python(shims, "python3.14", None)
    fake_python(shims, "python3.12", None)
    fake_python(shims, "python3", (3, 10))
    fake_python(system, "python3.13", (3, 13), without="ensurepip")
    fake_python(system, "python3.12", (3, 12))
    fake_python(system, "python3.11", (3, 11))
    fake_python(system, "python3", (3, 15))
    found = find_python(path=f"{shims}:{system}")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{system}/python3.12\n", "")

    fake_python(system, "python3", (3, 14))  # a plain python3 is accepted too
    assert find_python(path=f"{shims}:{system}").stdout == f"{system}/python3\n"


def test_a_python_passed_by_path_is_checked_and_used(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3.13", (3, 13))
    fake_python(tmp_path, "mine", (3, 11))
    fake_python(tmp_path, "old", (3, 9))
    assert find_python("mine", path=str(tmp_path)).stdout == "mine\n"
    found = find_python("old", path=str(tmp_path))
    assert (found.returncode, found.stdout) == (1, "")
    assert "    old: it is Python 3.9\n" in found.stderr


def test_without_a_suitable_python_make_prints_what_was_found_and_what_to_install(tmp_path: Path) -> None:
    make = shutil.which("make") or pytest.skip("needs make")
    for name in ("Makefile", "requirements.lock", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    path = tmp_path / "bin"
    fake_python(path, "python3.14", None)
    fake_python(path, "old python", (3, 9))
    fake_python(path, "python3", (3, 12), without="ensurepip")
    (path / "sh").symlink_to("/bin/sh")
    done = subprocess.run([make, "demo"], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={"PATH": str(path)})
    assert done.returncode == 2  # make's own
    assert not (tmp_path / ".venv").exists()
    assert f"    {path}/python3.14: it does not start\n" in done.stderr
    assert f"    {path}/python3: it has no module ensurepip\n" in done.stderr
    for words in ("sudo apt install python3-venv", "brew install python@3.13",
                  "winget install Python.Python.3.13", "make demo PYTHON="):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([make, "demo", f"PYTHON={path}/old python"], cwd=tmp_path, capture_output=True,
                          text=True, check=False, env={"PATH": str(path)})
    assert f"    {path}/old python: it is Python 3.9\n" in done.stderr


def test_a_failed_installation_is_repeated_and_a_successful_one_is_not(tmp_path: Path) -> None:
    """Uses a Python whose environments record their commands, and fail to install torch the first time."""
    make = shutil.which("make") or pytest.skip("needs make")
    for name in ("Makefile", "requirements.lock", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    asked = tmp_path / "asked"
    (tmp_path / "inner").write_text(
        f'#!/bin/sh\necho "$@" >> "{asked}"\ncase "$1" in *torch*) test -e "{tmp_path}/network";; esac\n')
    (tmp_path / "python").write_text(
        f"#!/bin/sh\ncase $1 in -c) exec {sys.executable} \"$@\";; esac\n"
        f"mkdir -p .venv/bin && cp '{tmp_path}/inner' .venv/bin/python\n")
    for name in ("inner", "python"):
        (tmp_path / name).chmod(0o755)
    command = [make, ".venv/installed", f"PYTHON={tmp_path}/python", "TORCH_INDEX=there"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (first.returncode, (tmp_path / ".venv" / "installed").exists()) == (2, False)

    (tmp_path / "network").touch()
    asked.unlink()
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    builder, packages, torch, project = asked.read_text().splitlines()
    assert builder.endswith("--require-hashes --no-deps -r .venv/setuptools.lock")
    assert packages.endswith("--require-hashes --no-deps --no-build-isolation -r requirements.lock")
    assert (torch, project.endswith("--editable .")) == ("tools/install_torch.py there", True)
    lines = (tmp_path / ".venv" / "setuptools.lock").read_text().splitlines()
    assert [line.split("=")[0] for line in lines] == ["setuptools", *["    --hash"] * (len(lines) - 1)]
    assert len(lines) > 1

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "up to date" in again.stdout


# torch.

def write_wheel(folder: Path, version: str) -> None:
    """Create an empty package named torch, and list it under torch/ like an index."""
    folder = folder / "torch"
    folder.mkdir(parents=True, exist_ok=True)
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without printing anything."""

    def log_request(self, code: object = "-", size: object = "-") -> None: ...

    def log_error(self, *args: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Two indexes, cpu/ and pip/, with the torch version of the constraints."""
    (version,) = re.findall(r"(?m)^torch==(.+)", CONSTRAINTS)
    write_wheel(tmp_path / "cpu", f"{version}+cpu")
    write_wheel(tmp_path / "pip", version)
    write_wheel(tmp_path / "old", "1.0")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(("index", "why"), [
    ("cpu", ""), ("none", "does not answer: File not found"), ("old", "has no torch {version}")])
def test_an_index_is_used_if_it_answers_and_has_the_version(server: str, index: str, why: str) -> None:
    (version,) = re.findall(r"(?m)^torch==(.+)", CONSTRAINTS)
    expected = f"{server}/{index} {why.format(version=version)}" if why else ""
    find_problem = runpy.run_path(str(ROOT / "tools" / "install_torch.py"))["find_problem"]
    assert find_problem(f"{server}/{index}", version) == expected
    assert find_problem("", version) == "TORCH_INDEX is empty"
    assert "does not answer: " in find_problem("http://a name with spaces/", version)


@pytest.mark.parametrize(("index", "local", "line"), [
    ("{server}/cpu", "+cpu", "from {server}/cpu\n"),
    ("http://127.0.0.1:1", "", "from the package index (http://127.0.0.1:1 does not answer: ")])
def test_torch_comes_from_the_cpu_index_or_else_from_the_package_index(
        server: str, tmp_path: Path, index: str, local: str, line: str) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "pip").symlink_to(Path(pip.__file__).parent)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    own |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{server}/pip", "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "no_proxy": "127.0.0.1"}
    command = (tmp_path / "venv" / "bin" / "python", ROOT / "tools" / "install_torch.py",
               index.format(server=server))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr
    (version,) = re.findall(r"(?m)^torch==(.+)", CONSTRAINTS)
    assert done.stdout.startswith(f"torch {version} " + line.format(server=server))
    assert done.stdout.count("\n") == 1
    assert [path.name for path in site.glob("torch-*")] == [f"torch-{version}{local}.dist-info"]
