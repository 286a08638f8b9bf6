"""Parts of recordings are read bit for bit as in the whole recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from satexport.audio.files import audio_blocks, audio_length, read_audio
from satexport.audio.resample import Resampler
from tests.machine import need

soxr, soundfile = need("soxr", "audio"), need("soundfile", "audio")
SECONDS = 130   # of the recordings: two borders of segments of the resampler are within
FORMATS = {     # ending -> format, subtype, whether it can be read from its middle
    "wav": ("WAV", "PCM_16", True), "flac": ("FLAC", "PCM_16", True), "ogg": ("OGG", "VORBIS", True),
    "aiff": ("AIFF", "PCM_24", True), "caf": ("CAF", "FLOAT", True), "au": ("AU", "ULAW", True),
    "mp3": ("MP3", "MPEG_LAYER_III", False), "adpcm.wav": ("WAV", "IMA_ADPCM", False)}


def noise(rate: int, seconds: float = SECONDS) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Noise with a silent minute, of which Vorbis makes long pages."""
    sound = np.random.default_rng(0).normal(0, 0.05, int(seconds * rate)).astype(np.float32)
    sound[len(sound) // 3:2 * len(sound) // 3] = 0
    return sound


@pytest.mark.parametrize("ending", FORMATS)
def test_a_part_is_that_of_the_whole(ending: str, tmp_path: Path) -> None:
    kind, subtype, is_seekable = FORMATS[ending]
    rate, source = 4000, 11_025  # low rates: the test is fast
    with soundfile.SoundFile(tmp_path / f"a.{ending}", "w", source, 1, subtype, format=kind) as file:
        sound = noise(source)
        for begin in range(0, len(sound), source):
            file.write(sound[begin:begin + source])
    length = audio_length(tmp_path / f"a.{ending}")
    assert (round(length.seconds), length.is_seekable) == (SECONDS, is_seekable)
    for target in (rate, source):
        whole = read_audio(tmp_path / f"a.{ending}", target)
        for first, last in ((0, 5), (3, 70), (59, 61), (125, None), (SECONDS + 5, None)):
            begin, end = first * target + 7 * (first > 0), last and last * target
            blocks = list(audio_blocks(tmp_path / f"a.{ending}", target, begin=begin, end=end))
            part = np.concatenate([np.empty(0, np.float32), *blocks])
            np.testing.assert_array_equal(part, whole[begin:end])


@pytest.mark.parametrize("source", [8000, 22_050, 44_100, 44_101, 48_000])
def test_segments_are_resampled_as_soxr_does_in_one_pass(source: int) -> None:
    for seconds in (0.001, 59.9, 60, 60.1, 121):
        sound = noise(source, seconds)
        expected = soxr.ResampleStream(source, 16_000, 1, "float32", "HQ").resample_chunk(sound, True)
        resampler = Resampler(source, 16_000)
        blocks = [resampler.add(sound[begin:begin + 70_000]) for begin in range(0, len(sound), 70_000)]
        found = np.concatenate([*blocks, resampler.add(sound[:0], is_last=True)])
        assert len(found) == len(expected)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        half = len(found) // 2
        resampler = Resampler(source, 16_000, half)
        part = resampler.add(sound[resampler.needs_from:], is_last=True)
        np.testing.assert_array_equal(part, found[half:])
