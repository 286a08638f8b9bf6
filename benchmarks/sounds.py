"""Check that no sound is slow: time steps over unusual sounds in turns with steps over noise.

    python benchmarks/sounds.py build/sat-t-2s/onnx build/sat-t-2s/openvino-int8

A CPU may compute a hundred times more slowly with subnormal numbers, so that a device that keeps up with
music could fall behind in a very quiet room. No sound may take more than 1.5 times as long as noise
(`LARGEST_RATIO`); otherwise the exit code is 1. For this reason, streams replace samples below 1e-11 by zeros
(`satexport.tagging.stream.QUIETEST`).

On an AMD EPYC (2 cores, AVX-512, nothing else running; ONNX Runtime 1.31.1, OpenVINO 2026.4.1; the demo)
the ratios were 0.86 to 1.02 (ONNX Runtime fp32), 0.97 to 1.05 (int8) and 1.00 to 1.06 (OpenVINO fp32). That
CPU is no slower with subnormal numbers, so this says little about one that is; a test counts how few values
of a step are subnormal (tests/tagging/test_stream.py).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import satexport
from satexport.origin import origin
from satexport.report.table import Table
from satexport.report.terminal import print_table
from satexport.step import FloatArray
from satexport.tagging.stream import Stream
from satexport.tagging.tagger import Tagger

LARGEST_RATIO = 1.5   # allowed for the time of a step over any sound / over noise
TURNS = 8             # of each sound, A B A B
CHUNKS = 15           # in a turn: more than a cache remembers at 2 s
WARM_UP = 3           # chunks at the beginning of a turn that do not count


def sounds(samples: int, rate: int) -> dict[str, FloatArray]:
    """Return sounds [samples], float32, by name, noise first."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.1, samples).clip(-1, 1)
    time_s = np.arange(samples) / rate
    impulse = np.zeros(samples)
    impulse[samples // 2] = 1
    signals = {
        "noise": noise, "silence": np.zeros(samples), "impulse": impulse, "constant": np.full(samples, 0.5),
        "full-scale square": np.sign(np.sin(2 * np.pi * 50 * time_s)),
        "as loud as is taken": 8 * np.sign(noise), "tone": 0.5 * np.sin(2 * np.pi * 1000 * time_s),
        "dying away": noise * np.exp(-60 * time_s)}
    powers = (5, 9, 11, 12, 19, 22, 38, 44)
    signals |= {f"noise of 1e-{power}": noise * 10.0 ** (1 - power) for power in powers}
    return {name: np.asarray(sound, np.float32) for name, sound in signals.items()}


def turn(stream: Stream, sound: FloatArray) -> list[float]:
    """Run a turn over a sound that repeats and return the seconds of each step."""
    times = []
    for number in range(CHUNKS):
        start = time.perf_counter()
        stream.feed(sound)
        if number >= WARM_UP:
            times.append(time.perf_counter() - start)
    return times


def ratios(tagger: Tagger) -> dict[str, tuple[float, float]]:
    """Return the median time of a step over each sound in ms, and its ratio to that of noise."""
    signals = sounds(tagger.contract.hop_samples, tagger.contract.sample_rate)
    times: dict[str, list[float]] = {name: [] for name in signals}
    stream = tagger.stream()
    for _ in range(TURNS):
        for name, sound in signals.items():
            times[name] += turn(stream, sound)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {name: (1000 * median, median / medians["noise"]) for name, median in medians.items()}


def main() -> None:
    """Time the bundles that the command line names."""
    slow = False
    for path in map(Path, sys.argv[1:]):
        by_sound = ratios(satexport.load(path))
        print_table(Table(
            title=f"{path}: a step", head=("sound", "ms", "times noise"),
            rows=[(name, f"{median:.2f}", f"{ratio:.2f}") for name, (median, ratio) in by_sound.items()]))
        slow |= max(ratio for _, ratio in by_sound.values()) > LARGEST_RATIO
    print(origin()["cpu"], *origin()["cpu_flags"])
    sys.exit(int(slow))


if __name__ == "__main__":
    main()
