"""The figures of the papers' tables and of scores over a recording, rows as in `satexport.report.figures`.
Imports only numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from satexport.memory import MB
from satexport.parity.records import EventMetrics, SetParity
from satexport.report.figure import Figure
from satexport.report.paper_records import WITHIN, PaperRow, ScoreCurve

PERCENT = 100


def _printed(key: str) -> Callable[[PaperRow], float | None]:
    return lambda row: getattr(row.published, key)


def _operations(part: str, divisor: float = 1e9) -> Callable[[PaperRow], float | None]:
    return lambda row: row.operations[part] / divisor if row.operations else None


def _tokens(kind: str) -> Callable[[PaperRow], float | None]:
    return lambda row: row.tokens.get(kind) if row.tokens else None


def _megabytes(kind: str) -> Callable[[PaperRow], float | None]:
    def of(row: PaperRow) -> float | None:
        size = getattr(row.memory_bytes, kind, None)
        return None if size is None else size / MB
    return of


def _of_set(of: Callable[[SetParity], float | None]) -> Callable[[PaperRow], float | None]:
    def percent(row: PaperRow) -> float | None:
        value = of(row.labelled_set) if row.labelled_set else None
        return None if value is None else PERCENT * value
    return percent


def _of_events(of: Callable[[EventMetrics], float], which: str) -> Callable[[PaperRow], float | None]:
    return _of_set(lambda found: of(getattr(found.events, which)) if found.events else None)


def _embedding(key: str) -> Callable[[PaperRow], float | None]:
    return lambda row: getattr(row.published.embeddings.get(row.kind), key, None)


def _halved(of: Callable[[PaperRow], float | None]) -> Callable[[PaperRow], float | None]:
    def half(row: PaperRow) -> float | None:
        value = of(row)
        return None if value is None else value / 2
    return half


SIZE_FIGURES: Sequence[Figure[PaperRow]] = (
    Figure(key="paper_parameters_m", title="paper: weights", unit="M", format="g",
           of=_printed("parameters_m"), definition="trained weights that the paper gives, 1e6"),
    Figure(key="parameters_m", title="weights", unit="M",
           of=lambda row: row.parameters / 1e6 if row.parameters else None,
           definition="trained weights of the model with AudioSet's 527 classes, or those of the "
                      "checkpoint, 1e6; statistics of normalisation and the front end do not count"),
    Figure(key="paper_tokens", title="paper: tokens", format="d", of=_printed("tokens"),
           definition="tokens of a step that the paper gives"),
    Figure(key="row_new_tokens", title="new tokens", format="d", of=_tokens("new"),
           definition="tokens that are computed in a step, class tokens included"),
    Figure(key="row_cached_tokens", title="cached tokens", format="d", of=_tokens("cached"),
           definition="earlier tokens that a step attends to"),
)

OPERATION_FIGURES: Sequence[Figure[PaperRow]] = (
    Figure(key="printed_gflop", title="paper", unit="GFLOP", format="g", of=_printed("gflops"),
           definition="operations of a step that the paper gives"),
    Figure(key="as_paper_gflop", title="counted as in the paper", unit="GFLOP", format=".3g",
           of=lambda row: None if row.as_paper is None else row.as_paper / 1e9,
           definition="operations of the model of a step, counted in the exported graph in the way that "
                      "gives the paper's figures; a note says which way"),
    Figure(key="difference_from_paper", title="difference", format="+.1%",
           of=lambda row: row.difference_from_paper,
           definition="operations counted as in the paper / the paper's, minus 1. A count agrees within "
                      f"{WITHIN:.0%}, or if it rounds to the digits that the paper prints"),
    Figure(key="row_model_gflop", title="model", unit="GFLOP", format=".3g", of=_operations("model"),
           definition="operations of the model of a step as all reports of satexport count them: with the "
                      "products of the attention, also over the cache"),
    Figure(key="row_front_end_gflop", title="front end", unit="GFLOP", format=".3g",
           of=_operations("front_end"), definition="the same for the front end"),
)

MEMORY_FIGURES: Sequence[Figure[PaperRow]] = (
    Figure(key="printed_memory_mb", title="paper", unit="MB", format="g", of=_printed("memory_mb"),
           definition="memory of one step that the paper gives, with its cache and without its weights"),
    Figure(key="autograd_mb", title="kept for a backward pass", unit="MB", of=_megabytes("autograd"),
           definition="bytes of all tensors that PyTorch keeps for a backward pass after one forward pass "
                      "of one sample with autograd on and no cache, without the weights"),
    Figure(key="row_transient_mb", title="transient", unit="MB", of=_megabytes("transient"),
           definition="most bytes allocated at a time during one steady step of the exported bundle in ONNX "
                      "Runtime, as `satexport measure` counts them"),
    Figure(key="row_state_mb", title="state", unit="MB", of=_megabytes("state"),
           definition="what one stream keeps from step to step"),
    Figure(key="row_weights_mb", title="weights", unit="MB", format=".1f", of=_megabytes("weights"),
           definition="size of the exported graph with its weights"),
)

MAP_FIGURES: Sequence[Figure[PaperRow]] = (
    Figure(key="printed_map", title="paper: mAP", unit="%", format=".1f", of=_printed("map"),
           definition="mAP on AudioSet's evaluation set that the paper gives"),
    Figure(key="row_clips", title="clips", format="d",
           of=lambda row: row.labelled_set.clips if row.labelled_set else None,
           definition="clips of the labelled set that were scored"),
    Figure(key="clip_map", title="mAP, paper's protocol", unit="%", format=".1f",
           of=_of_set(lambda found: found.clip_protocol_map),
           definition="mAP on the labelled set: PyTorch fp32, each clip by the protocol of the model's "
                      "paper"),
    Figure(key="streamed_map", title="mAP, streamed", unit="%", format=".1f",
           of=_of_set(lambda found: found.pytorch_map),
           definition="mAP on the labelled set: PyTorch fp32, each clip as a stream of chunks from "
                      "silence, the scores of its chunks averaged"),
    Figure(key="streamed_bundle_map", title="mAP, streamed, bundle", unit="%", format=".1f",
           of=_of_set(lambda found: found.bundle_map), definition="the same for the exported bundle"),
)

F1_FIGURES: Sequence[Figure[PaperRow]] = (
    Figure(key="printed_segment_f1", title="paper: segment F1", unit="%", format=".1f",
           of=_printed("segment_f1"),
           definition="F1 of segments on AudioSet's strongly labelled evaluation set that the paper gives"),
    Figure(key="measured_segment_f1", title="segment F1", unit="%", format=".1f",
           of=_of_events(lambda found: found.segment_f1, "pytorch"),
           definition="F1 of segments on the labelled set over all labels together (micro), PyTorch fp32"),
    Figure(key="measured_segment_f1_macro", title="segment F1, macro", unit="%", format=".1f",
           of=_of_events(lambda found: found.segment_f1_macro, "pytorch"),
           definition="the same, mean over the labels that the set has"),
    Figure(key="printed_onset_f1", title="paper: onset F1", unit="%", format=".1f", of=_printed("onset_f1"),
           definition="F1 of onsets on the same set that the paper gives"),
    Figure(key="measured_onset_f1", title="onset F1", unit="%", format=".1f",
           of=_of_events(lambda found: found.onset_f1, "pytorch"),
           definition="F1 of onsets on the labelled set over all labels together (micro), PyTorch fp32"),
    Figure(key="measured_onset_f1_macro", title="onset F1, macro", unit="%", format=".1f",
           of=_of_events(lambda found: found.onset_f1_macro, "pytorch"),
           definition="the same, mean over the labels that the set has"),
    Figure(key="bundle_segment_f1", title="segment F1, bundle", unit="%", format=".1f",
           of=_of_events(lambda found: found.segment_f1, "bundle"),
           definition="F1 of segments of the exported bundle, over all labels together (micro)"),
    Figure(key="bundle_onset_f1", title="onset F1, bundle", unit="%", format=".1f",
           of=_of_events(lambda found: found.onset_f1, "bundle"), definition="F1 of onsets likewise"),
)

MULTIPLY_ADD_FIGURES: Sequence[Figure[PaperRow]] = (
    Figure(key="printed_gmac", title="paper", unit="1e9 multiply-adds", format="g",
           of=_halved(_printed("gflops")), definition="multiply-adds of a step that the paper gives"),
    Figure(key="model_gmac", title="model", unit="1e9 multiply-adds", format=".3g",
           of=_operations("model", 2e9),
           definition="half of the operations of the model of a step, counted in the exported graph"),
)

EMBEDDING_SIZE_FIGURES: Sequence[Figure[PaperRow]] = (
    Figure(key="printed_embedding_size", title="paper: size", format="d", of=_embedding("size"),
           definition="numbers in an embedding that the paper, or its published code, gives"),
    Figure(key="embedding_size", title="size", format="d", of=lambda row: row.embedding_size,
           definition="numbers in the embedding of the exported graph"),
    Figure(key="printed_hear", title="paper: HEAR", unit="%", of=_embedding("hear"),
           definition="mean normalised score over the tasks of HEAR that the paper gives; not run here"),
)

SECTIONS: Mapping[str, tuple[str, Sequence[Figure[PaperRow]]]] = {  # key -> title and figures
    "size": ("size", SIZE_FIGURES), "operations": ("operations of a step", OPERATION_FIGURES),
    "multiply-adds": ("multiply-adds of a step", MULTIPLY_ADD_FIGURES),
    "memory": ("memory of a step", MEMORY_FIGURES), "map": ("mAP", MAP_FIGURES),
    "events": ("F1 of events", F1_FIGURES), "embeddings": ("embeddings", EMBEDDING_SIZE_FIGURES)}
PAPER_FIGURES: Sequence[Figure[PaperRow]] = tuple(
    figure for _, figures in SECTIONS.values() for figure in figures)


def _over(label: str, of: Callable[[Any], float]) -> Callable[[ScoreCurve], float]:
    return lambda curve: float(of(np.asarray(curve.scores[label])))


def _change(scores: Sequence[float]) -> float | None:
    return float(np.abs(np.diff(scores)).mean()) if len(scores) > 1 else None


def score_figures(label: str) -> Sequence[Figure[ScoreCurve]]:
    """The figures of the scores of a label."""
    return (
        Figure(key="chunks", title="chunks", format="d", of=lambda curve: len(curve.scores[label]),
               definition="chunks of the recording"),
        Figure(key="mean", title="mean", format=".3f", of=_over(label, np.mean), definition="mean score"),
        Figure(key="largest", title="largest", format=".3f", of=_over(label, np.max),
               definition="largest score"),
        Figure(key="step_to_step", title="change from chunk to chunk", format=".3f",
               of=lambda curve: _change(curve.scores[label]),
               definition="mean absolute difference between the scores of consecutive chunks"))
