"""The figures of a labelled set, rows as in `satexport.report.figures`. Imports only numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from satexport.parity.records import ClassMetrics, EventMetrics, SetMetrics, SetParity
from satexport.report.figure import Figure


def _both(key: str, title: str, definition: str, of: Callable[[SetMetrics], float],
          form: str = ".4f") -> Iterator[Figure[SetParity]]:
    """The figures of PyTorch and of the bundle for a metric of a labelled set; none if it is undefined."""
    yield Figure(key=f"pytorch_{key}", title=f"{title}, PyTorch", format=form, brief=False,
                 of=lambda found: None if math.isnan(of(found.pytorch)) else of(found.pytorch),
                 definition=f"{definition}; of PyTorch fp32")
    yield Figure(key=f"bundle_{key}", title=f"{title}, bundle", format=form, brief=False,
                 of=lambda found: None if math.isnan(of(found.pytorch)) else of(found.bundle),
                 definition="the same for the bundle")


SET_FIGURES: Sequence[Figure[SetParity]] = (
    Figure(key="clips", title="clips", format="d", brief=False, of=lambda found: found.clips,
           definition="clips of the labelled set that were scored"),
    Figure(key="pytorch_map", title="mAP, PyTorch", format=".4f", of=lambda found: found.pytorch_map,
           definition="mAP of PyTorch fp32 by streamed score"),
    Figure(key="bundle_map", title="mAP, bundle", format=".4f", of=lambda found: found.bundle_map,
           definition="mAP of the bundle by streamed score"),
    Figure(key="map_kept", title="mAP kept", format=".1%",
           of=lambda found: found.bundle_map / found.pytorch_map,
           definition="mAP of the bundle / mAP of PyTorch fp32, on the same clips"),
    Figure(key="pytorch_top1", title="top-1, PyTorch", format=".1%", of=lambda found: found.pytorch_top1,
           definition="share of the clips with a label for which PyTorch fp32 ranks one of the clip's labels "
                      "first, by streamed score, among the labels of the set"),
    Figure(key="bundle_top1", title="top-1, bundle", format=".1%", of=lambda found: found.bundle_top1,
           definition="the same for the bundle"),
    Figure(key="clip_protocol_map", title="mAP, paper's protocol", format=".4f", brief=False,
           of=lambda found: found.clip_protocol_map,
           definition="mAP of PyTorch fp32 by clip score"),
    Figure(key="map_low", title="mAP, bundle, at least", format=".4f", brief=False,
           of=lambda found: found.intervals.all["map"].low if found.intervals else None,
           definition="lower end of the confidence interval of the bundle's mAP"),
    Figure(key="map_high", title="mAP, bundle, at most", format=".4f", brief=False,
           of=lambda found: found.intervals.all["map"].high if found.intervals else None,
           definition="upper end of the same interval"),
    *_both("auc", "macro AUC", "area under the ROC curve by streamed score, mean over the classes with a "
           "positive and a negative clip", lambda metrics: metrics.auc),
    *_both("d_prime", "d'", "sqrt(2) times the standard normal quantile of the macro AUC",
           lambda metrics: metrics.d_prime, ".3f"),
    *_both("best_f1", "best F1", "highest F1 of any threshold, mean over the classes with a positive clip. "
           "The thresholds are chosen on the same clips, so it is what a user can get at best",
           lambda metrics: metrics.best_f1),
    *_both("ece", "ECE", "expected calibration error over all streamed scores of the classes with a positive "
           "clip: in each of 15 equal bins of the score, the absolute difference between the mean score and "
           "the share of positives, weighted by the number of scores", lambda metrics: metrics.ece),
)

EVENT_FIGURES: Sequence[Figure[EventMetrics]] = (
    Figure(key="segment_f1", title="segment F1", format=".4f", of=lambda found: found.segment_f1,
           definition="F1 of the segments in which a label is heard, over all labels together (micro); "
                      "sed_eval's `SegmentBasedMetrics`. A segment counts if an event touches it"),
    Figure(key="segment_f1_macro", title="segment F1, macro", format=".4f",
           of=lambda found: found.segment_f1_macro,
           definition="the same, mean over the labels that the set has; one that is never found counts 0"),
    Figure(key="onset_f1", title="onset F1", format=".4f", of=lambda found: found.onset_f1,
           definition="F1 of the events whose onset is found within the collar, over all labels together "
                      "(micro); sed_eval's `EventBasedMetrics` without offsets"),
    Figure(key="onset_f1_macro", title="onset F1, macro", format=".4f",
           of=lambda found: found.onset_f1_macro,
           definition="the same, mean over the labels that the set has"),
)

CLASS_FIGURES: Sequence[Figure[ClassMetrics]] = (
    Figure(key="average_precision", title="AP", format=".3f", of=lambda found: found.average_precision,
           definition="average precision of a class by streamed score, as in mAP"),
    Figure(key="auc", title="AUC", format=".3f",
           of=lambda found: None if math.isnan(found.auc) else found.auc,
           definition="area under its ROC curve; none if every clip has it"),
    Figure(key="best_f1", title="best F1", format=".3f", of=lambda found: found.best_f1,
           definition="highest F1 of any threshold on the same clips"),
)
