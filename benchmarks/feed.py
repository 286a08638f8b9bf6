"""Print the CPU time that `Stream.feed` takes for a chunk besides the step, by the size of the blocks.

    python -m benchmarks.feed BUNDLE

The step is replaced by one that does nothing; blocks are int16, as from a microphone.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from satexport.bundle.contract import Contract
from satexport.bundle.folder import open_bundle
from satexport.step import FloatArray, Outputs
from satexport.tagging.stream import Stream

BLOCKS = 0.01, 0.02, 0.1, 0.5   # s
CHUNKS = 200


class NoStep:
    """A step that returns zeros."""

    def __init__(self, contract: Contract) -> None:
        self._outputs = Outputs(*(np.zeros((1, spec.shape[1]), np.float32) for spec in contract.outputs))

    def initial_cache(self, streams: int = 1) -> None:
        """There is none."""

    def __call__(self, x: FloatArray, cache: None) -> tuple[Outputs, None]:
        return self._outputs, None

    def silence(self, cache: None, stream: int) -> None:
        """There is none."""

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        """Do nothing."""


def time_feed(contract: Contract, seconds: float) -> float:
    """Return the CPU time per chunk, ms, for blocks of so many seconds."""
    stream, size = Stream(NoStep(contract), contract), int(seconds * contract.sample_rate)
    noise = np.random.default_rng(0).integers(-3000, 3000, size, np.int16)
    blocks = CHUNKS * contract.hop_samples // size
    start = time.process_time()
    for _ in range(blocks):
        stream.feed(noise)
    return (time.process_time() - start) * 1000 * contract.hop_samples / (blocks * size)


def main() -> None:
    """Print a line for each size of blocks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    contract = open_bundle(parser.parse_args().bundle).contract
    for seconds in BLOCKS:
        print(f"blocks of {seconds * 1000:g} ms: {time_feed(contract, seconds):.2f} ms per chunk of "
              f"{contract.hop_seconds:g} s")


if __name__ == "__main__":
    main()
