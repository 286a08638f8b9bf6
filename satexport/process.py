"""What belongs to one process: loaded runtimes, which a fork does not bring along, and the standard streams.
Imports the standard library alone."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from typing import Any, NoReturn

from satexport.errors import UsageError

_NATIVE: weakref.WeakSet[Any] = weakref.WeakSet()


class ProcessBound:
    """An object over a loaded runtime: it works in the process that made it, and nowhere else."""

    def __init__(self) -> None:
        self._process, self.is_closed = os.getpid(), False

    def is_here(self) -> bool:
        """Is this the process that made it?"""
        return os.getpid() == self._process

    def check_process(self) -> None:
        """Raise `UsageError` in a forked child: the runtime's threads exist in the parent alone, and a step
        would wait for them for ever; and after the runtime was let go, `is_closed`."""
        if self.is_closed:
            raise UsageError("this bundle was closed: load it again.")
        if not self.is_here():
            raise UsageError(f"this bundle was loaded in process {self._process}, before a fork, and a "
                             "runtime does not come along: load the bundle in this process, after the fork.")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} holds a loaded runtime and can be neither pickled nor "
                        "copied: pass the bundle's path on, and load the bundle in the worker.")


def keep_in_child(*natives: Any) -> None:
    """Note a runtime's objects, which a forked child must never free: their destructors wait for threads that
    it does not have."""
    for native in natives:
        _NATIVE.add(native)


def _keep() -> None:
    """In a child: give each of them a reference that nobody drops, not even the end of the interpreter."""
    for native in list(_NATIVE):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


if hasattr(os, "register_at_fork"):  # not under Windows, which has no fork
    os.register_at_fork(after_in_child=_keep)


def open_standard_streams() -> None:
    """Put the null device where a standard stream is closed (`>&-`) or was never there (a service, a GUI
    program): what is printed is lost, and no file that is opened later gets its descriptor."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
