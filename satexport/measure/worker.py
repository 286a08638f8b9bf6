"""The process that is measured. `satexport measure` starts one for each bundle and one for PyTorch,
tells it what to do in lines of JSON and reads a line of JSON for each; the others wait meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from satexport.backends.backend import LoadOptions, load_step, of
from satexport.bundle.contract import ANY
from satexport.bundle.folder import open_bundle
from satexport.errors import CheckpointError, MissingError, SatexportError, needs
from satexport.frontends.log_mel import log_mel
from satexport.runtimes import import_runtime
from satexport.step import FloatArray, Step

WARM_UP = 2  # steps before those that count
CHUNKS = 4   # of noise, heard in turns


class Worker:
    """A loaded bundle, or PyTorch, and one cache."""

    def __init__(self) -> None:
        self.step: Step
        self.cache: Any
        self.inputs: FloatArray
        self.imported = 0
        self.heard = 0

    def load(self, bundle: str, threads: int, streams: int, arena: bool) -> dict[str, Any]:
        """Load a bundle; returns the seconds it took, hashes and initial cache included, and what the
        runtime computes in."""
        opened = open_bundle(bundle)
        with suppress(KeyError, ImportError):  # load_step says which is not here
            import_runtime(of(opened.target.backend).PACKAGE)
        contract = opened.contract
        noise = _noise(streams, contract.hop_samples)
        self.inputs = noise if contract.options.input == "audio" else np.stack(
            [log_mel(chunk, contract.input.shape[2]) for chunk in noise])
        assert contract.options.streams in (ANY, streams)
        self.imported = _resident("VmRSS")
        start = time.perf_counter()
        self.step = load_step(open_bundle(bundle), LoadOptions(threads=threads, low_memory=not arena))
        self.cache = self.step.initial_cache(streams)
        return {"seconds": time.perf_counter() - start, "executed": self.step.executed()}

    @needs("export")
    def load_eager(self, bundle: str, checkpoint: str | None, threads: int) -> dict[str, float]:
        """Load PyTorch with a bundle's weights: torch.stft front end, published hidden cache.
        `checkpoint` is a file to take where they are not known on this machine."""
        import torch

        from satexport.models.checkpoint import weights_of
        from satexport.models.sat.reference import PyTorchStep

        torch.set_num_threads(threads)
        opened = open_bundle(bundle)
        self.inputs = _noise(1, opened.contract.hop_samples)
        self.imported = _resident("VmRSS")
        start = time.perf_counter()
        try:
            weights = weights_of(opened)
        except CheckpointError:
            if checkpoint is None:
                raise
            weights = weights_of(opened, checkpoint)
        self.step = PyTorchStep(weights)
        self.cache = self.step.initial_cache(1)
        return {"seconds": time.perf_counter() - start}

    def run(self, steps: int, seconds: float, pause: float) -> dict[str, list[float]]:
        """Time single steps, each after a pause of so many seconds: `steps` of them, fewer where they
        take more than `seconds` together, but one at least. A burst (no pause) begins with steps that
        do not count."""
        for _ in range(0 if pause else WARM_UP):
            self._timed()
        times: list[float] = []
        while not times or (len(times) < steps and sum(times) < seconds):
            time.sleep(pause)
            times.append(self._timed())
        return {"seconds": times}

    def resident(self) -> dict[str, int | None]:
        """Peak resident size so far, above what it was after the imports, in bytes."""
        peak = _resident("VmHWM")
        return {"bytes": peak - self.imported if peak else None}

    def transient(self) -> dict[str, Any]:
        """The most that one steady step has allocated at a time, in bytes, as memray counts."""
        try:
            import memray
        except ImportError:
            raise MissingError("memray is not installed: pip install 'satexport[measure]'") from None
        for _ in range(WARM_UP):
            self._timed()
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "step.bin")
            with memray.Tracker(file):
                self._timed()
            reader = memray.FileReader(file)
            size = sum(record.size for record in reader.get_high_watermark_allocation_records())
            reader.close()
        return {"bytes": size}

    def _timed(self) -> float:
        chunk = self.inputs[self.heard % CHUNKS]
        self.heard += 1
        start = time.perf_counter()
        _, self.cache = self.step(chunk, self.cache)
        return time.perf_counter() - start


def _noise(streams: int, samples: int) -> FloatArray:
    """[CHUNKS, streams, samples], -20 dB under full scale."""
    noise = np.random.default_rng(0).standard_normal((CHUNKS, streams, samples), np.float32)
    return 0.1 * noise


def _resident(key: str) -> int:
    """A size from /proc/self/status in bytes: VmRSS now, VmHWM at its highest; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def main() -> None:
    """Answer commands until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(worker, command.pop("do"))(**command)
        except SatexportError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        except Exception as error:
            reply = {"error": "RunError", "message": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
