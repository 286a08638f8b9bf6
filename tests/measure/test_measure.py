"""`satexport measure`: every figure exists and has the documented meaning."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import satexport
from satexport.bundle.contract import RANDOM_WEIGHTS, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.measure import turns as measure_module
from satexport.measure.schedule import PAUSED_TURNS, TURNS
from satexport.measure.turns import MeasureOptions
from satexport.origin import CPU_FLAGS, cores
from satexport.report.figures import MEASURE_FIGURES
from satexport.report.serialize import SCHEMA
from satexport.report.terms import TERMS
from satexport.targets import find_target
from tests.bundle.copies import GRAPH, content, copy_of, manifest_of
from tests.commands.calls import call
from tests.machine import needs_memray, needs_proc
from tests.measure.measured import (
    HIDDEN_OF_MLP,
    QUICK,
    STEPS,
    WEIGHTS,
    Measured,
    export_form,
    report_in,
    retarget,
)
from tests.tiny import DEPTH, SAT

pytestmark = [needs_memray, pytest.mark.usefixtures("whole_turns")]


# One bundle.

@pytest.fixture(scope="module")
def one(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    path = copy_of(tiny, tmp_path_factory.mktemp("one"))
    result = call("measure", path, *QUICK, "--no-eager", "--json")
    return Measured(path, result, json.loads(result.out))


def test_json_output_is_exactly_the_report(one: Measured) -> None:
    assert (one.result.code, one.result.err) == (0, f"{RANDOM_WEIGHTS}\n")
    assert one.report == report_in(one.path)


def test_the_report_says_what_it_was_measured_with(one: Measured) -> None:
    origin, (found,), manifest = one.report["origin"], one.report["bundles"], manifest_of(one.path)
    assert {"satexport", "python", "numpy", "onnxruntime", "torch", "memray"} <= set(origin["versions"])
    assert origin["cpu"]
    assert set(origin["cpu_flags"]) <= set(CPU_FLAGS)
    assert origin["cpu_cores"] == cores()
    assert (found["threads"], found["spinning"]) == (1, False)  # as `load` and `run` load it
    assert one.report["settings"]["steps"] == STEPS
    assert found["bundle_sha256"] == open_bundle(one.path).sha256
    assert found["checkpoint"]["sha256"] == manifest["contract"]["checkpoint"]["sha256"]
    assert found["target"] == manifest["target"]
    assert found["tokens"] == {"new": 48, "cached": 48}


def test_a_bundle_measured_alone_has_no_comparison(one: Measured) -> None:
    (found,) = one.report["bundles"]
    assert one.report["eager"] == []
    assert not {"eager", "times_eager"} & set(found)


def test_a_target_without_budgets_is_skipped(one: Measured) -> None:
    assert (one.report["verdict"], one.report["gates"]) == ("skipped", [])


def test_a_measured_bundle_is_still_a_bundle(one: Measured) -> None:
    assert sorted(os.listdir(one.path)) == sorted(["bundle.json", "reports", *manifest_of(one.path)["files"]])
    assert sorted(os.listdir(one.path / "reports")) == ["export.json", "measure.json", "measure.png"]
    assert satexport.load(one.path).contract.variant == f"{SAT}-2s"


@pytest.mark.usefixtures("few_turns")
def test_a_bundle_that_is_named_twice_is_measured_once(bundle: Path) -> None:
    result = call("measure", bundle, bundle / ".." / bundle.name, "--no-eager", *QUICK)
    assert (result.code, result.out.count("onnx")) == (0, 1)
    assert [entry["name"] for entry in report_in(bundle)["bundles"]] == [f"{SAT}-2s/onnx"]


# Several bundles and PyTorch.

@pytest.fixture(scope="module")
def several(tiny: Path, tiny_lanes: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Bundles for one stream, for two, and for any number, run with three. The target of the one for two
    streams sets two threads, the others one."""
    folder = tmp_path_factory.mktemp("several")
    two = export_form(folder / "build", GraphOptions(streams=2))
    paths = [retarget(copy_of(tiny, folder / "build"), threads=1), retarget(two, threads=2),
             retarget(copy_of(tiny_lanes, folder / "build"), threads=1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = call("measure", *(path.relative_to(folder) for path in paths), *QUICK, "--streams", 3)
    return Measured(folder, result, report_in(folder / "build" / "measure"))


def test_several_bundles_make_one_table_with_a_row_for_each_figure(several: Measured) -> None:
    assert (several.result.code, several.result.err) == (0, f"{RANDOM_WEIGHTS}\n")
    head = [cell.strip() for cell in several.result.out.splitlines()[3].strip("┃").split("┃")]
    assert head[:5] == ["", "onnx", "onnx-x2", "onnx-dynamic", "PyTorch eager"]
    rows = [line.split("│")[1].strip() for line in several.result.out.splitlines() if line.startswith("│")]
    without = {"device memory, MB", "engine build, s", "paper: memory, MB", "paper: model, GFLOP",
               "heap in the browser, MB", "download, MB"}
    assert rows == [figure.head for figure in MEASURE_FIGURES if figure.head not in without]


def test_the_latency_is_that_of_single_steps_in_bursts_and_after_pauses(several: Measured) -> None:
    for entry in several.entries:
        for kind, turns in (("burst", TURNS), ("paused", PAUSED_TURNS)):
            latency = entry["latency"][kind]
            assert 0 < latency["median_ms"] <= latency["p90_ms"] <= latency["p99_ms"], kind
            assert latency["steps"] == turns * STEPS
        assert entry["load_seconds"] > 0
        burst, paused = (entry["latency"][kind]["median_ms"] / 1000 for kind in ("burst", "paused"))
        figures = entry["figures"]
        busy = burst * entry["threads"]
        assert figures["chunks_per_core_second"] == pytest.approx(entry["streams"] / busy)
        assert figures["real_time_factor"] == pytest.approx(paused / 2)  # of a chunk of 2 s
        assert figures["cpu_ms"] == pytest.approx(entry["latency"]["paused_cpu_ms"] / entry["streams"])
        assert figures["cpu_percent"] == pytest.approx(figures["cpu_ms"] / 2000 * 100)


def test_every_bundle_is_measured_with_its_streams_and_the_threads_of_the_one_that_needs_most(
        several: Measured) -> None:
    one, two, three = several.report["bundles"]
    assert [(entry["streams"], entry["threads"]) for entry in (one, two, three)] == [(1, 2), (2, 2), (3, 2)]
    for entry in (two, three):
        chunks = [bundle["figures"]["chunks_per_core_second"] for bundle in (entry, one)]
        assert entry["times_one_stream"] == pytest.approx(chunks[0] / chunks[1])


@needs_proc
def test_the_memory_of_a_bundle_is_counted_by_kind(several: Measured) -> None:
    for entry in several.report["bundles"]:
        found, streams = entry["memory_bytes"], entry["streams"]
        assert found["weights"] == (several.path / entry["bundle"] / GRAPH).stat().st_size
        assert found["state"] == DEPTH * 2 * 3 * 48 * 16 * 4  # k and v of 3 heads, 48 tokens of 16
        assert streams * HIDDEN_OF_MLP < found["transient"] < streams * 4e6
        assert found["weights"] < found["resident"] < 500e6


@needs_proc
def test_the_memory_of_pytorch_is_counted_separately(several: Measured) -> None:
    for entry in several.report["eager"]:
        found = entry["memory_bytes"]
        assert (found["weights"], entry["streams"]) == (None, 1)
        assert found["state"] == DEPTH * 48 * 48 * 4  # hidden tokens
        assert HIDDEN_OF_MLP < found["transient"] < 20e6
        assert WEIGHTS < found["resident"] < 1e9


def test_bundles_of_the_same_weights_are_compared_with_one_row_of_pytorch(several: Measured) -> None:
    rows = {row["name"]: row for row in several.report["eager"]}
    assert len(rows) == 1
    for entry in several.report["bundles"]:
        eager = rows[entry["eager"]]
        assert eager["threads"] == entry["threads"]
        for kind in ("burst", "paused"):
            medians = [row["latency"][kind]["median_ms"] for row in (eager, entry)]
            times = medians[0] * entry["streams"] / medians[1]
            assert entry["times_eager"][kind] == pytest.approx(times)


def test_operations_are_those_that_the_export_counted(several: Measured) -> None:
    for entry in several.report["bundles"]:
        assert entry["operations"] == manifest_of(several.path / entry["bundle"])["operations"]
    one, _, three = several.report["bundles"]
    assert one["operations"] == three["operations"]  # of one stream


def test_every_figure_is_defined(several: Measured) -> None:
    assert several.report["schema"] == SCHEMA
    definitions = several.report["definitions"]
    assert set(definitions) == {figure.key for figure in MEASURE_FIGURES} | set(TERMS["measure"])
    for entry in several.entries:
        assert set(entry["figures"]) | {"streams", "threads"} == {figure.key for figure in MEASURE_FIGURES}
    one, _, three = several.report["bundles"]
    measured = {"operations", "load_seconds", "latency", "memory_bytes", "times_one_stream", "times_eager",
                "eager", "paper", "executed", "figures"}
    about = {"name", "bundle", "bundle_sha256", "variant", "target", "options", "streams", "tokens",
             "checkpoint", "threads", "spinning", "streaming", "hop_seconds", "gates"}
    assert set(three) == measured | about
    assert set(one) == measured - {"times_one_stream"} | about


def test_the_report_on_several_bundles_goes_to_build_measure(several: Measured) -> None:
    assert sorted(os.listdir(several.path / "build" / "measure")) == ["measure.json", "measure.png"]


def test_the_picture_is_a_png_that_shows_something(several: Measured) -> None:
    from matplotlib.image import imread

    path = several.path / "build" / "measure" / "measure.png"
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", head[16:])
    pixels = np.asarray(imread(path))
    assert pixels.shape[:2] == (height, width)
    assert min(width, height) > 250
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10  # colours


def test_each_of_several_bundles_gets_its_own_part_of_the_report(several: Measured) -> None:
    for entry in several.report["bundles"]:
        path = several.path / entry["bundle"]
        own = report_in(path)
        assert own["bundles"] == [entry]
        assert [row["name"] for row in own["eager"]] == [entry["eager"]]
        assert own["origin"] == several.report["origin"]
        assert not (path / "reports" / "measure.png").exists()
        satexport.load(path)


def test_a_report_that_goes_elsewhere_leaves_the_bundle_untouched(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = content(bundle)
    result = call("measure", bundle, "--no-eager", *QUICK, "--report", tmp_path / "a" / "b")
    assert (result.code, content(bundle)) == (0, before)
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["measure.json", "measure.png"]
    assert not (tmp_path / "build").exists()
    report = report_in(tmp_path / "a" / "b")
    assert (report["eager"], "times_eager" in report["bundles"][0]) == ([], False)


@pytest.mark.parametrize(("target", "threads", "spins"), [
    ("cpu-int8", 2, True), ("cpu-int8", 1, False), ("openvino-int8", 2, False)])
def test_spinning_is_recorded_only_where_threads_spin(target: str, threads: int, spins: bool) -> None:
    row = Mock(threads=threads)
    row.bundle.target = find_target(target)
    assert measure_module._spins(row, MeasureOptions(threads=threads, spinning=True)) == spins
    assert not measure_module._spins(row, MeasureOptions(threads=threads))
