"""State of a process: loaded runtimes, which do not work after a fork, and the standard streams. Imports only
the standard library."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from typing import Any, NoReturn

from satexport.errors import UsageError

_NATIVE: weakref.WeakSet[Any] = weakref.WeakSet()


class ProcessBound:
    """Base class of objects that use a loaded runtime: they work only in the process that created them."""

    def __init__(self) -> None:
        self._process, self.is_closed = os.getpid(), False

    def is_here(self) -> bool:
        """Whether this is the process that created the object."""
        return os.getpid() == self._process

    def check_process(self) -> None:
        """Raise `UsageError` if the object was closed, or if this is a forked child: only the parent has the
        runtime's threads, and a step would wait for them forever."""
        if self.is_closed:
            raise UsageError("this bundle was closed: load it again.")
        if not self.is_here():
            raise UsageError(f"this bundle was loaded in process {self._process}, before a fork, and its "
                             "runtime does not work after a fork: load the bundle again in this process.")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} uses a loaded runtime and can be neither pickled nor "
                        "copied: pass the path of the bundle to the worker, and load the bundle there.")


def keep_in_child(*natives: Any) -> None:
    """Register objects of a runtime that a forked child must never free: their destructors wait for threads
    that only the parent has."""
    for native in natives:
        _NATIVE.add(native)


def _leak_natives() -> None:
    """In a child: add a reference to each registered object that is never dropped, not even at exit."""
    for native in list(_NATIVE):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_leak_natives)


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed (`>&-`) or does not exist (a service, a
    GUI program). Printed text is then discarded, and no file that is opened later gets the stream's
    descriptor."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free descriptor
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
