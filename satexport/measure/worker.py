"""The process that is measured. `satexport measure` starts one for each bundle and one for PyTorch. It writes
commands to its standard input and reads a reply to each, all as lines of JSON; only one process loads or
runs at a time."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from satexport.backends.backend import LoadOptions, find_backend, load_step
from satexport.bundle.contract import ANY
from satexport.bundle.folder import open_bundle
from satexport.errors import CheckpointError, MissingError, SatexportError, requires_extra
from satexport.frontends.prepare import model_input
from satexport.measure.latency import StepTimer, make_noise
from satexport.measure.schedule import WARM_UP, Turn
from satexport.remote import RemoteStep
from satexport.runtimes import import_runtime


class Worker:
    """Loads and times a bundle, or PyTorch. Its methods are the commands that the parent process sends."""

    def __init__(self) -> None:
        self.timer: StepTimer
        self.step: Any = None   # of a bundle
        self.imported = 0   # resident size after the imports, bytes

    def prepare(self, modules: list[str]) -> dict[str, Any]:
        """Import modules that a command will need, as far as they are installed."""
        for name in modules:
            with suppress(ImportError):
                import_runtime(name)
        return {}

    def load(self, bundle: str, threads: int, streams: int, spinning: bool, arena: bool) -> dict[str, Any]:
        """Load a bundle. Returns the seconds it took, including hashes and the initial cache, and the
        precisions that the runtime computes in."""
        opened = open_bundle(bundle)
        with suppress(KeyError, ImportError):  # load_step raises the error for a missing runtime
            import_runtime(find_backend(opened.target.backend).PACKAGE)
        contract = opened.contract
        noise = make_noise(streams, contract.window_samples)
        inputs = np.stack([model_input(contract, chunk) for chunk in noise])
        assert contract.options.streams in (ANY, streams)
        self.imported = _resident("VmRSS")
        start = time.perf_counter()
        step = load_step(open_bundle(bundle), LoadOptions(
            threads=threads, spinning=spinning, low_memory=not arena))
        self.timer, self.step = StepTimer(step, inputs), step
        seconds = step.load_seconds if isinstance(step, RemoteStep) else time.perf_counter() - start
        return {"seconds": seconds, "executed": step.executed()}

    @requires_extra("export")
    def load_eager(self, bundle: str, checkpoint: str | None, threads: int) -> dict[str, float]:
        """Load the published PyTorch model with a bundle's weights. Returns the seconds it took and the bytes
        of its cache. `checkpoint` is the file to use if this machine does not find the weights by their
        SHA-256."""
        import torch

        from satexport.models.checkpoint import find_weights
        from satexport.models.families import make_reference

        torch.set_num_threads(threads)
        opened = open_bundle(bundle)
        inputs = make_noise(1, opened.contract.window_samples)
        self.imported = _resident("VmRSS")
        start = time.perf_counter()
        try:
            weights = find_weights(opened)
        except CheckpointError:
            if checkpoint is None:
                raise
            weights = find_weights(opened, checkpoint)
        reference = make_reference(weights)
        self.timer = StepTimer(reference, inputs)
        return {"seconds": time.perf_counter() - start, "cache": reference.state_bytes()}

    def run(self, **turn: Any) -> dict[str, Any]:
        """Run a turn, given the fields of a `Turn`, and return the fields of its `TurnTimes`."""
        return asdict(self.timer.run_turn(Turn(**turn)))

    def resident(self) -> dict[str, int | None]:
        """Return the peak resident size so far minus the size after the imports, in bytes; None if the system
        does not tell."""
        peak = _resident("VmHWM")
        return {"bytes": peak - self.imported if peak else None}

    def remote(self) -> dict[str, Any] | None:
        """Return the fields of the `Footprint` of a bundle that another process runs, and its `runtime`; None
        if this process runs it."""
        if not isinstance(self.step, RemoteStep):
            return None
        return {"runtime": self.step.runtime, **asdict(self.step.footprint())}

    def transient(self) -> dict[str, Any]:
        """Return the most bytes allocated at a time inside one steady step, as memray counts. Raises
        `MissingError` if memray is not installed."""
        try:
            import memray
        except ImportError:
            raise MissingError("memray is not installed: pip install 'satexport[measure]'") from None
        for _ in range(WARM_UP):
            self.timer.run_step()
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "step.bin")
            with memray.Tracker(file):
                self.timer.run_step()
            reader = memray.FileReader(file)
            size = sum(record.size for record in reader.get_high_watermark_allocation_records())
            reader.close()
        return {"bytes": size}


def _resident(key: str) -> int:
    """Return a size from /proc/self/status in bytes, VmRSS (now) or VmHWM (peak); 0 if the system has no such
    file."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def serve(worker: Any) -> None:
    """Read commands from standard input and reply to each with what the worker's method of that name returns,
    until the input ends or the parent process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    replies = os.dup(1)
    os.dup2(2, 1)  # libraries that print to standard output must not disturb the replies
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(worker, command.pop("do"))(**command)
        except SatexportError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        except Exception as error:
            reply = {"error": "RunError", "message": f"{type(error).__name__}: {error}"}
        try:
            os.write(replies, f"{json.dumps(reply)}\n".encode())
        except BrokenPipeError:
            return


if __name__ == "__main__":
    serve(Worker())
