"""What a file's header says of its length, held against the file.

A header is written before the length is known where a pipe, a recorder that is cut off or a file beyond 4 GiB
is written, and libsndfile believes it. So libsndfile is shown a `View` of the file in which the length is
that of the samples that are there, and what was wrong is said.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from satexport.audio.containers import container_of, id3_length, mpeg_frame, mpeg_start

UNKNOWN_LENGTH = 1 << 40  # bytes; longer than any file
ID3V1 = 128               # bytes; libmpg123 looks for this tag at the end of a file
SEARCHED = 1 << 16        # bytes in which an MPEG stream must begin
LEAST_REST = 4096         # bytes behind the samples that are worth a word; less is padding or a tag
MOST_HEAD = 1 << 26       # bytes before the samples that are kept in memory
MOST_CHUNKS = 1000


class View:
    """A file as libsndfile reads it: `head` in place of its first `skip` bytes, and a length of its own.

    soundfile reads through callbacks, in which an exception would be printed and lost: it waits in `error`.
    """

    def __init__(self, file: BinaryIO, total: int, head: bytes = b"", skip: int = 0,
                 length: int | None = None) -> None:
        self._file, self._head, self._skip = file, head, skip
        self._there = len(head) + total - skip
        self._length = self._there if length is None else length
        self._place = 0
        self.error: BaseException | None = None

    @property
    def rest(self) -> int:
        """Bytes behind what was read."""
        return self._there - self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, (0, self._place, self._length)[whence] + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        try:
            content = self._read(len(buffer))
        except BaseException as error:  # an interrupt, too
            self.error = error
            return 0
        buffer[:len(content)] = content
        self._place += len(content)
        return len(content)

    def _read(self, count: int) -> bytes:
        if self._place >= self._there:  # the tag that libmpg123 looks for is not there
            return bytes(min(count, ID3V1)) if self._place == self._length - ID3V1 else b""
        begin = self._head[self._place:self._place + count]
        self._file.seek(self._skip + max(0, self._place - len(self._head)))
        return begin + self._file.read(count - len(begin))


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a container of chunks is written."""

    first: int       # where its first chunk begins
    name: int        # bytes of a chunk's name
    size: str        # struct's format of the size behind it
    own: int         # bytes of name and size that this size counts
    align: int       # chunks begin at multiples of it
    sound: bytes     # begins the name of the chunk that holds the samples
    inner: int = 0   # bytes in that chunk before them

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
class _Sound:
    """Where a header says how many bytes its samples take."""

    begin: int                     # of the samples
    place: int                     # of the size
    size: str                      # struct's format of it
    more: int                      # bytes that it counts beside the samples
    announced: int                 # bytes of samples
    layout: _Layout | None = None
    form: bytes = b""              # the chunk `fmt `, without name and size

    @property
    def largest(self) -> int:
        return int(2 ** (8 * struct.calcsize(self.size)) - 1)

    @property
    def is_unknown(self) -> bool:
        """Does the number stand for one that was not known? Writers into pipes take the largest, with or
        without a sign, some rounded down or less the header."""
        return self.announced >= self.largest // 2 - 0x10000


def true_view(file: BinaryIO) -> tuple[View, list[str]]:
    """The view of an opened file whose length is that of the samples that are there, and a sentence for
    what its header had wrong. Raises `OSError`."""
    total = file.seek(0, 2)
    file.seek(0)
    first = file.read(64)
    container = container_of(first)
    if container in (None, "MP3"):
        return _view_of_mpeg(file, total, id3_length(first))
    sound = _find_sound(file, total, first) if container in ("WAV", "W64", "AIFF", "CAF", "AU") else None
    if sound is None or not 0 < sound.begin < min(total, MOST_HEAD):
        return View(file, total), []
    return _view_of_chunks(file, total, sound)


def _view_of_chunks(file: BinaryIO, total: int, sound: _Sound) -> tuple[View, list[str]]:
    there = total - sound.begin
    rest, says = there - sound.announced, []
    end = sound.begin + max(0, sound.announced)
    overflowed = bool(sound.form) and rest >= 2**32 and rest % 2**32 < 2
    is_little = sound.announced > 0 and rest < LEAST_REST
    if rest >= 0 and not overflowed and (is_little or _is_no_sound(file, sound, end, total)):
        return View(file, total), []
    if sound.announced <= 0:
        says = [f"its header counts no sound, as where a recorder was cut off; the {there} bytes that follow "
                "are heard"]
    elif sound.is_unknown:
        pass
    elif rest < 0:
        says = [f"its header announces {sound.announced} bytes of sound, {there} are there; it is cut off"]
    elif overflowed:
        says = [f"its header cannot count its {there} bytes of sound (4 GiB and more); all are heard"]
    else:
        return View(file, end), [f"{rest} bytes follow that its header does not count; they are not heard. "
                                 "If they are sound of a WAV: ffmpeg -ignore_length 1 -i IN OUT.wav"]
    file.seek(0)
    head = bytearray(file.read(sound.begin))
    if sound.form and there > sound.largest:
        head = bytearray(_rf64_head(sound.form, there))
    else:
        struct.pack_into(sound.size, head, sound.place, min(there + sound.more, sound.largest))
    return View(file, total, bytes(head), sound.begin), says


