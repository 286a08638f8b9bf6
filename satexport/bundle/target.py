"""A target: what is wanted on which device, as one TOML says it."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.errors import DataError
from satexport.terminal import shown

MAX_THREADS = 256  # more only fills the memory with stacks
MAX_STEP_MS = 10_000  # of the longest chunk
AUTO = "auto"
OPERATORS = ("linear", "patch", "head", "attention")
CHOICES: dict[str, tuple[object, ...]] = {
    "method": ("static", "dynamic"), "scheme": ("onnxruntime", "qdq"),
    "ranges": ("minmax", "percentile", "entropy"), "weight_bits": (7, 8), "scales": ("fp32", "fp16")}
OPENVINO_PRECISIONS = ("fp32", "bf16", "int8")
OPENVINO_CHOICES: dict[str, tuple[object, ...]] = {
    "floats": (AUTO, "bf16", "fp32"), "weights": ("fp32", "fp16")}
TENSORRT_PRECISIONS = ("int8", "fp16")
LEAST_WORKSPACE = 16  # MB
TENSORRT_MODULES = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Gates:
    """What a bundle must keep of PyTorch fp32 with the same weights."""

    max_score_difference: float  # largest of any class in any chunk
    map_kept: float              # bundle's mAP / PyTorch's, over a labelled set


@dataclass(frozen=True)
class Budgets:
    """What a bundle may take on the device; None: there is no such limit. A MB is 1e6 bytes."""

    step_ms: float | None = None       # p99 of a single step, ms, in bursts and after pauses alike
    resident_mb: float | None = None   # peak resident size of a fresh process that loads and runs the
                                       # bundle, above the same process after its imports, MB
    transient_mb: float | None = None  # allocated inside one steady step, arena off, MB
    device_mb: float | None = None     # of a TensorRT engine with its buffers, judged where it is built, MB


@dataclass(frozen=True)
class Quantization:
    """How int8 is written into the graph; see `satexport.quantize`."""

    operators: tuple[str, ...] = ("linear",)  # the products in int8, of OPERATORS
    method: str = "static"         # ranges from a calibration; "dynamic": anew at every step
    scheme: str = "onnxruntime"    # or "qdq": standard operators, for OpenVINO and TensorRT
    ranges: str = "minmax"         # or "percentile", "entropy"
    percentile: float = 99.999     # of "percentile"
    symmetric: bool = False        # activations around zero, as TensorRT needs them
    per_channel: bool = True       # a scale for each column of a weight
    weight_bits: int = 8           # 7 for CPUs without VNNI, whose products of 8 bits saturate
    scales: str = "fp32"           # or "fp16": rounded to it, as TensorRT needs them beside fp16
    leave_out: tuple[str, ...] = ()  # layers that stay in float, such as "00.fc1"; AUTO among them: as
                                     # few as the mAP gate needs
    calibration: str = "synthetic"   # a set in calibration/, or a TOML


@dataclass(frozen=True)
class OpenVino:
    """How OpenVINO runs a model; see `satexport.openvino_ir`."""

    device: str = "CPU"
    stateful: bool = True     # the request keeps the cache; false: cache inputs and outputs as in ONNX
    floats: str = AUTO        # precision of what is not quantised: "bf16", "fp32"; AUTO: that of the target,
                              # and for int8 bf16 where the device that the bundle is made on has it
    weights: str = "fp32"     # stored as; "fp16" halves them
    requests: int = 1         # that share the streams of a step and run at the same time
    model_cache: bool = False  # keep what OpenVINO compiled in the user's cache folder: it loads faster


@dataclass(frozen=True)
class TensorRt:
    """What a board has and how engines are built on it; see `satexport.tensorrt_build`."""

    version: str              # the least of TensorRT, "10.3"
    compute_capability: tuple[str, ...]  # of the device, "8.7"; for RTX all that an engine is built for
    workspace_mb: int         # most memory that a tactic may try, MiB, as trtexec counts
    jetpack: str = ""         # that has this version, "6.2"
    memory_mb: int = 0        # of the board, of CPU and GPU together, MB; 0: not said
    module: str = "tensorrt"  # the Python package; or "tensorrt_rtx"
    optimization_level: int = 3  # of the builder, 0 to 5
    max_graph_difference: float = 0.05  # of an engine's scores from those of its graph, golden chunks
    twin_map_kept: float = 0.999  # what the fp16 twin of an int8 graph keeps of PyTorch's mAP


@dataclass(frozen=True)
class Target:
    """One TOML; the keys are the fields, the name that of the bundle's folder."""

    name: str
    backend: str
    precision: str
    gates: Gates
    threads: int | None = None   # None: the runtime decides
    description: str = ""        # one line for people
    budgets: Budgets = Budgets()
    quantization: Quantization | None = None  # of int8
    openvino: OpenVino | None = None          # of that backend
    tensorrt: TensorRt | None = None          # of that backend

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any], where: Path) -> Target:
        """Check names, types and ranges; raises `DataError` that names `where`."""
        rest = {key: value for key, value in fields.items() if key not in _TABLES}
        quantization = openvino = tensorrt = None
        if fields.get("quantization") is not None:
            quantization = Quantization(**_table(fields, "quantization", where))
        if fields.get("openvino") is not None:
            openvino = OpenVino(**_table(fields, "openvino", where))
        if fields.get("tensorrt") is not None:
            tensorrt = TensorRt(**_table(fields, "tensorrt", where))
        target = cls(**facts.checked(cls, rest, where, _TABLES), quantization=quantization, openvino=openvino,
                     tensorrt=tensorrt, gates=Gates(**_table(fields, "gates", where)),
                     budgets=Budgets(**_table(fields, "budgets", where)))
        facts.demand(_conditions(target), where)
        return target


