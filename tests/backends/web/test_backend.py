"""A web bundle is a folder of static files, proven in Chromium where that is installed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.web.runtime import FILES
from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.errors import BundleError, RunError
from satexport.tagging.tagger import load
from tests.browser import quick_sizes
from tests.bundle.copies import GRAPH, copy_of, reseal
from tests.commands.calls import call
from tests.tiny import SAT, export


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path so short that Chromium can have a socket in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def no_chromium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CHROMIUM", "/nowhere/chromium")


@pytest.fixture
def quick() -> Iterator[None]:
    with quick_sizes():
        yield


def test_a_bundle_has_all_that_a_page_needs_and_every_file_has_its_hash(web_int8: Path) -> None:
    names = {path.name for path in web_int8.iterdir()} - {"reports"}
    assert names >= {"index.html", "satexport.js", "worker.js", "model.onnx", "model.onnx.data", "labels.txt",
                     "initial_cache.npy", "golden.npz", "bundle.json", *(file.name for file in FILES)}
    assert set(open_bundle(web_int8).files) == names - {"bundle.json"}


def test_licences_travel_with_a_bundle(web_int8: Path) -> None:
    assert "MIT License" in (web_int8 / "LICENSE.onnxruntime.txt").read_text()
    assert "THIRD PARTY" in (web_int8 / "ThirdPartyNotices.txt").read_text("utf-8").upper()
    assert "AudioSet" in (web_int8 / "ATTRIBUTION.md").read_text("utf-8")
    assert "Apache License" in (web_int8 / "LICENSE.satexport.txt").read_text("utf-8")


def test_every_file_may_be_read_by_a_web_server_of_another_user(web_int8: Path) -> None:
    modes = {path.stat().st_mode for path in web_int8.iterdir() if path.is_file()}
    assert modes == {(web_int8 / "bundle.json").stat().st_mode}


def test_the_command_proves_the_folder_in_the_browser_and_says_its_size(
        tiny: Path, tmp_path: Path, onnxruntime_web: None, chromium: str, quick: None) -> None:
    result = call("web", "--fp32", "--from", tiny, "--output", tmp_path, "--minutes", 0.1, "--no-measure")
    assert result.code == 0, result.err
    assert "A page downloads " in result.out
    assert "under ONNX Runtime Web 1.30.0 in Chromium" in result.out
    assert "satexport web --serve" in result.err


def test_without_chromium_the_proof_is_skipped_and_says_why(
        tiny: Path, tmp_path: Path, onnxruntime_web: None, no_chromium: None, quick: None) -> None:
    result = call("web", "--fp32", "--from", tiny, "--output", tmp_path)
    assert result.code == 0, result.err
    path = tmp_path / open_bundle(tiny).contract.variant / "web-fp32"
    report = json.loads((path / "reports" / "parity.json").read_text())
    assert {gate["status"] for gate in report["gates"]} == {"skipped"}
    assert "$SATEXPORT_CHROMIUM is /nowhere/chromium" in report["gates"][0]["note"]
    proven = call("parity", path)
    assert (proven.code, "Parity: skipped." in proven.out) == (0, True)
    assert call("parity", path, "--require-data").code == 1
    run = call("run", path, "dog.wav")
    assert (run.code, "expected the path of Chromium or Chrome" in run.err) == (3, True)


@pytest.mark.parametrize(("options", "advice"), [
    (GraphOptions(streams=ANY), "export without --streams"),
    (GraphOptions(streams=3), "export without --streams"),
    (GraphOptions(input="mel"), "export with --input audio")])
def test_an_export_that_no_page_can_feed_is_refused(
        build: Path, tmp_path: Path, onnxruntime_web: None, options: GraphOptions, advice: str) -> None:
    source = export(build, SAT, 2, "random", options, use_onnxsim=False)
    result = call("web", "--fp32", "--from", source, "--output", tmp_path)
    assert (result.code, advice in result.err) == (2, True), result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_golden_chunks_in_the_browser_are_pytorchs_with_two_threads_too(
        web_int8: Path, chromium: str) -> None:
    result = call("parity", web_int8, "--golden", "--threads", 2, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["runtime"].startswith("ONNX Runtime Web 1.30.0 in Chromium ")
    assert (report["threads"], report["differences"]["golden chunks"]["top1_agreement"]) == (2, 1)


@pytest.mark.long
def test_a_step_of_the_browser_is_measured_where_it_runs(
        web_tiny: Path, chromium: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))  # of the measured process
    result = call("measure", web_tiny, "--no-eager", "--steps", 3, "--pause", 0.01, "--json")
    assert result.code == 0, result.err
    entry = json.loads(result.out)["bundles"][0]
    assert entry["runtime"].startswith("ONNX Runtime Web 1.30.0 in Chromium ")
    assert entry["memory_bytes"]["heap"] > open_bundle(web_tiny).graph_bytes
    assert 2.7e6 < entry["memory_bytes"]["download"] < 6e6  # the runtime, and a small model
    assert entry["memory_bytes"]["resident"] > entry["memory_bytes"]["heap"]
    assert entry["memory_bytes"]["transient"] is None
    assert 0 < entry["load_seconds"] < 60
    assert entry["latency"]["burst"]["median_ms"] > 0
    assert entry["latency"]["paused_cpu_ms"] > 0
    assert list(short.iterdir()) == []  # no folder of a browser


@pytest.mark.long
def test_a_closed_step_has_ended_its_browser(web_tiny: Path, chromium: str) -> None:
    tagger = load(web_tiny)
    process = tagger.step._tab.processes()[0]["id"]  # type: ignore[attr-defined]
    assert Path(f"/proc/{process}").exists()
    tagger.close()
    tagger.close()
    assert not Path(f"/proc/{process}").exists()


@pytest.mark.long
def test_a_graph_that_the_browser_has_no_kernel_for_is_refused_by_the_name_of_the_node(
        web_tiny: Path, tmp_path: Path, chromium: str) -> None:
    bundle = copy_of(web_tiny, tmp_path)
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    node = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    node.op_type, node.domain, node.name = "Rfft", "com.microsoft", "scores/last"  # for CUDA only
    node.attribute.extend(onnx.helper.make_attribute(name, 1)
                          for name in ("normalized", "onesided", "signal_ndim"))
    model.opset_import.add(domain="com.microsoft", version=1)
    onnx.save_model(model, bundle / GRAPH)
    reseal(bundle)
    with pytest.raises(BundleError, match=r"cannot load model\.onnx: .*Rfft.*scores/last"):
        load(bundle)


def test_a_program_that_is_no_browser_is_named(
        web_tiny: Path, chromium: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CHROMIUM", "/bin/false")
    with pytest.raises(RunError, match=r"/bin/false does not start as a browser.*SATEXPORT_CHROMIUM=PATH"):
        load(web_tiny)


@pytest.mark.long
def test_a_browser_that_ends_in_the_middle_is_said(web_tiny: Path, chromium: str) -> None:
    with load(web_tiny) as tagger:
        stream, chunk = tagger.stream(), np.zeros(32_000, np.float32)
        stream.feed(chunk)
        os.kill(tagger.step._tab.processes()[0]["id"], signal.SIGKILL)  # type: ignore[attr-defined]
        with pytest.raises(RunError, match=r"the browser has ended: .* try again"):
            stream.feed(chunk)
