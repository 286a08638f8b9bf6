"""Audio files from pipes and devices, and PCM from standard input."""

from __future__ import annotations

import errno
import io
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.audio import files as audio_module
from satexport.audio.files import read_audio
from satexport.audio.pcm import pcm_blocks
from satexport.errors import AudioError, RunError
from tests.machine import PATIENCE, need

SAMPLE_RATE = 16_000  # Hz

soundfile = need("soundfile", "audio")
NOISE = np.random.default_rng(1).normal(0, 0.1, (2 * SAMPLE_RATE, 2)).clip(-1, 1)


# Files.

@pytest.fixture
def piped() -> Callable[[bytes], str]:
    """Creates a named pipe with some content and returns its path."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")

    def name(content: bytes) -> str:
        folder = Path(tempfile.mkdtemp())
        os.mkfifo(folder / "pipe")

        def write() -> None:
            with suppress(BrokenPipeError):
                (folder / "pipe").write_bytes(content)
        threading.Thread(target=write, daemon=True).start()
        return str(folder / "pipe")
    return name


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_pipe_is_read_like_a_file(tmp_path: Path, form: str, piped: Callable[[bytes], str],
                                     capfd: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.x", NOISE, SAMPLE_RATE, format=form)
    found = read_audio(piped((tmp_path / "a.x").read_bytes()), SAMPLE_RATE)
    np.testing.assert_array_equal(found, read_audio(tmp_path / "a.x", SAMPLE_RATE))
    assert capfd.readouterr().err == ""


def test_a_pipe_without_audio_is_refused_in_one_sentence(piped: Callable[[bytes], str],
                                                         capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AudioError, match="cannot be read as audio"):
        read_audio(piped(b"these are words\n" * 99), SAMPLE_RATE)
    assert capfd.readouterr().err == ""


def test_a_pipe_that_does_not_end_is_refused(piped: Callable[[bytes], str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_module, "MAX_SPOOLED", 3 << 20)
    with pytest.raises(AudioError, match=r"is a pipe with more than .*expected audio of limited length"):
        read_audio(piped(bytes(5 << 20)), SAMPLE_RATE)


def test_a_disk_that_is_too_full_for_a_pipe_is_reported(piped: Callable[[bytes], str],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _content: Any, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def none() -> None:
        raise FileNotFoundError(errno.ENOENT, "no usable temporary directory")
    for temporary, words in ((Full, "cannot be copied to .*set TMPDIR"), (none, "no temporary file")):
        monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
        with pytest.raises(RunError, match=f"is a pipe, and .*{words}"):
            read_audio(piped(b"RIFF" * 99), SAMPLE_RATE)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_a_device_is_refused_and_not_read_forever() -> None:
    with pytest.raises(AudioError, match="/dev/zero: is a device"):
        read_audio("/dev/zero", SAMPLE_RATE)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_a_socket_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("here")
        with pytest.raises(AudioError, match="here: is a socket"):
            read_audio("here", SAMPLE_RATE)


# PCM.

def test_pcm_is_complete_and_its_blocks_are_not_longer_than_requested() -> None:
    values = np.arange(-20_000, 20_000, dtype="<i2")
    blocks = list(pcm_blocks(io.BytesIO(values.tobytes()), SAMPLE_RATE, seconds=0.5))
    assert [len(block) for block in blocks] == [8000] * 5
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(blocks) * 32_768, values)


def test_a_live_pipe_is_read_before_it_ends() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as source:
        late = threading.Timer(PATIENCE / 10, source.close)  # so that a reader that waits for more also ends
        late.start()
        source.write(bytes(200))
        assert len(next(pcm_blocks(stream, SAMPLE_RATE))) == 100
        assert not source.closed
        late.cancel()


def test_a_sample_split_between_two_reads_is_joined() -> None:
    class Slow(io.BytesIO):
        def read1(self, _size: int | None = -1, /) -> bytes:
            return self.read(3)
    values = np.arange(1, 7, dtype="<i2")
    blocks = np.concatenate(list(pcm_blocks(Slow(values.tobytes()), SAMPLE_RATE)))
    np.testing.assert_array_equal(blocks * 32_768, values)


def test_half_a_sample_at_the_end_is_an_error_after_the_rest_was_read() -> None:
    blocks = pcm_blocks(io.BytesIO(bytes(5)), SAMPLE_RATE)
    assert len(next(blocks)) == 2
    with pytest.raises(AudioError, match="5 bytes are not a whole number of samples"):
        next(blocks)


def test_an_empty_standard_input_is_an_error() -> None:
    with pytest.raises(AudioError, match="standard input: is empty"):
        list(pcm_blocks(io.BytesIO(), SAMPLE_RATE))


HEADS = {"MP4": b"\0\0\0\x20ftypM4A \0\0\0\0", "WebM": b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2",
         "WMA": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xce\x6c", "AMR": b"#!AMR\n" + bytes(20),
         "AVI": b"RIFF\0\1\0\0AVI LIST", "AAC": b"\xff\xf1\x60\x40\x04\x1f\xfc".ljust(32, b"\0") * 8,
         "MP3": b"ID3\4\0\0\0\0\1\0" + bytes(200)}


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3",
                                  "VOC", "NIST"])
def test_a_file_instead_of_pcm_is_refused_with_advice(form: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, NOISE, SAMPLE_RATE, format=form)
    with pytest.raises(AudioError, match=r"input: starts like a .*-f s16le -ar 16000 -ac 1.*/dev/stdin"):
        next(pcm_blocks(io.BytesIO(file.getvalue()), SAMPLE_RATE))


@pytest.mark.parametrize("name", HEADS)
def test_an_unreadable_file_instead_of_pcm_is_refused(name: str) -> None:
    class Slow(io.BytesIO):
        def read1(self, _size: int | None = -1, /) -> bytes:
            return self.read(1)
    for stream in (io.BytesIO(HEADS[name]), Slow(HEADS[name])):
        with pytest.raises(AudioError, match=f"standard input: starts like a file of type .*{name}"):
            next(pcm_blocks(stream, SAMPLE_RATE))


@pytest.mark.parametrize("begin", [
    b"", b"RIFF", b"RIFX\0\0\0\0AVE", b"\xff\xfb\x90\x64", b"\xff\xff" * 5000, b"ID3", b"OggX", b"\xff\xf1",
    b"FORM"])
def test_pcm_may_start_with_any_bytes_that_are_not_a_container(begin: bytes) -> None:
    pcm = begin + np.random.default_rng(0).bytes(40_000 - len(begin))
    blocks = np.concatenate(list(pcm_blocks(io.BytesIO(pcm), SAMPLE_RATE)))
    np.testing.assert_array_equal(blocks * 32_768, np.frombuffer(pcm, "<i2"))
