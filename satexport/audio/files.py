"""Read audio files as mono float32 in [-1, 1] at any sample rate."""

from __future__ import annotations

import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from satexport.audio.containers import MPEG_BYTES, OGG_PAGE, container_of, ogg_is_cut
from satexport.audio.lengths import MIN_TRAILING, View, correct_length
from satexport.audio.parts import MAX_LENGTH, Part, is_seekable
from satexport.errors import AudioError, MissingError, RunError
from satexport.step import MAX_AMPLITUDE
from satexport.terminal import note

DECODED_FRAMES = 4096   # decoded per call; fewer than this are lost before a damaged frame
MAX_FRAMES = 1 << 20    # of a block, at any sample rate
MAX_SPOOLED = 1 << 30   # bytes of a pipe that are copied to disk
CANCELLED = 0.1         # warn if the mean has less than this share of the power of uncorrelated channels
SILENT = 1e-8           # mean square, -80 dBFS: below it, cancelled channels do not matter
EXTRA_SUFFIXES = {      # in addition to the names of the formats
    "WAV": (".wave", ".bwf"), "AIFF": (".aif", ".aifc"), "AU": (".snd",), "OGG": (".oga", ".opus"),
    "MP3": (".mp2", ".mpga"), "NIST": (".sph",), "IRCAM": (".sf",), "SVX": (".8svx", ".iff")}


def audio_suffixes() -> tuple[str, ...]:
    """The file suffixes that soundfile can read. Raises `MissingError` if it is not installed."""
    formats = _import_packages().available_formats()
    suffixes = {f".{name.lower()}" for name in formats} | {
        suffix for name, extra in EXTRA_SUFFIXES.items() if name in formats for suffix in extra}
    return tuple(sorted(suffixes - {".raw"}))  # raw files have no header


def read_audio(path: str | Path, rate: int, tell: Callable[[str], None] = note) -> NDArray[np.float32]:
    """Read a whole audio file at a sample rate in Hz: [samples]; otherwise like `audio_blocks`."""
    return np.concatenate(list(audio_blocks(path, rate, tell=tell)))


