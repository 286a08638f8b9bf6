"""Build engines from graphs: with trtexec if the board has it, otherwise with TensorRT's Python package.

One code path serves TensorRT 10.3 to 11.x and TensorRT for RTX, whose package `tensorrt_rtx` has the same
API: a strongly typed network, no precision flags, a limited workspace. trtexec is preferred because its
process contains nothing but the build: on boards with 8 GB, builds have been killed (NVIDIA/TensorRT#4220).
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

TRTEXEC = ("/usr/src/tensorrt/bin/trtexec", "trtexec")  # JetPack's first: same version as the Python package
MODEL = Path("/proc/device-tree/model")  # contains the name of a board
MIB = 1 << 20
KILLED = -9  # exit status after SIGKILL


class Board(Protocol):
    """A device and its TensorRT."""

    tensorrt: str             # version, such as "10.3.0"
    compute_capability: str   # such as "8.7"
    description: str          # name for people

    def free_bytes(self) -> int:
        """Return the size of the free device memory, bytes."""

    def build(self, graph: Path, engine: Path, settings: TensorRtSettings, timing_cache: Path) -> None:
        """Build the engine of a graph and write it to a file. Takes minutes. Reads and writes the timing
        cache. Raises `RunError` if TensorRT builds no engine."""

    def load(self, engine: Path) -> Engine:
        """Load an engine, which the caller closes. Raises `BundleError` if TensorRT cannot read the file,
        `RunError` if there is not enough memory to run it."""


class ThisBoard:
    """This machine's GPU and TensorRT; a `Board`."""

    def __init__(self, trt: Any, cuda: Cuda, trtexec: str | None) -> None:
        self._trt, self._cuda, self._trtexec = trt, cuda, trtexec
        self.tensorrt = str(trt.__version__)
        self.compute_capability = cuda.compute_capability()
        self.description = board_name()

    def free_bytes(self) -> int:
        """Return the free memory, bytes. On a Jetson, GPU and CPU share the memory, and CUDA's figure leaves
        out what the kernel could reclaim."""
        shared = available_bytes() if MODEL.exists() else None
        return self._cuda.memory_info()[0] if shared is None else shared

    def build(self, graph: Path, engine: Path, settings: TensorRtSettings, timing_cache: Path) -> None:
        if self._trtexec:
            run_trtexec(trtexec_command(self._trtexec, graph, engine, settings, self.tensorrt, timing_cache))
        else:
            write_bytes(engine, build_engine(self._trt, graph, settings, (), timing_cache))

    def load(self, engine: Path) -> Engine:
        return TensorRtEngine(engine, self._trt, self._cuda)


def this_board() -> ThisBoard:
    """Return the board that this process runs on. Raises `MissingError` if it has no TensorRT or no GPU."""
    return ThisBoard(import_tensorrt("tensorrt"), Cuda(), find_trtexec())


def find_trtexec() -> str | None:
    return next(filter(None, map(shutil.which, TRTEXEC)), None)


def board_name() -> str:
    """Return the board's name from the device tree, or "this machine" if there is no device tree."""
    try:
        return MODEL.read_text("utf-8").strip("\0\n ") or "this machine"
    except OSError:
        return "this machine"


def trtexec_command(trtexec: str, graph: Path, engine: Path, settings: TensorRtSettings, version: str,
                    timing_cache: Path) -> list[str]:
    """Return the command that builds an engine without running it."""
    command = [trtexec, f"--onnx={graph}", f"--saveEngine={engine}",
               f"--memPoolSize=workspace:{settings.workspace_mb}M", f"--timingCacheFile={timing_cache}",
               f"--builderOptimizationLevel={settings.optimization_level}", "--profilingVerbosity=detailed",
               "--noTF32", "--skipInference"]
    if version.startswith("10."):
        command.append("--stronglyTyped")  # TensorRT 11 has neither the flag nor other networks
    return command


def run_trtexec(command: Sequence[str]) -> None:
    """Run trtexec. Raises `RunError` with its last error lines if it fails or was killed."""
    try:
        result = subprocess.run(command, capture_output=True, text=True,  # noqa: S603, our own command
                                errors="replace", check=False)
    except OSError as error:
        raise RunError(f"{command[0]} cannot be run ({error.strerror or error}).") from None
    if result.returncode == KILLED:
        raise RunError(f"{command[0]} was killed, probably because memory ran out: end other programs, add "
                       "swap, or choose a smaller workspace_mb.")
    if result.returncode:
        errors = [line for line in (result.stdout + result.stderr).splitlines() if "[E]" in line]
        raise RunError(f"{command[0]} ended with exit code {result.returncode}: "
                       f"{'; '.join(errors[-3:]) or 'it gave no reason'}. The command was "
                       f"{' '.join(command)}")


def build_engine(trt: Any, graph: Path, settings: TensorRtSettings, capabilities: Sequence[str] = (),
                 timing_cache: Path | None = None) -> bytes:
    """Build an engine in this process and return its bytes. `trt` is the Python package. `capabilities`,
    such as "8.6", are only for TensorRT for RTX: the devices to build for, which need not be present. Raises
    `RunError` with TensorRT's own message."""
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
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb * MIB)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = settings.optimization_level
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; the front end needs full fp32
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for number, capability in enumerate(capabilities):
            name = f"SM{capability.replace('.', '')}"
            config.set_compute_capability(getattr(trt.ComputeCapability, name), number)
    timings = _load_timing_cache(config, timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RunError(f"TensorRT {trt.__version__} built no engine of {graph.name}: "
                       f"{logger.last}")
    if timing_cache and timings is not None:
        write_bytes(timing_cache, bytes(timings.serialize()))
    return bytes(engine)


def _strongly_typed(trt: Any) -> int:
    """Return the flag for a strongly typed network, or 0 if TensorRT has no such flag: in version 11 all
    networks are strongly typed."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _load_timing_cache(config: Any, file: Path | None) -> Any:
    """Load the timing cache of earlier builds into the config and return it; an empty one if there is no file
    or TensorRT rejects it. Returns None if TensorRT has no timing cache."""
    if file is None or not hasattr(config, "create_timing_cache"):
        return None
    for content in (file.read_bytes() if file.exists() else b"", b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None
