"""The golden chain: chunks of one stream, longer than the model remembers, and how a step is run
over it. What proves a graph at export proves the bundle on the device; imports numpy alone."""

from __future__ import annotations

import numpy as np

from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import Bundle
from satexport.parity.differences import compare, judge_difference
from satexport.parity.records import ParityResult
from satexport.step import FloatArray, Step
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import Tagger

SOME_STREAMS = 3  # that prove a graph for any number of them
GOLDEN_CHUNKS = "golden chunks"


def proof_streams(step: Step, contract: Contract) -> StreamBatch:
    """The streams that a graph is proven with: as many as it runs, some where that is open."""
    streams = contract.options.streams
    return StreamBatch(step, contract, SOME_STREAMS if streams == ANY else streams)


def golden_scores(streams: StreamBatch, audio: FloatArray) -> FloatArray:
    """Scores [N, chunks, classes] of the consecutive chunks [chunks, samples] of one stream from
    silence, heard by each of N streams. Each is reset and begins one chunk after the one before it
    and hears the chunks in another order before and after (any that differs): none may hear another."""
    count, chunks = len(streams), len(audio)
    rows = []
    streams.reset()
    for turn in range(chunks + count - 1):
        if 0 < turn < count:
            streams.reset(turn)
        heard = [turn - lane if 0 <= turn - lane < chunks else (5 * turn + 3 * lane) % chunks
                 for lane in range(count)]
        rows.append(streams.feed(audio[heard])[0])
    return np.stack([[rows[lane + chunk][lane] for chunk in range(chunks)] for lane in range(count)])


def run_golden(tagger: Tagger) -> ParityResult:
    """The bundle over its own golden chunks against PyTorch's scores in it; needs no torch."""
    audio, _ = tagger.bundle.golden()
    return judge_golden(tagger.bundle, golden_scores(proof_streams(tagger.step, tagger.contract), audio))


def judge_golden(bundle: Bundle, scores: FloatArray) -> ParityResult:
    """Scores [N, chunks, classes] of the golden chunks, each of N streams having heard them, against
    PyTorch's in the bundle."""
    _, expected = bundle.golden()
    count, _, classes = scores.shape
    differences = compare(np.repeat(expected, count, 0), scores.swapaxes(0, 1).reshape(-1, classes), count)
    return ParityResult(gates=(judge_difference(bundle.target.gates, GOLDEN_CHUNKS, differences),),
                        differences={GOLDEN_CHUNKS: differences})
