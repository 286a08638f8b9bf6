"""Pages of mapped weights and of code are released while a model is loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.openvino import pages
from satexport.pages import mapped_data
from tests.machine import PATIENCE, needs_proc

WEIGHTS = [(4096, 8192)]
Load = Callable[..., tuple[list[str], list[str]]]
RELEASED = [str(WEIGHTS), "libs", "trim"]  # in one round


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """A load during which mapped files have these sizes; returns what was released meanwhile, and by the
    end."""
    def run(*sizes: int) -> tuple[list[str], list[str]]:
        calls, rest, were_read = list[str](), [*sizes], threading.Event()

        def next_size() -> int:
            if len(rest) == 1:
                were_read.set()
            return rest.pop(0) if rest else 0

        monkeypatch.setattr(pages, "mapped_file_bytes", next_size)
        monkeypatch.setattr(pages, "release", lambda ranges: calls.append(str(ranges)))
        monkeypatch.setattr(pages, "release_libraries", lambda folder: calls.append(str(folder)))
        monkeypatch.setattr(pages, "trim_heap", lambda: calls.append("trim"))
        with pages.releasing(WEIGHTS, Path("libs")):
            assert were_read.wait(PATIENCE)
            during = list(calls)
        return during, calls

    return run


def test_mapped_files_are_released_whenever_they_have_grown_and_code_at_the_end(
        load: Load) -> None:
    assert load(40_000_000) == ([], ["libs", "trim"])
    during, calls = load(40_000_000,
                         46_000_000, 46_000_000,              # grown by the limit, not by more
                         46_000_001, 41_000_000, 39_000_000,  # more: released; now less is allowed
                         45_000_000, 45_000_000,
                         45_000_001, 39_000_000, 39_000_000)  # more again
    assert during == 2 * RELEASED
    assert calls == [*2 * RELEASED, "libs", "trim"]


def test_what_cannot_be_released_is_not_tried_again_and_again(
        load: Load) -> None:
    during, _ = load(40_000_000, *[50_000_000] * 20)
    assert during == RELEASED
    during, _ = load(40_000_000, *[50_000_000] * 4, *[56_000_001] * 5)
    assert during == 2 * RELEASED


@needs_proc
def test_a_file_that_is_mapped_twice_is_released_only_where_the_new_model_has_it(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(bytes(100_000))
    old = np.memmap(file, np.uint8, "r")
    new, ranges = pages.read_mapped(lambda: np.memmap(file, np.uint8, "r"), file)
    (found,) = ranges
    assert found[0] == new.ctypes.data
    assert mapped_data(file) == {*ranges, next(limits for limits in mapped_data(file)
                                               if limits[0] == old.ctypes.data)}
