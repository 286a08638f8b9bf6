"""Graph to engine: TensorRT's builder, by trtexec where the board has it, else by the Python package.

One code path serves TensorRT 10.3 to 11.x and TensorRT for RTX, whose package `tensorrt_rtx` has the same
API: a strongly typed network, no precision flags, a limited workspace. trtexec comes first, because its
process holds nothing but the build: on a board of 8 GB builds have been killed (NVIDIA/TensorRT#4220).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from satexport.backends.tensorrt.cuda import Cuda
from satexport.backends.tensorrt.engine import Engine, TensorRtEngine, import_tensorrt, quiet_logger
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.errors import RunError
from satexport.files import write_bytes
from satexport.memory import available_bytes

TRTEXEC = ("/usr/src/tensorrt/bin/trtexec", "trtexec")  # JetPack's first: that of the Python package
MODEL = Path("/proc/device-tree/model")  # of a board
MIB = 1 << 20
KILLED = -9


class Board(Protocol):
    """TensorRT and the device it runs on."""

    tensorrt: str             # version, "10.3.0"
    compute_capability: str   # "8.7"
    description: str          # for people

    def free_bytes(self) -> int:
        """Device memory that is free."""

    def build(self, graph: Path, engine: Path, wanted: TensorRtSettings, timing_cache: Path) -> None:
        """Build the engine of a graph and write it to a file. Takes minutes. The timing cache is read and
        written. Raises `RunError` if TensorRT builds none."""

    def load(self, engine: Path) -> Engine:
        """An engine that can run, which the caller closes. Raises `BundleError` for a file that TensorRT
        cannot read, `RunError` if there is no memory to run it in."""


class ThisBoard:
    """TensorRT and the GPU of this machine; a `Board`."""

    def __init__(self, trt: Any, cuda: Cuda, trtexec: str | None) -> None:
        self._trt, self._cuda, self._trtexec = trt, cuda, trtexec
        self.tensorrt = str(trt.__version__)
        self.compute_capability = cuda.compute_capability()
        self.description = board_name()

    def free_bytes(self) -> int:
        """A Jetson's GPU and CPU share the memory, and CUDA does not count what the kernel would give
        back."""
        shared = available_bytes() if MODEL.exists() else None
        return self._cuda.memory_info()[0] if shared is None else shared

    def build(self, graph: Path, engine: Path, wanted: TensorRtSettings, timing_cache: Path) -> None:
        if self._trtexec:
            run_trtexec(trtexec_command(self._trtexec, graph, engine, wanted, self.tensorrt, timing_cache))
        else:
            write_bytes(engine, build_engine(self._trt, graph, wanted, (), timing_cache))

    def load(self, engine: Path) -> Engine:
        return TensorRtEngine(engine, self._trt, self._cuda)


def this_board() -> ThisBoard:
    """Raises `MissingError` where there is no TensorRT or no GPU."""
    return ThisBoard(import_tensorrt("tensorrt"), Cuda(), find_trtexec())


def find_trtexec() -> str | None:
    return next(filter(None, map(shutil.which, TRTEXEC)), None)


def board_name() -> str:
    """What the device tree calls the board; "this machine" where there is none."""
    try:
        return MODEL.read_text("utf-8").strip("\0\n ") or "this machine"
    except OSError:
        return "this machine"


def trtexec_command(trtexec: str, graph: Path, engine: Path, wanted: TensorRtSettings, version: str,
                    timing_cache: Path) -> list[str]:
    """The command that builds an engine and does not run it."""
    command = [trtexec, f"--onnx={graph}", f"--saveEngine={engine}",
               f"--memPoolSize=workspace:{wanted.workspace_mb}M", f"--timingCacheFile={timing_cache}",
               f"--builderOptimizationLevel={wanted.optimization_level}", "--profilingVerbosity=detailed",
               "--noTF32", "--skipInference"]
    if version.startswith("10."):
        command.append("--stronglyTyped")  # 11 knows nothing else, and not the flag
    return command


def run_trtexec(command: Sequence[str]) -> None:
    """Raises `RunError` with its last words where it fails, or was killed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace",  # noqa: S603, ours
                              check=False)
    except OSError as error:
        raise RunError(f"{command[0]} cannot be run ({error.strerror or error}).") from None
    if done.returncode == KILLED:
        raise RunError(f"{command[0]} was killed; the kernel does so where memory runs out: end what else "
                       "runs, add swap, or choose a smaller workspace_mb.")
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "[E]" in line]
        raise RunError(f"{command[0]} ended with exit code {done.returncode}: "
                       f"{'; '.join(said[-3:]) or 'it said no reason'}. The command was {' '.join(command)}")


def build_engine(trt: Any, graph: Path, wanted: TensorRtSettings, capabilities: Sequence[str] = (),
                 timing_cache: Path | None = None) -> bytes:
    """Build an engine in this process and return it. `trt` is the package; `capabilities`, such as "8.6", are
    for TensorRT for RTX alone: what it compiles for without a GPU. Raises `RunError` with what TensorRT
    said."""
    logger = quiet_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        reasons = [" ".join(filter(None, (error.node_operator(), error.node_name(), error.desc())))
                   for error in errors]
        raise RunError(f"TensorRT {trt.__version__} cannot read {graph.name}: {'; '.join(reasons[:3])}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, wanted.workspace_mb * MIB)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = wanted.optimization_level
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; the front end needs all of fp32
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for number, capability in enumerate(capabilities):
            name = f"SM{capability.replace('.', '')}"
            config.set_compute_capability(getattr(trt.ComputeCapability, name), number)
    kept = _timing_cache(config, timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RunError(f"TensorRT {trt.__version__} built no engine of {graph.name}: "
                       f"{logger.last}")
    if timing_cache and kept is not None:
        write_bytes(timing_cache, bytes(kept.serialize()))
    return bytes(engine)


def _strongly_typed(trt: Any) -> int:
    """The flag of a network; TensorRT 11 knows no other networks, and may not have it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _timing_cache(config: Any, file: Path | None) -> Any:
    """The timing cache of earlier builds, empty where there is none or TensorRT does not take it."""
    if file is None or not hasattr(config, "create_timing_cache"):
        return None
    for content in (file.read_bytes() if file.exists() else b"", b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None
