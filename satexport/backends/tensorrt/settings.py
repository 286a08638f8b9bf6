"""The table [tensorrt] of a target."""

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
MIN_WORKSPACE = 16  # MB


@dataclass(frozen=True, kw_only=True)
class TensorRtSettings:
    """The device and how engines are built for it; see `satexport.backends.tensorrt.build`."""

    version: str              # oldest TensorRT version that is supported, such as "10.3"
    compute_capability: tuple[str, ...]  # of the device, such as "8.7"; for RTX of all devices to build for
    workspace_mb: int         # limit of the builder's workspace memory, MiB (as trtexec counts)
    jetpack: str = ""         # JetPack with this TensorRT version, such as "6.2"
    memory_mb: int = 0        # of the board, shared by CPU and GPU, MB; 0: not stated
    module: str = JETSON_MODULE  # the Python package, or RTX_MODULE
    optimization_level: int = 3  # of the builder, 0 to 5
    max_graph_difference: float = 0.05  # largest score difference of an engine from its graph, golden chunks
    twin_map_kept: float = 0.99  # least mAP of the fp16 twin of an int8 graph / PyTorch's mAP; a set of
                                 # 80 clips can hardly tell less than 1 %

    @classmethod
    def of(cls, target: Target, where: Path = Path("[tensorrt]")) -> TensorRtSettings:
        """Read the settings of a target. Raises a `DataError` that begins with `where`."""
        return read_settings(cls, target, where)


def conditions(target: Target, settings: TensorRtSettings) -> Iterator[facts.Condition]:
    """The conditions that the settings of a target must meet."""
    yield "module", settings.module, settings.module in MODULES, " or ".join(MODULES)
    least = 10 if settings.module == JETSON_MODULE else 1
    version = re.fullmatch(r"(\d+)\.\d+", settings.version)
    yield ("version", settings.version, version is not None and int(version[1]) >= least,
           "10.3 or newer: TensorRT 8 (JetPack 5) has neither strong typing nor LayerNormalization")
    capabilities = settings.compute_capability
    yield ("compute_capability", list(capabilities), bool(capabilities) and all(
        re.fullmatch(r"\d+\.\d", one) for one in capabilities), 'a list of texts such as "8.7"')
    most = settings.memory_mb // 2 or sys.maxsize
    yield ("workspace_mb", settings.workspace_mb, MIN_WORKSPACE <= settings.workspace_mb <= most,
           f"{MIN_WORKSPACE} to half of memory_mb: the rest of a build needs the other half")
    yield ("optimization_level", settings.optimization_level, 0 <= settings.optimization_level <= 5, "0 to 5")
    yield "twin_map_kept", settings.twin_map_kept, 0 < settings.twin_map_kept <= 1, "more than 0, at most 1"
    if quantization := target.quantization:
        yield ("operators", list(quantization.operators), "attention" not in quantization.operators,
               "no attention, which TensorRT fuses as a whole")
