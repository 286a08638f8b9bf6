"""How commands end: JSON and reports on standard output, output whose pipe or disk fails, failed gates."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from satexport.errors import GateError, RunError
from satexport.terminal import note

if TYPE_CHECKING:
    from satexport.measure.records import MeasureReport
    from satexport.parity.records import ParityReport


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


def finish_report(report: ParityReport | MeasureReport, write: Callable[[], Sequence[str]], as_json: bool,
                  prefix: str = "") -> None:
    """End a command with a report: write it, print it, and raise what went wrong.

    `write` writes its files and returns notes. If it raises `RunError`, as on a read-only disk, the report is
    printed nevertheless. Raises `GateError`, whose message begins with `prefix`, if a gate failed.
    """
    from satexport.bundle.gates import failures
    from satexport.report.blocks import describe
    from satexport.report.serialize import to_json
    from satexport.report.terminal import print_blocks

    refused: RunError | None = None
    notes: Sequence[str] = ()
    try:
        notes = write()
    except RunError as error:
        refused = error
    with ignore_closed_pipe():
        if as_json:
            print_json(to_json(report))
        else:
            print_blocks(describe(report))
    for text in (*notes, report.warning):
        note(text)
    failed = failures(report.gates)
    if refused:
        raise GateError(f"{prefix}{failed}. Also: {refused}") if failed else refused
    if failed:
        raise GateError(f"{prefix}{failed}.")


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
