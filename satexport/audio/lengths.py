"""Check the length in a file's header against the file, and correct it.

The length in a header is wrong if it was written before the length was known (to a pipe, or by a recorder
that was interrupted) or if the file exceeds 4 GiB, and libsndfile trusts it. So libsndfile gets a `View` of
the file, in which the length matches the samples that exist, and the user gets a warning.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from satexport.audio.containers import container_of, id3_length, mpeg_frame, mpeg_start

UNKNOWN_LENGTH = 1 << 40  # bytes; longer than any file
ID3V1 = 128               # bytes; libmpg123 looks for this tag at the end of a file
SEARCHED = 1 << 16        # bytes that are searched for the first MPEG frame, and for the last
MIN_TRAILING = 4096       # bytes after the samples that cause a warning; fewer are padding or a tag
MAX_HEADER = 1 << 26      # bytes before the samples that are kept in memory
MAX_CHUNKS = 1000


class View:
    """A file as libsndfile sees it: `header` replaces its first `skip` bytes, and `length` its length.

    soundfile reads it through callbacks, which would print an exception and drop it: it is kept in `error`.
    """

    def __init__(self, file: BinaryIO, total: int, header: bytes = b"", skip: int = 0,
                 length: int | None = None) -> None:
        self._file, self._header, self._skip = file, header, skip
        self._available = len(header) + total - skip
        self._length = self._available if length is None else length
        self._offset = 0
        self.error: BaseException | None = None

    @property
    def remaining(self) -> int:
        """Bytes after the current offset."""
        return self._available - self._offset

    def last(self, count: int) -> bytes:
        """The last bytes of the file, at most `count`."""
        self._file.seek(max(0, self._available + self._skip - len(self._header) - count))
        return self._file.read()

    def seek(self, offset: int, whence: int = 0) -> int:
        self._offset = max(0, (0, self._offset, self._length)[whence] + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def readinto(self, buffer: memoryview) -> int:
        try:
            content = self._read(len(buffer))
        except BaseException as error:  # a KeyboardInterrupt too
            self.error = error
            return 0
        buffer[:len(content)] = content
        self._offset += len(content)
        return len(content)

    def _read(self, count: int) -> bytes:
        if self._offset >= self._available:  # libmpg123 looks for an ID3v1 tag at the end: give it zeros
            return bytes(min(count, ID3V1)) if self._offset == self._length - ID3V1 else b""
        begin = self._header[self._offset:self._offset + count]
        self._file.seek(self._skip + max(0, self._offset - len(self._header)))
        return begin + self._file.read(count - len(begin))


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a container stores its chunks."""

    first: int          # offset of the first chunk
    name: int           # bytes of a chunk's name
    size: str           # struct format of the chunk size, which follows the name
    own: int            # bytes of name and size that the chunk size includes
    align: int          # chunks start at multiples of this
    sound: bytes        # prefix of the name of the chunk with the samples
    inner: int = 0      # bytes in that chunk before the samples

    @property
    def header(self) -> int:
        return self.name + struct.calcsize(self.size)


_LAYOUTS = {
    b"RIFF": _Layout(first=12, name=4, size="<I", own=0, align=2, sound=b"data"),
    b"RF64": _Layout(first=12, name=4, size="<I", own=0, align=2, sound=b"data"),
    b"RIFX": _Layout(first=12, name=4, size=">I", own=0, align=2, sound=b"data"),
    b"FORM": _Layout(first=12, name=4, size=">I", own=0, align=2, sound=b"SSND", inner=8),
    b"riff": _Layout(first=40, name=16, size="<Q", own=24, align=8, sound=b"data"),
    b"caff": _Layout(first=8, name=4, size=">Q", own=0, align=1, sound=b"data", inner=4)}


