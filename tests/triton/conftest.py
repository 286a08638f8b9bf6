"""A repository that satexport wrote, and NVIDIA's server over it, for tests that are long."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from satexport.bundle.contract import ANY, GraphOptions
from satexport.triton.repository import CONFIG, VERSION, write_repository
from satexport.triton.serving import FOLDER
from tests import ROOT
from tests.tiny import export
from tests.triton import environment
from tests.triton.bundles import bundle_of, with_engine
from tests.triton.server import CARRY, ENGINE, IDLE, IDLE_SECONDS, Server, put_backends, serve

MODEL = ROOT / "tests" / "data" / "triton" / "model.py"


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> Path:
    """The Python of the environment with the server and its client."""
    if reason := environment.missing():
        pytest.skip(f"needs {reason}")
    if not environment.is_installed():
        request.getfixturevalue("package_index")
        environment.install()
    return environment.FOLDER / "bin" / "python"


@pytest.fixture(scope="session")
def repository(build: Path, tiny_lanes: Path, window_lanes: Path,
               tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that satexport wrote: a model with twelve caches under three names, one that takes
    windows, and an engine."""
    folder = tmp_path_factory.mktemp("triton")
    lanes = export(build, "sat-t", 2, "random", GraphOptions(streams=ANY), use_onnxsim=False)
    usual = (FOLDER / "triton-cpu.toml").read_text("utf-8")
    (folder / "idle.toml").write_text(re.sub(r"max_idle_s = \d+", f"max_idle_s = {IDLE_SECONDS}", usual))
    write_repository(folder / "models", [lanes, window_lanes])
    write_repository(folder / "models", [lanes], name=CARRY)
    write_repository(folder / "models", [lanes], serving=str(folder / "idle.toml"), name=IDLE)
    write_repository(folder / "models", [with_engine(bundle_of(tiny_lanes, folder), folder)], name=ENGINE)
    return folder / "models"


@pytest.fixture(scope="session")
def server(python: Path, repository: Path, fake_network: Path,
           tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a copy of the repository whose models run on the backends of the tests. Nothing else in a
    config is changed, except that an engine's instances are on the CPU."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(repository, folder / "models")
    for model in (folder / "models").iterdir():
        text, backend = (model / CONFIG).read_text("utf-8"), "python"
        if model.name in (CARRY, IDLE):
            backend = CARRY
        changed = re.sub(r'(?m)^(backend|platform): .*$', f'backend: "{backend}"', text, count=1)
        (model / CONFIG).write_text(changed.replace("KIND_GPU", "KIND_CPU"), "utf-8")
        for file in (model / VERSION).iterdir():
            file.unlink()
        if backend == "python":
            shutil.copy(MODEL, model / VERSION / "model.py")
    put_backends(folder / "backends")
    with serve(folder / "models", folder / "backends", fake_network) as running:
        yield running
