"""Everything that can go wrong for a user, one class per cause, each with its exit code.

A message says what was found, what was expected and what to do. Errors are raised
where they are noticed and caught once, in the command line.
"""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1600  # characters of a message: twenty lines of a terminal


class SatexportError(Exception):
    """Base of all errors that are worded for a user. `lines` are a list under the message, a line for each.
    Of a message that quotes something very long its beginning and its end are kept: what was found, and what
    to do."""

    exit_code = 5

    def __init__(self, message: str, *lines: str) -> None:
        if len(message) > LONGEST:
            message = f"{message[:LONGEST // 2]} [...] {message[-LONGEST // 2:]}"
        super().__init__("\n  ".join((message, *lines)))
        self.message, self.lines = message, lines


class GateError(SatexportError):
    """A gate failed: parity, accuracy or a budget."""

    exit_code = 1


class UsageError(SatexportError):
    """The command asks for something that does not exist or does not go together."""

    exit_code = 2


class MissingError(SatexportError):
    """A runtime, precision or device that the command needs is not on this machine."""

    exit_code = 3


class CheckpointError(SatexportError):
    """A checkpoint is damaged, is of no known family, or belongs to another variant."""

    exit_code = 4


class AudioError(SatexportError):
    """Audio that cannot be read or scored: no audio file, empty, NaN, wrong shape."""

    exit_code = 4


class BundleError(SatexportError):
    """A bundle with a missing, changed or foreign file, or of another schema."""

    exit_code = 4


class DataError(SatexportError):
    """A labelled set, target file or table that cannot be used."""

    exit_code = 4


class RunError(SatexportError):
    """A run failed half-way: disk full, folder read-only, runtime error."""

    exit_code = 5


def made_by_newer(found: str) -> BundleError:
    """The error for a bundle with something in it that only a newer version of satexport can use."""
    return BundleError(f"{found}: the bundle was made by a newer version. Update satexport.")


@contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """Turn the absence of a package inside the block into a `MissingError` that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("satexport"):
            raise
        raise MissingError(f"{error.name} is not installed: pip install 'satexport[{extra}]'.") from None
