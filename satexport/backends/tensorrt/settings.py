"""A target's table [tensorrt]."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from satexport import facts
from satexport.backends.backend import read_settings
from satexport.bundle.target import Target

JETSON_MODULE, RTX_MODULE = "tensorrt", "tensorrt_rtx"  # Python packages
MODULES = JETSON_MODULE, RTX_MODULE
LEAST_WORKSPACE = 16  # MB


@dataclass(frozen=True, kw_only=True)
class TensorRtSettings:
    """What a board has and how engines are built on it; see `satexport.backends.tensorrt.build`."""

    version: str              # the least of TensorRT, "10.3"
    compute_capability: tuple[str, ...]  # of the device, "8.7"; for RTX all that an engine is built for
    workspace_mb: int         # most memory that a tactic may try, MiB, as trtexec counts
    jetpack: str = ""         # that has this version, "6.2"
    memory_mb: int = 0        # of the board, of CPU and GPU together, MB; 0: not said
    module: str = JETSON_MODULE  # the Python package; or RTX_MODULE
    optimization_level: int = 3  # of the builder, 0 to 5
    max_graph_difference: float = 0.05  # of an engine's scores from those of its graph, golden chunks
    twin_map_kept: float = 0.999  # what the fp16 twin of an int8 graph keeps of PyTorch's mAP

    @classmethod
    def of(cls, target: Target, where: Path = Path("[tensorrt]")) -> TensorRtSettings:
        """Those of a target. Raises `DataError` that begins with `where`."""
        return read_settings(cls, target, where)


def conditions(target: Target, settings: TensorRtSettings) -> Iterator[facts.Condition]:
    """What the settings of a target must meet."""
    yield "module", settings.module, settings.module in MODULES, " or ".join(MODULES)
    least = 10 if settings.module == JETSON_MODULE else 1
    version = re.fullmatch(r"(\d+)\.\d+", settings.version)
    yield ("version", settings.version, version is not None and int(version[1]) >= least,
           "10.3 or newer: TensorRT 8 (JetPack 5) has neither strong typing nor LayerNormalization")
    capabilities = settings.compute_capability
    yield ("compute_capability", list(capabilities), bool(capabilities) and all(
        re.fullmatch(r"\d+\.\d", one) for one in capabilities), 'texts such as "8.7"')
    most = settings.memory_mb // 2 or sys.maxsize
    yield ("workspace_mb", settings.workspace_mb, LEAST_WORKSPACE <= settings.workspace_mb <= most,
           f"{LEAST_WORKSPACE} to half of memory_mb, which the rest of a build needs")
    yield ("optimization_level", settings.optimization_level, 0 <= settings.optimization_level <= 5, "0 to 5")
    yield "twin_map_kept", settings.twin_map_kept, 0 < settings.twin_map_kept <= 1, "more than 0, at most 1"
    if quantization := target.quantization:
        yield ("operators", list(quantization.operators), "attention" not in quantization.operators,
               "no attention among them: TensorRT fuses it whole")