@dataclass(frozen=True, kw_only=True)
class _SoundChunk:
    """Where the samples are, and the field of the header that announces their size."""

    begin: int                     # offset of the samples
    field: int                     # offset of the size field
    size: str                      # struct format of the size field
    extra: int                     # bytes that the size field includes in addition to the samples
    announced: int                 # bytes of samples
    layout: _Layout | None = None
    fmt: bytes = b""               # content of the chunk `fmt `

    @property
    def largest(self) -> int:
        return int(2 ** (8 * struct.calcsize(self.size)) - 1)

    @property
    def is_unknown(self) -> bool:
        """Whether the size is a placeholder. Programs that write to a pipe use the largest signed or unsigned
        value, sometimes rounded down or reduced by the size of the header."""
        return self.announced >= self.largest // 2 - 0x10000


def correct_length(file: BinaryIO) -> tuple[View, list[str]]:
    """A view of an open file with the true length of its samples, and a sentence for each error in its
    header. Raises `OSError`."""
    total = file.seek(0, 2)
    file.seek(0)
    first = file.read(64)
    container = container_of(first)
    if container in (None, "MP3"):
        return _view_mpeg(file, total, id3_length(first))
    sound = _find_sound(file, total, first) if container in ("WAV", "W64", "AIFF", "CAF", "AU") else None
    if sound is None or not 0 < sound.begin < min(total, MAX_HEADER):
        return View(file, total), []
    return _view_chunks(file, total, sound)


def _view_chunks(file: BinaryIO, total: int, sound: _SoundChunk) -> tuple[View, list[str]]:
    available = total - sound.begin
    trailing, warnings = available - sound.announced, []
    end = sound.begin + max(0, sound.announced)
    overflowed = bool(sound.fmt) and trailing >= 2**32 and trailing % 2**32 < 2
    is_padding = sound.announced > 0 and trailing < MIN_TRAILING
    if trailing >= 0 and not overflowed and (is_padding or _has_no_sound(file, sound, end, total)):
        return View(file, total), []
    if sound.announced <= 0:
        warnings = [f"its header announces no audio, as after an interrupted recording; the {available} "
                    "bytes after the header are used"]
    elif sound.is_unknown:
        pass
    elif trailing < 0:
        warnings = [f"its header announces {sound.announced} bytes of audio, but it contains {available}; it "
                    "is truncated"]
    elif overflowed:
        warnings = [f"its header cannot represent its {available} bytes of audio (over 4 GiB); all are used"]
    else:
        return View(file, end), [f"{trailing} bytes after the announced end are ignored. If they are audio "
                                 "of a WAV: ffmpeg -ignore_length 1 -i IN OUT.wav"]
    file.seek(0)
    header = bytearray(file.read(sound.begin))
    if sound.fmt and available > sound.largest:
        header = bytearray(_rf64_header(sound.fmt, available))
    else:
        struct.pack_into(sound.size, header, sound.field, min(available + sound.extra, sound.largest))
    return View(file, total, bytes(header), sound.begin), warnings


def _find_sound(file: BinaryIO, total: int, first: bytes) -> _SoundChunk | None:
    """Walk a container's chunks to the one with the samples; None if there is none."""
    if first[:4] in (b".snd", b"dns."):  # AU
        size = ">I" if first[:1] == b"." else "<I"
        begin, announced = struct.unpack(size + "I", first[4:12].ljust(8, b"\0"))
        return _SoundChunk(begin=begin, field=8, size=size, extra=0, announced=announced)
    layout = _LAYOUTS.get(first[:4])
    if layout is None:
        return None
    offset, fmt, ds64 = layout.first, b"", 0
    for _ in range(MAX_CHUNKS):
        if offset + layout.header > total:
            return None
        file.seek(offset)
        header = file.read(layout.header)
        (size,) = struct.unpack(layout.size, header[layout.name:])
        begin = offset + layout.header
        if header.startswith(layout.sound):
            extra = layout.own + layout.inner
            if ds64 and ds64 + 16 <= offset:  # RF64: the size is in the chunk `ds64`
                file.seek(ds64 + 8)
                (size,) = struct.unpack("<Q", file.read(8))
                return _SoundChunk(begin=begin, field=ds64 + 8, size="<Q", extra=0, announced=size,
                                   layout=layout)
            return _SoundChunk(begin=begin + layout.inner, field=offset + layout.name, size=layout.size,
                               extra=extra, announced=size - extra, layout=layout, fmt=fmt)
        if header.startswith(b"ds64"):
            ds64 = begin
        if header.startswith(b"fmt ") and layout.size == "<I":
            fmt = file.read(min(size, 1024))
        offset = begin + max(0, size - layout.own)
        offset += -offset % layout.align
    return None


