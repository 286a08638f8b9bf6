"""Audio files of all kinds, and PCM from a pipe."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from satexport.audio import pcm_blocks, read_audio
from satexport.errors import AudioError, MissingError
from satexport.variants import SAMPLE_RATE
from tests.machine import PATIENCE, need

soundfile = need("soundfile", "audio")


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def peak_hertz(audio: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(audio)).argmax() * SAMPLE_RATE / len(audio))


@pytest.mark.parametrize(("name", "rate", "channels"), [
    ("a.wav", 8_000, 2), ("a.flac", 44_100, 1), ("a.ogg", 48_000, 2), ("a.mp3", 22_050, 1),
    ("a.wav", 16_000, 6)])
def test_a_file_of_any_kind_and_rate_becomes_16_khz_mono(
        tmp_path: Path, name: str, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / name, np.tile(tone(rate)[:, None], channels), rate)
    audio = read_audio(tmp_path / name)
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert len(audio) == pytest.approx(SAMPLE_RATE, rel=0.1)  # mp3 pads its ends
    assert peak_hertz(audio) == pytest.approx(440, abs=2)
    assert np.abs(audio).max() == pytest.approx(0.5, abs=0.05)


def test_a_16_khz_file_is_read_sample_by_sample(tmp_path: Path) -> None:
    samples = tone(SAMPLE_RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.wav")), samples)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(SAMPLE_RATE), np.zeros(SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), SAMPLE_RATE, "FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), left / 2, atol=1e-6)


def test_nothing_above_8_khz_folds_back(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(48_000, hertz=11_000), 48_000)
    assert np.abs(read_audio(tmp_path / "a.wav")[1000:-1000]).max() < 1e-3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file; expected"):
        read_audio(tmp_path / "gone.wav")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        read_audio(tmp_path)


@pytest.mark.parametrize(("name", "content"), [
    ("text.wav", b"these are words\n" * 40), ("empty.wav", b""), ("noise.raw", b"\1\2" * 99)])
def test_what_is_no_audio_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=f"{name}: cannot be read as audio .*Convert it"):
        read_audio(tmp_path / name)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44_100)
    with pytest.raises(AudioError, match="has no samples"):
        read_audio(tmp_path / "a.wav")


def test_a_file_too_short_for_one_sample_at_16_khz_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1), 192_000)
    with pytest.raises(AudioError, match="too short"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = tone(44_100)
    samples[100] = value
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinity"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_without_the_audio_packages_the_message_says_what_to_install(
        package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match=r"pip install 'satexport\[audio\]'"):
        read_audio(tmp_path / "a.wav")


def test_pcm_comes_in_blocks_no_longer_than_asked_and_complete() -> None:
    values = np.arange(-20_000, 20_000, dtype="<i2")
    blocks = list(pcm_blocks(io.BytesIO(values.tobytes()), seconds=0.5))
    assert [len(block) for block in blocks] == [8000] * 5
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(blocks) * 32_768, values)


def test_a_live_pipe_is_heard_before_it_ends() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as source:
        late = threading.Timer(PATIENCE / 10, source.close)  # so that a reader who waits for more ends, too
        late.start()
        source.write(bytes(200))
        assert len(next(pcm_blocks(stream))) == 100
        assert not source.closed
        late.cancel()


def test_a_sample_cut_in_two_between_reads_is_put_together() -> None:
    class Slow(io.BytesIO):
        def read1(self, _size: int | None = -1, /) -> bytes:
            return self.read(3)
    values = np.arange(1, 7, dtype="<i2")
    blocks = np.concatenate(list(pcm_blocks(Slow(values.tobytes()))))
    np.testing.assert_array_equal(blocks * 32_768, values)


def test_half_a_sample_at_the_end_is_an_error_after_the_rest_was_heard() -> None:
    blocks = pcm_blocks(io.BytesIO(bytes(5)))
    assert len(next(blocks)) == 2
    with pytest.raises(AudioError, match="5 bytes are no whole number of samples"):
        next(blocks)


def test_a_pipe_without_audio_is_an_error() -> None:
    with pytest.raises(AudioError, match="no audio came"):
        list(pcm_blocks(io.BytesIO()))
