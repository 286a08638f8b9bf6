"""Audio files of all kinds."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.audio.files import audio_blocks, audio_suffixes, read_audio
from satexport.audio.lengths import View
from satexport.errors import AudioError, MissingError
from tests.machine import need

SAMPLE_RATE = 16_000  # Hz

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
    audio = read_audio(tmp_path / name, SAMPLE_RATE)
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert len(audio) == pytest.approx(SAMPLE_RATE, rel=0.1)  # mp3 pads the start and the end
    assert peak_hertz(audio) == pytest.approx(440, abs=2)
    assert np.abs(audio).max() == pytest.approx(0.5, abs=0.05)


def test_a_16_khz_file_is_read_sample_by_sample(tmp_path: Path) -> None:
    samples = tone(SAMPLE_RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.wav"), SAMPLE_RATE), samples)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(SAMPLE_RATE), np.zeros(SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), SAMPLE_RATE, "FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", SAMPLE_RATE), left / 2, atol=1e-6)


def read_warnings(path: Path) -> list[str]:
    """The warnings about a file that can be read."""
    warnings: list[str] = []
    read_audio(path, SAMPLE_RATE, warnings.append)
    return warnings


@pytest.mark.parametrize("rate", [8_000, 32_000, 44_100])
def test_a_file_is_resampled_to_the_requested_rate(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(SAMPLE_RATE), SAMPLE_RATE)
    audio = read_audio(tmp_path / "a.wav", rate)
    assert len(audio) == rate
    assert np.abs(np.fft.rfft(audio)).argmax() == 440  # Hz, of one second


NOISE = np.random.default_rng(1).normal(0, 0.1, (2 * SAMPLE_RATE, 2)).clip(-1, 1)


@pytest.mark.parametrize("channels", [[NOISE[:, 0], -NOISE[:, 0]], [NOISE[:, 0], -0.8 * NOISE[:, 0]]])
def test_channels_that_cancel_each_other_cause_a_warning(tmp_path: Path, channels: list[np.ndarray]) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack(channels, 1), SAMPLE_RATE)
    (warnings,) = read_warnings(tmp_path / "a.wav")
    assert "a.wav: its 2 channels cancel each other" in warnings


@pytest.mark.parametrize("channels", [
    [NOISE[:, 0]], [NOISE[:, 0], NOISE[:, 0]], [NOISE[:, 0], NOISE[:, 1]], [0 * NOISE[:, 0]] * 2,
    [NOISE[:, 0], *[0 * NOISE[:, 0]] * 5]], ids=["one", "the same", "two sounds", "silence", "one of six"])
def test_channels_that_do_not_cancel_each_other_cause_no_warning(
        tmp_path: Path, channels: list[np.ndarray]) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack(channels, 1), SAMPLE_RATE)
    assert read_warnings(tmp_path / "a.wav") == []


@pytest.mark.parametrize(("rate", "channels"), [
    (1, 1), (8_000, 2), (16_000, 1024), (384_000, 6), (2_147_483_647, 1)])
def test_any_sample_rate_and_channel_count_is_read(tmp_path: Path, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((50, channels), 0.25), rate)
    if rate > 800_000:  # too short for a single sample
        with pytest.raises(AudioError, match="too few for one sample"):
            read_audio(tmp_path / "a.wav", SAMPLE_RATE)
    else:
        first = read_audio(tmp_path / "a.wav", SAMPLE_RATE)
        assert len(first) == pytest.approx(50 * SAMPLE_RATE / rate, abs=1)


KINDS = [("WAV", "PCM_16"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("RF64", "FLOAT"), ("W64", "PCM_24"),
         ("AIFF", "PCM_16"), ("AIFF", "DWVW_16"), ("AU", "ULAW"), ("AU", "G721_32"), ("CAF", "ALAC_16"),
         ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
         ("NIST", "PCM_16"), ("VOC", "PCM_16")]


@pytest.mark.parametrize(("form", "subtype"), KINDS)
def test_blocks_of_any_length_contain_the_same_samples(
        tmp_path: Path, form: str, subtype: str, capfd: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.x", NOISE[:, 0], SAMPLE_RATE, format=form, subtype=subtype)
    whole = read_audio(tmp_path / "a.x", SAMPLE_RATE)
    assert len(whole) == pytest.approx(len(NOISE), rel=0.02)
    for seconds in (0.01, 0.37):
        blocks = list(audio_blocks(tmp_path / "a.x", SAMPLE_RATE, seconds))
        assert len(blocks) >= 4
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    if subtype != "DWVW_16":  # soundfile itself cannot read it
        with (tmp_path / "a.x").open("rb") as file:
            expected = soundfile.read(file, dtype="float32")[0]
        np.testing.assert_allclose(whole, expected, atol=1e-6)
    assert capfd.readouterr().err == ""  # libmpg123 prints a warning if it has to seek backwards


def test_audio_before_damage_is_used_and_the_position_is_reported(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", NOISE[:, 0], SAMPLE_RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    expected = read_audio(tmp_path / "a.flac", SAMPLE_RATE)
    content[3 * len(content) // 4] ^= 0xFF
    (tmp_path / "a.flac").write_bytes(content)
    blocks = audio_blocks(tmp_path / "a.flac", SAMPLE_RATE)
    first = next(blocks)
    assert len(first) > SAMPLE_RATE
    with pytest.raises(AudioError, match=r"cannot be read beyond 1\.[0-5] s .*the audio before that"):
        next(blocks)
    np.testing.assert_array_equal(first, expected[:len(first)])


@pytest.mark.parametrize(("peak", "scale"), [(8.1, 16), (32_768.0, 32_768), (2.0**31, 2**31)])
def test_samples_too_loud_for_a_stream_are_refused_with_a_suggested_scale(
        tmp_path: Path, peak: float, scale: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(SAMPLE_RATE) / 0.5 * peak, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=f"a.wav: its samples reach .*volume=1/{scale} "):
        read_audio(tmp_path / "a.wav", SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", tone(SAMPLE_RATE) / 0.5 * 7.9, SAMPLE_RATE, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav", SAMPLE_RATE)).max() == pytest.approx(7.9, rel=0.01)


def test_a_wav_is_read_whatever_its_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, SAMPLE_RATE)
    (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    assert len(read_audio(tmp_path / "a.raw", SAMPLE_RATE)) == len(NOISE)


def test_audio_suffixes_are_those_that_soundfile_reads() -> None:
    endings = audio_suffixes()
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".caf", ".au"} <= set(endings)
    assert not {".raw", ".txt", ".csv", ".m4a", ".json"} & set(endings)
    assert {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"} <= set(endings)


@pytest.mark.parametrize(("raised", "expected", "words"), [
    ((OSError, errno.EIO, "the disk is gone"), AudioError, r"a\.wav: cannot be read \(the disk is gone\)"),
    ((KeyboardInterrupt,), KeyboardInterrupt, None)])
def test_an_error_inside_a_libsndfile_callback_is_raised(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
        raised: tuple[Any, ...], expected: type[BaseException], words: str | None) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, SAMPLE_RATE)
    read = View._read

    def fails(view: View, count: int) -> bytes:
        if view.tell() > 60_000:
            raise raised[0](*raised[1:])
        return read(view, count)
    monkeypatch.setattr(View, "_read", fails)
    with pytest.raises(expected, match=words):
        read_audio(tmp_path / "a.wav", SAMPLE_RATE)
    assert capfd.readouterr().err == ""


def test_frequencies_above_8_khz_do_not_alias(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(48_000, hertz=11_000), 48_000)
    assert np.abs(read_audio(tmp_path / "a.wav", SAMPLE_RATE)[1000:-1000]).max() < 1e-3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file; expected"):
        read_audio(tmp_path / "gone.wav", SAMPLE_RATE)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        read_audio(tmp_path, SAMPLE_RATE)


@pytest.mark.parametrize(("name", "content"), [
    ("text.wav", b"these are words\n" * 40), ("empty.wav", b""), ("noise.raw", b"\1\2" * 99)])
def test_files_that_are_not_audio_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=f"{name}: cannot be read as audio .*Convert it"):
        read_audio(tmp_path / name, SAMPLE_RATE)


def test_an_unreadable_file_is_identified_by_its_first_bytes_with_a_clean_reason(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(99))
    with pytest.raises(AudioError) as raised:
        read_audio(tmp_path / "a.m4a", SAMPLE_RATE)
    assert f"{tmp_path / 'a.m4a'}: cannot be read as audio (it starts like MP4 (M4A): " in str(raised.value)
    assert "Error opening" not in str(raised.value)
    assert "object" not in str(raised.value)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44_100)
    with pytest.raises(AudioError, match="contains no samples"):
        read_audio(tmp_path / "a.wav", SAMPLE_RATE)


def test_a_file_too_short_for_one_sample_at_16_khz_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1), 192_000)
    with pytest.raises(AudioError, match="too few for one sample"):
        read_audio(tmp_path / "a.wav", SAMPLE_RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_nan_or_infinite_are_refused(tmp_path: Path, value: float) -> None:
    samples = tone(44_100)
    samples[100] = value
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinity"):
        read_audio(tmp_path / "a.wav", SAMPLE_RATE)


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_without_the_audio_packages_the_message_says_what_to_install(
        package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match=r"pip install 'satexport\[audio\]'"):
        read_audio(tmp_path / "a.wav", SAMPLE_RATE)
