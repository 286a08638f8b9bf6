"""Text for a terminal: what a stranger wrote (labels, names of files and weights, cells of tables, errors
that quote them) must not command it or forge a line. Standard library only: a device has no click."""

from __future__ import annotations

import re
import sys
from contextlib import suppress

SHOWN = 80  # characters of a value in a message
# Control characters (escape sequences begin with one, a line break forges a line), and what turns or breaks
# the direction and the lines of a text: Unicode 15, Cc, Bidi_Control, Zl and Zp.
COMMANDS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""The text on one line, each character that a terminal would obey as its escape ("\x1b")."""
    return COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def shown(value: object) -> str:
    """A value in a message: its beginning, where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply to print"
    return clipped(text)


def clipped(text: str) -> str:
    """A text in a message: its beginning, where it is long."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def say(text: str) -> None:
    """Print a line on standard output, `printable`."""
    print(printable(text))


def note(text: str | None, *lines: str) -> None:
    """Print what must be seen on standard error: a line, and a list below it, each `printable`."""
    if text and sys.stderr:  # None: a service, a GUI program
        with suppress(OSError):  # a full disk; the exit code says it, too
            print("\n  ".join(map(printable, (text, *lines))), file=sys.stderr, flush=True)
