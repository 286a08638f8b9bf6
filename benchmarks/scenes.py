"""Print how well a bundle finds the events of synthetic scenes, for docs/metrics.md.

    python -m benchmarks.scenes build/sat-t-2s/onnx

Segment F1 (1 s) and onset F1, with the cache and reset at every chunk, from a score of 0.5 on and with
thresholds that were found on other scenes. An onset can only be found at the beginning of a chunk, so it is
also judged with a collar of half a chunk. Also prints what it ran on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import command
from satexport import load
from satexport.audio.clips import Clip
from satexport.audio.scenes import SCENES, SECONDS, scene_clips
from satexport.bundle.contract import ANY
from satexport.errors import UsageError
from satexport.origin import origin
from satexport.parity.event_metrics import event_metrics, thresholds_options, true_events
from satexport.parity.operating_points import choose_on_segments
from satexport.parity.sed import COLLAR_SECONDS
from satexport.report.blocks import describe_origin
from satexport.report.table import Table
from satexport.report.terminal import print_table
from satexport.step import FloatArray
from satexport.tagging.events import EventOptions
from satexport.tagging.tagger import Tagger

MOST_SCENES = 1000


def score(tagger: Tagger, clips: list[Clip], *, resets: bool) -> list[FloatArray]:
    """Return the scores of each scene's chunks, [chunks, classes]; with `resets`, each from silence."""
    stream, found = tagger.stream(), []
    for clip in clips:
        audio, size = clip.read(tagger.contract.sample_rate), tagger.contract.hop_samples
        rows = []
        stream.reset()
        for first in range(0, len(audio), size):
            if resets:
                stream.reset()
            rows += list(stream.feed(audio[first:first + size]))
        found.append(np.stack([*rows, *stream.flush()]))
    return found


def judge(tagger: Tagger, count: int) -> Iterator[tuple[str, list[float]]]:
    """Yield what was judged and its figures: segment F1, micro and macro, and onset F1, micro, with the usual
    collar and with half a chunk."""
    labels, hop = tagger.labels, tagger.contract.hop_seconds
    choosing, judging = (scene_clips(split, range(count)) for split in ("choose", "evaluate"))
    truth, seconds = true_events(judging, labels), [SECONDS] * count
    for resets in (False, True):
        chosen = choose_on_segments(tagger, choosing, score(tagger, choosing, resets=resets), seconds, {})
        scores = score(tagger, judging, resets=resets)
        for name, options in (("0.5", EventOptions()), ("found", thresholds_options(chosen.thresholds))):
            usual, wide = (event_metrics(truth, scores, seconds, labels, hop, options, collar)
                           for collar in (COLLAR_SECONDS, hop / 2))
            yield (f"{'reset at every chunk' if resets else 'with its cache'}, thresholds {name}",
                   [usual.segment_f1, usual.segment_f1_macro, usual.onset_f1, wide.onset_f1])


def main() -> None:
    """Print the table for the bundle of the command line."""
    parser = command.Parser("scenes", __doc__)
    parser.add_argument("bundle", type=command.folder, metavar="BUNDLE", help="with the demo's labels")
    parser.add_argument("--scenes", type=command.whole_number(1, MOST_SCENES), default=5 * SCENES,
                        metavar="N", help="scenes of a minute to judge on, and as many others to find "
                                          f"thresholds on, 1 to {MOST_SCENES}; default {5 * SCENES}")
    options = parser.parse_args()
    with load(options.bundle) as tagger:
        if tagger.contract.options.streams == ANY:
            raise UsageError(f"{options.bundle} runs any number of streams; expected a bundle for one.")
        hop = tagger.contract.hop_seconds
        rows = [[name, *(f"{value:.4f}" for value in values)]
                for name, values in judge(tagger, options.scenes)]
        print_table(Table(
            title=f"{tagger.contract.variant} {tagger.bundle.target.name}, {options.scenes} scenes of 60 s",
            head=["", "segment F1 (1 s)", "the same, macro", f"onset F1 ({COLLAR_SECONDS:g} s)",
                  f"onset F1 ({hop / 2:g} s)"], rows=rows))
    print(describe_origin(origin()))


if __name__ == "__main__":
    command.run(main)
