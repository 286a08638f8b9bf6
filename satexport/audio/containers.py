"""Audio containers: identify one by its first bytes, and find the frames of an MPEG stream."""

from __future__ import annotations

from collections.abc import Callable

CONTAINERS = (  # offset, magic bytes, name
    (8, b"WAVE", "WAV"), (8, b"AVI ", "AVI"), (0, b"riff\x2e\x91\xcf\x11", "W64"),
    (8, b"AIFF", "AIFF"), (8, b"AIFC", "AIFF"), (8, b"8SVX", "8SVX"), (8, b"16SV", "8SVX"),
    (0, b".snd\0\0", "AU"), (0, b"dns.", "AU"), (0, b"caff\0\1", "CAF"), (0, b"fLaC", "FLAC"),
    (0, b"OggS\0", "Ogg"), (4, b"ftyp", "MP4 (M4A)"), (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"), (0, b"#!AMR", "AMR"), (0, b"wvpk", "WavPack"),
    (0, b"MAC \x96\x0f", "Monkey's Audio"), (0, b"NIST_1A", "NIST Sphere"), (0, b"FLV\1", "FLV"),
    (0, b"Creative Voice", "VOC"), (0, b"MThd\0\0\0\6", "MIDI"), (0, b"DSD ", "DSF"), (0, b"FRM8", "DSDIFF"))
FORMS = {8: (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM")}  # for magic bytes at offset 8: first bytes
FIRST_BYTES = 16     # enough to identify every container except an MPEG stream without a tag
OGG_PAGE = 27 + 255 + 255 * 255  # largest size of a page of Ogg, bytes
MPEG_BYTES = 8192    # enough for that too: three frames of at most 2880 bytes

_LAYER_1, _LAYER_2, _LAYER_3 = 3, 2, 1  # their codes in a frame header
_KBITS = {  # (is MPEG-1, layer) -> bit rates, ISO/IEC 11172-3 and 13818-3; index 0 (free format) is not read
    (True, _LAYER_1): tuple(range(32, 449, 32)),
    (True, _LAYER_2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, _LAYER_3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, _LAYER_1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, _LAYER_2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, _LAYER_3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}
_RATES = (44_100, 48_000, 32_000)  # Hz in MPEG-1; half of that in MPEG-2, a quarter in MPEG-2.5


def container_of(first: bytes) -> str | None:
    """The name of the container that starts with these bytes, or None. `FIRST_BYTES` bytes identify all
    containers except an MPEG stream without a tag, which needs `MPEG_BYTES`."""
    for offset, magic, name in CONTAINERS:
        if first[offset:offset + len(magic)] == magic and first[:4] in FORMS.get(offset, (first[:4],)):
            return name
    if id3_length(first):
        return "MP3"
    if _has_three_frames(first, 0, mpeg_frame):
        return "MP3"
    return "AAC" if _has_three_frames(first, 0, _adts_frame) else None


def may_be_mpeg(first: bytes) -> bool:
    """Whether these bytes could start an MPEG stream, so that `container_of` needs `MPEG_BYTES`."""
    return len(first) > 1 and first[0] == 0xFF and first[1] & 0xE0 == 0xE0


def id3_length(first: bytes) -> int:
    """Size in bytes of the ID3v2 tag that starts here, or 0 if none does."""
    if len(first) < 10 or first[:3] != b"ID3" or first[3] not in (2, 3, 4) or max(first[6:10]) > 0x7F:
        return 0
    footer = 10 if first[5] & 0x10 else 0
    return 10 + footer + sum(byte << shift for byte, shift in zip(first[6:10], (21, 14, 7, 0), strict=True))


def mpeg_start(content: bytes) -> int | None:
    """Offset of the first of three consecutive MPEG audio frames, or None."""
    offset = content.find(b"\xff")
    while offset >= 0 and not _has_three_frames(content, offset, mpeg_frame):
        offset = content.find(b"\xff", offset + 1)
    return offset if offset >= 0 else None


def mpeg_frame(content: bytes, offset: int) -> int:
    """Size in bytes of the MPEG audio frame whose header is at this offset, or 0 if none is."""
    header = content[offset:offset + 4]
    if len(header) < 4 or not may_be_mpeg(header):
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3  # version code 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    kbits, rate, pad = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 0 or kbits in (0, 15) or rate == 3:
        return 0
    bits = 1000 * _KBITS[version == 3, layer][kbits - 1]
    hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == _LAYER_1:
        return (12 * bits // hertz + pad) * 4
    return (72 if layer == _LAYER_3 and version != 3 else 144) * bits // hertz + pad


def ogg_is_cut(end: bytes) -> bool:
    """Whether an Ogg stream stops before its end, given its last OGG_PAGE bytes or more: the last page is not
    marked as the last one of the stream (RFC 3533, section 6), or is incomplete."""
    page = end.rfind(b"OggS\0")
    if page < 0:  # other content follows the stream
        return False
    if len(end) < page + 27:
        return True
    lengths = end[page + 27:page + 27 + end[page + 26]]
    return not end[page + 5] & 4 or len(end) < page + 27 + end[page + 26] + sum(lengths)


def _adts_frame(content: bytes, offset: int) -> int:
    """Size in bytes of the AAC frame whose ADTS header is at this offset, or 0 if none is."""
    header = content[offset:offset + 7]
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def _has_three_frames(content: bytes, offset: int, frame: Callable[[bytes, int], int]) -> bool:
    """Whether three frames follow each other from this offset; `frame` gives the size of one."""
    for _ in range(3):
        if not (size := frame(content, offset)):
            return False
        offset += size
    return True