def _find_sound(file: BinaryIO, total: int, first: bytes) -> _Sound | None:
    """Walk a container's chunks to the one that holds the samples; None where it is not found."""
    if first[:4] in (b".snd", b"dns."):  # AU
        size = ">I" if first[:1] == b"." else "<I"
        begin, announced = struct.unpack(size + "I", first[4:12].ljust(8, b"\0"))
        return _Sound(begin=begin, place=8, size=size, more=0, announced=announced)
    layout = _LAYOUTS.get(first[:4])
    if layout is None:
        return None
    place, form, ds64 = layout.first, b"", 0
    for _ in range(MOST_CHUNKS):
        if place + layout.header > total:
            return None
        file.seek(place)
        header = file.read(layout.header)
        (size,) = struct.unpack(layout.size, header[layout.name:])
        begin = place + layout.header
        if header.startswith(layout.sound):
            more = layout.own + layout.inner
            if ds64 and ds64 + 16 <= place:  # RF64: the size stands there
                file.seek(ds64 + 8)
                (size,) = struct.unpack("<Q", file.read(8))
                return _Sound(begin=begin, place=ds64 + 8, size="<Q", more=0, announced=size, layout=layout)
            return _Sound(begin=begin + layout.inner, place=place + layout.name, size=layout.size, more=more,
                          announced=size - more, layout=layout, form=form)
        if header.startswith(b"ds64"):
            ds64 = begin
        if header.startswith(b"fmt ") and layout.size == "<I":
            form = file.read(min(size, 1024))
        place = begin + max(0, size - layout.own)
        place += -place % layout.align
    return None


def _is_no_sound(file: BinaryIO, sound: _Sound, place: int, total: int) -> bool:
    """Are there only chunks from a place on, or nothing, or zeros?"""
    file.seek(place)
    if not any(file.read(SEARCHED)):
        return True
    layout = sound.layout
    if layout is None:
        return False
    return any(_are_chunks(file, layout, begin, total) for begin in {place, place + -place % layout.align})


def _are_chunks(file: BinaryIO, layout: _Layout, place: int, total: int) -> bool:
    for _ in range(MOST_CHUNKS):
        file.seek(place)
        header = file.read(layout.header)
        if len(header) < layout.header:
            return not any(header)
        if header[:4] in _LAYOUTS or not all(32 <= byte < 127 for byte in header[:4]):
            return False  # another file behind this one, or no name
        (size,) = struct.unpack(layout.size, header[layout.name:])
        place += layout.header + max(0, size - layout.own)
        if place > total:
            return False
        place += -place % layout.align
    return False


def _rf64_head(form: bytes, there: int) -> bytes:
    """The head of a RIFF file as RF64 (EBU Tech 3306), whose sizes have 64 bits."""
    chunks = struct.pack("<4sIQQQI", b"ds64", 28, there + 72 + len(form), there, 0, 0)
    chunks += struct.pack("<4sI", b"fmt ", len(form)) + form + bytes(len(form) % 2)
    return b"RF64\xff\xff\xff\xffWAVE" + chunks + b"data\xff\xff\xff\xff"


def _view_of_mpeg(file: BinaryIO, total: int, tag: int) -> tuple[View, list[str]]:
    """MPEG audio from its first whole frame to its last. libmpg123 takes the length from a Xing header;
    without one it guesses by the size of the first frame, and would stop there if the file did not seem
    endless."""
    file.seek(tag)
    content = file.read(SEARCHED)
    start = mpeg_start(content)
    if start is None:
        return View(file, total), []
    begin, end = tag + start, _end_of_mpeg(file, total)
    frame = content[start:start + mpeg_frame(content, start)]
    mark = max(frame.find(b"Xing", 4, 48), frame.find(b"Info", 4, 48))
    if mark < 0:
        return View(file, end, skip=begin, length=UNKNOWN_LENGTH), []
    there = end - begin
    flags, count, size = struct.unpack(">III", frame[mark + 4:mark + 16].ljust(12, b"\0"))
    announced = (size if flags & 1 else count) if flags & 2 else there
    is_wrong = abs(announced - there) > 0.01 * there  # as libmpg123 sees it
    if flags & 1 and not is_wrong:
        return View(file, end, skip=begin), []
    says = [f"its header announces {announced} bytes, {there} are there; "
            f"{'it is cut off' if announced > there else 'all are heard'}"] if is_wrong else []
    return View(file, end, skip=begin + len(frame), length=UNKNOWN_LENGTH), says


def _end_of_mpeg(file: BinaryIO, total: int) -> int:
    """Where the last whole frame ends: before tags, and before a frame that is cut off."""
    begin = max(0, total - SEARCHED)
    file.seek(begin)
    content, end = file.read(SEARCHED), None
    while (start := mpeg_start(content[end or 0:])) is not None:  # again behind what is damaged
        end = (end or 0) + start
        while (length := mpeg_frame(content, end)) and end + length <= len(content):
            end += length
    return total if end is None else begin + end
