"""Files whose header is wrong about their length: streamed, cut off, joined, beyond 4 GiB."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.audio.files import read_audio
from satexport.audio.lengths import correct_length
from satexport.errors import AudioError
from satexport.step import FloatArray
from tests.machine import need

soundfile = need("soundfile", "audio")

RATE = 16_000  # Hz
SAMPLES = 24_000
SOUND = np.random.default_rng(5).normal(0, 0.1, SAMPLES).clip(-1, 1)
ALL = -1  # a size of that many bits, all set
SIZES = {  # format -> where its size stands behind which mark, and how it is written
    "WAV": (b"data", 4, "<I"), "RIFX": (b"data", 4, ">I"), "AIFF": (b"SSND", 4, ">I"),
    "AU": (b".snd", 8, ">I"), "CAF": (b"data", 4, ">Q"), "W64": (b"data", 16, "<Q"),
    "RF64": (b"ds64", 16, "<Q")}


def made(form: str, subtype: str | None = None, sound: FloatArray = SOUND, **options: Any) -> bytearray:
    file = io.BytesIO()
    if form == "RIFX":
        soundfile.write(file, sound, RATE, format="WAV", subtype=subtype, endian="BIG")
    else:
        soundfile.write(file, sound, RATE, format=form, subtype=subtype, **options)
    return bytearray(file.getvalue())


def with_size(form: str, size: int, subtype: str | None = None) -> bytearray:
    content = made(form, subtype)
    mark, behind, way = SIZES[form]
    struct.pack_into(way, content, content.index(mark) + behind, size % 2 ** (8 * struct.calcsize(way)))
    return content


def with_total(samples: int) -> bytearray:
    """A FLAC that says so many samples; 0: it was not known."""
    content = made("FLAC")
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = struct.pack(">I", samples % 2**32)
    return content


def hear(folder: Path, content: bytes | bytearray) -> tuple[FloatArray, list[str]]:
    """What is heard of a file, and what is said of it."""
    said: list[str] = []
    (folder / "a.file").write_bytes(content)
    return read_audio(folder / "a.file", RATE, said.append), said


@pytest.mark.parametrize(("form", "size"), [
    ("WAV", 0xFFFFFFFF), ("WAV", 0x7FFFFFFF), ("WAV", 0x80000000), ("WAV", 0x7FFFF000), ("RIFX", ALL),
    ("AIFF", ALL), ("AU", ALL), ("AU", 0x7FFFFFFF), ("CAF", ALL), ("W64", ALL), ("W64", 2**63 - 1),
    ("RF64", ALL)])
def test_a_sound_that_was_written_into_a_pipe_is_heard_to_its_end(
        tmp_path: Path, form: str, size: int) -> None:
    expected, _ = hear(tmp_path, made(form))
    found, said = hear(tmp_path, with_size(form, size))
    np.testing.assert_array_equal(found, expected)
    assert len(found) == SAMPLES
    assert not said


@pytest.mark.parametrize("size", [0, 36])
def test_the_size_of_the_riff_itself_does_not_matter(tmp_path: Path, size: int) -> None:
    content = made("WAV")
    content[4:8] = struct.pack("<I", size)
    found, said = hear(tmp_path, content)
    assert (len(found), said) == (SAMPLES, [])


@pytest.mark.parametrize(("total", "says"), [(0, []), (SAMPLES + 1, ["24001 samples, but it contains 24000"]),
                                             (2**36 - 1, ["68719476735 samples, but it contains 24000"])])
def test_a_flac_is_heard_to_its_end_whatever_total_it_says(
        tmp_path: Path, total: int, says: list[str]) -> None:
    found, said = hear(tmp_path, with_total(total))
    np.testing.assert_array_equal(found, hear(tmp_path, made("FLAC"))[0])
    assert [any(words in line for line in said) for words in says] == [True] * len(said)


@pytest.mark.parametrize(("form", "size", "subtype"), [
    ("WAV", 0, "PCM_16"), ("WAV", 0, "PCM_24"), ("WAV", 0, "FLOAT"), ("WAV", 0, "ULAW"),
    ("WAV", 0, "IMA_ADPCM"), ("RIFX", 0, None), ("AIFF", 0, None), ("AIFF", 8, None), ("AU", 0, None),
    ("CAF", 0, None), ("CAF", 4, None), ("W64", 0, None), ("W64", 24, None), ("RF64", 0, None)])
def test_what_a_recorder_wrote_before_it_was_cut_off_is_heard(
        tmp_path: Path, form: str, size: int, subtype: str | None) -> None:
    expected, _ = hear(tmp_path, made(form, subtype))
    found, said = hear(tmp_path, with_size(form, size, subtype))
    np.testing.assert_array_equal(found, expected)
    assert len(said) == 1
    assert "its header announces no audio, as after an interrupted recording" in said[0]


@pytest.mark.parametrize("behind", [b"", b"LIST\x08\0\0\0INFOabcd", bytes(600)])
def test_a_wav_without_samples_stays_one(tmp_path: Path, behind: bytes) -> None:
    with pytest.raises(AudioError, match="contains no samples"):
        hear(tmp_path, made("WAV", sound=SOUND[:0]) + behind)


@pytest.mark.parametrize("form", SIZES)
def test_a_header_that_announces_more_than_is_there_is_said(tmp_path: Path, form: str) -> None:
    whole = made(form)
    found, said = hear(tmp_path, whole[:-SAMPLES])  # half of the samples, two bytes each
    assert len(found) == SAMPLES // 2
    np.testing.assert_array_equal(found, hear(tmp_path, whole)[0][:SAMPLES // 2])
    assert len(said) == 1
    assert "its header announces 48000 bytes of audio, but it contains 24000; it is truncated" in said[0]


@pytest.mark.parametrize(("form", "size"), [
    ("WAV", 32_000), ("RIFX", 32_000), ("AIFF", 32_008), ("AU", 32_000), ("CAF", 32_004), ("W64", 32_024),
    ("RF64", 32_000), ("FLAC", 16_000)])
def test_bytes_that_a_header_does_not_count_are_said(tmp_path: Path, form: str, size: int) -> None:
    found, said = hear(tmp_path, with_total(size) if form == "FLAC" else with_size(form, size))
    assert len(found) == 16_000
    assert len(said) == 1
    assert "bytes after the announced end are ignored" in said[0]


@pytest.mark.parametrize(("form", "subtype"), [
    ("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_of_two_files_in_one_the_second_is_said(tmp_path: Path, form: str, subtype: str | None) -> None:
    content = made(form, subtype)
    found, said = hear(tmp_path, content + content)
    assert len(found) == SAMPLES
    assert len(said) == 1
    assert "bytes after the announced end are ignored" in said[0]


@pytest.mark.parametrize("change", [
    lambda x: x + b"LIST\x0c\0\0\0INFOISFT\0\0\0\0" * 300, lambda x: x + bytes(9000),
    lambda x: x + b"TAG" + bytes(125),
    lambda x: x[:12] + b"JUNK\x04\0\0\0abcd" + x[12:], lambda x: x[:36] + b"bext\x03\0\0\0abc\0" + x[36:],
    lambda x: x[:36] + b"fact\x04\0\0\0\0\0\0\0" + x[36:], lambda x: x[:36] + b"LIST\0\0\0\0" + x[36:]],
    ids=["chunks behind", "zeros behind", "a tag behind", "JUNK", "bext", "fact", "LIST of nothing"])
def test_other_chunks_and_padding_are_neither_heard_nor_said(tmp_path: Path, change: Any) -> None:
    found, said = hear(tmp_path, change(bytes(made("WAV"))))
    assert (len(found), said) == (SAMPLES, [])


@pytest.mark.parametrize("padded", [True, False])
def test_an_odd_number_of_bytes_may_lack_its_padding(tmp_path: Path, padded: bool) -> None:
    content = made("WAV", "PCM_U8", SOUND[:9999])[:44 + 9999]
    found, said = hear(tmp_path, content + b"\0" * padded + b"LIST\x88\x13\0\0" + b"x" * 5000)
    assert (len(found), said) == (9999, [])


@pytest.mark.parametrize(("announced", "says"), [(160_000, "cannot represent"), (0, "announces no audio")])
def test_a_wav_beyond_4_gib_is_heard_to_its_end(tmp_path: Path, announced: int, says: str) -> None:
    head = with_size("WAV", announced)[:44]
    with (tmp_path / "long.wav").open("w+b") as file:
        file.write(head + b"\1" * 9000)
        file.truncate(44 + 2**32 + 160_000)  # a hole: nothing is on the disk
        view, said = correct_length(file)
        with soundfile.SoundFile(view) as sound:
            assert sound.frames == (2**32 + 160_000) // 2
            assert (sound.samplerate, sound.channels, sound.subtype) == (RATE, 1, "PCM_16")
    assert len(said) == 1
    assert says in said[0]


# MP3

LOUD_FIRST = np.concatenate([SOUND, np.zeros(9 * SAMPLES)])
VBR: dict[str, Any] = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
FRAME = 576  # samples of MPEG-2


def vbr(sound: FloatArray = LOUD_FIRST) -> tuple[bytearray, bytearray]:
    """An MP3 of variable rate, and the same without the frame that says its length."""
    content = made("MP3", sound=sound, **VBR)
    return content, content[content.index(content[:2], 4):]


def test_an_mp3_of_variable_rate_that_says_no_length_is_heard_to_its_end(tmp_path: Path) -> None:
    whole, bare = vbr()
    assert len(hear(tmp_path, whole)[0]) == len(LOUD_FIRST)
    found, said = hear(tmp_path, bare)
    assert 0 <= len(found) - len(LOUD_FIRST) < 4 * FRAME  # nothing says how many samples only fill frames
    assert not said


@pytest.mark.parametrize("before", [
    bytes(3000), np.random.default_rng(0).bytes(3000), b"ID3\3\0\0\0\0\1\0" + bytes(128),
    b"ID3\3\0\0\0\0\1\0" + bytes(128 + 2000), b"ID3\4\0\0\0\7\0\0" + bytes(7 * 128**2 + 2000)],
    ids=["zeros", "rubbish", "a tag", "zeros behind a tag", "zeros behind a long tag"])
def test_an_mp3_begins_with_its_first_frame(tmp_path: Path, before: bytes) -> None:
    content = made("MP3")
    found, said = hear(tmp_path, before + content)
    np.testing.assert_array_equal(found, hear(tmp_path, content)[0])
    assert not said


def test_an_mp3_may_begin_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    found, _ = hear(tmp_path, made("MP3")[700:])
    assert abs(len(found) - SAMPLES) < 4 * FRAME


@pytest.mark.parametrize("behind", [b"TAG" + bytes(125), b"APETAGEX\xd0\7\0\0" + b"text" * 50],
                         ids=["ID3v1", "APE"])
@pytest.mark.parametrize("says_length", [True, False])
def test_a_tag_behind_an_mp3_is_no_sound(
        tmp_path: Path, behind: bytes, says_length: bool, capfd: pytest.CaptureFixture[str]) -> None:
    content = vbr()[0 if says_length else 1]
    found, said = hear(tmp_path, content + behind)
    np.testing.assert_array_equal(found, hear(tmp_path, content)[0])
    assert not said
    assert capfd.readouterr().err == ""


def test_an_mp3_that_was_cut_off_is_heard_as_far_as_it_goes(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = made("MP3")
    found, said = hear(tmp_path, content[:len(content) // 2])
    assert SAMPLES // 4 < len(found) < SAMPLES
    assert len(said) == 1
    assert "it is truncated" in said[0]
    assert capfd.readouterr().err == ""


def test_two_mp3_in_one_are_both_heard(tmp_path: Path) -> None:
    content = made("MP3")
    found, said = hear(tmp_path, content + content)
    assert 2 * SAMPLES <= len(found) < 2 * SAMPLES + 8 * FRAME
    assert len(said) == 1
    assert "all are used" in said[0]


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64", "FLAC", "OGG", "MP3"])
def test_a_head_that_ends_anywhere_is_an_error_that_names_the_file(form: str, tmp_path: Path) -> None:
    content = made(form)
    for length in range(24):
        with pytest.raises(AudioError, match=r"a\.file: "):
            hear(tmp_path, content[:length])
