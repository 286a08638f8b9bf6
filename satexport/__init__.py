"""satexport: a streaming audio tagger's checkpoint, made into something a device can run.

The stages, in the order of the command line and of the files:

    checkpoint -> model -> fold -> graph -> simplify -> calibrate -> quantize -> bundle -> stream
        -> parity -> measure -> report

On the device, three lines:

    tagger = satexport.load("build/sat-t-2s/onnx")
    stream = tagger.stream()
    scores = stream.feed(samples)   # [chunks that became full, classes]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satexport.version import __version__

if TYPE_CHECKING:
    from satexport.tagging.stream import Stream
    from satexport.tagging.tagger import Tagger, load

__all__ = ["Stream", "Tagger", "__version__", "load"]


def __getattr__(name: str) -> Any:  # so that `satexport --help` does not wait for numpy
    from importlib import import_module

    if module := {"Stream": "stream", "Tagger": "tagger", "load": "tagger"}.get(name):
        return getattr(import_module(f"satexport.tagging.{module}"), name)
    raise AttributeError(f"module 'satexport' has no attribute {name!r}")
