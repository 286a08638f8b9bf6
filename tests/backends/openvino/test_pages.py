"""Pages of mapped weights and of code are released while a model is loaded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from satexport.backends.openvino import pages
from tests.machine import PATIENCE


def test_mapped_files_are_released_whenever_they_have_grown_and_at_the_end(
        monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sizes = iter([40_000_000,               # at the beginning, then two in each round
                  46_000_000, 46_000_000,   # grown by the limit, not by more
                  46_000_001, 30_000_000,   # more: released, and from now on less is allowed
                  36_000_000, 36_000_000,
                  36_000_001, 36_000_001])  # more again
    monkeypatch.setattr(pages, "mapped_file_bytes", lambda: next(sizes, 0))
    monkeypatch.setattr(pages, "release", lambda *paths: calls.append(" ".join(map(str, paths))))
    monkeypatch.setattr(pages, "trim_heap", lambda: calls.append("trim"))
    with pages.releasing(Path("model.bin"), Path("libs")):
        end = time.monotonic() + PATIENCE
        while len(calls) < 4 and time.monotonic() < end:
            time.sleep(0.001)
        during = list(calls)
    assert during == ["model.bin libs", "trim"] * 2
    assert calls == ["model.bin libs", "trim"] * 3
