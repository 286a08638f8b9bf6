"""No telemetry: no file in the user's home folder and no DNS lookup, whatever runtime is used."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from satexport.backends.backend import BACKENDS
from tests import ROOT
from tests.tiny import SAT

PACKAGE = ROOT / "satexport"
# telemetry packages are off if these are set
SWITCHES = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
REPORTING = {"onnxruntime", "openvino", "onnxsim", "nncf", "huggingface_hub"}  # onnxsim imports ONNX Runtime
FEED = """
import sys, numpy, satexport
stream = satexport.load(sys.argv[1]).stream()
print(len(stream.feed(numpy.zeros(2 * 32_000, numpy.float32))))
"""


class Seen(NamedTuple):
    """The side effects of a program."""

    files: list[str]     # in its home folder, which was empty before
    look_ups: list[str]  # of host names, and connections
    out: str
    err: str


Watch = Callable[..., Seen]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def watched(fake_network: Path, home: Path, tmp_path: Path) -> Watch:
    """Run Python with an empty home folder and without a network, and return its side effects."""
    def run(*arguments: object, **settings: str) -> Seen:
        log = tmp_path / "look_ups"
        environment = {key: value for key, value in os.environ.items()
                       if key not in SWITCHES and not key.startswith("XDG_")}
        environment |= {"HOME": str(home), "SATEXPORT_CACHE": str(tmp_path / "cache"),
                        "LD_PRELOAD": str(fake_network), "FAKE_NETWORK_LOG": str(log)} | settings
        before = {path for path in home.rglob("*") if path.is_file()}
        done = subprocess.run([sys.executable, *map(str, arguments)], env=environment, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()
                 and path not in before]
        look_ups = log.read_text("utf-8").splitlines() if log.exists() else []
        return Seen(files, look_ups, done.stdout, done.stderr)
    return run


@pytest.fixture(scope="session")
def bundles(demo: Path, openvino_demo: Path) -> dict[str, Path]:
    """A bundle of each backend that runs here."""
    return {"onnxruntime": demo, "openvino": openvino_demo}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("given", [{}, {"ORT_DISABLE_TELEMETRY": ""}], ids=["unset", "empty"])
def test_a_stream_on_a_device_writes_no_file_and_looks_up_no_host(
        backend: str, given: dict[str, str], watched: Watch, bundles: dict[str, Path]) -> None:
    seen = watched("-c", FEED, bundles[backend], **given)
    assert seen == Seen([], [], "2\n", "")


def test_a_read_only_home_folder_causes_no_message(watched: Watch, bundles: dict[str, Path]) -> None:
    for backend in ("onnxruntime", "openvino"):
        assert watched("-c", FEED, bundles[backend], HOME="/proc").err == ""


def test_an_export_writes_no_file_and_looks_up_no_host(watched: Watch, tmp_path: Path) -> None:
    """PyTorch, onnxsim and ONNX Runtime."""
    seen = watched("-m", "satexport", "onnx", "--model", SAT, "--checkpoint", "random",
                   "--output", tmp_path)
    assert (seen.files, seen.look_ups) == ([], [])


def test_the_measured_process_writes_no_file_and_looks_up_no_host(watched: Watch, demo: Path) -> None:
    program = """
import sys
from satexport.measure.process import Process
with Process("measured") as process:
    process.ask("load", bundle=sys.argv[1], threads=1, streams=1, arena=False, spinning=False)
    process.ask("transient")
"""
    assert watched("-c", program, demo) == Seen([], [], "", "")


@pytest.mark.long
def test_quantization_writes_no_file_and_looks_up_no_host(
        watched: Watch, demo: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from satexport.bundle.folder import open_bundle
from satexport.quantize.calibration_set import CalibrationSet
from satexport.pipeline.build import BuildOptions, compile_bundle
from satexport.targets import find_target
small = CalibrationSet(name="small", source="synthetic", licence="made", clips=14, samples=16,
                       stream_seconds=30)
options = BuildOptions(calibration=small)
compile_bundle(open_bundle(sys.argv[1]), find_target("cpu-int8"), Path(sys.argv[2]), options)
"""
    seen = watched("-c", program, demo, tmp_path)
    assert (seen.files, seen.look_ups) == ([], [])


