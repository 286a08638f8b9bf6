"""Audio in: files of any kind, or raw PCM from a pipe, as mono float32 in [-1, 1] at any sample rate."""

from __future__ import annotations

import itertools
import math
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from satexport.audio.containers import FIRST_BYTES, MPEG_BYTES, container_of, may_be_mpeg
from satexport.audio.lengths import LEAST_REST, View, true_view
from satexport.errors import AudioError, MissingError, RunError
from satexport.step import LOUDEST, PCM_SCALE
from satexport.terminal import note

PCM_BYTES = 2           # s16le: signed 16 bit, little endian
FRAMES = 4096           # that are decoded at once: what is lost before a damaged place is less
MOST_FRAMES = 1 << 20   # of a block, whatever the rate
MOST_SPOOLED = 1 << 30  # bytes of a pipe that are kept on disk
CANCELLED = 0.1         # of the power that channels which have nothing to do with each other leave
QUIETEST = 1e-8         # mean square; -80 dBFS
MORE_ENDINGS = {        # beside the formats' own names
    "WAV": (".wave", ".bwf"), "AIFF": (".aif", ".aifc"), "AU": (".snd",), "OGG": (".oga", ".opus"),
    "MP3": (".mp2", ".mpga"), "NIST": (".sph",), "IRCAM": (".sf",), "SVX": (".8svx", ".iff")}


def audio_endings() -> tuple[str, ...]:
    """How the names of files end that soundfile reads. Raises `MissingError` without it."""
    formats = _packages()[0].available_formats()
    endings = {f".{name.lower()}" for name in formats} | {
        ending for name, more in MORE_ENDINGS.items() if name in formats for ending in more}
    return tuple(sorted(endings - {".raw"}))  # which has no header


def read_audio(path: str | Path, rate: int, tell: Callable[[str], None] = note) -> NDArray[np.float32]:
    """The whole of an audio file at a sample rate in Hz, [samples]; otherwise as `audio_blocks`."""
    return np.concatenate(list(audio_blocks(path, rate, tell=tell)))


def audio_blocks(path: str | Path, rate: int, seconds: float = 10.0,
                 tell: Callable[[str], None] = note) -> Iterator[NDArray[np.float32]]:
    """Yield an audio file (wav, flac, ogg, mp3 and what else soundfile reads; any rate and channel count) in
    blocks of about `seconds`, so that its length does not matter. A named pipe is kept in a temporary file.

    A block is [samples] float32, at `rate` Hz, the mean of the channels. `tell` gets a sentence for what a
    user must know of a file that can be heard: a wrong length in its header, channels that cancel each other.
    Raises `AudioError` where the file is missing, no audio, damaged (what comes before is yielded), empty,
    too loud for a stream or holds NaN or infinity, `RunError` where the disk does not take a pipe, and
    `MissingError` without soundfile and soxr.
    """
    soundfile, soxr = _packages()
    path, given = Path(path), 0
    try:
        with _opened(path, rate) as file:
            view, says = true_view(file)
            for sentence in says:
                tell(f"{path}: {sentence}.")
            with _sound(soundfile, path, file, view) as sound:
                resampler = soxr.ResampleStream(sound.samplerate, rate, 1, "float32", "HQ")
                for mono in _decoded(soundfile, path, view, sound, seconds, tell):
                    last = not len(mono)
                    block = mono if sound.samplerate == rate else resampler.resample_chunk(mono, last)
                    given += len(block)
                    if len(block):
                        yield _not_too_loud(path, block)
    except FileNotFoundError:
        raise AudioError(
            f"{path}: no such file; expected an audio file (wav, flac, ogg, mp3).") from None
    except IsADirectoryError:
        raise AudioError(
            f"{path}: is a folder; expected one audio file. Name the files in it.") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror or error}); expected an audio file. "
                         "Check its disk and your right to read it.") from None
    if not given:
        raise AudioError(f"{path}: has no samples, or is too short for one at {rate} Hz; "
                         "expected audio. Record it again.")


def _packages() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # OSError: soundfile without its C library
        raise MissingError(f"reading audio files needs soundfile and soxr ({error}): "
                           "pip install 'satexport[audio]'") from error
    return soundfile, soxr


