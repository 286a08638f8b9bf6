"""Installation: the wheel on a bare machine, and a device that has only numpy and the runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from satexport.step import FloatArray
from satexport.tagging.tagger import load
from tests import ROOT
from tests.bundle.copies import copy_of
from tests.lean import FILES, TRAINING, python
from tests.machine import need

# The wheel.

@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into an empty folder."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
                    "--disable-pip-version-check", "--target", folder, wheel],
                   check=True, capture_output=True)
    return folder


def test_the_wheel_contains_only_code_targets_data_and_attribution(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / "satexport" / "data").iterdir()}
    targets = {f"satexport/{folder}/{path.name}" for folder in ("targets", "serving")
               for path in (ROOT / folder).glob("*.toml")}
    assert {"satexport/data/ATTRIBUTION.md", "satexport/data/demo-sat-t-2s.safetensors",
            "satexport/targets/onnx.toml", "satexport/cli.py"} <= names
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "satexport" / "report" / "page").iterdir()
            if path.is_file()}
    assert "satexport/report/page/page.css" in page
    assert data | targets | page <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"satexport"}
    licences = {name.rsplit("licenses/", 1)[1] for name in names if "licenses/" in name}
    assert licences == {"LICENSE", "satexport/data/ATTRIBUTION.md"}


def test_the_installed_wheel_has_its_command_and_finds_its_targets_and_data(installed: Path) -> None:
    program = """
from satexport.commands.group import cli
from satexport.audio.labels import audioset_labels
from satexport.targets import FOLDER, find_target
from satexport.models.sat.family import DEMOS
from satexport.triton.serving import find_serving
print(FOLDER, find_target("onnx").name, len(audioset_labels()), DEMOS["sat-t-2s"].is_file(),
      find_serving("triton-gpu").name)
cli.main(["--help"])
"""
    first, *help_text = python(program, without=(*TRAINING, "onnxruntime", *FILES),
                               PYTHONPATH=str(installed)).splitlines()
    assert first == f"{installed / 'satexport' / 'targets'} onnx 527 True triton-gpu"
    assert any("Usage:" in line for line in help_text)
    assert list((installed / "bin").glob("satexport*"))


REFUSE = """
import sys
class Refuse:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            with open({log!r}, "a") as log:
                print(name, file=log)
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse)
"""
LOAD = """
import sys, numpy as np, satexport
assert len(satexport.load(sys.argv[1], threads=1).stream().feed(np.zeros(64_000, np.float32))) == 2
"""


@pytest.mark.parametrize(("command", "refused"), [
    (["-c", LOAD, "BUNDLE"], []),
    (["-m", "satexport", "run", "BUNDLE", "-", "--threads", "1"], []),
    (["-m", "satexport", "parity", "BUNDLE", "--golden"], []),
    (["-m", "satexport", "measure", "BUNDLE", "--no-eager", "--steps", "2", "--pause", "0.01"],
     ["matplotlib", "memray"])],
    ids=["load", "run", "parity", "measure"])
def test_the_wheel_without_the_export_extra_requires_neither_torch_nor_onnx(
        command: list[str], refused: list[str], installed: Path, tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "refused"
    log.touch()
    (tmp_path / "sitecustomize.py").write_text(  # also for processes that a command starts
        REFUSE.format(names=(*TRAINING, "matplotlib", "memray"), log=str(log)), encoding="utf-8")
    bundle = str(copy_of(tiny, tmp_path))
    done = subprocess.run(
        [sys.executable, *(bundle if word == "BUNDLE" else word for word in command)], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, installed)))},
        input=bytes(128_000), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert sorted({name.partition(".")[0] for name in log.read_text("utf-8").split()}) == refused


# A device.

def test_a_device_without_torch_and_onnx_gives_the_same_scores(demo: Path, audio: FloatArray,
                                                               tmp_path: Path) -> None:
    program = """
import numpy as np, satexport
_, bundle, audio, scores = sys.argv
tagger = satexport.load(bundle, threads=1)
np.save(scores, tagger.stream().feed(np.load(audio)))
print(sorted(name for name in sys.modules if name.split(".")[0] in ("click", "rich") and sys.modules[name]))
"""
    np.save(tmp_path / "audio.npy", audio)
    out = python(program, demo, tmp_path / "audio.npy", tmp_path / "scores.npy",
                 without=(*TRAINING, *FILES, "click", "rich"))
    assert out == "[]\n"
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), load(demo).stream().feed(audio))


def test_a_device_verifies_its_copy_without_torch_and_onnx(demo: Path, tmp_path: Path) -> None:
    bundle = copy_of(demo, tmp_path)
    program = "from satexport.cli import main; main()"
    report = json.loads(python(program, "parity", bundle, "--golden", "--json", without=(*TRAINING, *FILES)))
    assert report["verdict"] == "passed"


def test_a_device_tags_files_with_only_the_audio_extra(demo: Path, audio: FloatArray,
                                                       tmp_path: Path) -> None:
    soundfile = need("soundfile", "audio")
    soundfile.write(tmp_path / "a.wav", audio[:64_000], 16_000)
    program = "from satexport.cli import main; main()"
    out = python(program, "run", demo, tmp_path / "a.wav", "--json", without=TRAINING)
    assert len(out.splitlines()) == 2


def test_a_checkout_without_installation_finds_its_targets(tmp_path: Path) -> None:
    for name in ("satexport", "targets"):
        shutil.copytree(ROOT / name, tmp_path / name)
    program = "from satexport.targets import FOLDER, find_target; print(FOLDER, find_target('onnx').name)"
    assert python(program, PYTHONPATH=str(tmp_path)) == f"{tmp_path / 'targets'} onnx\n"
