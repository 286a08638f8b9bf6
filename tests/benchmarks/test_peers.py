"""Peers: a fast one whose scores are wrong, or that is not installed, does not count, and is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tables
from benchmarks.peers import __main__ as command
from benchmarks.peers import environments, run
from benchmarks.peers.judge import DEMO, find_ratio, judge
from benchmarks.peers.page import peers_page
from benchmarks.peers.peer import Case, Store
from benchmarks.peers.registry import CASES, PEERS
from benchmarks.peers.run import Runner
from satexport.errors import MissingError
from satexport.measure.process import Process
from satexport.measure.schedule import Turn
from tests.tiny import SAT

RUN = ("eager", "executorch", "cpu-fp32")
TURNS = Turn(steps=3, seconds=1e9, pause=0.0), Turn(steps=2, seconds=1e9, pause=0.01)
GOOD = {"largest": 1e-6, "mean": 1e-7, "map": 0.9, "map_kept": 1.0, "map_kept_from_zeros": None}
MACHINE = {"cpu": "A machine", "cpu_cores": 2, "cpu_flags": ["avx2"], "system": "Linux", "versions": {}}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A tiny model with PyTorch, a peer that is not installed, and satexport."""
    folder = tmp_path_factory.mktemp("peers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "FOLDER", folder)
        patch.setattr(run, "STREAM_SECONDS", 4)
        found = Runner(Case(model=SAT, delay=2, checkpoint="random"), {name: PEERS[name] for name in RUN},
                       folder / "built")
        found.score()
        found.time(1, TURNS)
    return found


def make_row(milliseconds: float, **scores: float) -> dict[str, Any]:
    times = {kind: {"median_ms": milliseconds, "steps": 9} for kind in ("burst", "paused")}
    return {"versions": {"torch": "2"}, "scores": GOOD | scores,
            "times": {"1": {**times, "features_ms": None, "run": "2026-11-26T10:00",
                            "versions": {"torch": "2"}}}}


def make_page(rows: dict[str, Any], flags: list[str]) -> str:
    return peers_page(MACHINE | {"cpu_flags": flags, "models": {DEMO: rows}}, PEERS, ())


@pytest.mark.long
def test_a_peer_is_scored_and_timed_and_one_that_is_not_installed_is_skipped_by_name(runner: Runner) -> None:
    assert "not installed" in runner.rows["executorch"].pop("why_not")
    assert 0 < runner.rows["cpu-fp32"]["scores"]["largest"] < 1e-4
    assert runner.rows["eager"]["scores"]["largest"] == 0
    for name in ("eager", "cpu-fp32"):
        times = runner.rows[name]["times"]["1"]
        assert (times["burst"]["steps"], times["paused"]["steps"]) == (3, 2)
        assert times["burst"]["median_ms"] > 0
        assert times["versions"] == runner.rows[name]["versions"]
        assert times["run"] == runner.rows["eager"]["times"]["1"]["run"]
    page = make_page({"executorch": {"why_not": "its packages are not installed"}}, [])
    assert "- executorch: its packages are not installed" in page


@pytest.mark.long
def test_if_only_times_are_asked_a_peer_that_is_missing_or_dies_in_its_turn_leaves_the_others(
        runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    class DyingProcess(Process):
        def ask(self, do: str, **arguments: Any) -> Any:
            if (self.name, do, arguments.get("steps")) == ("cpu-fp32", "run", 2):
                self._process.kill()
            return super().ask(do, **arguments)

    monkeypatch.setattr(run, "Process", DyingProcess)
    monkeypatch.setattr(environments, "FOLDER", runner.store.parent)
    again = Runner(runner.case, {name: PEERS[name] for name in ("executorch", "cpu-fp32", "eager")},
                   runner.store)
    again.time(1, TURNS)
    times = {name: row["times"]["1"] for name, row in again.rows.items()}
    assert "not installed" in times["executorch"]["why_not"]
    assert "ended early" in times["cpu-fp32"]["why_not"]
    assert times["eager"]["burst"]["median_ms"] > 0


@pytest.mark.parametrize("scores", [{"map_kept": 0.9}, {"map_kept": float("nan")}, {"largest": 0.3},
                                    {"largest": float("nan")}])
def test_a_fast_peer_with_wrong_scores_is_listed_as_failing_and_is_in_no_ratio(
        scores: dict[str, float]) -> None:
    rows = {"eager": make_row(9), "compile-fp32": make_row(4), "naive-fp32": make_row(1, **scores),
            "cpu-fp32": make_row(3), "openvino-fp32": make_row(2)}
    ratio = find_ratio(PEERS, DEMO, {DEMO: rows}, "fp32", "1", "burst")
    assert ratio
    assert (ratio.ours, ratio.peer, ratio.times) == ("openvino-fp32", "compile-fp32", 2)
    assert judge(PEERS["naive-fp32"], DEMO, {DEMO: rows}).startswith("failed")
    (line,) = (line for line in make_page(rows, []).splitlines() if "(naive-fp32)" in line)
    assert "failed" in line


def test_a_model_with_random_weights_takes_over_what_the_peer_keeps_of_the_demos_map() -> None:
    other = {"naive-int8": make_row(1, map_kept=None)}  # type: ignore[arg-type]
    for kept, found in ((1.0, "passed"), (0.98, "failed")):
        results = {DEMO: {"naive-int8": make_row(1, map_kept=kept)}, "sat-s-2s": other}
        assert judge(PEERS["naive-int8"], "sat-s-2s", results).startswith(found)
    assert judge(PEERS["naive-int8"], "sat-s-2s", {"sat-s-2s": other}).startswith("not judged")


@pytest.mark.parametrize(("name", "kept", "found"), [
    ("compile-fp32", 0.9985, "failed"), ("compile-fp32", 0.9995, "passed"),
    ("compile-bf16", 0.985, "failed"), ("compile-bf16", 0.995, "passed"),
    ("naive-int8", 0.985, "failed"), ("naive-int8", 0.995, "passed")])
def test_a_peer_keeps_99_9_percent_of_the_demos_map_in_fp32_and_99_in_bf16_and_int8(
        name: str, kept: float, found: str) -> None:
    assert judge(PEERS[name], DEMO, {DEMO: {name: make_row(1, map_kept=kept)}}).startswith(found)


def test_a_goal_is_reached_missed_or_not_measured() -> None:
    rows = {"eager": make_row(9), "cpu-fp32": make_row(3), "naive-int8": make_row(3),
            "cpu-int8": make_row(2.9)}
    cells = [[cell.strip() for cell in line.split("|")] for line in make_page(rows, []).splitlines()
             if line.startswith(f"| {DEMO}")]
    assert {row[2]: row[-3:-1] for row in cells} == {
        "fp32": ["1.05", "reached"], "bf16": ["1.05", "not measured"], "int8": ["1.1", "missed in 2 of 2"]}
    assert "at least 9 steps" in " ".join(make_page(rows, []).split())
    assert "\nNot measured.\n" in make_page({"eager": {"scores": GOOD}}, [])


def test_precisions_are_compared_each_with_its_own() -> None:
    rows = {"eager": make_row(9), "naive-int8": make_row(1), "cpu-fp32": make_row(3)}
    assert find_ratio(PEERS, DEMO, {DEMO: rows}, "int8", "1", "burst") is None
    ratio = find_ratio(PEERS, DEMO, {DEMO: rows}, "fp32", "1", "paused")
    assert ratio
    assert ratio.times == 3


def test_only_times_of_the_same_run_make_a_ratio_and_the_page_says_which_are() -> None:
    rows = {"eager": make_row(9), "compile-fp32": make_row(1), "cpu-fp32": make_row(3)}
    rows["compile-fp32"]["times"]["1"]["run"] = "2026-11-25T10:00"
    ratio = find_ratio(PEERS, DEMO, {DEMO: rows}, "fp32", "1", "burst")
    assert ratio
    assert (ratio.peer, ratio.times) == ("eager", 3)
    assert "- 2026-11-25 10:00 UTC: compile-fp32\n" in make_page(rows, [])
    assert "UTC" not in make_page({"eager": make_row(9), "cpu-fp32": make_row(3)}, [])


def test_a_cpu_without_bf16_and_int8_products_is_said() -> None:
    for flags, is_said in ((["avx2"], True), (["avx512_vnni", "avx512_bf16"], False)):
        page = " ".join(make_page({"eager": make_row(9)}, flags).split())
        assert ("no bf16" in page, "no dot products of int8" in page) == (is_said, is_said)


def test_scores_that_are_not_finite_have_no_map() -> None:
    truth = np.eye(2, 527, dtype=bool)
    right = [np.random.default_rng(0).random((1, 3, 527), np.float32) for _ in range(2)]
    right[1] = np.repeat(right[1], 2, axis=0)
    broken = [right[0], np.where(right[1] > 0.5, np.float32("nan"), right[1])]
    figures = run.judge_scores(right, broken, truth)
    assert [str(figures[key]) for key in ("map", "map_kept")] == ["nan", "nan"]
    assert run.judge_scores(right, right, truth)["map_kept"] == 1


def test_a_run_keeps_the_results_of_other_models_peers_and_threads(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "origin", lambda: MACHINE)
    runner = Runner(CASES["sat-t"], PEERS)
    for rows in ({"eager": make_row(9), "tract": {"why_not": "not installed"}, "cpu-fp32": make_row(3)},
                 {"eager": {"versions": {"torch": "3"}, "times": {"2": {"why_not": "one thread"}}},
                  "tract": make_row(7), "cpu-fp32": {"times": {"1": {"why_not": "ended early"}}}},
                 {"tract": {"why_not": "not installed"}}):
        runner.rows = rows
        command.save(runner)
    file = tmp_path / "peers" / "a-machine-2-cores.json"
    (found,) = json.loads(file.read_bytes())["models"].values()
    assert set(found["eager"]["times"]) == {"1", "2"}
    assert (found["eager"]["scores"], found["eager"]["versions"]) == (GOOD, {"torch": "2"})
    assert found["tract"] == make_row(7)
    assert found["cpu-fp32"] == make_row(3)


def test_what_was_built_is_built_again_only_if_its_sources_change(tmp_path: Path) -> None:
    built = list[Path]()
    store, case = Store(tmp_path), CASES["sat-t"]
    for sources in (["pyproject.toml"], ["pyproject.toml"], ["pyproject.toml", "Makefile"]):
        path = store.make("x", case, sources, built.append)
    assert len(built) == 2
    assert list(path.parent.iterdir()) == [path]


def test_an_environment_of_another_lock_is_not_installed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    (tmp_path / "tract").mkdir()
    (tmp_path / "tract" / environments.STAMP).write_text("another", "utf-8")
    with pytest.raises(MissingError, match=r"--install.*tract\.lock"):
        environments.find_python("tract")
