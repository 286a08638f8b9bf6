"""What commands write to standard output: JSON, and output whose pipe or disk fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from satexport.errors import RunError


def print_json(content: Mapping[str, Any]) -> None:
    """Print JSON on standard output."""
    import click

    from satexport.files import json_text

    click.echo(json_text(content), nl=False)


@contextmanager
def ignore_closed_pipe() -> Iterator[None]:
    """Print inside this block. If the reader of a pipe closes it, the rest of the output is discarded and the
    command still ends with its own exit code. Raises `RunError` if writing fails for another reason, such as
    a full disk."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        raise RunError(f"cannot write to standard output ({error.strerror or error}): the rest of the output "
                       "is lost. Make room on its disk, or redirect it.") from None


def is_output_broken() -> bool:
    """Return whether standard output cannot be written, by writing a line break. It tells whether an
    `OSError` came from standard output or from another file."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _discard_output() -> None:
    """Discard buffered output, which Python would otherwise try to write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
