"""Budgets, and the paper's figures next to measured ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.bundle.target import Budgets
from satexport.models.sat.paper import NOTE, PAPER
from satexport.origin import Cpu
from satexport.targets import find_target
from tests.bundle.copies import copy_of
from tests.commands.calls import START, call
from tests.machine import needs_memray, needs_proc
from tests.measure.measured import QUICK, Measured, budgets, report_in, retarget, without
from tests.tiny import SAT, VIT

pytestmark = [needs_memray, pytest.mark.usefixtures("whole_turns")]


@pytest.fixture(scope="module")
def pair(demo: Path, random_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The demo, whose budget is met, and a small ViT with random weights, whose budget is not."""
    folder = tmp_path_factory.mktemp("pair")
    paths = [budgets(copy_of(demo, folder), transient_mb=1000),
             budgets(copy_of(random_vit, folder), transient_mb=0.03)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = call("measure", *paths, "--no-eager", *QUICK)
    return Measured(folder, result, report_in(folder / "build" / "measure"))


def of_pair(pair: Measured, key: str) -> list[object]:
    """Return an entry of three reports: the one on both bundles, the demo's and the ViT's."""
    places = ("build/measure", "sat-t-2s/onnx", f"{VIT}-2s/onnx")
    return [report_in(pair.path / place)[key] for place in places]


def test_only_the_bundle_with_random_weights_has_a_warning(pair: Measured) -> None:
    assert RANDOM_WEIGHTS in pair.result.err
    assert of_pair(pair, "warning") == [RANDOM_WEIGHTS, None, RANDOM_WEIGHTS]


def test_a_budget_fails_only_its_own_bundle(pair: Measured) -> None:
    assert pair.result.code == 1
    assert f"{VIT}-2s/onnx: transient_mb failed" in pair.result.err
    assert "sat-t-2s/onnx: transient_mb failed" not in pair.result.err
    assert of_pair(pair, "verdict") == ["failed", "passed", "failed"]
    both, demo, vit = of_pair(pair, "gates")
    assert isinstance(demo, list)
    assert isinstance(vit, list)
    assert both == demo + vit
    assert (len(demo), len(vit)) == (1, 1)


def test_the_papers_figures_are_shown_with_their_note(pair: Measured) -> None:
    paper = PAPER["sat-t-2s"][0]
    demo, small = pair.report["bundles"]
    assert demo["paper"] == json.loads(json.dumps(asdict(paper))) | {"source": paper.source}
    assert small["paper"] is None  # no published model
    assert demo["paper"]["note"] == NOTE
    assert NOTE in pair.result.out
    assert round(demo["operations"]["model"] / 1e9, 3) == 0.564


def test_a_model_without_a_cache_has_no_state(pair: Measured) -> None:
    assert [entry["memory_bytes"]["state"] for entry in pair.report["bundles"]] == [884_736, 0]
    assert [entry["tokens"]["cached"] for entry in pair.report["bundles"]] == [48, 0]
    assert (pair.path / "build" / "measure" / "measure.png").exists()


# Budgets.

@needs_proc
def test_a_budget_that_is_met_passes(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text('name = "board"\nbackend = "onnxruntime"\nprecision = "fp32"\n'
                    "[gates]\nmax_score_difference = 1e-4\nmap_kept = 0.999\n"
                    "[budgets]\nstep_ms = 10000\nresident_mb = 2000\ntransient_mb = 4\n")
    retarget(bundle, **vars(find_target(str(file))))
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert (result.code, result.err) == (0, f"{RANDOM_WEIGHTS}\n")
    assert "Budgets: passed." in result.out
    report = report_in(bundle)
    assert report["verdict"] == "passed"
    assert [(gate["status"], gate["limit"]) for gate in report["gates"]] == [
        ("passed", 10_000), ("passed", 2000), ("passed", 4)]
    (entry,) = report["bundles"]
    steps, resident, transient = (gate["value"] for gate in report["gates"])
    assert steps == max(entry["latency"][kind]["p99_ms"] for kind in ("burst", "paused"))
    assert resident == entry["memory_bytes"]["resident"] / 1e6
    assert transient == entry["memory_bytes"]["transient"] / 1e6


@needs_proc
def test_a_budget_that_is_exceeded_ends_with_1_and_names_value_and_limit(bundle: Path) -> None:
    limits = {"step_ms": 0.001, "resident_mb": 1.5, "transient_mb": 0.03}
    budgets(bundle, **limits)
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 1
    assert "Budgets: failed." in result.out
    report = report_in(bundle)
    assert report["verdict"] == "failed"
    assert {(gate["status"], gate["limit"]) for gate in report["gates"]} == {
        ("failed", limit) for limit in limits.values()}
    for gate, (name, limit) in zip(report["gates"], limits.items(), strict=True):
        assert f"{SAT}-2s/onnx: {name} failed: {gate['value']:.4g}, at most {limit:g}" in result.err
    assert (bundle / "reports" / "measure.png").exists()


def test_closing_the_output_early_does_not_hide_a_failure(bundle: Path) -> None:
    budgets(bundle, step_ms=0.001)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", START, "measure", bundle, "--no-eager", *map(str, QUICK)],
                          stdout=writing, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    os.close(writing)
    assert (done.returncode, "step_ms failed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert report_in(bundle)["verdict"] == "failed"


def test_an_emulated_cpu_is_named_and_its_budgets_are_not_judged(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets(bundle, step_ms=10_000)
    monkeypatch.setattr("satexport.measure.turns.read_cpu", lambda: Cpu("a CPU", [], is_emulated=True))
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 0
    assert "this CPU is emulated: time and memory say nothing about a device" in result.err
    assert "Budgets: skipped." in result.out
    report = report_in(bundle)
    assert "this CPU is emulated" in report["notes"][0]
    assert [gate["status"] for gate in report["gates"]] == ["skipped"]


def test_the_budgets_of_a_target_are_judged_only_on_its_machine(bundle: Path) -> None:
    retarget(bundle, machine="a_machine", budgets=Budgets(step_ms=0.001))
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 0
    (gate,) = report_in(bundle)["gates"]
    assert gate["status"] == "elsewhere"
    assert gate["note"].startswith("judged on a_machine; this machine is ")


def test_a_budget_that_cannot_be_judged_is_skipped_and_never_passed(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets(bundle, step_ms=10_000, transient_mb=1000)
    (tmp_path / "fakes").mkdir()
    without(("memray",), tmp_path / "fakes", monkeypatch)
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 0
    assert "transient memory not measured: memray is not installed: pip install 'satexport[measure]'" \
        in result.err
    assert "Budgets: skipped." in result.out
    report = report_in(bundle)
    assert report["verdict"] == "skipped"
    assert [gate["status"] for gate in report["gates"]] == ["passed", "skipped"]
    assert report["gates"][1]["value"] is None
    assert report["bundles"][0]["memory_bytes"]["transient"] is None
