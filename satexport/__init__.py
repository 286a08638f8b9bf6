"""satexport: a streaming audio tagger's checkpoint, made into something a device can run.

The way of a checkpoint, and the wings that it passes:

    checkpoint -> model -> fold -> graph -> simplify      models, frontends, graph
        -> calibrate -> quantize                          quantize
        -> bundle -> stream                               targets, backends, bundle, tagging
        -> parity -> measure -> report                    parity, measure, report

`pipeline` joins them, `commands` is the command line, `audio` reads sounds. CONTRIBUTING.md says what each
wing is for.

On the device, three lines:

    tagger = satexport.load("build/sat-t-2s/onnx")
    stream = tagger.stream()
    scores = stream.feed(samples)   # [chunks that became full, classes]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satexport.version import __version__

if TYPE_CHECKING:
    from satexport.tagging.stream import Stream, StreamBatch
    from satexport.tagging.tagger import Tagger, load

__all__ = ["Stream", "StreamBatch", "Tagger", "__version__", "load"]


def __getattr__(name: str) -> Any:  # so that `satexport --help` does not wait for numpy
    from importlib import import_module

    if name in __all__:
        module = "stream" if name.startswith("Stream") else "tagger"
        return getattr(import_module(f"satexport.tagging.{module}"), name)
    raise AttributeError(f"module 'satexport' has no attribute {name!r}")
