"""A lock on a folder, so that two commands do not write the same results or measure at the same time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from satexport.errors import RunError, UsageError

MAX_WORD = 32        # bytes of a process number
LOCKED_BYTE = 1 << 20  # on Windows the first bytes must stay readable for others


@contextmanager
def locked(path: Path, command: str) -> Iterator[None]:
    """Hold a lock, which the system releases when the process ends in any way; the file stays. Raises
    `UsageError`, which names the process, if another one holds it; `RunError` if the file cannot be
    written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from None
    try:
        if not _take(number):
            holder = os.pread(number, MAX_WORD, 0) if hasattr(os, "pread") else os.read(number, MAX_WORD)
            process = holder.decode("ascii", "replace").strip()
            raise UsageError(f"{path.parent}: another `satexport {command}` works in this folder, process "
                             f"{process or 'unknown'}. Wait until it ends, or choose another --output.")
        os.ftruncate(number, 0)
        os.write(number, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(number)


if sys.platform == "win32":
    import msvcrt

    def _take(number: int) -> bool:
        """Take the lock of an open file and return whether that was possible."""
        try:
            os.lseek(number, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(number, 0, os.SEEK_SET)
        return True
else:
    import fcntl

    def _take(number: int) -> bool:
        """Take the lock of an open file and return whether that was possible; True, without a lock, on a file
        system that has none."""
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True
