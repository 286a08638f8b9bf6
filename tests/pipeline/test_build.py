"""`satexport cpu` as a user runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.backend import LoadOptions
from satexport.backends.onnxruntime import backend
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.threads import live_threads
from satexport.errors import BundleError
from satexport.measure import schedule
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions, ProofOptions
from satexport.step import FloatArray
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.bundle.copies import content, copy_of, output_with
from tests.commands.calls import Made, call
from tests.machine import need, needs_memray, needs_proc
from tests.tiny import FEW, SAT_2S


@pytest.fixture(scope="module")
def made(demo: Path, few_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    output = output_with(demo, tmp_path_factory.mktemp("made"))
    result = call("cpu", "--int8", "--output", output, "--no-measure", "--minutes", 0.5,
                  "--data", few_clips)
    return Made(output, output / "sat-t-2s" / "cpu-int8", result)


def test_int8_is_built_from_the_export_in_the_output_folder_and_proven(made: Made) -> None:
    assert made.result.code == 0, made.result.err
    path = made.path
    assert "real audio is better" in made.result.err.lower()
    assert "Gates: passed" in made.result.out
    report = json.loads((path / "reports" / "parity.json").read_bytes())
    assert report["labelled_set"]["bundle_map"] >= 0.99 * report["labelled_set"]["pytorch_map"]
    assert next(iter(report["differences"].values()))["largest"] > 1e-5  # so it ran in int8
    calibration = json.loads((path / "calibration.json").read_bytes())
    assert calibration["set"]["name"] == "synthetic"
    assert len(calibration["int8"]) == 60
    bundle = load(path).bundle
    assert bundle.target.precision == "int8"
    assert bundle.graph_bytes < 0.33 * load(made.output / "sat-t-2s/onnx").bundle.graph_bytes
    assert call("parity", path, "--golden", "--report", made.output / "golden.json").code == 0


def test_the_reports_show_the_drift(made: Made) -> None:
    assert "score differences from PyTorch fp32" in made.result.out
    rows = [line.strip("│").split("│") for line in made.result.out.splitlines() if line.startswith("│")]
    assert ["chunks", "15"] in [[cell.strip() for cell in row[:2]] for row in rows]
    report = json.loads((made.path / "reports" / "parity.json").read_bytes())
    found = report["differences"]["0.5 min of stream"]
    curve, drift = report["curve"][:15], report["drift"]
    assert found["mean"] == pytest.approx(sum(curve) / 15)
    assert min(curve) < found["p50"] < found["p90"] < found["p99"] <= max(curve)
    assert len(report["curve"]) == 30  # all of such a short stream is repeated
    assert drift["chunks"] == 15 - 12
    assert abs(drift["drift"]) < 1e-3  # 0.1 would be too much
    assert "Drift over 0.5 min of stream: +0.0%" in made.result.out.replace("-0.0%", "+0.0%")
    assert (made.path / "reports" / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_the_quantised_stream_forgets_how_it_started_after_twelve_chunks(
        made: Made, audio: FloatArray) -> None:
    """This bounds drift: an earlier history has exactly no effect any more."""
    tagger = load(made.path)
    one, other = tagger.stream(), tagger.stream()
    other.feed(audio[::-1][:13 * 32_000])
    for number, chunk in enumerate(np.split(audio, 30)[:14]):
        assert np.array_equal(one.feed(chunk), other.feed(chunk)) == (number >= 12), number


@pytest.mark.parametrize("damage", ["gone", "shorter", "changed"])
def test_damaged_weights_are_noticed(made: Made, tmp_path: Path, damage: str) -> None:
    path = copy_of(made.path, tmp_path)
    weights = path / "model.onnx.data"
    data = bytearray(weights.read_bytes())
    if damage == "gone":
        weights.unlink()
    elif damage == "shorter":
        weights.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx\.data"):
        load(path)


@pytest.mark.parametrize("data", ["few_real", pytest.param("real", marks=pytest.mark.long)])
@pytest.mark.long
def test_real_clips_calibrate_and_others_gate(
        request: pytest.FixtureRequest, data: str, demo: Path, tmp_path: Path) -> None:
    clips, export = request.getfixturevalue(data), output_with(demo, tmp_path)
    result = call("cpu", "--int8", "--calibration", "esc50", "--data", clips, "--output", export,
                  "--no-measure", "--minutes", 0.2)
    assert result.code == 0, result.err
    path = export / "sat-t-2s" / "cpu-int8"
    report = json.loads((path / "reports" / "parity.json").read_bytes())
    assert report["labelled_set"]["clips"] == {"few_real": 20, "real": 80}[data]
    assert report["labelled_set"]["bundle_map"] >= 0.995 * report["labelled_set"]["pytorch_map"]
    assert report["labelled_set"]["differences"]["top1_agreement"] >= 0.98
    overlap = call("parity", path, "--data", clips, "--folds", "1", "--minutes", 0.2)
    assert overlap.code == 4
    assert "was calibrated on" in overlap.err
    assert "a gate needs clips that were not used for calibration" in overlap.err


def test_clips_that_calibrate_may_not_gate_the_bundle_they_make(
        demo: Path, tmp_path: Path, few_real: Path) -> None:
    export = output_with(demo, tmp_path)
    before = content(export)
    result = call("cpu", "--int8", "--calibration", "esc50", "--data", few_real, "--folds", "1",
                  "--output", export, "--no-measure", "--minutes", 0.2)
    assert (result.code, "a gate needs clips that were not used" in result.err) == (4, True)
    assert content(export) == before


def test_fp32_and_dynamic_are_separate_bundles(export: Path, quick: tuple[object, ...]) -> None:
    for option, name in ((["--fp32"], "cpu-fp32"), (["--int8", "dynamic"], "cpu-int8-dynamic")):
        result = call("cpu", *option, "--output", export, *quick)
        assert result.code == 0, result.err
        assert load(export / SAT_2S / name).bundle.target.name == name


def test_a_bundle_is_proven_with_as_many_threads_as_it_is_loaded_with(
        export: Path, quick: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int | None] = []

    def load_counting(bundle: Bundle, options: LoadOptions) -> OnnxRuntimeStep:
        used.append(options.threads)
        return begin(bundle, options)

    begin = backend.load
    monkeypatch.setattr(backend, "load", load_counting)
    monkeypatch.setattr("satexport.bundle.threads.cores", lambda: 3)
    monkeypatch.setattr("satexport.bundle.threads.THREAD_GFLOPS", 1e-3)
    assert call("cpu", "--fp32", "--output", export, *quick).code == 0
    built = open_bundle(export / SAT_2S / "cpu-fp32")
    report = json.loads((built.reports / "parity.json").read_text("utf-8"))
    assert used == [live_threads(built)] == [report["threads"]] == [3]


def test_a_failed_gate_ends_with_1_and_the_report_says_so(
        export: Path, tmp_path: Path, quick: tuple[object, ...]) -> None:
    (tmp_path / "strict.toml").write_text('''name = "strict"
backend = "onnxruntime"
precision = "int8"
[quantization]
[gates]
max_score_difference = 1e-7
map_kept = 0.99
''')
    result = call("cpu", "--int8", "--target", tmp_path / "strict.toml", "--output", export, *quick)
    assert result.code == 1
    assert "largest score difference" in result.err
    report = json.loads((export / SAT_2S / "strict" / "reports" / "parity.json").read_bytes())
    assert report["verdict"] == "failed"


def test_the_old_bundle_stays_until_the_new_one_is_proven(
        export: Path, quick: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("cpu", "--int8", "dynamic", "--output", export, *quick)
    assert call(*arguments).code == 0
    before = content(export)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("satexport.pipeline.prove.run_parity", interrupted)
    assert call(*arguments).code == 130
    assert content(export) == before


@pytest.mark.long
@needs_memray
def test_an_exceeded_budget_fails_and_is_listed_among_the_gates(
        export: Path, tmp_path: Path, few_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURNS", "PAUSED_TURNS", "PAUSED_STEPS"):
        monkeypatch.setattr(schedule, name, 1)
    (tmp_path / "tight.toml").write_text('''name = "tight"
backend = "onnxruntime"
precision = "int8"
[quantization]
method = "dynamic"
[gates]
max_score_difference = 0.25
map_kept = 0.99
[budgets]
transient_mb = 0.01
resident_mb = 10000
''')
    result = call("cpu", "--target", tmp_path / "tight.toml", "--output", export, "--minutes", 0.1,
                  "--threads", 2, "--data", few_clips)
    assert result.code == 1
    assert f"{SAT_2S}/tight: transient_mb failed" in result.err
    assert "Gates: failed" in result.out
    path = export / SAT_2S / "tight"
    report = json.loads((path / "reports" / "measure.json").read_bytes())
    assert [gate["status"] for gate in report["gates"]] == ["passed", "failed"]
    assert [entry["bundle"] for entry in report["bundles"]] == [str(path)]
    assert (path / "reports" / "measure.png").is_file()
    parity = json.loads((path / "reports" / "parity.json").read_bytes())
    assert [gate["status"] for gate in parity["gates"]] == ["passed", "skipped"]  # random weights


@pytest.mark.long
def test_several_streams_are_compared_with_the_bundle_for_one_stream_next_to_it(
        tmp_path: Path, few_clips: Path) -> None:
    model = ("cpu", "--int8", "--model", "sat-t", "--checkpoint", "demo", "--output", tmp_path / "build",
             "--minutes", 0.4, "--data", few_clips, "--threads", 2)
    assert call(*model, "--no-measure").code == 0
    result = call(*model, "--streams", 3, "--json")
    assert result.code == 0, result.err
    entries = {entry["name"]: entry for entry in json.loads(result.out)["measure"]["bundles"]}
    assert list(entries) == ["sat-t-2s/onnx-x3", "sat-t-2s/cpu-int8-x3", "sat-t-2s/cpu-int8"]
    one, three = entries["sat-t-2s/cpu-int8"], entries["sat-t-2s/cpu-int8-x3"]
    assert three["times_one_stream"] == pytest.approx(
        three["chunks_per_core_second"] / one["chunks_per_core_second"])
    assert "times_one_stream" not in entries["sat-t-2s/onnx-x3"]  # fp32 is not compared with int8


@pytest.mark.long
def test_measuring_puts_export_bundle_and_pytorch_in_one_table(
        export: Path) -> None:
    result = call("cpu", "--int8", "--output", export, "--minutes", 0.1, "--json", "--threads", 1)
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    names = [row["name"] for row in (*printed["measure"]["bundles"], *printed["measure"]["eager"])]
    assert names == [f"{SAT_2S}/{name}" for name in ("onnx", "cpu-int8", "PyTorch eager")]


@needs_proc
@pytest.mark.parametrize("target", ["cpu-fp32", "openvino-fp32", "jetson-orin-nano"])
@pytest.mark.parametrize("proof", [None, ProofOptions(minutes=0.1, measure=False)],
                         ids=["unproven", "proven"])
def test_no_file_of_a_bundle_is_open_when_it_is_moved_into_place(
        target: str, proof: ProofOptions | None, tiny: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    if target == "openvino-fp32":
        need("openvino", "openvino")
    seen = list[str]()

    def rename(source: Path, place: Path) -> None:  # Windows moves no folder with an open file
        if source.parent.name.startswith(f".{place.name}.partial-"):
            seen.extend(map(os.path.realpath, Path("/proc/self/fd").iterdir()))
            seen.extend(Path("/proc/self/maps").read_text().split())
        move(source, place)

    move = os.rename
    monkeypatch.setattr(os, "rename", rename)
    made = compile_bundle(open_bundle(tiny), find_target(target), tmp_path,
                          BuildOptions(calibration=FEW), proof)
    assert seen
    assert [name for name in seen if f".{made.path.name}.partial-" in name] == []


def test_a_quantised_bundle_is_refused_as_a_source(made: Made) -> None:
    result = call("cpu", "--int8", "--from", made.path, "--output", made.output)
    assert (result.code, "expected an fp32 export" in result.err) == (2, True)
