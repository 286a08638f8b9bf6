"""satexport: convert checkpoints of streaming audio taggers to bundles that run on a device.

The stages of an export, and the folders with their code:

    checkpoint -> model -> fold -> graph -> simplify      models, frontends, graph
        -> calibrate -> quantize                          quantize
        -> bundle -> stream                               targets, backends, bundle, tagging
        -> parity -> measure -> report                    parity, measure, report

`pipeline` connects them, `commands` is the command line, `audio` reads audio. CONTRIBUTING.md describes each
folder.

Three lines run a bundle on the device:

    tagger = satexport.load("build/sat-t-2s/onnx")
    stream = tagger.stream()
    scores = stream.feed(samples)   # [completed chunks, classes]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satexport.version import __version__

if TYPE_CHECKING:
    from satexport.tagging.stream import Stream, StreamBatch
    from satexport.tagging.tagger import Tagger, load

__all__ = ["Stream", "StreamBatch", "Tagger", "__version__", "load"]


def __getattr__(name: str) -> Any:  # imported on first use, so that `satexport --help` does not load numpy
    from importlib import import_module

    if name in __all__:
        module = "stream" if name.startswith("Stream") else "tagger"
        return getattr(import_module(f"satexport.tagging.{module}"), name)
    raise AttributeError(f"module 'satexport' has no attribute {name!r}")
