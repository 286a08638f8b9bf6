"""Files with a wrong length in the header: streamed, truncated, concatenated, above 4 GiB."""

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
SIZES = {  # format -> a marker, the offset of the size field after it, and its struct format
    "WAV": (b"data", 4, "<I"), "RIFX": (b"data", 4, ">I"), "AIFF": (b"SSND", 4, ">I"),
    "AU": (b".snd", 8, ">I"), "CAF": (b"data", 4, ">Q"), "W64": (b"data", 16, "<Q"),
    "RF64": (b"ds64", 16, "<Q")}


def encode(form: str, subtype: str | None = None, sound: FloatArray = SOUND, **options: Any) -> bytearray:
    file = io.BytesIO()
    if form == "RIFX":
        soundfile.write(file, sound, RATE, format="WAV", subtype=subtype, endian="BIG")
    else:
        soundfile.write(file, sound, RATE, format=form, subtype=subtype, **options)
    return bytearray(file.getvalue())


def encode_with_size(form: str, size: int, subtype: str | None = None) -> bytearray:
    content = encode(form, subtype)
    mark, trailing, way = SIZES[form]
    struct.pack_into(way, content, content.index(mark) + trailing, size % 2 ** (8 * struct.calcsize(way)))
    return content


def encode_with_total(samples: int) -> bytearray:
    """A FLAC whose header announces this many samples; 0: unknown."""
    content = encode("FLAC")
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = struct.pack(">I", samples % 2**32)
    return content


def decode(folder: Path, content: bytes | bytearray) -> tuple[FloatArray, list[str]]:
    """The samples of a file, and the warnings about it."""
    warnings: list[str] = []
    (folder / "a.file").write_bytes(content)
    return read_audio(folder / "a.file", RATE, warnings.append), warnings


@pytest.mark.parametrize(("form", "size"), [
    ("WAV", 0xFFFFFFFF), ("WAV", 0x7FFFFFFF), ("WAV", 0x80000000), ("WAV", 0x7FFFF000), ("RIFX", ALL),
    ("AIFF", ALL), ("AU", ALL), ("AU", 0x7FFFFFFF), ("CAF", ALL), ("W64", ALL), ("W64", 2**63 - 1),
    ("RF64", ALL)])
def test_audio_written_to_a_pipe_is_read_to_its_end(
        tmp_path: Path, form: str, size: int) -> None:
    expected, _ = decode(tmp_path, encode(form))
    decoded, warnings = decode(tmp_path, encode_with_size(form, size))
    np.testing.assert_array_equal(decoded, expected)
    assert len(decoded) == SAMPLES
    assert not warnings


@pytest.mark.parametrize("size", [0, 36])
def test_the_size_of_the_riff_itself_does_not_matter(tmp_path: Path, size: int) -> None:
    content = encode("WAV")
    content[4:8] = struct.pack("<I", size)
    decoded, warnings = decode(tmp_path, content)
    assert (len(decoded), warnings) == (SAMPLES, [])


@pytest.mark.parametrize(("total", "expected_words"), [
    (0, []), (SAMPLES + 1, ["24001 samples, but it contains 24000"]),
    (2**36 - 1, ["68719476735 samples, but it contains 24000"])])
def test_a_flac_is_read_to_its_end_whatever_length_it_announces(
        tmp_path: Path, total: int, expected_words: list[str]) -> None:
    decoded, warnings = decode(tmp_path, encode_with_total(total))
    np.testing.assert_array_equal(decoded, decode(tmp_path, encode("FLAC"))[0])
    assert [any(words in line for line in warnings) for words in expected_words] == [True] * len(warnings)


@pytest.mark.parametrize(("form", "size", "subtype"), [
    ("WAV", 0, "PCM_16"), ("WAV", 0, "PCM_24"), ("WAV", 0, "FLOAT"), ("WAV", 0, "ULAW"),
    ("WAV", 0, "IMA_ADPCM"), ("RIFX", 0, None), ("AIFF", 0, None), ("AIFF", 8, None), ("AU", 0, None),
    ("CAF", 0, None), ("CAF", 4, None), ("W64", 0, None), ("W64", 24, None), ("RF64", 0, None)])
def test_an_interrupted_recording_is_read(
        tmp_path: Path, form: str, size: int, subtype: str | None) -> None:
    expected, _ = decode(tmp_path, encode(form, subtype))
    decoded, warnings = decode(tmp_path, encode_with_size(form, size, subtype))
    np.testing.assert_array_equal(decoded, expected)
    assert len(warnings) == 1
    assert "its header announces no audio, as after an interrupted recording" in warnings[0]


