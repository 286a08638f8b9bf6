"""Text for a terminal: untrusted text (labels, names of files and weights, cells of tables, errors that quote
them) must not control the terminal or forge lines. Standard library only: a device has no click."""

from __future__ import annotations

import re
import sys
from contextlib import suppress

MAX_SHOWN = 80  # characters of a value in a message
# Control characters (an escape sequence starts with one, a line break could forge a line), and characters
# that change the direction of text or break lines: Unicode 15, Cc, Bidi_Control, Zl and Zp.
CONTROL_CHARACTERS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""The text on one line, with each control character escaped ("\x1b")."""
    return CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def shown(value: object) -> str:
    """The repr of a value for a message, shortened if it is long."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply to print"
    return clipped(text)


def clipped(text: str) -> str:
    """A text for a message, shortened if it is long."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def say(text: str) -> None:
    """Print a line to standard output, made `printable`."""
    print(printable(text))


def note(text: str | None, *lines: str) -> None:
    """Print a line to standard error, and a list below it, all made `printable`."""
    if text and sys.stderr:  # None: a service, a GUI program
        with suppress(OSError):  # the disk is full, for example; the exit code still tells
            print("\n  ".join(map(printable, (text, *lines))), file=sys.stderr, flush=True)
