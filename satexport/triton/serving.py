"""Serving tables: how a server runs a bundle, one TOML file each in `serving/`. A target says what a bundle
is built for, a serving table how many streams share a step, how long they wait, and how many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from satexport import facts

FOLDER = facts.shipped_folder("serving")
DEVICES = ("cpu", "gpu")
MAX_BATCH = 4096
MAX_INSTANCES = 256
MAX_THREADS = 256
MAX_DELAY_MS = 60_000
MAX_MICROPHONES = 1_000_000
MAX_IDLE_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The content of one TOML; its keys are the fields."""

    name: str
    device: str                 # that runs the steps: "cpu", or "gpu"
    max_batch_size: int         # microphones in one step, at most; without effect for an engine, whose steps
                                # have one
    preferred_batch_sizes: tuple[int, ...]  # a step that reaches one of these sizes starts at once
    max_queue_delay_ms: float   # that a chunk waits for chunks of other microphones, at most, ms
    max_microphones: int        # that one instance serves at the same time, at most; others wait until one
                                # of them ends
    max_idle_s: float           # that a microphone may be silent; after that its state is dropped, s
    instances: int = 1          # copies of the model, on each GPU with device = "gpu"
    threads: int | None = None  # of ONNX Runtime for each instance; omit: the cores of the machine
    description: str = ""       # one line


def find_serving(what: str) -> Serving:
    """Return a shipped serving table by name, or one from a TOML file by path.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged, lacks a key, or has an
    unknown key or a value out of range.
    """
    fields, path = facts.read_facts(FOLDER, what, "serving table")
    serving = Serving(**facts.check_fields(Serving, fields, path))
    facts.check_values(_conditions(serving), path)
    return serving


def shipped() -> list[Serving]:
    """Return the tables that come with satexport, sorted by name."""
    return [find_serving(name) for name in facts.names(FOLDER)]


def _conditions(serving: Serving) -> Iterator[facts.Condition]:
    yield ("name", serving.name, re.fullmatch(r"\w[\w.+-]*", serving.name) is not None,
           "letters, digits and . + - _")
    yield ("description", serving.description, serving.description.isprintable(),
           "one line of printable characters")
    yield "device", serving.device, serving.device in DEVICES, " or ".join(DEVICES)
    size = serving.max_batch_size
    yield "max_batch_size", size, 1 <= size <= MAX_BATCH, f"1 to {MAX_BATCH}"
    preferred = serving.preferred_batch_sizes
    yield ("preferred_batch_sizes", list(preferred), all(1 <= one <= size for one in preferred),
           f"numbers from 1 to max_batch_size, {size}")
    for name, value, most in (("max_microphones", serving.max_microphones, MAX_MICROPHONES),
                              ("instances", serving.instances, MAX_INSTANCES)):
        yield name, value, 1 <= value <= most, f"1 to {most}"
    yield ("threads", serving.threads, serving.threads is None or 1 <= serving.threads <= MAX_THREADS,
           f"1 to {MAX_THREADS}; omit the key to use the cores of the machine")
    yield ("threads", serving.threads, serving.threads is None or serving.device == "cpu",
           'no such key with device = "gpu"')
    yield ("max_queue_delay_ms", serving.max_queue_delay_ms,
           0 <= serving.max_queue_delay_ms <= MAX_DELAY_MS, f"0 to {MAX_DELAY_MS}")
    yield ("max_idle_s", serving.max_idle_s, 1e-6 <= serving.max_idle_s <= MAX_IDLE_S,
           f"more than 0, at most {MAX_IDLE_S}")