def audio_blocks(path: str | Path, rate: int, seconds: float = 10.0, tell: Callable[[str], None] = note,
                 begin: int = 0, end: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield an audio file (wav, flac, ogg, mp3 or another format of soundfile; any sample rate and channel
    count) in blocks of about `seconds`, so that it need not fit into memory. A named pipe is first copied to
    a temporary file. With `begin` and `end`, only these samples at `rate`, bit for bit as in the whole file;
    reading begins near `begin` if the file `is_seekable`, otherwise at its start. The part may lie behind the
    end of the file: it then has no blocks.

    A block is [samples] float32 at `rate` Hz, the mean of the channels. `tell` receives a sentence about each
    problem that does not prevent reading: a wrong length in the header, channels that cancel each other.
    Raises `AudioError` if the file is missing, not audio, damaged (after yielding the intact part), empty,
    too loud for a stream, or contains NaN or infinity; `RunError` if a pipe cannot be copied to disk; and
    `MissingError` if soundfile or soxr is not installed.
    """
    soundfile = _import_packages()
    path, yielded = Path(path), 0
    try:
        with _open_seekable(path, rate) as file:
            view, warnings = correct_length(file)
            for sentence in warnings:
                tell(f"{path}: {sentence}.")
            with _open_sound(soundfile, path, file, view) as sound:
                part = _find_part(soundfile, path, sound, rate, begin, end)
                for mono in _decode(soundfile, path, view, sound, part.position, seconds, tell):
                    block = part.add(mono, is_last=not len(mono))
                    yielded += len(block)
                    if len(block):
                        _check_peak(path, block)
                        yield block
                    if part.is_over:
                        return
    except FileNotFoundError:
        raise AudioError(
            f"{path}: no such file; expected an audio file (wav, flac, ogg, mp3).") from None
    except IsADirectoryError:
        raise AudioError(
            f"{path}: is a folder; expected an audio file. Pass the files in it by name.") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror or error}); expected an audio file. "
                         "Check the disk and the file's permissions.") from None
    if not yielded and not begin:
        raise AudioError(f"{path}: contains no samples, or too few for one sample at {rate} Hz; "
                         "expected audio. Record it again.")


class Length(NamedTuple):
    """How long a recording is, by its header."""

    seconds: float      # 0: it cannot be opened, or does not say
    is_seekable: bool   # it can be read from its middle


def audio_length(path: str | Path) -> Length:
    """Read the header of a file; whether the audio is there is known only when it is read. Raises
    `MissingError` if soundfile is not installed."""
    soundfile = _import_packages()
    try:
        if not os.path.isfile(path):
            return Length(0, False)
        with open(path, "rb") as file, _open_sound(
                soundfile, Path(path), file, correct_length(file)[0]) as sound:
            is_known = sound.frames < MAX_LENGTH
            return Length(sound.frames / sound.samplerate if is_known else 0, is_seekable(sound))
    except (OSError, AudioError):
        return Length(0, False)


def decoder_versions() -> str:
    """The versions of what decides the samples that are read: other ones may give other last digits."""
    soundfile = _import_packages()
    import soxr

    return f"{soundfile.__libsndfile_version__} soxr {soxr.__version__} numpy {np.__version__}"


def _find_part(soundfile: Any, path: Path, sound: Any, rate: int, begin: int, end: int | None) -> Part:
    try:
        return Part(sound, rate, begin, end)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: cannot be read from {begin / rate:.1f} s on ({_reason(error)}). The file "
                         "is damaged: copy it again.") from None


def _import_packages() -> Any:
    try:
        import soundfile
        import soxr  # noqa: F401  # of satexport.audio.resample
    except (ImportError, OSError) as error:  # OSError: soundfile does not find its C library
        raise MissingError(f"reading audio files needs soundfile and soxr ({error}): "
                           "pip install 'satexport[audio]'") from error
    return soundfile


@contextmanager
def _open_seekable(path: Path, rate: int) -> Iterator[BinaryIO]:
    """Open a file, or a temporary copy of a pipe, which could not be read twice."""
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        kind = "socket" if stat.S_ISSOCK(mode) else "device"
        raise AudioError(f"{path}: is a {kind}; expected an audio file. Record from it into `run BUNDLE -`, "
                         f"which takes {rate} Hz mono 16-bit PCM.")
    with path.open("rb") as file:
        if stat.S_ISFIFO(mode):
            with _copy_pipe(path, file, rate) as copy:
                yield copy
        else:
            yield file


@contextmanager
def _copy_pipe(path: Path, pipe: BinaryIO, rate: int) -> Iterator[BinaryIO]:
    """Copy a pipe's content to a temporary file, which is deleted on exit."""
    try:
        copy = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError as error:
        raise RunError(f"{path}: is a pipe, and no temporary file can be created for it ({error}). "
                       "Set TMPDIR to a writable folder.") from None
    with copy:
        while content := pipe.read(1 << 20):
            if copy.tell() + len(content) > MAX_SPOOLED:
                raise AudioError(f"{path}: is a pipe with more than {MAX_SPOOLED >> 30} GiB; expected audio "
                                 f"of limited length. Write it to a file, or pipe {rate} Hz mono 16-bit PCM "
                                 "into `run BUNDLE -`.")
            try:
                copy.write(content)
                copy.flush()
            except OSError as error:
                raise RunError(f"{path}: is a pipe, and cannot be copied to {tempfile.gettempdir()} "
                               f"({error.strerror or error}). Free some space there, or set "
                               "TMPDIR.") from None
        yield copy


@contextmanager
def _open_sound(soundfile: Any, path: Path, file: BinaryIO, view: View) -> Iterator[Any]:
    """Open a view with soundfile, for reading forward only."""
    try:
        sound = soundfile.SoundFile(view)
    except soundfile.SoundFileError as error:
        if view.error:
            raise view.error from None
        file.seek(0)
        first = file.read(MPEG_BYTES)
        container = container_of(first)
        kind = f"it starts like {container}: " if container else "" if first else "it is empty: "
        hint = "" if container else " Pipe PCM without a header into `run BUNDLE -`."
        raise AudioError(f"{path}: cannot be read as audio ({kind}{_reason(error)}); expected wav, flac, ogg "
                         f"or mp3. Convert it first, for example with ffmpeg.{hint}") from None
    with sound:
        # otherwise SoundFile seeks after each read: to an end that is unknown in a stream, and back to
        # MP3 frames that depend on earlier ones
        sound.seekable = lambda: False
        yield sound


def _reason(error: Exception) -> str:
    """The message of libsndfile, without the file's name and the prefixes that it adds."""
    reason = str(getattr(error, "error_string", error)).strip().removeprefix("Error : ")
    return reason.removeprefix("Error in ").rstrip(".")


def _decode(soundfile: Any, path: Path, view: View, sound: Any, begin: int, seconds: float,
            tell: Callable[[str], None]) -> Iterator[NDArray[np.float32]]:
    """Yield the mean of the channels at the file's sample rate in blocks of `seconds`, then an empty
    block; the sound is at its frame `begin`."""
    size = max(1, min(round(seconds * sound.samplerate), MAX_FRAMES))
    buffer = np.empty((min(size, DECODED_FRAMES), sound.channels), np.float32)
    downmix, damage = _Downmix(sound.channels), None
    decoded, parts, waiting = begin, [], 0
    while damage is None:
        try:
            frames = sound.read(out=buffer[:sound.frames - decoded])
        except soundfile.SoundFileError as error:
            frames, damage = buffer[:0], error
        if view.error:
            raise view.error
        if not len(frames) and damage is None:
            break
        decoded, waiting = decoded + len(frames), waiting + len(frames)
        try:
            parts.append(downmix.mean(path, frames))
        except AudioError:
            if parts:
                yield np.concatenate(parts)
            raise
        if waiting >= size or damage:
            yield np.concatenate(parts)
            parts, waiting = [], 0
    if damage and decoded == begin:
        raise AudioError(f"{path}: cannot be read as audio ({_reason(damage)}); expected wav, flac, ogg or "
                         "mp3. Convert it first, for example with ffmpeg.")
    if damage:
        raise AudioError(f"{path}: cannot be read beyond {decoded / sound.samplerate:.1f} s "
                         f"({_reason(damage)}); the audio before that was used. The file is damaged or "
                         "truncated there: copy it again, or try to repair it with ffmpeg.")
    if parts:
        yield np.concatenate(parts)
    for sentence in (*_check_end(view, sound, decoded), *downmix.warnings()):
        tell(f"{path}: {sentence}.")
    yield np.empty(0, np.float32)


def _check_end(view: View, sound: Any, decoded: int) -> Iterator[str]:
    """Warnings about the end of a file whose length can be checked only after decoding it."""
    if sound.format == "FLAC" and decoded < sound.frames < MAX_LENGTH:
        yield f"its header announces {sound.frames} samples, but it contains {decoded}"
    if sound.format == "OGG" and ogg_is_cut(view.last(2 * OGG_PAGE)):
        yield (f"it stops before its end, after {decoded / sound.samplerate:.1f} s: it is truncated. The "
               "audio before that was used")
    if sound.format in ("FLAC", "OGG") and view.remaining >= MIN_TRAILING:
        yield (f"{view.remaining} bytes after the announced end are ignored. If they are audio, convert the "
               "file with ffmpeg")


class _Downmix:
    """Averages the channels, and detects channels that cancel each other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._frames, self._before, self._after = 0, 0.0, 0.0  # sums of squares over all frames

    def mean(self, path: Path, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean [n] of frames [n, channels]. Raises `AudioError` if it is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            mono: NDArray[np.float32] = (frames[:, 0].copy() if self._count == 1  # the buffer is used again
                                         else frames.mean(axis=1, dtype=np.float32))
        if not np.isfinite(mono).all():
            raise AudioError(f"{path}: contains NaN or infinity; expected finite samples in "
                             "[-1, 1]. Repair or omit this file.")
        if self._count > 1:
            self._frames += len(frames)
            self._before += float(np.square(frames, dtype=np.float64).sum()) / self._count
            self._after += float(np.square(mono, dtype=np.float64).sum())
        return mono

    def warnings(self) -> Iterator[str]:
        if (self._before > SILENT * self._frames
                and self._after * self._count < CANCELLED * self._before):
            lost = 10 * math.log10(self._before / max(self._after, 1e-30))
            yield (f"its {self._count} channels cancel each other: their mean, which the model receives, is "
                   f"{min(lost, 99):.0f} dB weaker than the channels. To use only the first: "
                   "ffmpeg -i IN -af 'pan=mono|c0=c0' OUT.wav")


def _check_peak(path: Path, block: NDArray[np.float32]) -> None:
    peak = float(np.abs(block).max())
    if peak > MAX_AMPLITUDE:
        scale = 2 ** math.ceil(math.log2(peak))
        raise AudioError(f"{path}: its samples reach {peak:g}; full scale is 1, and expected are at most "
                         f"{MAX_AMPLITUDE:g}. They are integers stored as floats, or recorded far too loud. "
                         f"Scale the file first: ffmpeg -i IN -af volume=1/{scale} OUT.wav")
