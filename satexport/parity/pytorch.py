"""PyTorch's outputs over the audio of parity: in batches and, if several graphs are compared with them, each
of them once within a command.

A chunk of SAT-T takes PyTorch 9.9 ms by itself and 4.7 ms as one of eight, one of SAT-B 90 and 58 ms (AMD
EPYC, 2 cores, torch 2.13.0). The others in a batch change a score by rounding only, at most 8e-7. The golden
chunks in a bundle are computed one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from satexport.bundle.contract import USUAL_OPTIONS, Contract
from satexport.bundle.folder import Bundle
from satexport.models.checkpoint import find_weights
from satexport.models.families import make_reference
from satexport.models.family import Reference
from satexport.progress import progress
from satexport.step import FloatArray, Outputs
from satexport.tagging.stream import StreamBatch, clip_outputs

BATCH = 8           # streams or clips in a step, at most
BATCH_SECONDS = 80  # of audio in a step, for memory: AST's largest tensor, the hidden layer of an MLP, then
                    # takes 119 MB (1214 tokens in 10 s); attention keeps no matrix of logits


def reference_streams(step: Reference, contract: Contract, count: int = 1) -> StreamBatch:
    """Return streams of PyTorch to compare a graph with. They always take audio, even if the graph takes
    features."""
    return StreamBatch(step, replace(contract, options=USUAL_OPTIONS), count)


@dataclass(frozen=True)
class ClipsOutputs:
    """PyTorch's outputs for some clips."""

    streamed: list[Outputs] = field(default_factory=list)    # of each clip [chunks, ...]
    by_paper: list[FloatArray] = field(default_factory=list)  # of each clip [classes]; empty: no protocol


class PyTorch:
    """The reference of a bundle, and its outputs for audio that several graphs are compared on. It computes
    them for the first graph. Use one object within a command, and keep none of it afterwards. Without
    `keeps_clips` it forgets its outputs for clips, as a large set needs."""

    def __init__(self, reference: Reference, contract: Contract, *, keeps_clips: bool = True) -> None:
        self.reference, self._contract, self._keeps_clips = reference, contract, keeps_clips
        self._of_streams: dict[tuple[int, ...], Outputs] = {}
        self._of_clips: dict[tuple[str, ...], ClipsOutputs] = {}

    def of_clips(self, audios: Sequence[FloatArray], hashes: Sequence[str]) -> ClipsOutputs:
        """Return the outputs for clips, [samples] each, with these `clip_hash`es: streamed, and by the
        protocol of the paper if there is one. Clips of one length share a step."""
        key = tuple(hashes)
        if key in self._of_clips:
            return self._of_clips[key]
        streamed: dict[int, Outputs] = {}
        by_paper: dict[int, FloatArray] = {}
        for numbers in self._batches([len(audio) for audio in audios]):
            batch = [audios[number] for number in numbers]
            streams = reference_streams(self.reference, self._contract, len(batch))
            streamed |= zip(numbers, clip_outputs(streams, batch), strict=True)
            scores = self.reference.clip_scores(np.stack(batch))
            by_paper |= {} if scores is None else dict(zip(numbers, scores, strict=True))
        found = ClipsOutputs([streamed[number] for number in sorted(streamed)],
                             [by_paper[number] for number in sorted(by_paper)])
        if self._keeps_clips:
            self._of_clips[key] = found
        return found

    def of_streams(self, audio: FloatArray, advance: Callable[[int], None]) -> Outputs:
        """Return the outputs [chunks, N, ...] of N streams of audio [N, chunks, samples], each from silence
        and without a reset. Calls `advance` with numbers of chunks."""
        if audio.shape not in self._of_streams:  # the audio of parity follows from its shape
            found = [self._of_stream(stream, advance) for stream in audio]
            self._of_streams[audio.shape] = Outputs.join(lambda arrays: np.stack(arrays, 1), found)
        return self._of_streams[audio.shape]

    def _of_stream(self, chunks: FloatArray, advance: Callable[[int], None]) -> Outputs:
        """Compute one stream in several parts at once. Each begins with as many of the chunks before it as a
        step remembers, so its outputs are those of the whole stream."""
        memory = self._contract.memory_steps
        count = max(1, min(self._largest(self._contract.window_seconds), len(chunks) // (4 * memory + 1)))
        size = -(-len(chunks) // count)
        earlier = memory if count > 1 else 0
        streams = reference_streams(self.reference, self._contract, count)
        rows = []
        for number in range(-earlier, size):
            at = size * np.arange(count) + number
            for lane in np.flatnonzero(at == 0):
                streams.reset(int(lane))  # what it heard so far was not before the first chunk
            row = streams.feed_all(chunks[np.clip(at, 0, len(chunks) - 1)])
            if number >= 0:
                rows.append(row)
                advance(count)
        joined = Outputs.join(np.concatenate, rows)   # [size, count, ...]
        return joined.map(lambda array: array.swapaxes(0, 1).reshape(-1, array.shape[-1])[:len(chunks)])

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the numbers of clips that share a step."""
        batches: list[list[int]] = []
        for length in dict.fromkeys(lengths):
            numbers = [number for number, other in enumerate(lengths) if other == length]
            most = self._largest(length / self._contract.sample_rate)
            batches += [numbers[first:first + most] for first in range(0, len(numbers), most)]
        return batches

    def _largest(self, seconds: float) -> int:
        """Return how many pieces of audio of this length share a step."""
        return max(1, min(BATCH, int(BATCH_SECONDS / max(seconds, 1e-3))))


def load_pytorch(bundle: Bundle, checkpoint: str | None = None, *, keeps_clips: bool = True) -> PyTorch:
    """Load the reference with a bundle's weights. Raises the errors of `find_weights`."""
    with progress("load PyTorch", None):
        weights = find_weights(bundle, checkpoint)
        return PyTorch(make_reference(weights, bundle.contract.options.embedding), bundle.contract,
                       keeps_clips=keeps_clips)
