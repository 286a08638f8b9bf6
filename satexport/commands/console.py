"""How the commands end: JSON, pipes whose reader leaves, packages that are absent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def print_json(content: Mapping[str, Any]) -> None:
    import click

    from satexport.files import json_text

    click.echo(json_text(content), nl=False)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Where the reader of a pipe goes away, what is printed here is lost, but not the exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """Standard output takes nothing any more: let go what waits to be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

