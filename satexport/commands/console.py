"""Standard output of the commands: JSON, closed pipes, full disks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from satexport.errors import RunError


def print_json(content: Mapping[str, Any]) -> None:
    """Print JSON to standard output."""
    import click

    from satexport.files import json_text

    click.echo(json_text(content), nl=False)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """If the reader of a pipe closes it, discard what the block prints and keep the exit code. Raises
    `RunError` if standard output cannot be written for another reason, such as a full disk."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        raise RunError(f"standard output cannot be written ({error.strerror or error}), so the output is "
                       "lost. Free space there, or redirect it elsewhere.") from None


def stdout_fails() -> bool:
    """Whether standard output cannot be written: tells whether an `OSError` came from it or from a file."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _discard_output() -> None:
    """Discard buffered output, which Python would otherwise try to write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
