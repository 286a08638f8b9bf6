"""Bundles that several tests share, and fixtures that make the tests independent of the machine."""

from __future__ import annotations

import os

from tests import ROOT

# Before PyTorch is imported, and for each process that a test starts: small models are fastest on one core,
# and waiting threads must not spin, which would dominate the time on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import re
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from satexport import download, origin
from satexport.audio import datasets, synthetic
from satexport.audio.synthetic import synthetic_clip, synthetic_labels, synthetic_stream
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.backends.openvino import step as openvino_backend
from satexport.bundle.contract import ANY, Contract, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.quantize import calibration_set
from satexport.quantize.calibration_set import find_calibration
from satexport.runtimes import import_runtime
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger, load
from satexport.targets import find_target
from tests.axe import axe  # noqa: F401
from tests.browser import browser, chromium, onnxruntime_web, web_bundle, web_fp32, web_int8, web_tiny  # noqa: F401
from tests.fake_network import compile_fake_network
from tests.forked import Forks, start_forks
from tests.hub_site import Hub
from tests.machine import WITHOUT, has_bf16, need
from tests.site import Site
from tests.tiny import FEW, SAT, VIT, WINDOW, export

for _name in ("onnxruntime", "openvino"):  # before a test imports it directly, with its telemetry on
    with suppress(ImportError):
        import_runtime(_name)

SHARED = ROOT.parent / "shared"
THREADS = int(os.environ["OMP_NUM_THREADS"])

# Property tests: `test` draws the same examples every time, `fuzz` others for each --hypothesis-seed. Neither
# knows how fast the machine is, nor keeps anything between runs.
settings.register_profile("fuzz", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("test", settings.get_profile("fuzz"), derandomize=True)
settings.load_profile("test")
providers._get_local_constants = Constants  # it draws numbers from all modules that happen to be imported


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared folder: real clips and foreign checkpoints. Absent on most machines."""
    if not SHARED.is_dir():
        reason = f"needs {SHARED} (real clips, foreign checkpoints), which is not on this machine"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return SHARED


@pytest.fixture(scope="session")
def bf16() -> None:
    """A CPU that has bf16."""
    if not has_bf16():
        pytest.skip("needs a CPU with bf16")


@pytest.fixture(scope="session", autouse=True)
def _small_sets(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the sets of synthetic sounds smaller, except in `make test-long`: to calibrate, as small as FEW;
    to gate, three clips of each class. Keep all clips in memory."""
    if pytestconfig.option.markexpr == "long":
        yield
        return
    folder = tmp_path_factory.mktemp("sets") / "calibration"
    shutil.copytree(calibration_set.FOLDER, folder)
    text = (folder / "synthetic.toml").read_text("utf-8")
    for key, value in {"clips": FEW.clips, "samples": FEW.samples, "stream_seconds": 40}.items():
        text, count = re.subn(rf"(?m)^{key} = \d+", f"{key} = {value}", text)
        assert count == 1
    (folder / "synthetic.toml").write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_set, "FOLDER", folder)
        patch.setattr(datasets, "SYNTHETIC_CLIPS", 3 * len(synthetic.SYNTHETIC_CLASSES))
        patch.setattr(synthetic, "_synthesize", lru_cache(256)(synthetic._synthesize.__wrapped__))
        yield


