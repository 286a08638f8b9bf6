"""What the commands of this folder share: types of options, which are checked before work starts, and how a
command ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from satexport.cli import INTERRUPTED
from satexport.commands.console import ignore_closed_pipe, is_output_broken
from satexport.errors import RunError, SatexportError, UsageError
from satexport.terminal import note

THREADS = 256     # at most, as for `satexport measure`
STEPS = 10_000


class Parser(argparse.ArgumentParser):
    """A parser of `python -m benchmarks.NAME`, described by the first line of the module's docstring. A wrong
    option is an error of one line, with exit code 2."""

    def __init__(self, name: str, doc: str | None) -> None:
        super().__init__(prog=f"python -m benchmarks.{name}", description=(doc or "").splitlines()[0])

    def error(self, message: str) -> NoReturn:
        """Print the message and end the process."""
        note(f"Error: {message}")
        sys.exit(UsageError.exit_code)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the type of an option: a whole number in this range."""
    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most and int(text) > most):
            upper = f" to {most}" if most else ""
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least}{upper}.")
        return int(text)

    return convert


def folder(text: str) -> Path:
    """The type of an option: a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder.")
    return Path(text)


def run(main: Callable[[], None]) -> NoReturn:
    """Run a command and end the process with its exit code."""
    code = 0
    try:
        _call(main)
    except SatexportError as error:
        note(f"Error: {error.message}", *error.lines)
        code = error.exit_code
    except KeyboardInterrupt:
        note("Interrupted; results that were written before are kept.")
        code = INTERRUPTED
    sys.exit(code)


def _call(main: Callable[[], None]) -> None:
    """Call `main`. Raises `RunError` if standard output cannot be written."""
    try:
        main()
        print(end="", flush=True)
    except OSError as error:
        if not is_output_broken():
            raise
        with ignore_closed_pipe():
            raise error
        raise RunError("the reader of standard output has closed it before the end; results that were "
                       "written before are kept. Redirect the output to a file.") from None