@pytest.mark.long
def test_a_picture_writes_no_file_to_the_home_folder(watched: Watch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'satexport[measure]'")
    drawn = "from satexport.report.pictures import new_canvas, png_of; assert png_of(new_canvas(3, 2))"
    assert watched("-c", drawn) == Seen([], [], "", "")
    assert watched("-c", drawn, HOME="/proc", SATEXPORT_CACHE="/proc").err == ""


def test_the_users_own_choice_is_respected(
        watched: Watch, bundles: dict[str, Path], home: Path) -> None:
    shown = FEED + "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert watched("-c", shown, bundles["onnxruntime"], ORT_DISABLE_TELEMETRY="0").out == "2\n0\n"
    (home / "intel").mkdir()
    (home / "intel" / "openvino_telemetry").write_text("1")
    seen = watched("-c", FEED, bundles["openvino"])
    assert seen.look_ups, "OpenVINO reports where its user wants it to; and the fake network sees that"


def test_a_name_on_the_hub_looks_up_the_hub_alone(watched: Watch, home: Path) -> None:
    """And no list of coding agents, which huggingface_hub fetches where its telemetry is on."""
    program = """
from satexport.errors import RunError
from satexport.hub import open_repository, parse_hub_name
try:
    open_repository(parse_hub_name("hub:a/b"))
except RunError as error:
    print(error)
"""
    seen = watched("-c", program, HF_ENDPOINT="http://hub.invalid", NO_PROXY="*")
    assert "no answer from http://hub.invalid" in seen.out
    assert (seen.files, seen.err) == ([], "")
    assert len(seen.look_ups) == 1
    assert "hub.invalid" in seen.look_ups[0]


def test_importing_satexport_changes_nothing() -> None:
    program = "import os; old = dict(os.environ); import satexport.tagging.stream; assert os.environ == old"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_runtimes_are_imported_only_in_one_module() -> None:
    """Any other import would load a runtime with its telemetry on."""
    found = [f"{path.relative_to(PACKAGE)}: {name}" for path in PACKAGE.rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text("utf-8")))
             for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                          [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
             if name.partition(".")[0] in REPORTING]
    assert set(found) == {f"backends/openvino/{name}.py: openvino"  # only for its types, never executed
                          for name in ("heads", "simplify", "write", "zero_points")}


def test_a_package_loaded_before_is_still_loaded_afterwards() -> None:
    program = """
import sys
sys.modules["openvino_telemetry"] = there = object()
from satexport.runtimes import import_runtime
import_runtime("openvino")
assert sys.modules["openvino_telemetry"] is there
"""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_backend_has_a_telemetry_test() -> None:
    """A new runtime must be tested too."""
    assert set(BACKENDS) == {"onnxruntime", "openvino", "tensorrt", "web"}


@pytest.mark.long
def test_a_stream_in_the_browser_writes_no_file_and_looks_up_no_host(
        watched: Watch, web_tiny: Path, chromium: str) -> None:
    seen = watched("-c", FEED, web_tiny, FAKE_NETWORK_LOOPBACK="1")
    route = "connect 2001:4860:4860::8888"  # of a UDP socket: Chromium asks for a route and sends nothing
    assert ([found for found in seen.look_ups if found != route], seen.out) == ([], "2\n")
    assert seen.files == []


def test_importing_tensorrt_writes_no_file_and_looks_up_no_host(watched: Watch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX")
    assert watched("-c", "import tensorrt_rtx; tensorrt_rtx.Logger()") == Seen([], [], "", "")
