"""The module's resampler is as good as soxr HQ, which `satexport run` uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satexport.audio.synthetic import synthetic_clip
from tests.backends.web.tab import Tab, floats, to_text
from tests.machine import need

LARGEST = {  # rate in Hz -> dB re full scale of the largest difference; a step of 16-bit audio has -90 dB
    8000: -80, 11_025: -75, 17_003: -75, 22_050: -75, 32_000: -85, 44_100: -75, 44_101: -75, 48_000: -95,
    96_000: -90, 192_000: -90}
SECONDS = 1.5
RESAMPLE = """
    const {Resampler} = await import('/resample.js');
    const samples = floats(given.samples), resampler = new Resampler(given.from, given.to), parts = [];
    for (let at = 0, turn = 0; at < samples.length; turn++) {
        const size = given.blocks[turn % given.blocks.length];
        parts.push(...resampler.process(samples.subarray(at, at += size)));
    }
    parts.push(...resampler.flush());
    return toText(Float32Array.from(parts));
"""


@pytest.fixture(scope="module")
def tab(browser: Any, web_bundle: str) -> Iterator[Tab]:
    context = browser.new_context()
    yield Tab(context, web_bundle)
    context.close()


def sound(rate: int) -> NDArray[np.float32]:
    """White noise with a pause; nothing is harder to resample."""
    audio = np.random.default_rng(rate).normal(0, 0.1, round(SECONDS * rate)).astype(np.float32)
    audio[:rate // 50] = 0  # soxr computes the first sample of a sound that begins at once another way
    audio[len(audio) // 2:][:rate // 10] = 0
    return audio


def resample(tab: Tab, samples: NDArray[np.float32], rate: int, to: int = 16_000,
             blocks: tuple[int, ...] = (1 << 30,)) -> NDArray[np.float32]:
    given = {"samples": to_text(samples), "from": rate, "to": to, "blocks": blocks}
    return floats(tab.run(RESAMPLE, given))


def decibels(difference: NDArray[np.float32]) -> float:
    return float(20 * np.log10(np.abs(difference).max() + 1e-12))


@pytest.mark.parametrize("rate", LARGEST)
def test_resampled_noise_is_that_of_soxr(tab: Tab, rate: int) -> None:
    soxr = need("soxr", "audio")
    found, expected = resample(tab, sound(rate), rate), soxr.resample(sound(rate), rate, 16_000, "HQ")
    assert len(found) == len(expected)
    assert decibels(found - expected) < LARGEST[rate]


def test_a_model_at_32_khz_gets_the_same_from_its_microphone(tab: Tab) -> None:
    soxr = need("soxr", "audio")
    for rate in (44_100, 48_000):
        expected = soxr.resample(sound(rate), rate, 32_000, "HQ")
        assert decibels(resample(tab, sound(rate), rate, 32_000) - expected) < LARGEST[rate]


@pytest.mark.parametrize("rate", [11_025, 44_100, 44_101, 48_000])
def test_the_size_of_blocks_changes_no_bit(tab: Tab, rate: int) -> None:
    audio, at_once = sound(rate), resample(tab, sound(rate), rate)
    for blocks in ((128,), (1, 0, 997, 3, 20_011)):
        assert resample(tab, audio, rate, blocks=blocks).tobytes() == at_once.tobytes()


def test_the_length_is_rounded_as_soxr_rounds_it(tab: Tab) -> None:
    soxr = need("soxr", "audio")
    for rate, lengths in {192_000: (1, 5, 6, 7, 28_206), 44_100: (1, 2, 4403), 8000: (1, 77)}.items():
        for length in lengths:
            silence = np.zeros(length, np.float32)
            expected = soxr.resample(silence, rate, 16_000, "HQ")
            assert len(resample(tab, silence, rate)) == len(expected), length


def test_a_stream_at_the_contracts_rate_passes_unchanged(tab: Tab) -> None:
    audio = synthetic_clip("evaluate", 0, rate=16_000)[0]
    assert resample(tab, audio, 16_000, blocks=(1000,)).tobytes() == audio.tobytes()
