"""All errors that a user can cause or see, one class per cause, each with its exit code.

A message says what was found, what was expected and what to do. Only the command line catches these errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1600  # characters of a message: twenty lines of a terminal


class SatexportError(Exception):
    """Base class of all errors with a message for the user. `lines` are printed below the message as a list.
    Very long messages are cut in the middle, because what was found comes first and what to do comes last."""

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
    """The request names something that does not exist, or combines things that do not fit together."""

    exit_code = 2


class MissingError(SatexportError):
    """This machine lacks a runtime, precision or device that the command needs."""

    exit_code = 3


class CheckpointError(SatexportError):
    """A checkpoint is damaged, of an unknown family, or of another variant."""

    exit_code = 4


class AudioError(SatexportError):
    """Audio cannot be read or scored: not an audio file, empty, NaN, wrong shape."""

    exit_code = 4


class BundleError(SatexportError):
    """A bundle has a missing, modified or unlisted file, or another schema."""

    exit_code = 4


class DataError(SatexportError):
    """A labelled set, target file or table cannot be used."""

    exit_code = 4


class RunError(SatexportError):
    """A run failed: disk full, folder read-only, runtime error."""

    exit_code = 5


def made_by_newer(found: str) -> BundleError:
    """The error for a bundle that needs a newer version of satexport."""
    return BundleError(f"{found}: a newer version of satexport created this bundle. Update satexport.")


@contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """If an import in the block fails because a package is not installed, raise `MissingError` with the extra
    to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("satexport"):
            raise
        raise MissingError(f"{error.name} is not installed: pip install 'satexport[{extra}]'.") from None
