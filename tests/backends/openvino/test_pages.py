"""Pages of mapped weights and of code are released while a model is loaded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from satexport.backends.openvino import pages
from tests.machine import PATIENCE


def test_weights_are_released_often_and_code_less_often_and_both_at_the_end(
        monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, ...]] = []
    trims: list[int] = []
    monkeypatch.setattr(pages, "release", lambda *paths: calls.append(paths))
    monkeypatch.setattr(pages, "trim_heap", lambda: trims.append(len(calls)))
    weights, code = Path("model.bin"), Path("libs")
    with pages.releasing([weights], code):
        end = time.monotonic() + PATIENCE
        while calls.count((code,)) < 2 and time.monotonic() < end:
            time.sleep(0.001)
    assert calls[-1] == (weights, code)
    assert calls.count((weights,)) >= pages.ROUNDS_PER_CODE * calls.count((code,)) > 0
    assert len(trims) == calls.count((code,)) + 1
    assert trims[-1] == len(calls)