@contextmanager
def _opened(path: Path, rate: int) -> Iterator[BinaryIO]:
    """A file, or a copy of what a pipe holds, which cannot be gone through twice."""
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        what = "socket" if stat.S_ISSOCK(mode) else "device"
        raise AudioError(f"{path}: is a {what}; expected an audio file. Record from it into `run BUNDLE -`, "
                         f"which takes {rate} Hz mono 16-bit PCM.")
    with path.open("rb") as file:
        if stat.S_ISFIFO(mode):
            with _spooled(path, file, rate) as copy:
                yield copy
        else:
            yield file


@contextmanager
def _spooled(path: Path, pipe: BinaryIO, rate: int) -> Iterator[BinaryIO]:
    """A pipe's content as a temporary file, which is gone afterwards."""
    try:
        copy = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError as error:
        raise RunError(f"{path}: is a pipe, and no temporary file can be made for it ({error}). "
                       "Set TMPDIR to a folder that takes one.") from None
    with copy:
        while content := pipe.read(1 << 20):
            if copy.tell() + len(content) > MOST_SPOOLED:
                raise AudioError(f"{path}: is a pipe that holds more than {MOST_SPOOLED >> 30} GiB; expected "
                                 f"audio that ends. Write it to a file, or pipe {rate} Hz mono 16-bit PCM "
                                 "into `run BUNDLE -`.")
            try:
                copy.write(content)
                copy.flush()
            except OSError as error:
                raise RunError(f"{path}: is a pipe, and {tempfile.gettempdir()} does not take a copy of it "
                               f"({error.strerror or error}). Make room there, or set TMPDIR.") from None
        yield copy


@contextmanager
def _sound(soundfile: Any, path: Path, file: BinaryIO, view: View) -> Iterator[Any]:
    """The sound of a view, to be read forward only."""
    try:
        sound = soundfile.SoundFile(view)
    except soundfile.SoundFileError as error:
        if view.error:
            raise view.error from None
        file.seek(0)
        first = file.read(MPEG_BYTES)
        container = container_of(first)
        what = f"it begins like {container}: " if container else "" if first else "it is empty: "
        raise AudioError(f"{path}: cannot be read as audio ({what}{_reason(error)}); expected wav, flac, ogg "
                         "or mp3. Convert it first, for example with ffmpeg"
                         f"{'.' if container else '; PCM without a header is for `run BUNDLE -`.'}") from None
    with sound:
        # else SoundFile seeks after each read: to an end that a stream does not know, and back into
        # frames of an MP3 that build on those before
        sound.seekable = lambda: False
        yield sound


def _reason(error: Exception) -> str:
    """What libsndfile says, without the file's name and its own marks."""
    reason = str(getattr(error, "error_string", error)).strip().removeprefix("Error : ")
    return reason.removeprefix("Error in ").rstrip(".")


def _decoded(soundfile: Any, path: Path, view: View, sound: Any, seconds: float,
             tell: Callable[[str], None]) -> Iterator[NDArray[np.float32]]:
    """The mean of the channels at the file's own rate in blocks of `seconds`, an empty one at the end."""
    size = max(1, min(round(seconds * sound.samplerate), MOST_FRAMES))
    frames = np.empty((min(size, FRAMES), sound.channels), np.float32)
    channels, damage = _Channels(sound.channels), None
    heard, parts, waiting = 0, [], 0
    while damage is None:
        try:
            found = sound.read(out=frames[:sound.frames - heard])
        except soundfile.SoundFileError as error:
            found, damage = frames[:0], error
        if view.error:
            raise view.error
        if not len(found) and damage is None:
            break
        heard, waiting = heard + len(found), waiting + len(found)
        parts.append(channels.mean(path, found))
        if waiting >= size or damage:
            yield np.concatenate(parts)
            parts, waiting = [], 0
    if damage and not heard:
        raise AudioError(f"{path}: cannot be read as audio ({_reason(damage)}); expected wav, flac, ogg or "
                         "mp3. Convert it first, for example with ffmpeg.")
    if damage:
        raise AudioError(f"{path}: cannot be read on after {heard / sound.samplerate:.1f} s "
                         f"({_reason(damage)}); what comes before was heard. It is damaged or cut off there: "
                         "get it again, or see what ffmpeg makes of it.")
    if parts:
        yield np.concatenate(parts)
    for sentence in (*_end(view, sound, heard), *channels.says()):
        tell(f"{path}: {sentence}.")
    yield np.empty(0, np.float32)


