"""The protocol that every backend meets, and the table of backends.

A backend is a folder and a line in `BACKENDS`, which names a module that meets `Backend`. The module is
imported only when a target or a bundle needs it, also on a device. At its top it imports only numpy and
satexport; the runtime and whatever is needed to write a bundle are imported inside the functions that use
them."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from numpy.typing import NDArray

from satexport import facts
from satexport.bundle.contract import Contract
from satexport.bundle.folder import MANIFEST, Bundle
from satexport.bundle.target import Gates, Target
from satexport.errors import BundleError, DataError, MissingError
from satexport.step import Step

if TYPE_CHECKING:
    from satexport.graph.roles import Graph

BACKENDS = {
    "onnxruntime": "satexport.backends.onnxruntime.backend",
    "openvino": "satexport.backends.openvino.backend",
    "tensorrt": "satexport.backends.tensorrt.backend",
    "web": "satexport.backends.web.backend"}
ITSELF = ""  # key in `candidates`: the bundle itself, as its user loads it
Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a graph is loaded. A runtime ignores the options that it does not have."""

    threads: int | None = None  # None: as many as live streams need, see `satexport.bundle.threads`
    spinning: bool = False      # threads use their cores also while they wait for work: shorter steps with
                                # several threads, and several times the CPU time
    low_memory: bool = False    # free each tensor as soon as it is no longer needed


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The input of `Backend.write`."""

    graph: Graph              # quantised as the target says, its caches in the dtype of the contract
    fp32: Graph               # the fp32 graph that `graph` was made from
    contract: Contract
    target: Target            # resolved
    initial_cache: Sequence[NDArray[Any]]  # of one stream, in the order of the contract
    int8_products: int        # products with a weight that are int8 in `graph`


@dataclass(frozen=True, kw_only=True)
class WrittenGraphs:
    """The graphs that a backend has written into a bundle's folder."""

    graph: str                # the file that the manifest names
    built_elsewhere: Mapping[str, Step] = field(default_factory=dict)
    # by name, the graphs that another machine builds engines from, as steps that run them on this machine:
    # the bundle stores their scores of the golden chunks, which the engines are later compared with


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A part of a bundle that can be tested on this machine."""

    step: Step
    gates: Gates                  # that it must pass
    report: str = "parity.json"   # file name in the bundle's reports/
    facts: Mapping[str, str] = field(default_factory=dict)  # added to that report


class Backend(Protocol):
    """A runtime, from a target's table to a step. A module meets the protocol with functions of these
    names."""

    PACKAGE: str                        # the runtime's Python package
    PRECISIONS: tuple[str, ...]         # that a target may name
    CAN_SPIN: bool                      # whether `LoadOptions.spinning` has an effect with several threads
    SKIPPED_IF_MISSING: bool            # whether a proof is skipped if the runtime is missing, because other
                                        # machines run such bundles
    QUANTIZATION: Mapping[str, object]  # keys of [quantization] for which the runtime supports one value
                                        # only: a target may omit them

    def check(self, target: Target, where: Path) -> None:
        """Check the backend's own table (`target.options`), and the rest of the target for what this runtime
        cannot do. Does not need the runtime. Raises a `DataError` that begins with `where`."""

    def resolve(self, target: Target) -> Target:
        """Return the target with every choice that depends on this machine resolved and all of its options
        stated. Raises `MissingError` if the runtime, the device or the precision is not available."""

    def remark(self, target: Target) -> str:
        """What a user of this machine must know who runs, proves or measures a bundle of this target here: a
        sentence or two; "" if nothing. Does not need the runtime."""

    def check_contract(self, contract: Contract, target: Target) -> None:
        """Raise `UsageError` if the number of streams, the opset or the cache dtype of this contract rules
        out a bundle for this target."""

    def write(self, folder: Path, draft: Draft) -> WrittenGraphs:
        """Write the graphs and any other files that this backend needs, without subfolders; the parts that
        every bundle has are written by the caller. Raises `UsageError` or `RunError` if that is not
        possible; the caller then discards the folder."""

    def candidates(self, bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
        """What is tested on this machine, the target's own graph first: the bundle itself under the key
        `ITSELF`, or its graphs by name if the bundle only runs on another machine. Raises the same errors
        as `load`; after `MissingError` the proof is skipped if SKIPPED_IF_MISSING."""

    def finish(self, bundle: Bundle) -> Mapping[str, Any] | None:
        """Make what needs the complete bundle and is not one of its parts. Returns a report on it, whose
        "summary" is a sentence for people; None if there is nothing to make."""

    def load(self, bundle: Bundle, options: LoadOptions) -> Step:
        """Load a bundle whose target has been checked. Raises `MissingError` if the runtime or the device is
        not available, `BundleError` if a file cannot be loaded or has another contract."""


def find_backend(name: str) -> Backend:
    """Return the backend of that name. Raises `KeyError` if there is none."""
    return cast(Backend, importlib.import_module(BACKENDS[name]))


def load_step(bundle: Bundle, options: LoadOptions = LoadOptions()) -> Step:
    """Load a bundle's graph with the runtime that its target names. Raises `MissingError` if this version of
    satexport does not have that backend or the runtime is not installed; `BundleError` as `Backend.load`."""
    check_known(bundle)
    backend = find_backend(bundle.target.backend)
    try:
        backend.check(bundle.target, bundle.path / MANIFEST)
    except DataError as error:
        raise BundleError(f"{error} Make the bundle again.") from None
    return backend.load(bundle, options)


def check_known(bundle: Bundle) -> None:
    """Raise `MissingError` if this version of satexport does not have the bundle's backend."""
    name = bundle.target.backend
    if name not in BACKENDS:
        raise MissingError(f"{bundle.path} is for the backend {name!r}, made by a newer version; this "
                           f"satexport runs {', '.join(BACKENDS)}. Use the version that made the bundle.")


def remark_on(target: Target) -> str:
    """Return what its backend remarks on this target and this machine; "" if this version of satexport does
    not have that backend."""
    return find_backend(target.backend).remark(target) if target.backend in BACKENDS else ""


def may_skip(bundle: Bundle) -> bool:
    """Whether the proof of this bundle is skipped if its runtime is missing."""
    name = bundle.target.backend
    return name in BACKENDS and find_backend(name).SKIPPED_IF_MISSING


def single_candidate(bundle: Bundle, step: Step) -> Mapping[str, Candidate]:
    """The candidates of a bundle that runs on this machine: only the bundle itself."""
    return {ITSELF: Candidate(step=step, gates=bundle.target.gates)}


def read_settings(kind: type[Settings], target: Target, where: Path) -> Settings:
    """Return the options of a target as the backend's own dataclass. Raises a `DataError` that begins with
    `where`."""
    return kind(**facts.check_fields(kind, dict(target.options), where, table=target.backend))


def complete_options(settings: Any) -> dict[str, Any]:
    """Return settings as the options of a target, all of them stated, with JSON types."""
    return {key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(settings).items()}


def precision_conditions(target: Target, precisions: Sequence[str],
                         forced: Mapping[str, object]) -> Iterator[facts.Condition]:
    """The precision of the target must be one of the backend's, and its [quantization] must not contradict
    a value that the backend forces."""
    yield ("precision", target.precision, target.precision in precisions,
           f"{' or '.join(precisions)} with the backend {target.backend}")
    if target.quantization:
        for key, required in forced.items():
            value = getattr(target.quantization, key)
            yield (key, value, value == required,
                   f"{facts.toml_text(required)}, the only value that the backend {target.backend} supports")
