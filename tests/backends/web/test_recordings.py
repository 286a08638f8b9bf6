"""Recordings at 44.1 kHz get the same scores as after soxr HQ, with which `satexport run` resamples them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.audio.datasets import esc50_clips
from satexport.audio.files import read_audio
from tests.backends.web.tab import Tab, floats, to_text
from tests.machine import need

RATE = 44_100  # Hz, of all recordings of ESC-10
FOLDS = (1, 2, 3)
SOME = 80      # every 80th recording is scored by `make test`
SCORES = """
    const {load} = await import('/satexport.js');
    window.model ??= await load();
    const scored = [];
    for (const [text, rate] of given) {
        const stream = model.stream();
        const chunks = [...await stream.feed(floats(text), rate), ...await stream.flush()];
        stream.close();
        scored.push(toText(Float32Array.from(chunks.flatMap(({scores}) => Array.from(scores)))));
    }
    return scored;
"""


@pytest.fixture
def tab(browser: Any, web_bundle: str) -> Iterator[Tab]:
    context = browser.new_context()
    yield Tab(context, web_bundle)
    context.close()


def compare(tab: Tab, folder: Path, every: int, rate: int = RATE) -> tuple[list[float], float]:
    """Score every n-th recording of FOLDS as it sounds at a rate. Returns the largest difference of each, and
    the share of chunks with the same top label."""
    need("soundfile", "audio")
    soxr = need("soxr", "audio")
    largest, same = [], list[bool]()
    for clip in esc50_clips(folder, FOLDS)[::every]:
        path = folder / "audio" / clip.name
        sound = read_audio(path, rate)
        audio = [(to_text(sound), rate), (to_text(soxr.resample(sound, rate, 16_000, "HQ")), 16_000)]
        found, expected = (floats(text).reshape(-1, 527) for text in tab.run(SCORES, audio))
        assert found.shape == expected.shape
        largest.append(float(np.abs(found - expected).max()))
        same += list(found.argmax(1) == expected.argmax(1))
    return largest, float(np.mean(same))


@pytest.mark.long
def test_a_few_recordings_get_the_scores_of_soxr(tab: Tab, shared: Path) -> None:
    largest, same = compare(tab, shared / "esc10", SOME)
    assert (max(largest) < 0.02, float(np.median(largest)) < 0.003, same) == (True, True, 1), largest


@pytest.mark.long
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_recordings_get_the_scores_of_soxr(tab: Tab, shared: Path, rate: int) -> None:
    largest, same = compare(tab, shared / "esc10", 1, rate)
    print(f"{len(largest)} recordings at {rate} Hz: largest {max(largest):.5f}, "
          f"median {np.median(largest):.6f}, top-1 {same:.2%}")
    assert (max(largest) < 0.02, float(np.median(largest)) < 0.003, same >= 0.99) == (True, True, True)
