"""Containers of audio: which one some first bytes begin, and where the frames of an MPEG stream begin."""

from __future__ import annotations

from collections.abc import Callable

CONTAINERS = (  # place, bytes, name
    (8, b"WAVE", "WAV"), (8, b"AVI ", "AVI"), (0, b"riff\x2e\x91\xcf\x11", "W64"),
    (8, b"AIFF", "AIFF"), (8, b"AIFC", "AIFF"), (8, b"8SVX", "8SVX"), (8, b"16SV", "8SVX"),
    (0, b".snd\0\0", "AU"), (0, b"dns.", "AU"), (0, b"caff\0\1", "CAF"), (0, b"fLaC", "FLAC"),
    (0, b"OggS\0", "Ogg"), (4, b"ftyp", "MP4 (M4A)"), (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"), (0, b"#!AMR", "AMR"), (0, b"wvpk", "WavPack"),
    (0, b"MAC \x96\x0f", "Monkey's Audio"), (0, b"NIST_1A", "NIST Sphere"), (0, b"FLV\1", "FLV"),
    (0, b"Creative Voice", "VOC"), (0, b"MThd\0\0\0\6", "MIDI"), (0, b"DSD ", "DSF"), (0, b"FRM8", "DSDIFF"))
FORMS = {8: (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM")}  # what stands first where a name stands later
FIRST_BYTES = 16     # tell every container but an MPEG stream
MPEG_BYTES = 8192    # tell that, too: three frames of at most 2880 bytes

_LAYER_1, _LAYER_2, _LAYER_3 = 3, 2, 1  # as a header writes them
_KBITS = {  # by MPEG-1 or not and layer, ISO/IEC 11172-3 and 13818-3; index 0 (any rate) is not read
    (True, _LAYER_1): tuple(range(32, 449, 32)),
    (True, _LAYER_2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, _LAYER_3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, _LAYER_1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, _LAYER_2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, _LAYER_3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}
_RATES = (44_100, 48_000, 32_000)  # Hz, MPEG-1; half of it in MPEG-2, a quarter in MPEG-2.5


def container_of(first: bytes) -> str | None:
    """The name of the container that these bytes begin, or None. `FIRST_BYTES` of them tell all but an
    MPEG stream without a tag, which takes `MPEG_BYTES`."""
    for place, mark, name in CONTAINERS:
        if first[place:place + len(mark)] == mark and first[:4] in FORMS.get(place, (first[:4],)):
            return name
    if id3_length(first):
        return "MP3"
    if _frames_in_a_row(first, 0, mpeg_frame):
        return "MP3"
    return "AAC" if _frames_in_a_row(first, 0, _adts_frame) else None


def may_be_mpeg(first: bytes) -> bool:
    """Could an MPEG stream begin with these bytes? Then more of them tell."""
    return len(first) > 1 and first[0] == 0xFF and first[1] & 0xE0 == 0xE0


def id3_length(first: bytes) -> int:
    """Bytes of the ID3v2 tag that these bytes begin, 0 where they begin none."""
    if len(first) < 10 or first[:3] != b"ID3" or first[3] not in (2, 3, 4) or max(first[6:10]) > 0x7F:
        return 0
    footer = 10 if first[5] & 0x10 else 0
    return 10 + footer + sum(byte << shift for byte, shift in zip(first[6:10], (21, 14, 7, 0), strict=True))


def mpeg_start(content: bytes) -> int | None:
    """Where the first of three MPEG audio frames in a row begins, or None."""
    place = content.find(b"\xff")
    while place >= 0 and not _frames_in_a_row(content, place, mpeg_frame):
        place = content.find(b"\xff", place + 1)
    return place if place >= 0 else None


def mpeg_frame(content: bytes, place: int) -> int:
    """Bytes of the MPEG audio frame whose header stands at a place, 0 where none does."""
    header = content[place:place + 4]
    if len(header) < 4 or not may_be_mpeg(header):
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3  # version: 3 is 1, 2 is 2, 0 is 2.5
    kbits, rate, pad = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 0 or kbits in (0, 15) or rate == 3:
        return 0
    bits = 1000 * _KBITS[version == 3, layer][kbits - 1]
    hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == _LAYER_1:
        return (12 * bits // hertz + pad) * 4
    return (72 if layer == _LAYER_3 and version != 3 else 144) * bits // hertz + pad


def _adts_frame(content: bytes, place: int) -> int:
    """Bytes of the AAC frame whose ADTS header stands at a place, 0 where none does."""
    header = content[place:place + 7]
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def _frames_in_a_row(content: bytes, place: int, frame: Callable[[bytes, int], int]) -> bool:
    """Do three frames follow each other from a place on?"""
    for _ in range(3):
        if not (length := frame(content, place)):
            return False
        place += length
    return True
