"""Bundles that several tests share, made once, and what lies beside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from satexport.backends import FloatArray
from satexport.bundle import open_bundle
from satexport.calibration_set import find_calibration
from satexport.checkpoint import Checkpoint, load_checkpoint
from satexport.compile import Wanted, compile_bundle
from satexport.export import export_onnx
from satexport.runtimes import import_runtime
from satexport.stream import Tagger, load
from satexport.synthetic import synthetic_clip, synthetic_labels, synthetic_stream
from satexport.targets import find_target
from satexport.variants import find_variant

for _name in ("onnxruntime", "openvino"):  # before a test imports it by itself, telemetry and all
    with suppress(ImportError):
        import_runtime(_name)

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared folder: real clips and foreign checkpoints. Absent on most machines."""
    if not SHARED.is_dir():
        reason = f"needs {SHARED} (real clips, foreign checkpoints), which is not on this machine"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the suite out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATEXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def export(folder: Path, model: str, delay: int, what: str, opset: int = 20) -> Path:
    """Export and return the bundle's path."""
    checkpoint: Checkpoint = load_checkpoint(what, find_variant(model, delay))
    return export_onnx(checkpoint, find_target("onnx"), folder, opset=opset).path


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture(scope="session")
def demo(build: Path) -> Path:
    """The bundle of the demo checkpoint, sat-t at 2 s. Do not write into it: copy it."""
    return export(build, "sat-t", 2, "demo")


@pytest.fixture(scope="session")
def tagger(demo: Path) -> Tagger:
    return load(demo, spinning=False)


@pytest.fixture(scope="session")
def openvino_demo(demo: Path, build: Path) -> Path:
    """The same for OpenVINO, in fp32. Do not write into it: copy it."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    target = find_target("openvino-fp32")
    return compile_bundle(open_bundle(demo), target, build, Wanted(find_calibration("synthetic"))).path


@pytest.fixture(scope="session")
def random_vit(build: Path) -> Path:
    """A bundle without a cache and with random weights, vit-t at 2 s."""
    return export(build, "vit-t", 2, "random")


@pytest.fixture(scope="session")
def audio() -> FloatArray:
    """A minute of synthetic sounds, [samples]."""
    return np.asarray(synthetic_stream(60, "calibrate"), np.float32)


@pytest.fixture(scope="session")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set as a csv: two clips of each synthetic class, where all of them would take long."""
    folder = tmp_path_factory.mktemp("few_clips")
    lines = ["filename,labels"]
    for number in range(28):
        soundfile.write(folder / f"{number}.wav", synthetic_clip("evaluate", number)[0], 16_000)
        lines.append(f'{number}.wav,"{";".join(synthetic_labels("evaluate", number))}"')
    (folder / "few.csv").write_text("\n".join(lines))
    return folder / "few.csv"


@pytest.fixture(scope="session")
def quick(few_clips: Path) -> tuple[object, ...]:
    """Options that make a target's bundle fast."""
    return "--no-measure", "--minutes", 0.1, "--data", few_clips


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a checkout, built without the package index."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
                   cwd=Path(__file__).parents[1], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def package_index() -> None:
    """pip's package index. Skips the test where it does not answer."""
    done = subprocess.run([sys.executable, "-m", "pip", "index", "versions", "editables", "--retries", "0",
                           "--timeout", "10"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs pip's package index, which does not answer here")