def _end(view: View, sound: Any, heard: int) -> Iterator[str]:
    """What is wrong with the end of a file whose header could not be held against it beforehand."""
    if sound.format == "FLAC" and heard < sound.frames < 2**36:
        yield f"its header announces {sound.frames} samples, {heard} are there"
    if sound.format in ("FLAC", "OGG") and view.rest >= LEAST_REST:
        yield (f"{view.rest} bytes follow what its header announces; they are not heard. If they are sound, "
               "convert it with ffmpeg")


class _Channels:
    """The mean of the channels, and whether it holds what they hold."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._frames, self._before, self._after = 0, 0.0, 0.0  # sums of squares over all frames

    def mean(self, path: Path, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean [n] of frames [n, channels]. Raises `AudioError` where it is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            mono: NDArray[np.float32] = frames.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise AudioError(f"{path}: holds NaN or infinity; expected finite samples in "
                             "[-1, 1]. Repair or leave out this file.")
        if self._count > 1:
            self._frames += len(frames)
            self._before += float(np.square(frames, dtype=np.float64).sum()) / self._count
            self._after += float(np.square(mono, dtype=np.float64).sum())
        return mono

    def says(self) -> Iterator[str]:
        if (self._before > QUIETEST * self._frames
                and self._after * self._count < CANCELLED * self._before):
            lost = 10 * math.log10(self._before / max(self._after, 1e-30))
            yield (f"the mean of its {self._count} channels, which is what is heard, is {min(lost, 99):.0f} "
                   "dB weaker than they are: they cancel each other. To hear one alone: "
                   "ffmpeg -i IN -af 'pan=mono|c0=c0' OUT.wav")


def _not_too_loud(path: Path, block: NDArray[np.float32]) -> NDArray[np.float32]:
    peak = float(np.abs(block).max())
    if peak > LOUDEST:
        scale = 2 ** math.ceil(math.log2(peak))
        raise AudioError(f"{path}: its samples reach {peak:g}, where full scale is 1 and up to {LOUDEST:g} "
                         "is heard: they are integers written as floats, or recorded far too loud. Scale it "
                         f"first: ffmpeg -i IN -af volume=1/{scale} OUT.wav")
    return block


def pcm_blocks(stream: BinaryIO, rate: int, seconds: float = 0.5) -> Iterator[NDArray[np.float32]]:
    """Yield mono s16le PCM of `rate` Hz as [samples] float32 in [-1, 1), as soon as bytes arrive.

    A block holds at most `seconds` of audio, and less where a live pipe has less. Raises `AudioError` where
    a container begins in place of PCM, and at the end where no byte came or half a sample is left over.
    """
    expected = f"expected {rate} Hz mono 16-bit little-endian PCM (ffmpeg: -f s16le -ar {rate} -ac 1)."
    read = getattr(stream, "read1", stream.read)  # read1 returns what is there, without waiting
    size = max(1, round(seconds * rate)) * PCM_BYTES
    first = _first_bytes(read, size)
    if container := container_of(first):
        raise AudioError(f"standard input: begins like a file of the kind {container}; {expected} "
                         "A file that ends can be heard as it is: pass /dev/stdin in place of -.")
    begun = (first[begin:begin + size] for begin in range(0, len(first), size))
    total, rest = 0, b""
    for piece in itertools.chain(begun, iter(lambda: read(size), b"")):
        total += len(piece)
        data = rest + piece
        whole = len(data) // PCM_BYTES * PCM_BYTES
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], dtype="<i2")
            yield samples.astype(np.float32) / np.float32(PCM_SCALE)
    if not total:
        raise AudioError(f"standard input: no audio came; {expected}")
    if rest:
        raise AudioError(f"standard input: {total} bytes are no whole number "
                         f"of samples; {expected}")


def _first_bytes(read: Callable[[int], bytes], size: int) -> bytes:
    """What a stream gives first: no more than tells whether a container begins, where that comes slowly."""
    first = b""
    while (missing := (MPEG_BYTES if may_be_mpeg(first) else FIRST_BYTES) - len(first)) > 0:
        if not (data := read(max(missing, size - len(first)))):
            break
        first += data
    return first
