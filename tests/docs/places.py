"""What stands in for the files and folders that shown commands name: one maker for each path.

A command runs in a folder of its own in which the paths are there as they are written.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from satexport.audio.labels import audioset_labels
from satexport.audio.synthetic import synthetic_stream
from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import labels_sha256, open_bundle
from satexport.bundle.thresholds import Thresholds, write_thresholds
from satexport.files import write_json
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.report.records import Report
from satexport.report.serialize import to_json
from satexport.targets import find_target
from tests import ROOT
from tests.docs.commands import FENCE
from tests.machine import need
from tests.report.records import measure_report, parity_report
from tests.tiny import FEW, SAT, export

RATE = 16_000  # Hz


@dataclass(frozen=True)
class Kit:
    """Where a stand-in comes from: the fixtures of the suite, asked for when they are needed."""

    request: pytest.FixtureRequest

    def bundle(self, name: str) -> Path:
        return Path(self.request.getfixturevalue(name))


Maker = Callable[[Kit, Path], object]  # puts a stand-in at a path; the folder of it is there


def copy_of(fixture: str) -> Maker:
    return lambda kit, place: shutil.copytree(kit.bundle(fixture), place)


def link_to(fixture: str) -> Maker:
    return lambda kit, place: place.symlink_to(kit.bundle(fixture), target_is_directory=True)


def sound(seconds: float) -> Maker:
    def write(kit: Kit, place: Path) -> None:
        samples = synthetic_stream(seconds, "calibrate", rate=RATE)
        need("soundfile", "audio").write(place, np.asarray(samples, np.float32), RATE)
    return write


def recordings(kit: Kit, place: Path) -> None:
    place.mkdir()
    for number in range(3):
        sound(40)(kit, place / f"{number}.wav")


def recordings_list(kit: Kit, place: Path) -> None:
    sound(5)(kit, place.parent / "one.wav")
    place.write_text("one.wav\n", encoding="utf-8")


def glob_of_recordings(kit: Kit, place: Path) -> None:
    if not place.parent.exists():
        recordings(kit, place.parent)


def state_dict(kit: Kit, place: Path) -> None:
    torch = need("torch", "export")
    state = load_checkpoint("demo", find_variant("sat-t", 2)).state
    torch.save({name: torch.from_numpy(tensor) for name, tensor in state.items()}, place)


def safetensors(kit: Kit, place: Path) -> None:
    state = load_checkpoint("random", find_variant("sat-s", 1)).state
    need("safetensors.numpy", "export").save_file(state, place)


def class_names(kit: Kit, place: Path) -> None:
    place.write_text("\n".join(audioset_labels()), encoding="utf-8")


def own_target(kit: Kit, place: Path) -> None:
    """The first TOML on the page about targets, for int8, since it is also calibrated."""
    page = (ROOT / "docs" / "targets.md").read_text("utf-8")
    text = next(fence["content"] for fence in FENCE.finditer(page) if fence["language"] == "toml")
    for old, new in (('"fp32"', '"int8"'), ("= 1e-4 ", "= 0.25 "), ("= 0.999 ", "= 0.99 ")):
        assert old in text
        text = text.replace(old, new)
    place.write_text(f"{text}\n[quantization]\n", encoding="utf-8")


def int8_bundle(kit: Kit, place: Path) -> None:
    source, options = open_bundle(kit.bundle("demo")), BuildOptions(calibration=FEW)
    compile_bundle(source, find_target("cpu-int8"), place.parent / "made", options).path.rename(place)
    (place / "reports").mkdir(exist_ok=True)
    report(measure_report)(kit, place / "reports" / "measure.json")


def eight_streams(kit: Kit, place: Path) -> None:
    export(place.parent / "made", SAT, 2, "random", GraphOptions(streams=8), use_onnxsim=False).rename(place)


def report(make: Callable[[], Report]) -> Maker:
    """A report in the folder of a bundle."""
    return lambda kit, place: write_json(place, to_json(make()))


def own_serving(kit: Kit, place: Path) -> None:
    place.write_bytes((ROOT / "serving" / "triton-cpu.toml").read_bytes())


def groups(kit: Kit, place: Path) -> None:
    place.write_text('[group."Alarm"]\nlabels = ["Siren", "Smoke detector, smoke alarm"]\n', encoding="utf-8")


def thresholds(kit: Kit, place: Path) -> None:
    write_thresholds(place, Thresholds(labels_sha256=labels_sha256(audioset_labels())))


def matrix(kit: Kit, place: Path) -> None:
    """A matrix of a small model, of which a pattern for sat-t matches a case."""
    place.write_text('[settings]\nminutes = 0.1\nsteps = 2\n[[case]]\n'
                     f'model = "{SAT}"\ncheckpoint = "random"\n', encoding="utf-8")


def nothing(kit: Kit, place: Path) -> None:
    """For what the command itself writes."""


PLACES: dict[str, Maker] = {
    "build/sat-t-2s/onnx": copy_of("demo"),
    "build/sat-b-2s/onnx": copy_of("demo"),
    "build/sat-b-2s/onnx-x8": eight_streams,
    "build/sat-t-2s/onnx-x8": eight_streams,
    "build/sat-t-2s/onnx-embedding-mean": copy_of("tiny_embedding"),
    "build/sat-t-2s/onnx-dynamic": copy_of("tiny_lanes"),
    "build/sat-t-2s/cpu-int8-dynamic": copy_of("tiny_lanes"),
    "my-server.toml": own_serving,
    "build/triton": nothing,
    "build/hub": nothing,
    "build/sat-t-2s/cpu-int8": int8_bundle,
    "raspberry-pi-5": copy_of("demo"),
    "build/clip.wav": sound(8),
    "dog.wav": sound(5),
    "rain.flac": sound(5),
    "my-recordings/": recordings,
    "ESC-50": link_to("few_real"),
    "ESC-10": link_to("few_real"),
    "mine.pt": state_dict,
    "mine.safetensors": safetensors,
    "mine.txt": class_names,
    "my-board.toml": own_target,
    "examples/ci/matrix.toml": matrix,
    "matrix.xml": nothing,
    "build/sat-t-2s/onnx/reports/parity.json": report(parity_report),
    "build/sat-t-2s/onnx/reports/measure.json": report(measure_report),
    "build/sat-t-2s/cpu-int8/reports/measure.json": report(measure_report),
    "/tmp/sizing": nothing,
    "groups.toml": groups,
    "thresholds.toml": thresholds,
    "recordings.txt": recordings_list,
    "my-recordings/*.wav": glob_of_recordings,
    "tags/": nothing,
    "events/": nothing,
    "scores/": nothing,
    "both.npz": nothing,
    "events.csv": nothing,
    "events.parquet": nothing,
    "dog.txt": nothing,
    "dog.selection.table.txt": nothing,
    "parity.xml": nothing,
    "report.md": nothing,
    "report.html": nothing,
    "measure.png": nothing,
    "vit.md": nothing,
    "table1.md": nothing,
    "figure2.png": nothing,
}


def local(word: str) -> str:
    """A word of a command, an absolute path as one in the command's folder."""
    return re.sub(r"^/tmp/", "", word)


def put(kit: Kit, folder: Path, words: tuple[str, ...]) -> list[Path]:
    """Put what the words name and is not there into a command's folder. Returns the bundles among it: another
    command would find more exports than one."""
    bundles = []
    for word in words:
        place = folder / local(word)
        bundle = folder.joinpath(*Path(word).parts[:3])  # build/VARIANT/TARGET
        if word in PLACES and not place.exists():
            bundles += [bundle] if word.startswith("build/sat") and not bundle.exists() else []
            place.parent.mkdir(parents=True, exist_ok=True)
            PLACES[word](kit, place)
    return bundles
