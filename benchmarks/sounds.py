"""Is any sound slow? Steps over odd sounds, beside steps over noise, in turns.

    python benchmarks/sounds.py build/sat-t-2s/onnx build/sat-t-2s/openvino-int8

A CPU may compute with subnormal numbers a hundred times as slowly, so a very quiet room could stop a device
that keeps up with music. No sound may take more than 1.5 times what noise takes (`MOST`); exit code 1 where
one does. Samples below 1e-11 are heard as zeros for that reason (`satexport.tagging.stream.QUIETEST`).

On an AMD EPYC (2 cores, AVX-512, nothing else running; ONNX Runtime 1.31.1, OpenVINO 2026.4.1; the demo)
the ratios were 0.86 to 1.02 (ONNX Runtime fp32), 0.97 to 1.05 (int8) and 1.00 to 1.06 (OpenVINO fp32). That
CPU is no slower with subnormal numbers, so this says little of one that is; how few of a step's values are
subnormal is what a test counts (tests/tagging/test_stream.py).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import satexport
from satexport.origin import origin
from satexport.report.blocks import Table
from satexport.report.terminal import print_table
from satexport.step import FloatArray
from satexport.tagging.stream import Stream
from satexport.tagging.tagger import Tagger

MOST = 1.5    # times a step over noise
TURNS = 8     # of each sound, A B A B
CHUNKS = 15   # of a turn: more than a cache remembers at 2 s; the first of them do not count
WARM_UP = 3


def sounds(samples: int, rate: int) -> dict[str, FloatArray]:
    """Sounds of one chunk by name, noise first."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.1, samples).clip(-1, 1)
    time_s = np.arange(samples) / rate
    impulse = np.zeros(samples)
    impulse[samples // 2] = 1
    found = {
        "noise": noise, "silence": np.zeros(samples), "impulse": impulse, "constant": np.full(samples, 0.5),
        "full-scale square": np.sign(np.sin(2 * np.pi * 50 * time_s)),
        "as loud as is taken": 8 * np.sign(noise), "tone": 0.5 * np.sin(2 * np.pi * 1000 * time_s),
        "dying away": noise * np.exp(-60 * time_s)}
    found |= {f"noise of 1e-{power}": noise * 10.0 ** (1 - power) for power in (5, 9, 11, 12, 19, 22, 38, 44)}
    return {name: np.asarray(sound, np.float32) for name, sound in found.items()}


def turn(stream: Stream, sound: FloatArray) -> list[float]:
    """Seconds of each step over a sound that goes on."""
    taken = []
    for number in range(CHUNKS):
        start = time.perf_counter()
        stream.feed(sound)
        if number >= WARM_UP:
            taken.append(time.perf_counter() - start)
    return taken


def ratios(tagger: Tagger) -> dict[str, tuple[float, float]]:
    """Median step of each sound in ms, and as many times that of noise."""
    played = sounds(tagger.contract.hop_samples, tagger.contract.sample_rate)
    taken: dict[str, list[float]] = {name: [] for name in played}
    stream = tagger.stream()
    for _ in range(TURNS):
        for name, sound in played.items():
            taken[name] += turn(stream, sound)
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    return {name: (1000 * median, median / medians["noise"]) for name, median in medians.items()}


def main() -> None:
    """Measure the bundles that the command line names."""
    slow = False
    for path in map(Path, sys.argv[1:]):
        found = ratios(satexport.load(path))
        print_table(Table(
            title=f"{path}: a step", head=("sound", "ms", "times noise"),
            rows=[(name, f"{median:.2f}", f"{times:.2f}") for name, (median, times) in found.items()]))
        slow |= max(times for _, times in found.values()) > MOST
    print(origin()["cpu"], *origin()["cpu_flags"])
    sys.exit(int(slow))


if __name__ == "__main__":
    main()
