"""Uses that each cause a different fault, which the fuzzer must detect."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from satexport.errors import DataError, RunError
from tests.fuzz.kinds import Doubtful, Kind, WrongError


def _raise(error: Exception) -> None:
    raise error


def _take_memory() -> None:
    taken = b"x" * 1_200_000_000
    time.sleep(600)
    del taken


def _look_up() -> None:
    try:
        socket.getaddrinfo("example.org", 443)
    except OSError:
        return


WAYS: dict[str, tuple[Callable[[], object], str]] = {  # what it does -> text of the fault
    "an error of Python's": (lambda: _raise(ValueError("odd")), "ValueError: odd"),
    "a result that is wrong": (lambda: _raise(WrongError("no audio")), "accepted: no audio"),
    "a message that reports itself": (lambda: _raise(DataError("looks like a fault")), "no readable message"),
    "an exit code that blames the run": (lambda: _raise(RunError("disk")), "exit code 5"),
    "a process that dies": (os.abort, "the process died"),
    "a process that waits": (lambda: time.sleep(600), "did not end"),
    "a process that takes memory": (_take_memory, "MB"),
    "a file where none may be": (lambda: Path("canary").write_text("here"), "left here/canary"),
    "a file in the home folder": (lambda: (Path.home() / "id").write_text("me"), "left home/id"),
    "a traceback beside the answer": (
        lambda: print("Traceback (most recent call last)", file=sys.stderr), "standard error"),
    "a DNS lookup": (_look_up, "network: getaddrinfo example.org")}


def _kind(way: Callable[[], object]) -> Kind:
    return Kind(1, lambda _random, _valid, place: Doubtful(place), lambda _path, _valid: (way(), None)[1],
                lambda _path, _valid, _out: [])


KINDS = {name: _kind(way) for name, (way, _) in WAYS.items()}
