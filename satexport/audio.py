"""Audio in: files of any kind, or raw PCM from a pipe, as 16 kHz mono float32 in [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from satexport.errors import AudioError, MissingError
from satexport.variants import PCM_SCALE, SAMPLE_RATE

PCM_BYTES = 2        # s16le: signed 16 bit, little endian


def read_audio(path: str | Path) -> NDArray[np.float32]:
    """The whole of an audio file, [samples]; otherwise as `audio_blocks`."""
    return np.concatenate(list(audio_blocks(path)))


def audio_blocks(path: str | Path, seconds: float = 10.0) -> Iterator[NDArray[np.float32]]:
    """Yield an audio file (wav, flac, ogg, mp3; any rate and channel count) in blocks of about
    `seconds`, so that its length does not matter.

    A block is [samples] float32, 16 kHz, the mean of the channels. Raises `AudioError` where the
    file is missing, no audio, empty or holds NaN or infinity, and `MissingError` without
    soundfile and soxr.
    """
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # OSError: soundfile without its C library
        raise MissingError(f"reading audio files needs soundfile and soxr ({error}): "
                           "pip install 'satexport[audio]'") from error
    path = Path(path)
    given = 0
    try:
        # opened here, as soundfile does not take every name
        with path.open("rb") as file, soundfile.SoundFile(file) as sound:
            resampler = soxr.ResampleStream(sound.samplerate, SAMPLE_RATE, 1, "float32", "HQ")
            size = max(1, round(seconds * sound.samplerate))
            last = False
            while not last:
                frames = sound.read(size, dtype="float32", always_2d=True)
                last = len(frames) < size
                mono = frames.mean(axis=1, dtype=np.float32)
                if not np.isfinite(mono).all():
                    raise AudioError(f"{path}: holds NaN or infinity; expected finite samples in "
                                     "[-1, 1]. Repair or leave out this file.")
                if sound.samplerate != SAMPLE_RATE:
                    mono = resampler.resample_chunk(mono, last=last)
                given += len(mono)
                if len(mono):
                    yield mono
    except FileNotFoundError:
        raise AudioError(
            f"{path}: no such file; expected an audio file (wav, flac, ogg, mp3).") from None
    except IsADirectoryError:
        raise AudioError(
            f"{path}: is a folder; expected one audio file. Name the files in it.") from None
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: a .raw file
        raise AudioError(f"{path}: cannot be read as audio ({error}); expected wav, flac, ogg "
                         "or mp3. Convert it first, for example with ffmpeg.") from None
    if not given:
        raise AudioError(f"{path}: has no samples, or is too short for one at {SAMPLE_RATE} Hz; "
                         "expected audio. Record it again.")


def pcm_blocks(stream: BinaryIO, seconds: float = 0.5) -> Iterator[NDArray[np.float32]]:
    """Yield 16 kHz mono s16le PCM as [samples] float32 in [-1, 1), as soon as bytes arrive.

    A block holds at most `seconds` of audio, and less where a live pipe has less. Raises
    `AudioError` at the end where no byte came or half a sample is left over.
    """
    read = getattr(stream, "read1", stream.read)  # read1 returns what is there, without waiting
    size = max(1, round(seconds * SAMPLE_RATE)) * PCM_BYTES
    total, rest = 0, b""
    while data := read(size - len(rest)):
        total += len(data)
        data = rest + data
        whole = len(data) // PCM_BYTES * PCM_BYTES
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], dtype="<i2")
            yield samples.astype(np.float32) / np.float32(PCM_SCALE)
    expected = "expected 16 kHz mono 16-bit little-endian PCM (ffmpeg: -f s16le -ar 16000 -ac 1)."
    if not total:
        raise AudioError(f"standard input: no audio came; {expected}")
    if rest:
        raise AudioError(f"standard input: {total} bytes are no whole number "
                         f"of samples; {expected}")
