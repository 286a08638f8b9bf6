"""Run a step over the golden chunks and compare its outputs with PyTorch's, which are stored in the bundle.

The golden chunks are consecutive chunks of one stream, more than the model remembers. The same functions
prove a graph during export and a bundle on a device. Imports only numpy.
"""

from __future__ import annotations

import numpy as np

from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import Bundle
from satexport.parity.differences import compare, compare_embeddings, judge_difference, judge_embedding
from satexport.parity.records import ParityResult
from satexport.step import FloatArray, Outputs, Step
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import Tagger

SOME_STREAMS = 3  # number of streams that proves a graph for any number
GOLDEN_CHUNKS = "golden chunks"


def proof_streams(step: Step, contract: Contract) -> StreamBatch:
    """Return the streams to prove a graph with: as many as it runs, SOME_STREAMS if it runs any number."""
    streams = contract.options.streams
    return StreamBatch(step, contract, SOME_STREAMS if streams == ANY else streams)


def golden_scores(streams: StreamBatch, audio: FloatArray) -> FloatArray:
    """Return the scores [N, chunks, classes] of `golden_outputs`."""
    return golden_outputs(streams, audio).scores


def golden_outputs(streams: StreamBatch, audio: FloatArray) -> Outputs:
    """Return the outputs [N, chunks, ...] that each of N streams gives for the same consecutive chunks
    [chunks, samples], starting from silence.

    Each stream is reset and starts these chunks one step after the stream before it; before and after, it
    gets the chunks in another order (any order that differs will do). The streams thus run on different audio
    at the same time, and a stream that affected another would change its scores.
    """
    count, chunks = len(streams), len(audio)
    rows = []
    streams.reset()
    for turn in range(chunks + count - 1):
        if 0 < turn < count:
            streams.reset(turn)
        inputs = [turn - lane if 0 <= turn - lane < chunks else (5 * turn + 3 * lane) % chunks
                  for lane in range(count)]
        rows.append(streams.feed_all(audio[inputs]))
    turns = Outputs.join(np.concatenate, rows)  # [turns, N, ...]
    return turns.map(lambda array: np.stack([array[lane:lane + chunks, lane] for lane in range(count)]))


def run_golden(tagger: Tagger) -> ParityResult:
    """Run a bundle over its golden chunks and judge its scores against PyTorch's, which are in the bundle;
    needs no torch."""
    audio, _ = tagger.bundle.golden()
    return judge_golden(tagger.bundle, golden_outputs(proof_streams(tagger.step, tagger.contract), audio))


def judge_golden(bundle: Bundle, found: Outputs) -> ParityResult:
    """Judge the outputs [N, chunks, ...] that each of N streams gave for the golden chunks, against PyTorch's
    in the bundle."""
    count = len(found.scores)
    expected = bundle.golden()[1].map(lambda array: np.repeat(array, count, 0))
    found = found.map(lambda array: array.swapaxes(0, 1).reshape(-1, array.shape[-1]))
    differences = compare(expected.scores, found.scores, count)
    embeddings = compare_embeddings(expected, found)
    return ParityResult(
        gates=(judge_difference(bundle.gates, GOLDEN_CHUNKS, differences),
               *judge_embedding(bundle.gates, bundle.contract, GOLDEN_CHUNKS, embeddings)),
        differences={GOLDEN_CHUNKS: differences},
        embeddings={GOLDEN_CHUNKS: embeddings} if embeddings else None)
