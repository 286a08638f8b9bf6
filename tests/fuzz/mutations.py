"""Mutations of valid files. Each takes a random generator and returns new content."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

LENGTHS = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1,
)
WORDS = (
    "", " ", "\t", "\0", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u202etxt.exe", "\u2028", "\x85",
    "\x0c", "\ufeff", "é", "日本", "🐕", "a" * 100_000, '"', "'", '""', ",", ";", ",,,,", "\r", "\n", "\r\n",
    "#", "[", "[" * 5_000, "{" * 5_000, "]", "=", "= =", "nan", "inf", "-inf", "1e999", "-1", "0", "1.5",
    "9" * 5_000, "0x10", "true", "null", "1979-05-27T07:32:00", "../../../outside", "/dev/zero",
    "/etc/passwd", "C:\\x", "~", "$(touch canary)", "%s%n", "[red]x[/red]", "[/]", "{0}", "\\u0000", "\\x",
    "\ud800",
)


class Canary:
    """An object that writes a file when unpickled, to detect that code from a file was executed."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch canary",)


def change_bytes(random: Random, content: bytes) -> bytes:
    """Some edits of bytes, more often near the start, where formats store lengths."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        random.choice(_EDITS)(random, changed)
    return bytes(changed)


def _place(random: Random, content: bytearray) -> int:
    return random.randrange(min(len(content), random.choice((16, 64, 512, 1 << 40))) or 1)


def _flip(random: Random, content: bytearray) -> None:
    if content:
        content[_place(random, content)] ^= 1 << random.randrange(8)


def _write_length(random: Random, content: bytearray) -> None:
    value, order = random.choice(LENGTHS), random.choice("<>")
    place, size = _place(random, content), random.choice("BHIQ")
    field = struct.pack(f"{order}{size}", value & ((1 << 8 * struct.calcsize(size)) - 1))
    content[place : place + len(field)] = field


def _truncate(random: Random, content: bytearray) -> None:
    del content[random.choice((0, _place(random, content), random.randrange(len(content) + 1))) :]


def _remove(random: Random, content: bytearray) -> None:
    place = _place(random, content)
    del content[place : place + random.choice((1, 2, 4, 100, 10_000))]


def _insert(random: Random, content: bytearray) -> None:
    place = random.choice((0, _place(random, content), len(content)))
    content[place:place] = random.randbytes(random.choice((1, 2, 4, 100, 10_000)))


def _repeat(random: Random, content: bytearray) -> None:
    place = _place(random, content)
    content[place:place] = content[place : place + random.choice((4, 100, 10_000))]


def _blank(random: Random, content: bytearray) -> None:
    place, size = _place(random, content), random.choice((1, 4, 100, 10_000))
    content[place : place + size] = bytes([random.choice((0, 255))]) * len(content[place : place + size])


_EDITS = (_flip, _flip, _write_length, _write_length, _truncate, _remove, _insert, _repeat, _blank)


def change_text(random: Random, content: bytes) -> bytes:
    """Edits of lines and words, sometimes of the encoding or the bytes."""
    lines = content.decode("utf-8", "replace").split("\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice((_change_line, _change_line, _drop_line, _repeat_line, _swap_lines))(random, lines)
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    kind = random.randrange(12)
    if kind == 0:
        return change_bytes(random, text)
    if kind == 1:
        return text.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-8-sig", "utf-32")))
    return text


def _change_line(random: Random, lines: list[str]) -> None:
    number, word = random.randrange(len(lines)), random.choice(WORDS)
    line = lines[number]
    key, separator, _ = line.partition("=")
    if separator and random.random() < 0.6:  # of a TOML
        lines[number] = f"{key}= {random.choice((word, json.dumps(word), '[]', '{}', '[1, [2]]', '[1.5]'))}"
        return
    cells = line.split(random.choice(',;" '))
    place = random.randrange(len(cells))
    cells[place] = random.choice((word, cells[place] + word, word + cells[place]))
    lines[number] = random.choice(',;" ').join(cells)


def _drop_line(random: Random, lines: list[str]) -> None:
    del lines[random.randrange(len(lines))]
    if not lines:
        lines.append("")


def _repeat_line(random: Random, lines: list[str]) -> None:
    lines.extend([random.choice(lines)] * random.choice((1, 1, 1000)))


def _swap_lines(random: Random, lines: list[str]) -> None:
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


def change_json(random: Random, content: bytes) -> bytes:
    """Another value, key or depth somewhere in a JSON document; sometimes edits of its text."""
    if random.random() < 0.2:
        return change_text(random, content)
    document = json.loads(content)
    for _ in range(random.choice((1, 1, 2))):
        _change_node(random, document)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _change_node(random: Random, document: Any) -> None:
    node = document
    while True:
        keys: Sequence[Any] = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            return
        key = random.choice(keys)
        if not isinstance(node[key], dict | list) or not node[key] or random.random() < 0.3:
            break
        node = node[key]
    choice = random.randrange(5)
    if choice == 0:
        del node[key]
    elif choice == 1 and isinstance(node, dict):
        node[random.choice(WORDS)] = node[key]
    else:
        node[key] = random.choice(
            (
                None,
                True,
                -1,
                0,
                1.5,
                1 << 70,
                -(1 << 63),
                "",
                [],
                {},
                [[]],
                {"a": {}},
                [0] * 1000,
                random.choice(WORDS),
                float("nan"),
                _deep(500),
            )
        )


def _deep(depth: int) -> Any:
    found: Any = 0
    for _ in range(depth):
        found = [found]
    return found


def change_safetensors(random: Random, content: bytes) -> bytes:
    """A header with other content of the right length; or edits of the bytes."""
    if random.random() < 0.4:
        return change_bytes(random, content)
    length = struct.unpack("<Q", content[:8])[0]
    header = change_json(random, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def change_zip(random: Random, content: bytes) -> bytes:
    """A zip (.pt, .npz) whose entries were dropped, renamed, duplicated or modified, with valid checksums; or
    with a pickle instead of an entry; or with edits of the bytes."""
    if random.random() < 0.3:
        return change_bytes(random, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    number = random.randrange(len(entries))
    name, data = entries[number]
    if random.random() < 0.5:  # what describes the others
        number = next((i for i, (key, _) in enumerate(entries) if key.endswith("data.pkl")), number)
        name, data = entries[number]
    choice = random.randrange(6)
    if choice == 0:
        del entries[number]
    elif choice == 1:
        entries[number] = random.choice((f"../{name}", f"/{name}", name.upper(), f"{name}x", "é")), data
    elif choice == 2:
        entries.append((f"{name}.again", data * random.choice((1, 2, 50))))
    elif choice == 3:
        entries[number] = name, hostile_pickle(random)
    else:
        entries[number] = name, change_bytes(random, data)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for key, value in entries:
            archive.writestr(key, value)
    return buffer.getvalue()


def hostile_pickle(random: Random) -> bytes:
    """A pickle that would run a command, or contains objects that no checkpoint has."""
    objects: tuple[object, ...] = (
        Canary(),
        {"weight": Canary()},
        [Canary()],
        {"model": {"a": Canary()}},
        {},
        [],
        None,
        7,
        "text",
        {1: 2},
        {"a": {"b": {"c": 1}}},
        _deep(200),
        {"a": 1 << 4000},
        print,
    )
    return pickle.dumps(random.choice(objects), protocol=random.choice((0, 2, 4)))


def change_npy(random: Random, content: bytes) -> bytes:
    """A .npy with another header; or edits of the bytes."""
    if random.random() < 0.4:
        return change_bytes(random, content)
    text = {
        "descr": random.choice(("<f4", "<f8", "|O", "<c16", ">f4", "|S9", "<U7", [("a", "<f4")])),
        "fortran_order": random.choice((False, True)),
        "shape": random.choice(((), (0,), (7,), (1 << 40,), (-1,), (1,) * 64, (2, 3))),
    }
    header = f"{text!r}".encode("ascii")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + content[128:]