@pytest.fixture(scope="session", autouse=True)
def _any_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the suite out of the user's folders and settings; a step whose threads nobody asked for takes as
    many as PyTorch."""
    begin = OnnxRuntimeStep.__init__

    def with_as_many_threads(self: OnnxRuntimeStep, graph: Any, contract: Contract, cache: Any,
                        threads: int | None = None, *more: Any, **options: Any) -> None:
        begin(self, graph, contract, cache, threads or THREADS, *more, **options)

    folder = tmp_path_factory.mktemp("user")
    set_hypothesis_home_dir(folder / "hypothesis")
    with pytest.MonkeyPatch.context() as patch:
        # the options of this `make test` must not reach the `make` of a test
        for name in [name for name in os.environ if name.startswith(("SATEXPORT_", "MAKE", "MFLAGS"))]:
            patch.delenv(name)
        patch.setenv("SATEXPORT_CACHE", str(folder / "cache"))
        patch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        patch.setattr(OnnxRuntimeStep, "__init__", with_as_many_threads)
        if "vnni" in WITHOUT:
            patch.setattr(origin, "DOT_PRODUCTS", frozenset())
        if WITHOUT & {"bf16", "amx"}:
            patch.setattr(openvino_backend, "has_bf16", lambda core, device: False)
        yield


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


# Bundles. Do not write into them: copy them.

@pytest.fixture(scope="session")
def demo(build: Path) -> Path:
    """The bundle of the demo checkpoint, sat-t at 2 s: for tests that need a trained model."""
    return export(build, "sat-t", 2, "demo")


@pytest.fixture(scope="session")
def tagger(demo: Path) -> Tagger:
    return load(demo)


@pytest.fixture(scope="session")
def tiny(build: Path) -> Path:
    """A small model with a cache and random weights at 2 s: for tests that work with any model."""
    return export(build, SAT, 2, "random")


@pytest.fixture(scope="session")
def tiny_embedding(build: Path) -> Path:
    """The same with an embedding."""
    return export(build, SAT, 2, "random", GraphOptions(embedding="mean"), use_onnxsim=False)


@pytest.fixture(scope="session")
def tiny_lanes(build: Path) -> Path:
    """The same for any number of streams in one step."""
    return export(build, SAT, 2, "random", GraphOptions(streams=ANY), use_onnxsim=False)


@pytest.fixture(scope="session")
def tiny_three(build: Path) -> Path:
    """The same for three streams in one step."""
    return export(build, SAT, 2, "random", GraphOptions(streams=3), use_onnxsim=False)


@pytest.fixture(scope="session")
def openvino_demo(demo: Path, build: Path) -> Path:
    """The same for OpenVINO, in fp32. Do not write into it: copy it."""
    need("openvino", "openvino")
    target = find_target("openvino-fp32")
    options = BuildOptions(calibration=find_calibration("synthetic"))
    return compile_bundle(open_bundle(demo), target, build, options).path


@pytest.fixture(scope="session")
def random_vit(build: Path) -> Path:
    """A small model without a cache and with random weights at 2 s."""
    return export(build, VIT, 2, "random")


@pytest.fixture(scope="session")
def random_window(build: Path) -> Path:
    """A small model without a cache and with random weights over the last 10 s every second."""
    return export(build, WINDOW, 1, "random", use_onnxsim=False, window=10)


@pytest.fixture(scope="session")
def window_lanes(build: Path) -> Path:
    """The same for any number of streams in one step."""
    return export(build, WINDOW, 1, "random", GraphOptions(streams=ANY), use_onnxsim=False, window=10)


@pytest.fixture(scope="session")
def audio() -> FloatArray:
    """A minute of synthetic sounds, [samples]."""
    return np.asarray(synthetic_stream(60, "calibrate", rate=16_000), np.float32)


@pytest.fixture(scope="session")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set as a csv: two short clips of each synthetic class, because all of them would take
    long."""
    soundfile = need("soundfile", "audio")
    folder = tmp_path_factory.mktemp("few_clips")
    lines = ["filename,labels"]
    for number in range(28):
        sound, _ = synthetic_clip("evaluate", number, 4.0, rate=16_000)
        soundfile.write(folder / f"{number}.wav", sound, 16_000)
        lines.append(f'{number}.wav,"{";".join(synthetic_labels("evaluate", number))}"')
    (folder / "few.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "few.csv"


@pytest.fixture(scope="session")
def real(shared: Path) -> Path:
    """ESC-10: 320 real clips in four folds."""
    need("soundfile", "audio")
    return shared / "esc10"


@pytest.fixture(scope="session")
def few_real(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each class in each fold of it."""
    folder = tmp_path_factory.mktemp("few_real")
    (folder / "meta").mkdir()
    (folder / "audio").symlink_to(real / "audio")
    header, *rows = (real / "meta" / "esc50.csv").read_text("utf-8").splitlines()
    kinds = [tuple(row.split(",")[1:4]) for row in rows]  # fold, target, category
    kept = [row for number, row in enumerate(rows) if kinds[:number].count(kinds[number]) < 2]
    (folder / "meta" / "esc50.csv").write_text("\n".join([header, *kept]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def quick(few_clips: Path) -> tuple[object, ...]:
    """Options that make a target's bundle fast."""
    return "--no-measure", "--minutes", 0.1, "--data", few_clips


@pytest.fixture(scope="session")
def fake_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload that records and blocks all network access."""
    try:
        return compile_fake_network(tmp_path_factory.mktemp("network"))
    except LookupError as error:
        pytest.skip(f"{error} for the library that is preloaded")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The test server, accessed without a proxy, and a temporary cache folder."""
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A server that plays the Hugging Face Hub to each process that the test starts; nobody is logged in."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    with Hub() as hub:
        for name, value in hub.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork, which POSIX systems have")
    with start_forks(tmp_path_factory.mktemp("forks")) as forks:
        yield forks


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a checkout, built without the package index."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
                   cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def package_index() -> None:
    """pip's package index. Skips the test if it does not answer."""
    done = subprocess.run([sys.executable, "-m", "pip", "index", "versions", "editables", "--retries", "0",
                           "--timeout", "10"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs pip's package index, which does not answer here")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are cores: for a third of the time, tests wait for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How long each part of `make test-long` took: `make test-long PART=NAME` runs one of them alone."""
    if config.option.markexpr != "long":
        return
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.split("::")[1].partition("[")[0]] += report.duration
    terminalreporter.section("parts of test-long, minutes")
    for part, total in sorted(seconds.items(), key=lambda entry: -entry[1]):
        terminalreporter.write_line(f"{total / 60:8.1f}  {part}")
