"""How the commands end: JSON, pipes whose reader leaves, packages that are absent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from satexport.errors import RunError


def print_json(content: Mapping[str, Any]) -> None:
    import click

    from satexport.files import json_text

    click.echo(json_text(content), nl=False)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Where the reader of a pipe goes away, what is printed here is lost, but not the exit code. Raises
    `RunError` where standard output takes nothing for another reason, such as a full disk."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        raise RunError(f"standard output takes nothing ({error.strerror or error}): what was to be printed "
                       "is lost. Make room there, or send it elsewhere.") from None


def takes_nothing() -> bool:
    """Does standard output refuse a line break? Whoever asks has seen an `OSError` that may be of a file."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _discard_output() -> None:
    """Let go what waits to be printed: it would be tried again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
