"""The words that reports use, with their definitions. Imports only numpy."""

from __future__ import annotations

from collections.abc import Mapping

from satexport.measure.schedule import PAUSED_STEPS, PAUSED_TURNS, TURN_SECONDS, TURNS, WARM_UP
from satexport.parity.records import CONFIDENCE, RESAMPLES, SEED
from satexport.step import EXECUTED

STREAMING = ("what each step scores: a chunk alone; a chunk with a cache of those before; or a window, the "
             "last seconds of audio up to the end of the chunk, with zeros in front until a stream is that "
             "long")
_TERMS = {  # kind of report -> term -> definition
    "export": {
        "streaming": STREAMING,
        "kept": "false: the graph of the stage before ships instead, for the reason given"},
    "parity": {
        "score difference": "absolute difference between the candidate's and PyTorch fp32's score of one "
                            "class in one chunk; both pass the cache, or the earlier audio of a window, "
                            "from chunk to chunk",
        "streaming": STREAMING,
        "curve": "mean score difference of each chunk of the long stream, then of the sounds that it repeats",
        "streamed score": "the stream starts from silence at each clip, the last incomplete chunk is padded "
                          "with zeros, and the scores of the clip's chunks are averaged",
        "clip score": "PyTorch only: a clip by the protocol of the model's paper; `clip_protocol` says which",
        "mAP": "scikit-learn's average_precision_score, averaged over the classes with at least one positive",
        "intervals": f"{CONFIDENCE} % confidence intervals of the bundle's metrics: percentiles over "
                     f"{RESAMPLES} bootstrap resamples of the clips, seed {SEED}",
        "events": "in the streamed scores of a clip: a label is heard in a chunk if its score reaches its "
                  "threshold, an event is a run of such chunks, its onset the beginning of the first. Only "
                  "labels that the set has are judged. `segment_seconds`, `collar_seconds` and `thresholds` "
                  "say how",
        "executed": EXECUTED},
    "measure": {
        "burst": "single steps one after the other, from the input in host memory to the scores in host "
                 f"memory, in {TURNS} turns with {WARM_UP} uncounted steps before each. A turn ends after as "
                 f"many steps as `settings` says, or after {TURN_SECONDS:g} s",
        "streaming": STREAMING,
        "paused": f"single steps, each after a pause, as in a live stream: {PAUSED_TURNS} turns of at most "
                  f"{PAUSED_STEPS} steps",
        "quantiles_ms": "times of single steps at 0, 5, ... 100 %; older reports have none",
        "eager": "the published model in PyTorch, not compiled, float32, with its own front end and the "
                 "cache as published: audio in, scores out, one stream. A bundle that takes mel features is "
                 "compared with it without a front end of its own",
        "paper": "what the model's paper claims, by its own definitions; `note` says how they differ",
        "executed": EXECUTED,
        "layers": "in `executed`, for an engine: what the engine inspector reports about the output of each "
                  "layer. `fused` layers are ones that TensorRT merged and does not describe. The network is "
                  "strongly typed, so precisions are the graph's",
        "cuda_graphs": "for an engine: whether its steps are captured CUDA graphs"},
    "sensitivity": {
        "all": "every layer in int8",
        "layers": "score differences from the fp32 graph with only this layer in int8, over `chains` chains "
                  "of clips of `chain_seconds` s or more, with the cache passed from chunk to chunk"},
}

_BOTH = {**_TERMS["parity"], **_TERMS["measure"]}
_CASE = {
    "status": "of a case: failed if a gate failed or it ended with an error; skipped if this machine cannot "
              "run it or a gate could not be judged; otherwise passed",
    "fingerprint": "SHA-256 of the case's row, target, weights, labelled and calibration set, the settings, "
                   "satexport's sources, the versions of packages and the CPU: as long as it is the same, a "
                   "case that has a result is not run again",
    "live": "the bundle as `satexport run` loads it, measured for the CPU time of a chunk"}
_PAPER = {
    "published": "what the paper gives, by its own definitions; `note` says how they differ from those here",
    "why_not": "why there are no figures of a labelled set: they are never those of random weights"}
_SCORES = {
    "curves": "the score of each label in each chunk of the recording, of each bundle",
    "is_reset": "true: the stream begins anew at each chunk, with the cache after silence",
    "events": "begin and end in seconds of the sounds with a label, if the recording has a list of them"}
TERMS: Mapping[str, Mapping[str, str]] = {
    **_TERMS, "build": _BOTH, "matrix": {**_BOTH, **_CASE}, "paper": {**_TERMS["parity"], **_PAPER},
    "scores": _SCORES}
