"""How many threads a bundle is loaded with, if nobody says."""

from __future__ import annotations

import math

from satexport.bundle.contract import ANY
from satexport.bundle.folder import Bundle
from satexport.origin import cores

THREAD_GFLOPS = 5   # GFLOP/s of live audio for each thread; docs/live.md says why


def live_threads(bundle: Bundle) -> int:
    """Return the number of threads that the target sets. If it sets none, return as many as live streams
    need, at most all cores: one for each THREAD_GFLOPS that the audio of a second takes. A bundle for any
    number of streams counts as one for a single stream."""
    if bundle.target.threads:
        return bundle.target.threads
    contract = bundle.contract
    streams = 1 if contract.options.streams == ANY else contract.options.streams
    gflops = streams * sum(bundle.operations.values()) / 1e9 / contract.hop_seconds
    return max(1, min(cores(), math.ceil(gflops / THREAD_GFLOPS)))