_TABLES: dict[str, type[Any]] = {
    "gates": Gates, "budgets": Budgets, "quantization": Quantization, "openvino": OpenVino,
    "tensorrt": TensorRt}


def _table(fields: dict[str, Any], name: str, where: Path) -> dict[str, Any]:
    """The checked fields of a table in the TOML, {} where it is absent and needs no key."""
    table = fields.get(name, {})
    if not isinstance(table, dict):
        raise DataError(f"{where}: {name} is {shown(table)}, expected a table [{name}].")
    return facts.checked(_TABLES[name], table, where)


def _conditions(target: Target) -> Iterator[facts.Condition]:
    yield ("name", target.name, re.fullmatch(r"\w[\w.+-]*", target.name) is not None,
           "one that can be a folder's: letters, digits and . + - _")
    yield ("threads", target.threads, target.threads is None or 1 <= target.threads <= MAX_THREADS,
           f"1 to {MAX_THREADS}; without the key the runtime decides")
    yield ("description", target.description, target.description.isprintable(),
           "one line of printable characters")
    gates, budgets = target.gates, target.budgets
    yield ("max_score_difference", gates.max_score_difference, 0 < gates.max_score_difference < 1,
           "more than 0, less than 1")
    yield "map_kept", gates.map_kept, 0 < gates.map_kept <= 1, "more than 0, at most 1"
    yield ("step_ms", budgets.step_ms, _within(budgets.step_ms, MAX_STEP_MS),
           f"more than 0, at most {MAX_STEP_MS}: every step takes time, and one slower than the longest "
           "chunk never keeps up")
    for name, size in (("resident_mb", budgets.resident_mb), ("transient_mb", budgets.transient_mb),
                       ("device_mb", budgets.device_mb)):
        yield (name, size, _within(size, sys.float_info.max),
               "more than 0 and finite: every step takes memory; for no limit leave the key out")
    yield ("precision", target.precision, (target.precision == "int8") == (target.quantization is not None),
           "int8 with a table [quantization], which may be empty, and nothing else with one")
    for name, table in (("openvino", target.openvino), ("tensorrt", target.tensorrt)):
        yield ("backend", target.backend, (table is not None) == (target.backend == name),
               f"{name} with a table [{name}], and nothing else with one")
    if target.tensorrt:
        yield from _tensorrt_conditions(target, target.tensorrt)
    if target.openvino:
        for name, choices in OPENVINO_CHOICES.items():
            value = getattr(target.openvino, name)
            yield name, value, value in choices, " or ".join(map(str, choices))
        requests = target.openvino.requests
        yield "requests", requests, 1 <= requests <= MAX_THREADS, f"1 to {MAX_THREADS}"
        yield ("precision", target.precision, target.precision in OPENVINO_PRECISIONS,
               " or ".join(OPENVINO_PRECISIONS))
        floats = target.openvino.floats
        yield ("floats", floats, target.precision == "int8" or floats in (AUTO, target.precision),
               f"{target.precision}, as the precision, or without the key")
        if target.quantization:
            asked = (target.quantization.method, target.quantization.scheme)
            yield ("method and scheme", " and ".join(asked), asked == ("static", "qdq"),
                   "static and qdq for the backend openvino")
    if target.quantization:
        for name, choices in CHOICES.items():
            value = getattr(target.quantization, name)
            yield name, value, value in choices, " or ".join(map(str, choices))
        operators = target.quantization.operators
        yield ("operators", list(operators), bool(operators) and set(operators) <= set(OPERATORS),
               f"one or more of {', '.join(OPERATORS)}")
        percentile = target.quantization.percentile
        yield "percentile", percentile, 50 < percentile <= 100, "more than 50, at most 100"


def _tensorrt_conditions(target: Target, wanted: TensorRt) -> Iterator[facts.Condition]:
    yield ("precision", target.precision, target.precision in TENSORRT_PRECISIONS,
           " or ".join(TENSORRT_PRECISIONS))
    yield "module", wanted.module, wanted.module in TENSORRT_MODULES, " or ".join(TENSORRT_MODULES)
    least = 10 if wanted.module == "tensorrt" else 1
    version = re.fullmatch(r"(\d+)\.\d+", wanted.version)
    yield ("version", wanted.version, version is not None and int(version[1]) >= least,
           "10.3 or newer: TensorRT 8 (JetPack 5) has neither strong typing nor LayerNormalization")
    capabilities = wanted.compute_capability
    yield ("compute_capability", list(capabilities), bool(capabilities) and all(
        re.fullmatch(r"\d+\.\d", one) for one in capabilities), 'texts such as "8.7"')
    most = wanted.memory_mb // 2 or sys.maxsize
    yield ("workspace_mb", wanted.workspace_mb, LEAST_WORKSPACE <= wanted.workspace_mb <= most,
           f"{LEAST_WORKSPACE} to half of memory_mb, which the rest of a build needs")
    yield ("optimization_level", wanted.optimization_level, 0 <= wanted.optimization_level <= 5, "0 to 5")
    yield "twin_map_kept", wanted.twin_map_kept, 0 < wanted.twin_map_kept <= 1, "more than 0, at most 1"
    if q := target.quantization:
        asked = (q.method, q.scheme, q.symmetric, q.scales, q.per_channel, "attention" in q.operators)
        yield ("quantization", list(asked[:4]), asked == ("static", "qdq", True, "fp16", True, False),
               'method "static", scheme "qdq", symmetric true, scales "fp16", per_channel true, and no '
               '"attention" in operators: TensorRT takes nothing else')


def _within(value: float | None, limit: float) -> bool:
    return value is None or 0 < value <= limit
