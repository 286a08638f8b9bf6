"""Segment-based and onset-based F1."""

from __future__ import annotations

import json
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

from satexport.parity.sed import Matches, Span, match_onsets, match_segments
from tests import ROOT


def judge(case: dict[str, Any]) -> dict[str, float]:
    """The figures of a case of tests/data/sed_cases.json."""
    segments, onsets = list[Matches](), list[Matches]()
    for file in case["files"]:
        truth, estimate = ([tuple(event) for event in file[key]] for key in ("truth", "estimate"))
        segments.append(match_segments(truth, estimate, case["labels"], seconds=file["seconds"],
                                       segment_seconds=case["segment_seconds"]))
        onsets.append(match_onsets(truth, estimate, case["labels"], collar_seconds=case["collar_seconds"]))
    return {f"{kind}_{mean}": getattr(reduce(add, found), mean)
            for kind, found in (("segment", segments), ("onset", onsets)) for mean in ("micro", "macro")}


def test_f1_is_that_of_sed_eval() -> None:
    content = json.loads((ROOT / "tests" / "data" / "sed_cases.json").read_text("utf-8"))
    assert (content["sed_eval"], len(content["cases"])) == ("0.2.1", 200)
    for case in content["cases"]:
        assert judge(case) == pytest.approx(case["expected"], rel=0, abs=1e-9, nan_ok=True)


def test_as_many_onsets_as_possible_are_paired() -> None:
    truth: list[Span] = [(0.9, 2, 0), (0.0, 2, 0), (0.5, 1, 1)]
    estimate: list[Span] = [(1.0, 3, 0), (0.5, 3, 0), (0.5, 3, 0)]
    found = match_onsets(truth, estimate, 2, collar_seconds=0.5)
    assert (found.correct.tolist(), found.truth.tolist(), found.estimate.tolist()) == ([2, 0], [2, 1], [3, 0])
    assert (found.micro, found.macro) == (4 / 6, 0.4)


def test_a_label_without_true_events_counts_in_the_micro_average_only() -> None:
    found = match_segments([(0, 2, 0)], [(0, 2, 0), (0, 6, 1)], 2)
    assert (found.micro, found.macro) == (4 / 10, 1.0)
    nothing = match_segments([], [(0, 2, 0)], 1)
    assert np.isnan([nothing.micro, nothing.macro]).all()
