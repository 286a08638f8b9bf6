"""Containers of compressed audio without the audio."""

from __future__ import annotations

import struct


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + name + body


def mp4(rate: int, config: bytes, wide: bool = False) -> bytes:
    """An MP4 file with an entry of AAC and no audio; `moov` lies at the end, behind 300 kB."""
    def descriptor(tag: int, content: bytes) -> bytes:
        return bytes([tag]) + (b"\x80\x80\x80" if wide else b"") + bytes([len(content)]) + content

    decoder = descriptor(4, bytes(13) + descriptor(5, config))
    esds = box(b"esds", bytes(4), descriptor(3, bytes(3) + decoder))
    entry = box(b"mp4a", bytes(24), struct.pack(">I", rate << 16), esds)
    return box(b"ftyp", b"M4A ") + box(b"mdat", bytes(300_000)) + box(b"moov", box(b"stsd", bytes(8), entry))


def adts(rate_index: int) -> bytes:
    frame = bytes([0xFF, 0xF1, 0x40 | rate_index << 2, 0x80, 0x01, 0x80, 0xFC]) + bytes(5)  # 12 bytes
    return frame * 3