@pytest.mark.parametrize("trailing", [b"", b"LIST\x08\0\0\0INFOabcd", bytes(600)])
def test_a_wav_without_samples_is_refused(tmp_path: Path, trailing: bytes) -> None:
    with pytest.raises(AudioError, match="contains no samples"):
        decode(tmp_path, encode("WAV", sound=SOUND[:0]) + trailing)


@pytest.mark.parametrize("form", SIZES)
def test_a_header_that_announces_too_much_causes_a_warning(tmp_path: Path, form: str) -> None:
    whole = encode(form)
    decoded, warnings = decode(tmp_path, whole[:-SAMPLES])  # half of the samples, two bytes each
    assert len(decoded) == SAMPLES // 2
    np.testing.assert_array_equal(decoded, decode(tmp_path, whole)[0][:SAMPLES // 2])
    assert len(warnings) == 1
    assert "its header announces 48000 bytes of audio, but it contains 24000; it is truncated" in warnings[0]


@pytest.mark.parametrize(("form", "size"), [
    ("WAV", 32_000), ("RIFX", 32_000), ("AIFF", 32_008), ("AU", 32_000), ("CAF", 32_004), ("W64", 32_024),
    ("RF64", 32_000), ("FLAC", 16_000)])
def test_bytes_after_the_announced_end_cause_a_warning(tmp_path: Path, form: str, size: int) -> None:
    content = encode_with_total(size) if form == "FLAC" else encode_with_size(form, size)
    decoded, warnings = decode(tmp_path, content)
    assert len(decoded) == 16_000
    assert len(warnings) == 1
    assert "bytes after the announced end are ignored" in warnings[0]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("cut", [1, 40, 8000])
def test_a_truncated_ogg_causes_a_warning(tmp_path: Path, subtype: str, cut: int) -> None:
    sound = np.random.default_rng(7).normal(0, 0.1, 6 * SAMPLES).clip(-1, 1)
    content = encode("OGG", subtype, sound)
    whole, warnings = decode(tmp_path, content)
    assert warnings == []
    decoded, warnings = decode(tmp_path, content[:-cut])
    assert len(decoded) <= len(whole)
    assert len(warnings) == 1
    assert f"stops before its end, after {len(decoded) / RATE:.1f} s: it is truncated" in warnings[0]


@pytest.mark.parametrize(("form", "subtype"), [
    ("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_the_second_of_two_concatenated_files_causes_a_warning(
        tmp_path: Path, form: str, subtype: str | None) -> None:
    content = encode(form, subtype)
    decoded, warnings = decode(tmp_path, content + content)
    assert len(decoded) == SAMPLES
    assert len(warnings) == 1
    assert "bytes after the announced end are ignored" in warnings[0]


@pytest.mark.parametrize("change", [
    lambda x: x + b"LIST\x0c\0\0\0INFOISFT\0\0\0\0" * 300, lambda x: x + bytes(9000),
    lambda x: x + b"TAG" + bytes(125),
    lambda x: x[:12] + b"JUNK\x04\0\0\0abcd" + x[12:], lambda x: x[:36] + b"bext\x03\0\0\0abc\0" + x[36:],
    lambda x: x[:36] + b"fact\x04\0\0\0\0\0\0\0" + x[36:], lambda x: x[:36] + b"LIST\0\0\0\0" + x[36:]],
    ids=["trailing chunks", "trailing zeros", "trailing tag", "JUNK", "bext", "fact", "LIST of nothing"])
def test_other_chunks_and_padding_are_ignored_without_a_warning(tmp_path: Path, change: Any) -> None:
    decoded, warnings = decode(tmp_path, change(bytes(encode("WAV"))))
    assert (len(decoded), warnings) == (SAMPLES, [])


@pytest.mark.parametrize("padded", [True, False])
def test_the_padding_of_an_odd_number_of_bytes_may_be_missing(tmp_path: Path, padded: bool) -> None:
    content = encode("WAV", "PCM_U8", SOUND[:9999])[:44 + 9999]
    decoded, warnings = decode(tmp_path, content + b"\0" * padded + b"LIST\x88\x13\0\0" + b"x" * 5000)
    assert (len(decoded), warnings) == (9999, [])


@pytest.mark.parametrize(("announced", "expected_words"), [
    (160_000, "cannot represent"), (0, "announces no audio")])
def test_a_wav_above_4_gib_is_read_to_its_end(tmp_path: Path, announced: int, expected_words: str) -> None:
    head = encode_with_size("WAV", announced)[:44]
    with (tmp_path / "long.wav").open("w+b") as file:
        file.write(head + b"\1" * 9000)
        file.truncate(44 + 2**32 + 160_000)  # a sparse file: takes no space on the disk
        view, warnings = correct_length(file)
        with soundfile.SoundFile(view) as sound:
            assert sound.frames == (2**32 + 160_000) // 2
            assert (sound.samplerate, sound.channels, sound.subtype) == (RATE, 1, "PCM_16")
    assert len(warnings) == 1
    assert expected_words in warnings[0]


# MP3

LOUD_FIRST = np.concatenate([SOUND, np.zeros(9 * SAMPLES)])
VBR: dict[str, Any] = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
FRAME = 576  # samples of MPEG-2


def vbr(sound: FloatArray = LOUD_FIRST) -> tuple[bytearray, bytearray]:
    """An MP3 of variable bit rate, and the same without the frame that announces its length."""
    content = encode("MP3", sound=sound, **VBR)
    return content, content[content.index(content[:2], 4):]


def test_an_mp3_of_variable_rate_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    whole, bare = vbr()
    assert len(decode(tmp_path, whole)[0]) == len(LOUD_FIRST)
    decoded, warnings = decode(tmp_path, bare)
    assert 0 <= len(decoded) - len(LOUD_FIRST) < 4 * FRAME  # the number of padding samples is unknown
    assert not warnings


@pytest.mark.parametrize("before", [
    bytes(3000), np.random.default_rng(0).bytes(3000), b"ID3\3\0\0\0\0\1\0" + bytes(128),
    b"ID3\3\0\0\0\0\1\0" + bytes(128 + 2000), b"ID3\4\0\0\0\7\0\0" + bytes(7 * 128**2 + 2000)],
    ids=["zeros", "rubbish", "a tag", "zeros behind a tag", "zeros behind a long tag"])
def test_bytes_before_the_first_frame_of_an_mp3_are_ignored(tmp_path: Path, before: bytes) -> None:
    content = encode("MP3")
    decoded, warnings = decode(tmp_path, before + content)
    np.testing.assert_array_equal(decoded, decode(tmp_path, content)[0])
    assert not warnings


def test_an_mp3_may_start_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    decoded, _ = decode(tmp_path, encode("MP3")[700:])
    assert abs(len(decoded) - SAMPLES) < 4 * FRAME


@pytest.mark.parametrize("trailing", [b"TAG" + bytes(125), b"APETAGEX\xd0\7\0\0" + b"text" * 50],
                         ids=["ID3v1", "APE"])
@pytest.mark.parametrize("says_length", [True, False])
def test_a_tag_after_an_mp3_is_ignored(
        tmp_path: Path, trailing: bytes, says_length: bool, capfd: pytest.CaptureFixture[str]) -> None:
    content = vbr()[0 if says_length else 1]
    decoded, warnings = decode(tmp_path, content + trailing)
    np.testing.assert_array_equal(decoded, decode(tmp_path, content)[0])
    assert not warnings
    assert capfd.readouterr().err == ""


def test_a_truncated_mp3_is_read_as_far_as_possible(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = encode("MP3")
    decoded, warnings = decode(tmp_path, content[:len(content) // 2])
    assert SAMPLES // 4 < len(decoded) < SAMPLES
    assert len(warnings) == 1
    assert "it is truncated" in warnings[0]
    assert capfd.readouterr().err == ""


def test_two_concatenated_mp3_are_both_read(tmp_path: Path) -> None:
    content = encode("MP3")
    decoded, warnings = decode(tmp_path, content + content)
    assert 2 * SAMPLES <= len(decoded) < 2 * SAMPLES + 8 * FRAME
    assert len(warnings) == 1
    assert "all are used" in warnings[0]


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64", "FLAC", "OGG", "MP3"])
def test_a_header_truncated_anywhere_is_an_error_that_names_the_file(form: str, tmp_path: Path) -> None:
    content = encode(form)
    for length in range(24):
        with pytest.raises(AudioError, match=r"a\.file: "):
            decode(tmp_path, content[:length])