def _has_no_sound(file: BinaryIO, sound: _SoundChunk, offset: int, total: int) -> bool:
    """Whether there is nothing from this offset on but zeros or further chunks."""
    file.seek(offset)
    if not any(file.read(SEARCHED)):
        return True
    layout = sound.layout
    if layout is None:
        return False
    return any(_are_chunks(file, layout, begin, total) for begin in {offset, offset + -offset % layout.align})


def _are_chunks(file: BinaryIO, layout: _Layout, offset: int, total: int) -> bool:
    for _ in range(MAX_CHUNKS):
        file.seek(offset)
        header = file.read(layout.header)
        if len(header) < layout.header:
            return not any(header)
        if header[:4] in _LAYOUTS or not all(32 <= byte < 127 for byte in header[:4]):
            return False  # an appended file, or not the name of a chunk
        (size,) = struct.unpack(layout.size, header[layout.name:])
        offset += layout.header + max(0, size - layout.own)
        if offset > total:
            return False
        offset += -offset % layout.align
    return False


def _rf64_header(fmt: bytes, size: int) -> bytes:
    """The header of an RF64 file (EBU Tech 3306), the RIFF variant with 64-bit sizes, for `size` bytes of
    samples."""
    chunks = struct.pack("<4sIQQQI", b"ds64", 28, size + 72 + len(fmt), size, 0, 0)
    chunks += struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + bytes(len(fmt) % 2)
    return b"RF64\xff\xff\xff\xffWAVE" + chunks + b"data\xff\xff\xff\xff"


def _view_mpeg(file: BinaryIO, total: int, tag: int) -> tuple[View, list[str]]:
    """A view of MPEG audio from its first whole frame to its last; `tag` is the size of the ID3v2 tag.
    libmpg123 takes the length from a Xing header. Without one it estimates the length from the first frame
    and would stop there, unless the file seems endless."""
    file.seek(tag)
    content = file.read(SEARCHED)
    start = mpeg_start(content)
    if start is None:
        return View(file, total), []
    begin, end = tag + start, _find_mpeg_end(file, total)
    frame = content[start:start + mpeg_frame(content, start)]
    xing = max(frame.find(b"Xing", 4, 48), frame.find(b"Info", 4, 48))
    if xing < 0:
        return View(file, end, skip=begin, length=UNKNOWN_LENGTH), []
    available = end - begin
    flags, count, size = struct.unpack(">III", frame[xing + 4:xing + 16].ljust(12, b"\0"))
    announced = (size if flags & 1 else count) if flags & 2 else available
    is_wrong = abs(announced - available) > 0.01 * available  # the tolerance of libmpg123
    if flags & 1 and not is_wrong:
        return View(file, end, skip=begin), []
    warnings = [f"its header announces {announced} bytes, but it contains {available}; "
                f"{'it is truncated' if announced > available else 'all are used'}"] if is_wrong else []
    return View(file, end, skip=begin + len(frame), length=UNKNOWN_LENGTH), warnings


def _find_mpeg_end(file: BinaryIO, total: int) -> int:
    """Offset at which the last whole frame ends: before tags, and before a truncated frame."""
    begin = max(0, total - SEARCHED)
    file.seek(begin)
    content, end = file.read(SEARCHED), None
    while (start := mpeg_start(content[end or 0:])) is not None:  # continue after damaged frames
        end = (end or 0) + start
        while (length := mpeg_frame(content, end)) and end + length <= len(content):
            end += length
    return total if end is None else begin + end
