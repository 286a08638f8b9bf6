"""The golden chain: chunks of one stream, longer than the model remembers, and how a step is run
over it. What proves a graph at export proves the bundle on the device; imports numpy alone."""

from __future__ import annotations

import numpy as np

from satexport.audio.synthetic import synthetic_stream
from satexport.backends import FloatArray, Step
from satexport.bundle.contract import ANY, Contract
from satexport.models.sat.variants import Variant
from satexport.tagging.stream import Streams

LEAST = 3         # chunks
SOME_STREAMS = 3  # that prove a graph for any number of them


def golden_audio(variant: Variant) -> FloatArray:
    """Consecutive chunks [N, samples] of synthetic sounds, 16 bits; one more than the model
    remembers."""
    chunks = max(LEAST, variant.memory_chunks + 1)
    return synthetic_stream(chunks * variant.delay, "calibrate").reshape(chunks, variant.chunk_samples)


def proof_streams(step: Step, contract: Contract) -> Streams:
    """The streams that a graph is proven with: as many as it runs, some where that is open."""
    streams = contract.form.streams
    return Streams(step, contract, SOME_STREAMS if streams == ANY else streams)


def golden_scores(streams: Streams, audio: FloatArray) -> FloatArray:
    """Scores [N, chunks, classes] of the consecutive chunks [chunks, samples] of one stream from
    silence, heard by each of N streams. Each is reset and begins one chunk after the one before it
    and hears the chunks in another order before and after: none may hear another."""
    count, chunks = len(streams), len(audio)
    rows = []
    streams.reset()
    for now in range(chunks + count - 1):
        if 0 < now < count:
            streams.reset(now)
        heard = [now - lane if 0 <= now - lane < chunks else (5 * now + 3 * lane) % chunks
                 for lane in range(count)]
        rows.append(streams.feed(audio[heard])[0])
    return np.stack([[rows[lane + chunk][lane] for chunk in range(chunks)] for lane in range(count)])
