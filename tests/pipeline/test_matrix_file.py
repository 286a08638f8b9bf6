"""The rows of a matrix: they multiply, have names and places, and are refused before the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from satexport.bundle.contract import ANY
from satexport.errors import DataError, SatexportError, UsageError
from satexport.pipeline.matrix import plan_cases
from satexport.pipeline.matrix_file import read_matrix
from tests.pipeline.matrices import ROW, Runner, run
from tests.tiny import SAT, SAT_2S


def test_lists_in_a_row_multiply_and_each_case_has_a_name_and_a_place(write: Callable[[str], Path]) -> None:
    path = write('[[case]]\nmodel = ["sat-t", "vit-t"]\ndelay = [1, 2]\ncheckpoint = "random"\n'
                 '[[case]]\nmodel = "sat-t"\ncheckpoint = "demo"\ntarget = ["onnx", "cpu-int8"]\n'
                 'label = "demo"\nstreams = "dynamic"\ncalibration = "esc50"\n')
    plans = plan_cases(read_matrix(path), Path("build"))
    assert {name: plan.place.as_posix() for name, plan in plans.items()} == {
        "sat-t-1s": "build/sat-t-1s/onnx", "sat-t-2s": "build/sat-t-2s/onnx",
        "vit-t-1s": "build/vit-t-1s/onnx", "vit-t-2s": "build/vit-t-2s/onnx",
        "sat-t-2s-demo-dynamic-esc50": "build/demo-esc50/sat-t-2s/onnx-dynamic",
        "sat-t-2s-demo-int8-dynamic-esc50": "build/demo-esc50/sat-t-2s/cpu-int8-dynamic"}
    assert {plan.options.streams for name, plan in plans.items() if "dynamic" in name} == {ANY}


def test_paths_are_relative_to_the_matrix(write: Callable[[str], Path], tmp_path: Path) -> None:
    (case,) = read_matrix(write('[[case]]\nmodel = "sat-t"\ncheckpoint = "mine.pt"\ndata = "clips"\n'
                                'target = "board.toml"')).cases
    assert (case.weights, case.labelled_set, case.target_named(case.target)) == tuple(
        str(tmp_path / name) for name in ("mine.pt", "clips", "board.toml"))


@pytest.mark.parametrize(("text", "error", "message"), [
    ("", DataError, r"has 0 cases, expected 1 to 1000"),
    ("case = 1", DataError, r"case is 1, expected tables \[\[case\]\]"),
    ("[[row]]", DataError, r"unknown key 'row'; expected a table \[settings\], and rows \[\[case\]\]"),
    ("settings = 1", DataError, r"settings is 1, expected a table"),
    ("[settings]\nminutes = 0\n" + ROW, DataError, r"minutes is 0, expected not 0"),
    ("[settings]\nsteps = 1\n" + ROW, DataError, r"steps is 1, expected 2 to 10000"),
    ("[[case]]\ndelay = 1", DataError, r"the key 'model' is missing in \[case\]"),
    ("[[table]]", DataError, r"the key 'title' is missing in \[table\]"),
    ("[[case]]\nmodel = []", DataError, r"model is \[\], expected at least one value"),
    ("[[case]]\nmodel = 7", DataError, r"model is 7, expected a string or a list of strings"),
    (ROW + "models = 1", DataError, r"unknown key 'models'; the keys are model, target, delay"),
    (ROW + "delay = [2, 2]", DataError, r"delay is \[2, 2\], expected each value once"),
    (ROW + "delay = -1", DataError, r"delay is -1, expected whole seconds"),
    (ROW + 'cache = "none"', DataError, r"cache is 'none', expected kv or hidden"),
    (ROW + 'streams = "many"', DataError, r"streams is 'many', expected a number from 1, or \"dynamic\""),
    (ROW + "streams = 0", DataError, r"streams is 0, expected a number from 1"),
    (ROW + "threads = 257", DataError, r"threads is 257, expected 1 to 256"),
    (ROW + "minutes = 0.01", DataError, r"minutes is 0.01, expected 0.1 to 240"),
    (ROW + 'label = "../x"', DataError, r"label is '../x', expected letters, digits"),
    (ROW + f"delay = {list(range(1, 1200))}".replace(", ", ",\n"), DataError, r"has 1199 cases, expected"),
    (ROW + 'embedding = "x"', UsageError, rf"model {SAT}, target onnx: .* has no embedding 'x'"),
    (ROW + "window = 10", UsageError, "keeps a cache of what it heard before"),
    (ROW + 'target = "toaster"', UsageError, "target toaster: there is no target 'toaster'"),
    (ROW * 2, DataError, rf"two cases are called {SAT_2S}, or write .*Give one of the rows a `label`")])
def test_a_matrix_that_cannot_be_used_is_refused_before_the_work(
        text: str, error: type[SatexportError], message: str, write: Callable[[str], Path],
        tmp_path: Path, runner: Runner) -> None:
    path = write(text)
    with pytest.raises(error, match=message) as caught:
        run(path, tmp_path / "build")
    assert str(path) in str(caught.value)
    assert runner.ran == []


def test_a_matrix_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file; expected a matrix: a TOML file with rows \[\[case"):
        read_matrix(tmp_path / "gone.toml")
