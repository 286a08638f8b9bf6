"""The synthetic set: correct labels, the same clips on every machine, sound in every chunk."""

from __future__ import annotations

import numpy as np
import pytest

from satexport.audio.labels import audioset_labels
from satexport.audio.synthetic import (
    DIAL,
    DTMF_HIGH,
    DTMF_LOW,
    MICROPHONE_DB,
    SPLITS,
    SYNTHETIC_CLASSES,
    synthetic_clip,
    synthetic_labels,
    synthetic_stream,
)
from satexport.errors import DataError
from satexport.step import PCM_SCALE

SAMPLE_RATE = 16_000  # Hz

ONE_ROUND = range(len(SYNTHETIC_CLASSES))


def clip_of(label: str) -> np.ndarray:
    """The first evaluation clip that has only this label."""
    index = next(i for i in range(1000) if synthetic_labels("evaluate", i) == (label,))
    return synthetic_clip("evaluate", index, rate=SAMPLE_RATE)[0]


def loudest(audio: np.ndarray, count: int) -> list[float]:
    """The frequencies of the highest distinct peaks, Hz; resolution 1 Hz."""
    middle = audio[SAMPLE_RATE:2 * SAMPLE_RATE]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    found: list[float] = []
    while len(found) < count:
        peak = int(spectrum.argmax())
        found.append(float(peak))
        spectrum[max(0, peak - 15):peak + 16] = 0
    return sorted(found)


def test_every_class_is_a_name_of_audioset() -> None:
    assert set(SYNTHETIC_CLASSES) <= set(audioset_labels())


def test_the_same_split_and_index_give_the_same_clip_again() -> None:
    first, labels = synthetic_clip("train", 7, rate=SAMPLE_RATE)
    again, _ = synthetic_clip("train", 7, rate=SAMPLE_RATE)
    assert labels == synthetic_labels("train", 7)
    np.testing.assert_array_equal(first, again)


def test_splits_share_no_seed_and_no_clip() -> None:
    seeds = [seed for split in SPLITS.values() for seed in (split[0], split[-1])]
    assert seeds == sorted(set(seeds))
    clips = [synthetic_clip(split, 0, rate=SAMPLE_RATE)[0] for split in SPLITS]
    assert not np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[1], clips[2])


def test_consecutive_indices_have_each_class_once_as_the_main_sound() -> None:
    mains = [synthetic_labels("evaluate", 4 + index)[0] for index in ONE_ROUND]
    assert sorted(mains) == sorted(SYNTHETIC_CLASSES)


def test_some_clips_have_two_labels_but_never_silence_with_another() -> None:
    labels = [synthetic_labels("evaluate", index) for index in range(150)]
    assert 5 < sum(len(names) == 2 for names in labels) < 40
    assert all(names == ("Silence",) for names in labels if "Silence" in names)


@pytest.mark.parametrize("index", ONE_ROUND)
def test_a_clip_is_float32_within_full_scale_and_as_long_as_requested(index: int) -> None:
    audio, _ = synthetic_clip("calibrate", index, seconds=3.5, rate=SAMPLE_RATE)
    assert audio.dtype == np.float32
    assert audio.shape == (56_000,)
    assert np.abs(audio).max() <= 1


@pytest.mark.parametrize("index", range(45))
def test_every_chunk_contains_sound_except_in_silence(index: int) -> None:
    audio, labels = synthetic_clip("evaluate", index, rate=SAMPLE_RATE)
    for chunk in audio.reshape(3, -1):
        if labels == ("Silence",):
            assert np.abs(chunk).max() < 10 ** (-50 / 20)
        else:
            pieces = np.abs(chunk.reshape(-1, 160)).max(axis=1)  # 10 ms each
            assert (pieces > 10 ** (-45 / 20)).mean() > 0.04


def test_a_dial_tone_has_the_two_frequencies_of_the_standard() -> None:
    assert loudest(clip_of("Dial tone"), 2) == list(DIAL)


def test_a_dialled_digit_is_one_low_and_one_high_tone() -> None:
    audio = clip_of("Telephone dialing, DTMF")
    spectrum = np.abs(np.fft.rfft(audio)) ** 2
    hertz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    near = np.min([np.abs(hertz - tone) for tone in DTMF_LOW + DTMF_HIGH], axis=0) < 20
    assert spectrum[near].sum() > 0.9 * spectrum.sum()


def test_pink_noise_falls_by_three_decibels_per_octave_and_white_noise_does_not() -> None:
    def fall(label: str) -> float:
        power = np.abs(np.fft.rfft(clip_of(label))) ** 2
        hertz = np.fft.rfftfreq(6 * SAMPLE_RATE, 1 / SAMPLE_RATE)
        low, high = ((hertz > f) & (hertz < 1.5 * f) for f in (250, 4000))
        return float(10 * np.log10(power[low].mean() / power[high].mean()))
    assert fall("Pink noise") == pytest.approx(12, abs=2)  # four octaves
    assert fall("White noise") == pytest.approx(0, abs=2)


@pytest.mark.parametrize(("split", "index"), [("test", 0), ("train", -1), ("train", 1_000_000)])
def test_a_clip_that_does_not_exist_is_refused(split: str, index: int) -> None:
    with pytest.raises(DataError, match="no synthetic"):
        synthetic_clip(split, index, rate=SAMPLE_RATE)


def test_a_clip_without_samples_is_refused() -> None:
    with pytest.raises(DataError, match="no samples"):
        synthetic_clip("train", 0, seconds=0, rate=SAMPLE_RATE)


def test_a_stream_is_consecutive_clips_with_microphone_noise() -> None:
    stream = synthetic_stream(8, rate=SAMPLE_RATE)
    assert stream.shape == (8 * SAMPLE_RATE,)
    clips = [synthetic_clip("evaluate", index, rate=SAMPLE_RATE)[0] for index in range(2)]
    noise = stream - np.concatenate(clips)[:8 * SAMPLE_RATE]
    assert 20 * np.log10(noise.std()) == pytest.approx(MICROPHONE_DB, abs=0.5)
    assert np.array_equal(stream * PCM_SCALE, np.round(stream * PCM_SCALE))


def test_silence_in_a_stream_stays_silent() -> None:
    silent = next(i for i in range(SYNTHETIC_CLASSES.index("Silence"), 600, len(SYNTHETIC_CLASSES))
                  if not synthetic_clip("evaluate", i, rate=SAMPLE_RATE)[0].any())
    stream = synthetic_stream(6 * (silent + 1), rate=SAMPLE_RATE)
    assert not stream[6 * silent * SAMPLE_RATE:].any()


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
def test_a_clip_at_another_rate_has_the_same_length_labels_and_tones(rate: int) -> None:
    index = next(i for i in range(1000) if synthetic_labels("evaluate", i) == ("Dial tone",))
    audio, labels = synthetic_clip("evaluate", index, rate=rate)
    assert labels == ("Dial tone",)
    assert len(audio) == 6 * rate
    power = np.abs(np.fft.rfft(audio)) ** 2
    hertz = np.fft.rfftfreq(len(audio), 1 / rate)
    near = np.min([np.abs(hertz - tone) for tone in DIAL], axis=0) < 5
    assert power[near].sum() > 0.95 * power.sum()


def test_a_rate_that_is_too_low_for_the_tones_is_refused() -> None:
    with pytest.raises(DataError, match="the sample rate is 8000 Hz"):
        synthetic_clip("evaluate", 0, rate=8_000)
