"""Random cases of sound event detection and the figures of sed_eval 0.2.1, for tests/parity/test_sed.py.

    python -m venv /tmp/sed && /tmp/sed/bin/pip install sed_eval==0.2.1 dcase_util==0.2.20
    /tmp/sed/bin/python tests/data/sed_cases.py           # writes sed_cases.json

Each case has files with events (onset, offset, number of the label), true and estimated ones; some files or
labels have none. Times are multiples of 0.01 s in half of the cases, so that they meet the borders of
segments and collars.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import sed_eval  # type: ignore[import-not-found]

CASES = 200


def draw_events(rng: np.random.Generator, labels: int, on_grid: bool) -> list[list[float]]:
    """Events of a file of about ten seconds."""
    events = []
    for _ in range(rng.integers(0, 9)):
        onset = rng.uniform(0, 9)
        offset = onset + rng.uniform(0.05, 4)
        events.append([round(onset, 2 if on_grid else 5), round(offset, 2 if on_grid else 5),
                       int(rng.integers(labels))])
    return events


def draw_estimate(rng: np.random.Generator, truth: list[list[float]], labels: int,
                  on_grid: bool) -> list[list[float]]:
    """Most of the true events, moved a little, and others."""
    moved = [[max(0.0, onset + rng.choice([0, 0.1, -0.2, 0.2, 0.25])), offset + rng.uniform(0, 1), label]
             for onset, offset, label in truth if rng.random() < 0.7]
    moved = [[round(time, 2 if on_grid else 5) for time in event[:2]] + event[2:] for event in moved]
    return moved + draw_events(rng, labels, on_grid)[:3]


def judge(case: dict, names: list[str]) -> dict[str, float]:
    """sed_eval's figures of a case."""
    segments = sed_eval.sound_event.SegmentBasedMetrics(names, time_resolution=case["segment_seconds"])
    onsets = sed_eval.sound_event.EventBasedMetrics(names, evaluate_onset=True, evaluate_offset=False,
                                                    t_collar=case["collar_seconds"])
    for metric in (segments, onsets):  # SegmentBasedMetrics has no argument for it
        metric.empty_system_output_handling = "zero_score"
    for file in case["files"]:
        truth, estimate = ([{"event_onset": onset, "event_offset": offset, "event_label": names[label],
                             "filename": "a.wav"} for onset, offset, label in file[key]]
                           for key in ("truth", "estimate"))
        segments.evaluate(truth, estimate, evaluated_length_seconds=file["seconds"])
        onsets.evaluate(truth, estimate)
    return {f"{kind}_{mean}": figures["f_measure"]["f_measure"] for kind, metric in (
        ("segment", segments), ("onset", onsets)) for mean, figures in (
        ("micro", metric.results_overall_metrics()), ("macro", metric.results_class_wise_average_metrics()))}


def main() -> None:
    rng = np.random.default_rng(18)
    cases = []
    for number in range(CASES):
        labels, on_grid = int(rng.integers(1, 5)), number % 2 == 0
        case = {"labels": labels, "segment_seconds": float(rng.choice([0.1, 0.5, 1.0, 2.0])),
                "collar_seconds": float(rng.choice([0.1, 0.2, 0.25, 1.0])), "files": []}
        for _ in range(rng.integers(1, 4)):
            truth = draw_events(rng, labels, on_grid)
            estimate = draw_estimate(rng, truth, labels, on_grid)
            last = max((event[1] for event in truth + estimate), default=0.0)
            # without a length, sed_eval takes the last offset, which it lacks if there is no event
            knows_end = truth and estimate and rng.random() < 0.5
            seconds = None if knows_end else float(rng.choice([10.0, 8.0, last]))
            case["files"].append({"truth": truth, "estimate": estimate, "seconds": seconds})
        cases.append(case | {"expected": judge(case, [f"label {i}" for i in range(labels)])})
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps({"sed_eval": sed_eval.__version__, "cases": cases}).replace(
        '}, {"labels"', '},\n{"labels"') + "\n", encoding="utf-8")
    print(f"{path}: {len(cases)} cases", file=sys.stderr)


if __name__ == "__main__":
    main()
